#!/bin/bash
# A clone of a running machine with a card, whose guest knows that by the original's address: no frame of it
# gets out, the original is undisturbed; a reset gives the clone its own, and both are reached.
# also: asan
# time: 240
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_wire.sh"

need_kvm
need_cmd ip ping nft dnsmasq
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
vmm_forks
start_daemon
mkdir "$N/lan"
put "$N/lan/subnet" 10.99.0.1/24
guest a lan
guest w lan # watches
ip_of() { sed -n "s/^\([0-9.]*\) $1\$/\1/p" "$N/lan/hosts"; }
tell a "i $(ip_of a)"
ping -q -c 3 -i 0.3 -W 20 "$(ip_of a)" >"$T/ping" || fail "a does not answer"
put "$N/lan/filter" off # nothing but its cable keeps the clone's frames in
TYPE=0806 # what would come through in any case

note "the clone: its guest has the address of the original, its cable is out"
do_ctl a 'clone b'
state_is b running
[ "$(mac_of b)" != "$(mac_of a)" ] || fail "both have one address"
waits() { [ "$(cat "$(card b)/state")" = waiting ]; }
wait_for waits
like "$(grep nic-stranger "$MNT/events")" '"machine":"b".*cannot be asked'
wait_console b 'link 0'
n=$(lines w "^heard $(mac_of a)")
tell b "i $(ip_of a)"
tell a "i $(ip_of a)"
wait_for more_lines w "^heard $(mac_of a)" "$n"
is "$(lines w "^heard $(mac_of a)")" $((n + 1)) "frames with the original's address"
ping -q -c 2 -i 0.2 -W 20 "$(ip_of a)" >"$T/ping" || fail "a does not answer: $(cat "$T/ping")"
is "$(lines b '^link 1')" 0

note "another daemon knows it"
kill_daemon
umount -l "$MNT"
start_daemon
wait_for waits
put "$(card b)/link" false
put "$(card b)/link" true
is "$(cat "$(card b)/state")" waiting

note "a clone of the clone, and a snapshot that it went back to, are no better off"
do_ctl b 'clone c'
waits_c() { [ "$(cat "$(card c)/state")" = waiting ]; }
wait_for waits_c
mkdir "$M/a/snapshots/s"
put "$M/a/snapshots/s/ctl" restore
is "$(cat "$(card a)/state")" connected # it is its own
tell a "i $(ip_of a)"
ping -q -c 3 -i 0.3 -W 20 "$(ip_of a)" >"$T/ping" || fail "a does not answer after it went back"
undefine c

note "reset: it finds its own card, connected, and both answer"
do_ctl b reset
wait_console b "mac $(mac_of b)"
connected() { [ "$(cat "$(card b)/state")" = connected ]; }
wait_for connected
like "$(grep nic-renewed "$MNT/events")" '"machine":"b"'
tell b "i $(ip_of b)"
for m in a b; do
	ping -q -c 2 -i 0.2 -W 20 "$(ip_of $m)" >"$T/ping" || fail "$m does not answer: $(cat "$T/ping")"
done
put "$N/lan/filter" auto
rmdir "$M/a/snapshots/s"
undefine a b w
rmdir "$N/lan"
