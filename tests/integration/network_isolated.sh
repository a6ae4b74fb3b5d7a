#!/bin/bash
# Who reaches whom: two networks `nat`, one `isolated`, one of these without the host; a Linux whose cable is
# moved from each to the next. Packets that must not arrive do not; the same ones by an allowed way do.
# time: 300
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
need_linux
need_cmd tcpdump
make_outside
start_daemon
mkdir "$N"/{one,two,alone,dark}
echo 'subnet = "10.71.0.0/24"; subnet6 = "fd71::/64";' >"$N/one/config"
echo 'subnet = "10.72.0.0/24"; subnet6 = "fd72::/64";' >"$N/two/config"
echo 'mode = "isolated"; subnet = "10.73.0.0/24"; subnet6 = "fd73::/64";' >"$N/alone/config"
echo 'mode = "isolated"; host = false; subnet = "10.74.0.0/24"; subnet6 = "";' >"$N/dark/config"
boot_linux web
wire_guest far two
far=$(held far two)
ping -q -c 3 -i 0.3 -W 20 "$far" >"$T/ping" || fail "the host does not reach the guest in two"
put "$M/far/nics/lan/ctl" 'capture on'
# echoed FROM: requests of that address that came to the guest in two
echoed() { tcpdump -n -r "$M/far/nics/lan/pcap" 'icmp[icmptype] = icmp-echo' 2>/dev/null | grep -cE "IP $1[0-9.]* > $far" || true; }
has_echoed() { [ "$(echoed "$1")" != 0 ]; }
# route_by GATEWAY [GATEWAY6]: whatever DHCP said
route_by() {
	sh_linux web "ip route replace default via $1; ${2:+ip -6 route replace default via $2 dev eth0;} ip route" >"$T/route"
}
# nobody_heard FROM: neither the outside nor the guest in two, and both hear what they may
nobody_heard() {
	is "$(seen v4)$(seen v6)" "" "who asked the outside"
	ping -q -c 3 -i 0.3 -W 20 10.200.0.2 >"$T/ping"
	is "$(seen v4)" "10.200.0.1 " "the host asked the outside"
	forget_seen
	ping -q -c 3 -i 0.3 -W 20 "$far" >"$T/ping"
	wait_for has_echoed 10.72.0.1
	is "$(echoed "$1")" 0 "requests of $1 in network two"
}

note "a nat network: out, to the host, not into another one"
linux_card web one
wait_for has_address6 web fd71:
guest_pings web 10.200.0.2
guest_pings web fd00:200::2
guest_pings web 10.71.0.1
forget_seen
guest_cannot web "$far"
nobody_heard 10.71.

note "an isolated one: the host, and nobody else, whatever routes the guest makes itself"
put "$M/web/nics/lan/network" alone
lease web
like "$(address web)" '^10\.73\.'
wait_for has_address6 web fd73:
route_by 10.73.0.1 fd73::1
guest_pings web 10.73.0.1
guest_pings web fd73::1
guest_cannot_any web 10.200.0.2 fd00:200::2 "$far"
nobody_heard 10.73.
outside ip route add 10.73.0.0/24 via 10.200.0.1
! outside ping -q -c 1 -W 1 "$(address web)" >"$T/ping" || fail "the outside reaches an isolated guest"
ping -q -c 3 -i 0.3 -W 20 "$(address web)" >"$T/ping" || fail "the host does not reach its isolated guest"

note "one without the host: its guests, and nobody else"
wire_guest near dark 10.74.0.9
put "$M/web/nics/lan/network" dark
sh_linux web 'ip addr flush dev eth0; ip addr add 10.74.0.8/24 dev eth0; ip route replace default via 10.74.0.1' >"$T/route"
guest_pings web 10.74.0.9
guest_cannot web 10.74.0.1
ip addr add 10.74.0.1/24 dev "$(cat "$N/dark/bridge")" # and if the host had an address there
guest_cannot_any web 10.74.0.1 10.200.0.2
! ping -q -c 1 -W 1 10.74.0.8 >"$T/ping" || fail "the host reaches into a network without it"
nobody_heard 10.74.
guest_pings web 10.74.0.9

note "and back in the first one it reaches the outside again"
put "$M/web/nics/lan/network" one
lease web
guest_pings web 10.200.0.2
is "$(seen v4)" "10.200.0.1 " "who asked the outside"
end_outside
