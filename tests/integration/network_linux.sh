#!/bin/bash
# A Linux with cards in three networks, and a host with something outside: what is natted goes out with the
# host's address, what is routed with its own, what is isolated not at all; names, forwards, IPv6,
# large frames, a neighbour on the same network.
# time: 500
. "${0%/*}/../lib.sh"

need_linux
need_cmd ip ping dnsmasq nft tcpdump
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T" # dnsmasq reads its files as nobody
N=$MNT/networks

# Outside: 192.0.2.2 and 2001:db8:2::2, which know of the routed network and of nothing else behind us.
ip link add out0 type veth peer name out1
unshare -n sleep 1000 &
OUTSIDE=$!
other_namespace() { [ "$(readlink /proc/$OUTSIDE/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }
wait_for other_namespace
ip link set out1 netns $OUTSIDE
outside() { nsenter -t $OUTSIDE -n "$@"; }
ip addr add 192.0.2.1/24 dev out0
ip -6 addr add 2001:db8:2::1/64 dev out0 nodad
ip link set out0 up
outside ip link set lo up
outside ip addr add 192.0.2.2/24 dev out1
outside ip -6 addr add 2001:db8:2::2/64 dev out1 nodad
outside ip link set out1 up
outside ip route add 10.88.0.0/24 via 192.0.2.1
outside ip -6 route add 2001:db8:88::/64 via 2001:db8:2::1
nsenter -t $OUTSIDE -n tcpdump -n -l -i out1 'icmp or tcp' >"$T/outside" 2>"$T/tcpdump" &
DUMP=$!
wait_for grep -q listening "$T/tcpdump"

start_daemon
for n in nat:10.77:77 route:10.88:88 isolated:10.99:99; do
	IFS=: read -r mode net six <<<"$n"
	mkdir "$N/$mode"
	put "$N/$mode/mode" "$mode"
	put "$N/$mode/subnet" "$net.0.1/24"
	put "$N/$mode/subnet6" "2001:db8:$six::/64"
	[ "$mode" = isolated ] || put "$N/$mode/mtu" 9000
done
# The first in its network has the address that this guest takes.
define_guest near net
mkdir "$M/near/nics/one"
put "$M/near/nics/one/network" isolated
do_ctl near start
wait_console near 'link 1'
boot_linux web
in_guest() { sh_linux web "$1" >"$T/answer" && cat "$T/answer"; }
for card in nat route isolated; do
	mkdir "$M/web/nics/$card"
	put "$M/web/nics/$card/network" $card
	wait_for -t 120 grep -qx connected "$M/web/nics/$card/state"
done
of_mac() { in_guest "grep -l $(cat "$M/web/nics/$1/mac") /sys/class/net/*/address | cut -d/ -f5"; }
appeared() { [ "$(in_guest 'ls /sys/class/net' | tr -s ' \n' '\n' | grep -c eth)" = 3 ]; }
sh_linux web 'echo 1 >/sys/bus/pci/rescan' # the third has no slot of its own
wait_for -t 120 appeared
declare -A eth address
for card in nat route isolated; do
	eth[$card]=$(of_mac $card)
	sh_linux web "udhcpc -q -n -i ${eth[$card]} -s /etc/udhcpc.script" >/dev/null
	has_address() { [ -s "$M/web/nics/$card/address" ]; }
	wait_for has_address
	address[$card]=$(head -n 1 "$M/web/nics/$card/address")
done
note "addresses: ${address[*]}"
like "${address[nat]}" '^10\.77\.0\.'
like "${address[route]}" '^10\.88\.0\.'
like "${address[isolated]}" '^10\.99\.0\.'
like "$(cat "$N/nat/leases")" "${address[nat]} .*mac=$(cat "$M/web/nics/nat/mac").*machine=web"

# route_by CARD: what goes out goes there
route_by() { sh_linux web "ip route replace default via $1 dev ${eth[$2]}" >/dev/null; }
# came_from ADDRESS PORT: a connection to the outside is seen to
came_from() {
	sh_linux web "nc -w 2 192.0.2.2 $2 </dev/null; true" >/dev/null
	wait_for grep -qE "IP ${1//./\\.}\.[0-9]+ > 192\.0\.2\.2\.$2: Flags \[S\]" "$T/outside"
}
note "natted: out, with the host's address"
route_by 10.77.0.1 nat
sh_linux web 'ping -q -c 2 -W 20 192.0.2.2' >/dev/null
came_from 192.0.2.1 7000
note "routed: out, with its own"
route_by 10.88.0.1 route
sh_linux web 'ping -q -c 2 -W 20 192.0.2.2' >/dev/null
came_from "${address[route]}" 7001
outside ping -q -c 2 -i 0.2 -W 20 "${address[route]}" >"$T/ping" || fail "not to be reached: $(cat "$T/ping")"
note "isolated: not out, though the host routes and hears it"
route_by 10.99.0.1 isolated
sh_linux web 'ping -q -c 2 -W 20 10.99.0.1' >/dev/null
[ "$(grep -c 'echo request' "$T/outside")" -ge 1 ] || fail "nothing is seen outside at all"
in_guest 'ping -q -c 2 -W 2 192.0.2.2; ping -q -c 2 -W 2 -s 555 192.0.2.2 || echo unreached' >"$T/pings"
says unreached "$T/pings"
! grep -q 'length 563' "$T/outside" || fail "a ping of an isolated guest came out"
route_by 10.77.0.1 nat
sh_linux web 'ping -q -c 1 -W 20 -s 777 192.0.2.2' >/dev/null # it would have been seen
wait_for grep -q 'length 785' "$T/outside"

note "names"
mac_of_db=52:54:00:00:77:99
printf '10.77.0.50 %s db\n' $mac_of_db >"$T/static" # of a machine that is not here
in_guest 'nslookup web 10.77.0.1' >"$T/names"
says "${address[nat]}" "$T/names"
says "${address[nat]} web" "$N/nat/hosts"

note "forwards from outside"
put "$N/nat/forwards" $'tcp 8080 web 80\nudp 5353 web 53\n'
serve() { put "$M/web/console" "(while echo served | nc -l -p 80; do true; done) >/dev/null 2>&1 &"; }
serve
fetch() { outside timeout 10 bash -c 'cat </dev/tcp/192.0.2.1/8080' >"$T/fetched" && grep -q served "$T/fetched"; }
wait_for -t 60 fetch
refused() { ! outside timeout 3 bash -c 'cat </dev/tcp/192.0.2.1/8081' >/dev/null 2>&1; }
refused || fail "a port that is not forwarded answers"
put "$N/nat/forwards" ''
refused80() { ! outside timeout 3 bash -c 'cat </dev/tcp/192.0.2.1/8080' >/dev/null 2>&1; }
wait_for refused80

note "IPv6"
six_of() { in_guest "ip -6 addr show dev ${eth[$1]} scope global | sed -n 's/.*inet6 \\([0-9a-f:]*\\).*/\\1/p'" | grep -m 1 "$2"; }
has_six() { six_of route 2001:db8:88: >"$T/six"; }
wait_for -t 60 has_six
sh_linux web 'ping -6 -q -c 2 -W 20 2001:db8:88::1' >/dev/null
outside ping -6 -q -c 2 -i 0.2 -W 20 "$(cat "$T/six")" >"$T/ping" || fail "not to be reached by IPv6: $(cat "$T/ping")"

note "large frames"
is "$(in_guest "cat /sys/class/net/${eth[nat]}/mtu")" 9000
ping -q -M 'do' -s 8972 -c 2 -i 0.2 -W 20 "${address[nat]}" >"$T/ping" || fail "no ping of 8972 bytes: $(cat "$T/ping")"

note "a neighbour"
sh_linux web "ping -q -c 3 -W 20 -I ${eth[isolated]} 10.99.0.2" >/dev/null

note "the end: nothing stays"
do_ctl near kill
do_ctl web kill
rmdir "$M"/*/nics/* "$M/near" "$N"/*
no_links() { ! ip -o link | grep -vE ' (lo|out0)[@:]' | grep -q .; }
wait_for no_links
is "$(nft list tables)" ""
kill $DUMP $OUTSIDE
wait $DUMP $OUTSIDE || true
