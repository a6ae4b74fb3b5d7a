#!/bin/bash
# A network beside others' things on the host: their rules stay to the byte and ours come back when flushed,
# Docker's firewall is told of in words, what bears our names is not taken, what is missing or taken is said.
# also: asan
# time: 240
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
make_outside
# others' rules, as `nft list ruleset` has them without ours
others() {
	local table
	nft list tables | while read -r _ family table; do
		[[ $table = filevisor_* ]] || nft -s list table "$family" "$table"
	done
}
ours() { nft list tables | grep -c " filevisor_" || true; }
nft -f - <<'END'
table inet theirs {
	set blocked {
		type ipv4_addr
		elements = { 192.0.2.1 }
	}
	chain input {
		type filter hook input priority 0; policy accept;
		ip saddr @blocked counter drop
	}
	chain post {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 172.30.0.0/16 masquerade
	}
}
table bridge theirs {
	chain forward {
		type filter hook forward priority 0; policy accept;
	}
}
END
others >"$T/others"
host_net >"$T/before"
start_daemon
mkdir "$N/lan"
echo 'subnet = "10.99.0.0/24"; subnet6 = "fd99::/64";' >"$N/lan/config"
wire_guest web lan
web=$(held web lan)
pings() { ping -q -c 3 -i 0.3 -W 20 "$web" >"$T/ping" || fail "no ping $1"; }
pings "at first"

# listen tcp|udp 4|6 PORT: a program of the host's; unlisten ends it
listen() {
	: >"$T/listens"
	python3 - "$1" "$2" "$3" >"$T/listens" <<'END' &
import socket, sys, time
s = socket.socket(socket.AF_INET6 if sys.argv[2] == "6" else socket.AF_INET, socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM)
s.bind(("::" if sys.argv[2] == "6" else "0.0.0.0", int(sys.argv[3])))
if sys.argv[1] == "tcp":
    s.listen()
print("yes", flush=True)
time.sleep(1000)
END
	LISTENER=$!
	wait_for test -s "$T/listens"
}
unlisten() {
	kill $LISTENER
	wait $LISTENER 2>/dev/null || true
}

note "others' tables are as they were; ours come back when all is flushed"
others | diff "$T/others" - >"$T/diff" || fail "others' rules: $(cat "$T/diff")"
is "$(ours)" 2 "tables of ours"
TABLE=$(nft list tables inet | sed -n 's/.* \(filevisor_.*\)/\1/p')
nft list table inet $TABLE >"$T/ours"
restored() { [ "$(nft list table inet $TABLE 2>/dev/null)" = "$(cat "$T/ours")" ]; }
nft flush ruleset
wait_for restored
told() { grep -q network-rules-restored "$MNT/events"; }
wait_for told
[ -z "$(others)" ] || fail "others' rules came from somewhere: $(others)"
nft delete rule inet $TABLE postrouting handle "$(nft -a list chain inet $TABLE postrouting | sed -n 's/.* # handle \([0-9]*\)$/\1/p' | sed -n 2p)"
wait_for restored
pings "after that"

note "a firewall as Docker makes it: said in words, and not touched"
if command -v iptables-nft >/dev/null; then
	refuses EBUSY write "$N/lan/ctl" stop
	says 'web' "$N/lan/error"
	do_ctl web kill
	put "$N/lan/ctl" stop
	iptables-nft -N DOCKER-USER
	iptables-nft -P FORWARD DROP
	iptables-nft -A FORWARD -j DOCKER-USER
	others >"$T/docker"
	put "$N/lan/ctl" start
	says 'Docker.*DOCKER-USER.*iptables -I DOCKER-USER' "$N/lan/error"
	others | diff "$T/docker" - >"$T/diff" || fail "Docker's rules: $(cat "$T/diff")"
	nft flush ruleset
	wait_for restored
	put "$N/lan/ctl" stop
	is "$(nft list ruleset)" "" "rules after the end"
	wire_start web lan
	is "$(held web lan)" "$web" "its address, again"
fi

note "dnsmasq is killed: another one"
dns=$(pgrep -x dnsmasq)
kill -KILL "$dns"
another() { [ -n "$(pgrep -x dnsmasq)" ] && [ "$(pgrep -x dnsmasq)" != "$dns" ]; }
wait_for another
is "$(cat "$N/lan/state")" running

note "what is forwarded twice, nowhere, or by nobody"
put "$N/lan/forwards" 'tcp 8080 web 80'
refuses EEXIST write "$N/lan/forwards" $'tcp 8080 web 80\ntcp 8080 web 81'
says '8080' "$N/lan/error"
mkdir "$N/wan"
echo 'subnet = "10.98.0.0/24";' >"$N/wan/config"
refuses EEXIST write "$N/wan/forwards" 'tcp 8000-9000 web 8000'
says 'network lan' "$N/wan/error"
refuses EINVAL write "$N/wan/forwards" 'tcp 80 192.0.2.1 80'
says 'subnet' "$N/wan/error"
refuses EINVAL write "$N/wan/forwards" 'tcp 0 web 80'
refuses EINVAL write "$N/wan/forwards" 'icmp 1 web 1'
for bad in 'tcp 0 web 80' 'tcp 8080 web 80\nudp' 'tcp 8080 web'; do # shells do not look at close(2)
	! printf '%b\n' "$bad" 2>/dev/null >"$N/wan/forwards" || fail "'$bad': the shell heard nothing of it"
	is "$(cat "$N/wan/forwards")" ""
done
! echo 'tcp 8080 web 80' 2>/dev/null >>"$N/lan/forwards" || fail "twice: the shell heard nothing of it"
echo 'udp 8080 web 80' >>"$N/lan/forwards"
is "$(wc -l <"$N/lan/forwards")" 2
put "$N/lan/forwards" 'tcp 8080 web 80'
is "$(cat "$N/lan/forwards")" 'tcp 8080 web 80'

