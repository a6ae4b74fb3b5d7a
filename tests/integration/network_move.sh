#!/bin/bash
# A card of a running machine is moved from network to network: the guest sees its cable go out and come
# back, and hears who is there; what cannot be leaves it where it was; nothing of the old place stays.
# also: asan tsan
# time: 240
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_wire.sh"

need_kvm
need_cmd ip ping nft dnsmasq
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
# passt wants a way out
ip link add up0 type veth peer name up1
ip addr add 203.0.113.2/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 203.0.113.1
start_daemon
ip -o link | cut -d: -f2 >"$T/links"
mkdir "$N/one" "$N/two"
put "$N/one/mode" isolated
put "$N/two/mode" isolated
taps() { ip -o link show type tun | grep -c . || true; }
taps_are() { [ "$(taps)" = "$1" ]; }
in_bridge() { ip -o link show master "$(cat "$N/$1/bridge")" | grep -c . || true; }

guest a one
guest b two
hears_not() {
	tell "$2" "a $(frame "$3")"
	[ "$(heard "$1" "$(mac_of "$2")" "$3")" = 0 ] || fail "$1 hears $2"
}
hears_not a b 1

note "moved: at once there, and nothing of it here"
put "$(card a)/network" two
is "$(in_bridge one)$(in_bridge two)$(taps)" 022
is "$(cat "$N/one/hosts")" ""
like "$(cat "$N/two/hosts")" ' a$'
wait_console a 'link 0'
back() { [ "$(lines "$1" '^link 1')" = "$2" ]; }
wait_for back a 2
is "$(cat "$(card a)/state")" connected
hears a b 2
hears b a 3
like "$(cat "$MNT/events")" '"event":"nic-moved","machine":"a","nic":"lan","network":"two"'

note "what cannot be: it stays where it is, in words"
refuses ENOENT write "$(card a)/network" nowhere
says 'nowhere' "$M/a/error"
mkdir "$N/user"
put "$N/user/mode" user
if command -v passt >/dev/null; then
	refuses EOPNOTSUPP write "$(card a)/network" user
	says 'offloads' "$M/a/error"
fi
mkdir "$N/three"
put "$N/three/mode" bridge
put "$N/three/interface" nothing
refuses ENODEV write "$(card a)/network" three
is "$(cat "$(card a)/network")" two
hears b a 4
hears a b 5
is "$(taps)" 2 "taps after moves that failed"

note "to none: the cable is out; and back"
put "$(card a)/network" ''
wait_for taps_are 1
is "$(cat "$(card a)/state")" disconnected
links_down() { [ "$(lines "$1" '^link 0')" = "$2" ]; }
wait_for links_down a 2
hears_not a b 6
put "$(card a)/network" one
wait_for back a 3
tell a 'i 10.0.0.1'
hears_not a b 7
put "$(card a)/network" two
wait_for back a 4
hears a b 8

note "with the cable out it is moved all the same, and stays out"
put "$(card a)/link" false
wait_for links_down a 4
put "$(card a)/network" one
put "$(card a)/network" two
sleep 1.2 # longer than the moment after which it would be in again
is "$(lines a '^link 1')" 4
put "$(card a)/link" true
wait_for back a 5
hears a b 9

note "network, link and limits in one go, or none of it"
n=$(lines a '^link 1')
sed 's/network = "two"/network = "one"/; s/limits = ""/limits = "rx_pps=1000"/' "$M/a/config" >"$T/config"
cat "$T/config" >"$M/a/config"
is "$(in_bridge one)$(in_bridge two)" 11
wait_for more_lines a '^link 1' "$n"
sed 's/network = "one"/network = "nowhere"/; s/limits = "[^"]*"/limits = "rx_pps=5"/' "$M/a/config" >"$T/config"
cat "$T/config" >"$M/a/config" 2>/dev/null && fail "a network that is none"
like "$(cat "$(card a)/limits")" 'rx_pps=1000'
is "$(cat "$(card a)/network")" one

note "another daemon finds it where it is"
kill_daemon
umount -l "$MNT"
start_daemon
is "$(in_bridge one)$(in_bridge two)" 11
like "$(cat "$N/one/hosts")" ' a$'
n=$(lines a '^link 1')
put "$(card a)/network" two
wait_for more_lines a '^link 1' "$n"
hears a b 10

note "paused, it is moved too; and it starts there"
do_ctl a pause
put "$(card a)/network" one
do_ctl a resume
undefine a b
wait_for taps_are 0
rmdir "$N"/*
same_links() { ip -o link | cut -d: -f2 | cmp -s - "$T/links"; }
wait_for same_links
