#!/bin/bash
# A network over an interface of the host's that is no bridge: each card is a macvtap over it. Guests and
# who is on the wire hear each other; nothing of killed ones stays; what cannot be, in words.
# also: asan
# time: 240
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_wire.sh"

need_kvm
need_cmd ip ping
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
# the wire: up0 is the host's end, up1 that of who is behind it
ip link add up0 type veth peer name up1
ip link set up0 up
ip addr add 10.66.0.1/24 dev up1
ip link set up1 up
ip link add link up0 name probe type macvtap 2>"$T/words" || skip "this kernel has no macvtap"
ip link del probe
macvtaps() { ip -o link show type macvtap | grep -c . || true; }
macvtaps_are() { [ "$(macvtaps)" = "$1" ]; }

start_daemon
mkdir "$N/out"
put "$N/out/mode" bridge
put "$N/out/interface" lo
define_guest c wire
mkdir "$(card c)"
put "$(card c)/network" out
refuses EINVAL write "$M/c/ctl" start
says 'Ethernet' "$M/c/error"
put "$N/out/interface" up0
put "$N/out/filter" strict
refuses EOPNOTSUPP write "$M/c/ctl" start
says 'bridge' "$M/c/error"
put "$N/out/filter" auto
ip link add br0 type bridge
ip link set up0 master br0
refuses EBUSY write "$M/c/ctl" start
says 'br0' "$M/c/error"
ip link del br0

note "each card is one; they hear each other, and who is on the wire"
guest a out
guest b out
is "$(macvtaps)" 2
is "$(cat "$N/out/bridge")" up0
like "$(ip link show type macvtap)" "$(mac_of a)"
hears b a 1
hears a b 2
tell a 'i 10.66.0.5'
address_is() { [ "$(cat "$(card "$1")/address")" = "$2" ]; }
wait_for address_is a 10.66.0.5
ping -q -c 2 -i 0.2 -W 20 "$(cat "$(card a)/address")" >"$T/ping" || fail "no ping: $(cat "$T/ping")"
refuses EBUSY rmdir "$N/out"
refuses EBUSY write "$N/out/guests" separate

note "a VLAN over it"
put "$(card a)/vlan" 100
put "$(card b)/vlan" 100
up() { [ "$(lines "$1" '^link 1')" = "$2" ]; }
wait_for up a 2
wait_for up b 2
hears b a 3
ping -q -c 1 -W 1 10.66.0.5 >"$T/ping" && fail "who is in no VLAN reaches one"
put "$(card a)/vlan" 0
put "$(card b)/vlan" 0
wait_for up b 3
is "$(macvtaps)" 2

note "daemon and VMM are killed: nothing stays"
kill_daemon
umount -l "$MNT"
start_daemon
is "$(macvtaps)" 2
hears b a 4
kill_daemon
umount -l "$MNT"
# shellcheck disable=SC2046 # several
kill -KILL $(vmm_pids)
wait_for no_vmm
start_daemon
wait_for macvtaps_are 0
ip link show up0 >"$T/up0"

note "separate: not each other, but the wire"
put "$N/out/ctl" stop
put "$N/out/guests" separate
for m in a b; do do_ctl $m start; done
wait_console a 'link 1'
wait_console b 'link 1'
tell a "a $(frame 5)"
tell a 'i 10.66.0.5'
ping -q -c 2 -i 0.2 -W 20 10.66.0.5 >"$T/ping" || fail "no ping: $(cat "$T/ping")"
is "$(heard b "$(mac_of a)" 5)" 0 "what the other one hears"

note "the interface vanishes: said, and the machines go on"
ip link del up0
failed() { [ "$(cat "$N/out/state")" = failed ]; }
wait_for failed
says 'up0.*vanished' "$N/out/error"
is "$(state_of a)" running

note "it comes back: so do the cards, in the machines that run"
ip link add up0 type veth peer name up1
ip link set up0 up
ip addr add 10.66.0.1/24 dev up1
ip link set up1 up
wait_for macvtaps_are 2
is "$(cat "$N/out/state")" running
again() { [ "$(lines a '^link 0')" -gt 0 ] && [ "$(lines a '^link 1')" -gt 1 ]; }
wait_for again
ping -q -c 2 -i 0.2 -W 20 10.66.0.5 >"$T/ping" || fail "no ping: $(cat "$T/ping")"
undefine a b c
rmdir "$N/out"
