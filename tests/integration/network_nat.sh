#!/bin/bash
# Two Linux guests in a network of mode `nat`, and a host outside: leases, names, IPv6, pings to, through and
# between, behind the host's address; forwards in; static addresses; capture read live; nothing stays.
# time: 300
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
need_linux
need_cmd tcpdump
make_outside
host_net >"$T/before"
start_daemon
mkdir "$N/lan"
printf 'subnet = "10.77.0.0/24"; subnet6 = "fd77::/64"; domain = "lan.test";\n' >"$N/lan/config"
for g in web db; do boot_linux $g; done

note "cards come while they run; an address by DHCP, the one that nics/lan/address says"
linux_card web lan
FIXED=10.77.0.50 linux_card db lan
is "$(address db)" 10.77.0.50 "the address that it was to have"
for g in web db; do
	like "$(address $g)" '^10\.77\.0\.[0-9]+$'
	like "$(sh_linux $g 'ip -4 addr show dev eth0')" "inet $(address $g)/24"
	like "$(cat "$N/lan/leases")" "$(address $g) mac=.* machine=$g nic=lan "
	wait_for has_address6 $g fd77:
done

note "to the host, from it, through it to the outside, and to each other"
forget_seen
guest_pings web 10.77.0.1
guest_pings web 10.200.0.2
guest_pings web fd77::1
guest_pings web fd00:200::2
guest_pings db "$(address web)"
guest_pings db "$(linux_address6 web fd77:)"
ping -q -c 3 -i 0.3 -W 20 "$(address web)" >"$T/ping" || fail "the host does not reach web"
ping -q -c 3 -i 0.3 -W 20 "$(linux_address6 web fd77:)" >"$T/ping" || fail "the host does not reach web's IPv6"
is "$(seen v4)" "10.200.0.1 " "who asked the outside: the host, for its guests"
is "$(seen v6)" "fd00:200::1 " "who asked the outside by IPv6"

note "nobody begins a conversation with a guest from outside"
outside ip route add 10.77.0.0/24 via 10.200.0.1
outside ip -6 route add fd77::/64 via fd00:200::1
! outside ping -q -c 1 -W 1 "$(address web)" >"$T/ping" || fail "the outside reaches web"
! outside ping -q -c 1 -W 1 "$(linux_address6 web fd77:)" >"$T/ping" || fail "the outside reaches web's IPv6"
outside ping -q -c 3 -i 0.3 -W 20 10.77.0.1 >"$T/ping" || fail "the outside has no way here at all: that proves nothing"

note "names: of each other, and on the host"
like "$(sh_linux web 'nslookup db.lan.test')" "Address: $(address db)"
like "$(sh_linux web 'nslookup db')" "Address: $(address db)"
guest_pings web db.lan.test
grep -qx "$(address web) web.*" "$N/lan/hosts" || fail "hosts: $(cat "$N/lan/hosts")"

note "forwards: TCP and UDP, IPv4 and IPv6, from outside and from here"
serves web
printf 'tcp 8080 web 80\nudp 5353 web 53\ntcp 8081 %s 80\n' "$(linux_address6 web fd77:)" >"$N/lan/forwards" ||
	fail "forwards: $(cat "$N/lan/error")"
like "$(outside bash -c "$(declare -f fetch); fetch 10.200.0.1 8080")" this-is-web
like "$(outside bash -c "$(declare -f fetch); fetch fd00:200::1 8081")" this-is-web
like "$(fetch 127.0.0.1 8080)" this-is-web
like "$(sh_linux db 'wget -q -O - http://10.77.0.1:8080/')" this-is-web
put "$M/web/nics/lan/ctl" 'capture on'
tail -c +1 -f "$M/web/nics/lan/pcap" 2>/dev/null | tcpdump -l -n -e -r - >"$T/frames" 2>"$T/tcpdump.log" &
outside bash -c 'echo hello >/dev/udp/10.200.0.1/5353'
frames_have() { grep -qE "$1" "$T/frames"; }
wait_for frames_have "10\.200\.0\.2\.[0-9]+ > $(address web)\.53:"
like "$(cat "$T/frames")" "> $(cat "$M/web/nics/lan/mac"), ethertype IPv4"
put "$M/web/nics/lan/ctl" 'capture off'
put "$N/lan/forwards" ''
! outside bash -c "$(declare -f fetch); fetch 10.200.0.1 8080" >"$T/page" 2>&1 || fail "8080 is still open"

note "the cable is out, and in again"
put "$M/web/nics/lan/link" false
guest_cannot web 10.77.0.1
put "$M/web/nics/lan/link" true
carrier() { [ "$(sh_linux web 'cat /sys/class/net/eth0/carrier')" = 1 ]; }
wait_for carrier
guest_pings web 10.77.0.1

note "ssh root@\$(cat machines/web/nics/lan/address) would"
like "$(fetch "$(cat "$M/web/nics/lan/address")" 80)" this-is-web

note "dnsmasq is killed, and comes back with what it had leased"
cp "$N/lan/leases" "$T/leases"
old=$(pgrep -x dnsmasq)
kill -KILL "$old"
another() { [ -n "$(pgrep -x dnsmasq)" ] && [ "$(pgrep -x dnsmasq)" != "$old" ]; }
wait_for another
lease web
leased() { sed 's/ expires.*//' "$1" | sort; }
is "$(leased "$N/lan/leases")" "$(leased "$T/leases")" "leases"
like "$(sh_linux web 'nslookup db.lan.test')" "Address: $(address db)"

note "daemon and VMMs are killed: a new daemon finds nobody there, and takes all of it off the host"
web=$(address web)
kill_daemon
ping -q -c 3 -i 0.3 -W 20 "$web" >"$T/ping" || fail "no ping without a daemon"
for pid in $(vmm_pids); do kill -KILL "$pid"; done
umount -l "$MNT"
wait_for no_vmm
start_daemon
net_stopped() { [ "$(cat "$N/lan/state")" = stopped ]; }
echo stop >"$N/lan/ctl" 2>/dev/null || true
wait_for net_stopped
net_as "$T/before"
end_outside
