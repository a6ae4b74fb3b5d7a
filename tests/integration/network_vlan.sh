#!/bin/bash
# VLANs by tag where the host's kernel tags nothing: guests of VLAN 100 hear each other, one of 200 hears
# none of it, the host sees tags; who has a tag already is not let through; live.
# also: asan
# time: 240
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_wire.sh"

need_kvm
need_cmd ip tcpdump nft
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
ip link add br0 type bridge mcast_snooping 0
ip link set br0 up

start_daemon
mkdir "$N/lan" "$N/nat"
refuses EINVAL write "$N/lan/vlan" 100 # one with a bridge of its own
put "$N/lan/config" 'mode = "bridge"; interface = "br0"; vlan = 100;'
refuses ERANGE write "$N/lan/vlan" 4095
refuses EINVAL write "$N/lan/vlan" -1

guest a lan
guest b lan
guest c lan vlan=200
A=$(mac_of a) C=$(mac_of c)
tcpdump -Uni br0 -w "$T/frames" 2>"$T/tcpdump" &
dump=$!
listening() { grep -q 'listening' "$T/tcpdump"; }
wait_for listening

note "of one VLAN they hear each other, and answer"
hears b a 1
hears a b 2
tell a 'i 10.0.0.1'
tell b 'i 10.0.0.2'
n=$(lines a "^heard $(mac_of b) 0x806")
tell a "a ffffffffffff""mm""0806""0001080006040001""mm""0a000001""000000000000""0a000002"
wait_for more_lines a "^heard $(mac_of b) 0x806" "$n"

note "the other one hears none of it, and is not heard"
guest d lan vlan=200
tell c "a $(frame 3)"
wait_for has_heard d "$C" 3
hears b a 4 # what was sent before would have come by now
is "$(heard a "$C" 3)$(heard b "$C" 3)" 00 "what VLAN 100 hears of 200"
is "$(heard c "$A" 1)$(heard c "$A" 4)$(heard d "$A" 4)" 000 "what VLAN 200 hears of 100"

note "one that brings a tag of its own is not sent"
tell c "a ffffffffffff""mm""8100006488b5$(printf '00%.0s' $(seq 60))"
tell c "a ffffffffffff""mm""88a8006488b5$(printf '00%.0s' $(seq 60))"
tell c "a $(frame 5)"
wait_for has_heard d "$C" 5
hears b a 6
is "$(lines a "^heard $C")$(lines b "^heard $C")" 00 "frames of a guest that chose its VLAN"
is "$(lines d "^heard $C 0x(8100|88a8)")" 0 "tags that a guest sees"

note "an untagged host sees the tags, and who has none sees them too"
seen() { tcpdump -enr "$T/frames" "$1" 2>/dev/null | grep -q "$2"; }
wait_for seen 'vlan 100' "$A > ff:ff:ff:ff:ff:ff"
wait_for seen 'vlan 200' "$C > ff:ff:ff:ff:ff:ff"
seen 'vlan 100' "$C" && fail "a frame of $C is of VLAN 100"
kill $dump

note "another VLAN, while it runs: at once, with the cable out for a moment"
put "$(card c)/vlan" 100
wait_console c 'link 0'
back() { [ "$(lines c '^link 1')" = 2 ]; }
wait_for back
hears b c 7
hears c a 8
is "$(heard d "$C" 7)" 0
put "$(card c)/vlan" 200
is "$(ls "$N")" $'lan\nnat'

note "spoofing is none of its business: with strict, tagged frames bear their card's address"
put "$N/lan/filter" strict
tell a "a $(frame 9)" # of a type that guests have no use for
TYPE=0800
hears b a 10
is "$(lines b "^heard $A 0x88b5 69")" 0 "frames of a strange type"
tell a "s $(frame 11 525400abcdef)"
tell a "a ffffffffffff""mm""0806""0001080006040001""525400abcdef""0a000001""000000000000""0a000002"
n=$(lines b "^heard $A 0x806")
tell a 'i 10.0.0.1'
wait_for more_lines b "^heard $A 0x806" "$n"
is "$(lines b "^heard $A 0x806")" $((n + 1)) "ARP of a with another's address in it"
is "$(lines b '^heard 52:54:00:ab:cd:ef')" 0 "frames with another's address"

note "where there is no VLAN, in words"
refuses EOPNOTSUPP write "$(card c)/network" nat
says 'EOPNOTSUPP.*VLAN' "$M/c/error"
is "$(cat "$(card c)/network")" lan
put "$N/lan/filter" off
undefine a b c d
rmdir "$N/lan" "$N/nat"
