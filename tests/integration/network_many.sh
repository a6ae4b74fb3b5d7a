#!/bin/bash
# 32 guests on one network, each of which gets its packets, and keeps its address; then 100 cards that are defined on
# it, as many as run at once in machines. Nothing stays on the host.
# time: 300
. "${0%/*}/../lib.sh"

need_kvm
need_cmd ip ping dnsmasq nft
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T" # dnsmasq reads its files as nobody
N=$MNT/networks
guests=32
start_daemon
ip -o link | sed 's/.*[0-9]: \([^:]*\):.*/\1/' >"$T/links"
mkdir "$N/lan"
put "$N/lan/subnet" 10.99.0.0/24
put "$N/lan/filter" off # the guests' addresses are what their command lines say
taps() { ip -o link show type tun | grep -c . || true; }
no_taps() { [ "$(taps)" = 0 ]; }

# The guests poll, so they wait in pause while others have their turn.
note "$guests guests on one network"
for i in $(seq $guests); do
	define_guest "m$i" net "cmdline=host=$((i + 100))"
	mkdir "$M/m$i/nics/lan"
	put "$M/m$i/nics/lan/network" lan
	do_ctl "m$i" start
	wait_console "m$i" 'link 1'
	do_ctl "m$i" pause
done
is "$(taps)" $guests taps
is "$(cat "$M"/m*/nics/lan/mac | sort -u | wc -l)" $guests "addresses of cards"
is "$(cat "$M"/m*/nics/lan/state | sort | uniq -c | xargs)" "$guests connected"
for i in $(seq $guests); do
	do_ctl "m$i" resume
	ping -q -c 1 -W 30 -s $((100 + i)) "10.99.0.$((i + 100))" >"$T/ping" || fail "no ping of m$i: $(cat "$T/ping")"
	wait_console "m$i" "^echo $((100 + i))"
	do_ctl "m$i" pause
done

note "a frame for all"
for i in $(seq $guests); do
	before[i]=$(awk '$1 == "rx_packets" { print $2 }' "$M/m$i/nics/lan/stats")
	do_ctl "m$i" resume
done
ping -q -b -c 3 -i 0.2 10.99.0.255 >"$T/ping" 2>&1 || true
heard() { [ "$(awk '$1 == "rx_packets" { print $2 }' "$M/m$1/nics/lan/stats")" -ge $((before[$1] + 3)) ]; }
for i in $(seq $guests); do wait_for heard "$i"; done
for i in $(seq $guests); do undefine "m$i"; done
wait_for no_taps

note "100 cards in machines of one network"
for i in $(seq 13); do
	define_guest "c$i" idle
	for k in $(seq 8); do
		[ $(((i - 1) * 8 + k)) -le 100 ] || continue
		mkdir "$M/c$i/nics/n$k"
		put "$M/c$i/nics/n$k/network" lan
	done
	do_ctl "c$i" start
done
is "$(taps)" 100 taps
is "$(cat "$M"/c*/nics/*/state | sort | uniq -c | xargs)" "100 connected"
is "$(cat "$M"/c*/nics/*/mac | sort -u | wc -l)" 100 "addresses of cards"
for i in $(seq 13); do undefine "c$i"; done
wait_for no_taps
unused() { rmdir "$N/lan" 2>"$T/words"; }
wait_for unused
is "$(ip -o link | sed 's/.*[0-9]: \([^:]*\):.*/\1/')" "$(cat "$T/links")" "links of the host"
