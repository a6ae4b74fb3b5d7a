#!/bin/bash
# What a guest may not say is heard by nobody: frames, ARP, IPv4, IPv6 and neighbour discovery in another's
# name, DHCP and router advertisements; and `guests = separate`. Each time, what it may say comes through.
# also: asan
# time: 300
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_wire.sh"

need_kvm
need_cmd ip ping nft dnsmasq
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
start_daemon
mkdir "$N/lan"
put "$N/lan/subnet" 10.99.0.1/24
put "$N/lan/subnet6" fd99::1/64
guest a lan
guest b lan
A=$(mac_of a) B=$(mac_of b)
ip_of() { sed -n "s/^\([0-9.]*\) $1\$/\1/p" "$N/lan/hosts"; }
IA=$(ip_of a) IB=$(ip_of b)
EVIL=52:54:00:de:ad:01 ALL=ffffffffffff
# 16 bytes of hex: an address of the subnet or of the link that ends in …N; the host's of the link
six() { printf 'fd99%024x%04x' 0 "$1"; }
local6() { printf 'fe80%024x%04x' 0 "$1"; }
bridge=$(hex "$(cat "/sys/class/net/$(cat "$N/lan/bridge")/address" 2>/dev/null || ip -o link show "$(cat "$N/lan/bridge")" | sed -n 's/.*link\/ether \([0-9a-f:]*\).*/\1/p')")
HOST_LOCAL=fe80000000000000$(printf '%02x' $((0x${bridge:0:2} ^ 2)))${bridge:2:4}fffe${bridge:6:6}

