#!/bin/bash
# Addresses that nobody leased: guests say them by ARP and neighbour discovery, on a bridge of the host's and
# on one of ours; `address` is the one to reach them by; lies are not shown; a later daemon knows them again.
# also: asan tsan
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
need_cmd ip ping inotifywait nft dnsmasq
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
N=$MNT/networks
ip link add br0 type bridge
ip addr add 10.77.0.1/24 dev br0
ip link set br0 up

# tell MACHINE LINE: typed on its console; it has done it when it says so
tell() {
	local n
	n=$(grep -ac '^sent' "$M/$1/console" || true)
	echo "$2" >"$M/$1/console"
	told() { [ "$(grep -ac '^sent' "$M/$1/console")" -gt "$2" ]; }
	wait_for told "$1" "$n"
}
address() { cat "$M/$1/nics/lan/address"; }
address_is() { [ "$(address "$1")" = "$2" ]; }
# zeros N: as many bytes
zeros() { printf '0%.0s' $(seq $((2 * $1))); }
# solicit FROM TARGET: a neighbour solicitation from and for 16 bytes of hex
solicit() {
	printf 'a 3333ff000001%s86dd6000000000183aff%sff0200000000000000000001ff000001%s00000000%s' \
		mm "$1" 8700abcd "$2"
}

start_daemon
mkdir "$N/lan"
put "$N/lan/config" 'mode = "bridge"; interface = "br0";'
define_guest web wire
mkdir "$M/web/nics/lan"
put "$M/web/nics/lan/network" lan
do_ctl web start
wait_console web 'link 1'
is "$(address web)" "" "address of one that says nothing"

note "by ARP, and who watches hears of it"
inotifywait -q -m -e modify "$M/web/nics/lan/address" "$N/lan/hosts" >"$T/heard" 2>"$T/watching" &
watcher=$!
sleep 0.5
tell web 'i 10.77.0.5'
wait_for address_is web 10.77.0.5
heard() { grep -q "$1" "$T/heard"; }
wait_for heard address
wait_for heard hosts
kill $watcher
ping -q -c 3 -i 0.3 -W 20 "$(address web)" >"$T/ping" || fail "its address does not answer"
is "$(grep -c . "$M/web/nics/lan/addresses")" 1
like "$(cat "$N/lan/hosts")" '^10\.77\.0\.5 web$'

note "by neighbour discovery: an address to reach it by, and one of the link"
tell web "$(solicit fe800000000000000000000000000007 fd000000000000000000000000000001)"
tell web "$(solicit fd000000000000000000000000000007 fd000000000000000000000000000001)"
addresses_are() { [ "$(tr '\n' ' ' <"$M/web/nics/lan/addresses")" = "$1" ]; }
wait_for addresses_are '10.77.0.5 fd00::7 fe80::7 '
is "$(address web)" 10.77.0.5
like "$(cat "$N/lan/hosts")" $'fd00::7 web'

note "addresses that nobody has, and those of other cards, are none"
for bad in 00000000 7f000001 e0000001 ffffffff; do
	tell web "a ffffffffffffmm08060001080006040001mm${bad}000000000000${bad}"
done
tell web "a ffffffffffffmm080600010800060400015254000000010a4d0009""000000000000""0a4d0009"
tell web 'i 10.77.0.6'
wait_for address_is web 10.77.0.6
is "$(tr '\n' ' ' <"$M/web/nics/lan/addresses")" '10.77.0.6 10.77.0.5 fd00::7 fe80::7 '

note "so many that it can only be a lie: a few are kept, the daemon and others are as before"
for i in $(seq 100 140); do tell web "i 10.77.0.$i"; done
[ "$(grep -c . "$M/web/nics/lan/addresses")" -le 18 ] || fail "too many addresses are kept"
is "$(state_of web)" running

note "a daemon that is killed: the next one knows them"
before=$(cat "$M/web/nics/lan/addresses")
kill_daemon
umount -l "$MNT"
start_daemon
same_addresses() { [ "$(sort "$M/web/nics/lan/addresses")" = "$(sort <<<"$before")" ]; }
wait_for same_addresses
undefine web
rmdir "$N/lan"

note "on a network of ours, without a lease: a static address counts where it may be"
mkdir "$N/lan"
put "$N/lan/config" 'mode = "isolated"; subnet = "10.99.0.1/24"; filter = "off";'
for m in web db; do
	define_guest $m wire
	mkdir "$M/$m/nics/lan"
	put "$M/$m/nics/lan/network" lan
	do_ctl $m start
	wait_console $m 'link 1'
done
is "$(address web)" ""
tell web 'i 192.168.3.4'                     # of another subnet
tell web 'i 10.99.0.1'                       # the host's
theirs=$(sed -n 's/ db$//p' "$N/lan/hosts")
tell web "i $theirs"                         # held for db
tell web 'i 10.99.0.77'
wait_for address_is web 10.99.0.77
is "$(cat "$M/web/nics/lan/addresses")" 10.99.0.77
ping -q -c 3 -i 0.3 -W 20 10.99.0.77 >"$T/ping" || fail "its address does not answer"

note "with the filter, only the address that is held for it"
put "$N/lan/filter" strict
is "$(address web)" ""
own=$(sed -n 's/ web$//p' "$N/lan/hosts")
tell web "i $own"
wait_for address_is web "$own"
undefine web db
rmdir "$N/lan"
