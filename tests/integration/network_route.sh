#!/bin/bash
# A Linux guest in a network of mode `route`: the outside sees the guest's own address, IPv4 and IPv6, and
# reaches it; frames of 9000 bytes; another's firewall that drops; ip_forward as it was, at the end.
# time: 300
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
need_linux
make_outside
ip link set wire0 mtu 9000
outside ip link set wire1 mtu 9000
echo 0 >/proc/sys/net/ipv4/ip_forward
echo 0 >/proc/sys/net/ipv6/conf/all/forwarding
host_net >"$T/before"
start_daemon
mkdir "$N/lab"
echo 'mode = "route"; subnet = "10.78.0.0/24"; subnet6 = "fd78::/64"; mtu = 9000;' >"$N/lab/config"
boot_linux web
linux_card web lab
wait_for has_address6 web fd78:
web=$(address web) web6=$(linux_address6 web fd78:)
is "$(cat /proc/sys/net/ipv4/ip_forward)$(cat /proc/sys/net/ipv6/conf/all/forwarding)" 11 "forwarding"

note "without a way back there is no answer: nothing is masqueraded"
guest_cannot web 10.200.0.2
is "$(seen v4)" "$web " "who asked the outside"
outside ip route add 10.78.0.0/24 via 10.200.0.1
outside ip -6 route add fd78::/64 via fd00:200::1

note "with one, both ways, from the guest's own addresses"
forget_seen
guest_pings web 10.200.0.2
guest_pings web fd00:200::2
is "$(seen v4)$(seen v6)" "$web $web6 "
outside ping -q -c 3 -i 0.3 -W 20 "$web" >"$T/ping" || fail "the outside does not reach the guest"
outside ping -q -c 3 -i 0.3 -W 20 "$web6" >"$T/ping" || fail "the outside does not reach the guest's IPv6"
serves web
like "$(outside bash -c "$(declare -f fetch); fetch $web 80")" this-is-web
like "$(outside bash -c "$(declare -f fetch); fetch $web6 80")" this-is-web

note "9000 bytes in one piece, and no more"
like "$(sh_linux web 'cat /sys/class/net/eth0/mtu')" 9000
ping -q -c 3 -i 0.3 -W 20 -M "do" -s 8972 "$web" >"$T/ping" || fail "no ping of 9000 bytes from the host"
outside ping -q -c 3 -i 0.3 -W 20 -M "do" -s 8972 "$web" >"$T/ping" || fail "no ping of 9000 bytes from outside"
! ping -q -c 1 -W 1 -M "do" -s 8973 "$web" >"$T/ping" 2>&1 || fail "9001 bytes went through"

note "a guest does not speak with another's address"
forget_seen
sh_linux web 'ip addr add 10.78.0.250/24 dev eth0' >"$T/route"
guest_cannot web 10.200.0.2 -I 10.78.0.250
is "$(seen v4)" "" "who asked the outside"
guest_pings web 10.200.0.2 -I "$web"
is "$(seen v4)" "$web " "who asked the outside"

note "a firewall as Docker makes it, and the two rules that error names for it"
if command -v iptables-nft >/dev/null; then
	iptables-nft -N DOCKER-USER
	iptables-nft -P FORWARD DROP
	iptables-nft -A FORWARD -j DOCKER-USER
	! outside ping -q -c 1 -W 1 "$web" >"$T/ping" || fail "that firewall lets all pass"
	iptables-nft -I DOCKER-USER -i "$(cat "$N/lab/bridge")" -j ACCEPT
	iptables-nft -I DOCKER-USER -o "$(cat "$N/lab/bridge")" -j ACCEPT
	outside ping -q -c 3 -i 0.3 -W 20 "$web" >"$T/ping" || fail "the outside does not reach the guest"
	guest_pings web 10.200.0.2
	nft delete table ip filter
fi

note "the last one stops: the host forwards no more than before"
do_ctl web kill
put "$N/lab/ctl" stop
net_as "$T/before"

note "who forwarded before goes on doing so"
echo 1 >/proc/sys/net/ipv4/ip_forward
put "$N/lab/ctl" start
put "$N/lab/ctl" stop
is "$(cat /proc/sys/net/ipv4/ip_forward)$(cat /proc/sys/net/ipv6/conf/all/forwarding)" 10 "forwarding"
end_outside