# arp SENDER-MAC SENDER-IP [FRAME-SOURCE]
arp() { echo "$ALL${3:-mm}080600010800060400 01${1}$(hex "$2")000000000000$(hex "$IB")" | tr -d ' '; }
# ipv4 SOURCE [SPORT DPORT]: UDP to all, with a good checksum (some hosts look at it in a bridge)
ipv4() {
	local h sum=0 i
	h=4500001c0000000040110000$(hex "$1")ffffffff
	for ((i = 0; i < ${#h}; i += 4)); do sum=$((sum + 0x${h:i:4})); done
	while ((sum >> 16)); do sum=$(((sum & 0xffff) + (sum >> 16))); done
	printf '%smm0800%s%04x%s%04x%04x00080000' "$ALL" "${h:0:20}" $((sum ^ 0xffff)) "${h:24}" "${2:-1000}" "${3:-1000}"
}
# ipv6 SOURCE TYPE TARGET [OPTION-TYPE MAC]: ICMPv6 to all
ipv6() {
	local option=${4:+${4}01$5} bytes=24
	[ -z "$option" ] || bytes=32
	printf '333300000001mm86dd60000000%04x3aff%sff020000000000000000000000000001%s00abcd00000000%s%s' \
		$bytes "$1" "$2" "$3" "$option"
}
# says_it HEX: b hears it. silent HEX: b hears nothing of it; what it may say, said later, comes through.
all_of_a() { lines b "^heard ($A|$EVIL)"; }
says_it() {
	local n
	n=$(all_of_a)
	tell a "a $1"
	b_heard() { [ "$(all_of_a)" -gt "$1" ]; }
	wait_for b_heard "$n"
	is "$(all_of_a)" $((n + 1)) "what b heard"
}
silent() {
	local n
	n=$(all_of_a)
	tell a "$1 $2"
	says_it "$(arp mm "$IA")"
	is "$(all_of_a)" $((n + 1)) "b heard: $2"
}

note "its own words come through"
says_it "$(arp mm "$IA")"
says_it "$(arp mm 0.0.0.0)"
says_it "$(ipv4 "$IA")"
says_it "$(ipv6 "$(six 7)" 87 "$(six 1)" 01 mm)"
says_it "$(ipv6 "$(local6 7)" 88 "$(six 7)" 02 mm)"
says_it "$(ipv6 "$(printf '0%.0s' {1..32})" 87 "$(six 7)")"

note "another's address on the frame, or a strange type"
silent s "$(arp mm "$IA" "$(hex $EVIL)")"
silent s "$(arp "$(hex $EVIL)" "$IA" "$(hex $EVIL)")"
silent a "$(frame 20)"
silent a "${ALL}mm8100000708060001080006040001mm$(hex "$IA")000000000000$(hex "$IB")"

note "ARP in another's name"
silent a "$(arp "$(hex $EVIL)" "$IA")"
silent a "$(arp mm "$IB")"
silent a "$(arp mm 10.99.0.1)"
silent a "$(arp mm 192.168.7.7)"

note "IPv4 and IPv6 from another's"
silent a "$(ipv4 "$IB")"
silent a "$(ipv4 10.99.0.1)"
silent a "$(ipv4 8.8.8.8)"
silent a "$(ipv4 0.0.0.0)"
silent a "$(ipv6 fd980000000000000000000000000007 87 "$(six 1)")"
silent a "$(ipv6 20010db8000000000000000000000007 88 "$(six 7)" 02 mm)"

note "neighbours: another card's address, and the host's own"
silent a "$(ipv6 "$(six 7)" 87 "$(six 1)" 01 "$(hex $EVIL)")"
silent a "$(ipv6 "$(local6 7)" 88 "$(six 7)" 02 "$(hex $EVIL)")"
silent a "$(ipv6 "$(local6 7)" 88 "$(six 1)" 02 mm)"
silent a "$(ipv6 "$(local6 7)" 88 "$HOST_LOCAL" 02 mm)"

note "a router, or a server of addresses"
silent a "$(ipv6 "$(local6 7)" 86 "$(six 1)")"
silent a "$(ipv6 "$(local6 7)" 89 "$(six 1)")"
silent a "$(ipv4 "$IA" 67 68)"

note "off: all of it comes; and strict again, live"
put "$N/lan/filter" off
says_it "$(arp mm "$IB")"
says_it "$(ipv4 "$IB")"
put "$N/lan/filter" strict
silent a "$(ipv4 "$IB")"

note "separate: not even its own words reach another guest, but the host"
put "$N/lan/guests" separate
tell a "i $IA"
ping -q -c 3 -i 0.3 -W 20 "$IA" >"$T/ping" || fail "the host does not reach it"
n=$(all_of_a)
tell a "a $(arp mm "$IA")"
tell a "a $(hex "$B")mm$(ipv4 "$IA" | cut -c15-)"
ping -q -c 3 -i 0.3 -W 20 "$IA" >"$T/ping" # what was sent before would be there by now
is "$(all_of_a)" "$n" "what b hears"
put "$N/lan/guests" together
says_it "$(arp mm "$IA")"
put "$N/lan/guests" separate
do_ctl b kill
do_ctl b start # a new port is one from the start
wait_console b 'link 1'
n=$(all_of_a)
tell a "a $(arp mm "$IA")"
ping -q -c 3 -i 0.3 -W 20 "$IA" >"$T/ping"
is "$(all_of_a)" "$n" "what b hears"

note "hairpin: what a guest sends does not come back to it"
is "$(lines a "^heard $A")" 0

note "isolated without the host: guests among themselves, and nothing else"
undefine a b
rmdir "$N/lan"
mkdir "$N/lan"
put "$N/lan/mode" isolated
put "$N/lan/host" false
guest a lan
guest b lan
hears b a 3
tell a "i 10.98.0.5"
bridge=$(cat "$N/lan/bridge")
is "$(ip -o addr show dev "$bridge")" "" "addresses of the host there"
ip addr add 10.98.0.1/24 dev "$bridge" # even if it had one
ping -q -c 2 -i 0.2 -W 1 10.98.0.5 >"$T/ping" && fail "the host reaches a guest"
undefine a b
rmdir "$N/lan"