note "a port that a program of the host listens on: it would not be reached any more"
for kind in tcp:4 tcp:6 udp:4 udp:6; do
	listen ${kind/:/ } 8123
	refuses EADDRINUSE write "$N/lan/forwards" $'tcp 8080 web 80\n'"${kind%:*} 8100-8200 web 8100"
	says "${kind%:*} port 8123.*listens on it" "$N/lan/error"
	is "$(cat "$N/lan/forwards")" 'tcp 8080 web 80'
	if [ ${kind%:*} = tcp ]; then accepts write "$N/lan/forwards" 'udp 8123 web 80'; else accepts write "$N/lan/forwards" 'tcp 8123 web 80'; fi
	accepts write "$N/lan/forwards" 'tcp 8080 web 80'
	unlisten
done
listen tcp 4 8080 # came later: what is forwarded stays so, and is told of at the next start
accepts write "$N/lan/forwards" $'tcp 8080 web 80\ntcp 8081 web 81'
accepts write "$N/lan/forwards" 'tcp 8080 web 80'
do_ctl web kill
put "$N/lan/ctl" stop
put "$N/lan/ctl" start
is "$(cat "$N/lan/state")" running
says 'tcp port 8080.*listens on it.*0\.0\.0\.0' "$N/lan/error"
unlisten
put "$N/lan/ctl" stop
wire_start web lan
is "$(cat "$N/lan/error")" ""

note "subnets: everything, the host's, another network's"
for bad in 0.0.0.0/0 10.0.0.0/7 127.0.0.0/24 224.0.0.0/24 10.98.0.0/31 10.98.0.0 300.1.1.1/24 10.98.0.255/24; do
	refuses EINVAL write "$N/wan/subnet" "$bad"
done
refuses EEXIST,EADDRINUSE write "$N/wan/subnet" 10.99.0.128/25
says 'lan' "$N/wan/error"
refuses EEXIST write "$N/wan/subnet" 10.200.0.0/25
says 'wire0' "$N/wan/error"
refuses EEXIST write "$N/wan/subnet6" fd00:200::/64
says 'wire0' "$N/wan/error"
ip addr add 10.98.0.77/16 dev wire0 # and one that came later
refuses EEXIST write "$N/wan/ctl" start
says '10.98.0.77.*wire0' "$N/wan/error"
ip addr del 10.98.0.77/16 dev wire0

note "an interface that bears our name is not ours"
ip link add fv-wan type bridge
ip link set fv-wan alias "somebody's"
refuses EEXIST write "$N/wan/ctl" start
says 'fv-wan that is not' "$N/wan/error"
is "$(cat "$N/wan/state")" failed
ip link show fv-wan | grep -q somebody || fail "the other's bridge was touched"
define_guest other wire
join other wan
refuses EEXIST write "$M/other/ctl" start
says 'lan.*fv-wan' "$M/other/error"
ip link del fv-wan

note "nor is a table"
do_ctl web kill
put "$N/lan/ctl" stop
is "$(ours)" 0 "tables of ours"
for family in inet bridge; do
	stop_daemon
	nft add table $family "$TABLE"
	nft add chain $family "$TABLE" kept
	start_daemon # finds no network of its own there
	others >"$T/tables"
	nft -s list table $family "$TABLE" >"$T/theirs"
	refuses EEXIST write "$N/wan/ctl" start
	says "table $family $TABLE .*not ours" "$N/wan/error"
	is "$(cat "$N/wan/state")" failed
	nft -s list table $family "$TABLE" | diff "$T/theirs" - || fail "the other's table was touched"
	nft delete table $family "$TABLE"
	put "$N/wan/ctl" start
	put "$N/wan/ctl" stop
done
wire_start web lan

note "programs that are missing"
stop_daemon
mkdir "$T/bin"
for c in dnsmasq nft; do
	ln -sf /usr/sbin/* /usr/bin/* /sbin/* /bin/* "$T/bin"
	rm "$T/bin/$c"
	PATH=$T/bin start_daemon
	refuses ENOENT write "$N/wan/ctl" start
	says "no program $c|$c.*(not|No such)" "$N/wan/error"
	stop_daemon
done
start_daemon
put "$N/wan/ctl" start

note "its bridge vanishes"
ip link del fv-wan
failed() { [ "$(cat "$N/wan/state")" = failed ]; }
wait_for failed
says 'ENODEV.*fv-wan has vanished' "$N/wan/error"
put "$N/wan/ctl" start
is "$(cat "$N/wan/state")" running
put "$N/wan/ctl" stop
refuses EBUSY rmdir "$N/lan"
says web "$N/lan/error"

note "somebody answers DNS on all addresses"
undefine web other
rmdir "$N/lan"
no_dnsmasq() { ! pgrep -x dnsmasq >"$T/pids"; }
wait_for no_dnsmasq
dnsmasq -k -p 53 --no-resolv --no-hosts --no-dhcp-interface=lo -C /dev/null --pid-file="$T/theirs.pid" >"$T/theirs.log" 2>&1 &
theirs=$!
wait_for -t 20 test -s "$T/theirs.pid"
refuses EIO,EADDRINUSE write "$N/wan/ctl" start
says 'dnsmasq: .*10\.98\.0\.1.*in use' "$N/wan/error"
is "$(pgrep -x dnsmasq)" "$theirs" "dnsmasq of others"
kill $theirs
wait $theirs || true
put "$N/wan/ctl" start

note "the end: all as before"
rmdir "$N/wan"
nft -f - <"$T/others"
net_as "$T/before"
end_outside
