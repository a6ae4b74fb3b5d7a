#!/bin/bash
# fixed_address of a card: its network gives it that one and no other, and what cannot be is said.
# also: asan
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
host_net >"$T/before"
start_daemon
mkdir "$N/lan" "$N/wire"
echo 'subnet = "10.99.0.0/24"; subnet6 = "fd99::/64";' >"$N/lan/config"
echo 'mode = "isolated"; host = false;' >"$N/wire/config"
# fixed MACHINE ADDRESS [NETWORK]: defined, with a card that wants it
fixed() {
	define_guest "$1" wire
	join "$1" "${3:-lan}"
	put "$M/$1/nics/lan/fixed_address" "$2"
}
pings() { ping -q -c 3 -i 0.3 -W 20 "$1" >"$T/ping" || fail "no ping of $1"; }

note "it has it, and answers there; others are not given it"
fixed web 10.99.0.2
wire_start web lan
is "$(held web lan)" 10.99.0.2
pings 10.99.0.2
wire_guest db lan
is "$(held db lan)" 10.99.0.3
pings 10.99.0.3
like "$(cat "$M/web/config")" 'fixed_address = "10.99.0.2"'

note "another one counts from the next start; none leaves it as it is"
put "$M/web/nics/lan/fixed_address" 10.99.0.250
is "$(held web lan)" 10.99.0.2
do_ctl web kill
wire_start web lan
is "$(held web lan)" 10.99.0.250
pings 10.99.0.250
do_ctl web kill
put "$M/web/nics/lan/fixed_address" ''
wire_start web lan
is "$(held web lan)" 10.99.0.250
wire_guest app lan
is "$(held app lan)" 10.99.0.2 "the address that was given back"

note "what is none, or somebody's"
for bad in 10.99.0 fd99::5 0.0.0.0 127.0.0.1 224.0.0.1 255.255.255.255 '10.99.0.5 ' 10.99.0.5/24 web; do
	refuses EINVAL,EFBIG write "$M/web/nics/lan/fixed_address" "$bad"
done
is "$(cat "$M/web/nics/lan/fixed_address")" ""
do_ctl web kill
# cannot ADDRESS ERRNO WORDS
cannot() {
	put "$M/web/nics/lan/fixed_address" "$1"
	refuses "$2" write "$M/web/ctl" start
	says "$3" "$M/web/error"
	is "$(state_of web)" stopped
}
cannot 10.99.0.3 EADDRINUSE 'network lan: fixed_address 10.99.0.3 is held by machine db'
cannot 10.99.0.1 EADDRINUSE "10.99.0.1 is the host's"
cannot 10.99.0.0 EINVAL "no guest's address"
cannot 10.99.0.255 EINVAL "no guest's address"
cannot 10.98.0.5 EINVAL "no guest's address"
put "$M/web/nics/lan/network" wire
cannot 10.99.0.5 EINVAL 'network wire: it gives no addresses'
put "$M/web/nics/lan/network" lan

note "whose machine is gone has it no more"
undefine db
put "$M/web/nics/lan/fixed_address" 10.99.0.3
wire_start web lan
is "$(held web lan)" 10.99.0.3
pings 10.99.0.3

note "a clone has its own; another daemon knows it"
do_ctl web kill
do_ctl web 'clone twin'
is "$(cat "$M/twin/nics/lan/fixed_address")" ""
stop_daemon
start_daemon
wire_start twin lan
wire_start web lan
is "$(held web lan)" 10.99.0.3
[ "$(held twin lan)" != 10.99.0.3 ] || fail "both have it"
pings "$(held twin lan)"

undefine web app twin
rmdir "$N/lan" "$N/wire"
net_as "$T/before"
