# shellcheck shell=bash
# Sourced after lib.sh by tests of networks: a second host, "outside", in a network namespace of its own,
# behind a cable to the test's namespace, which is "the host". It notes who asked it for an echo, in sets
# of nftables: what must not arrive is proved by what is in there, and by what is in there and had to.
#
#	10.200.0.1  fd00:200::1   the host, interface wire0      10.200.0.2  fd00:200::2   outside

need_networks() {
	need_kvm
	need_cmd ip ping nft dnsmasq
	[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
	ip link set lo up
	chmod 711 "$T" # dnsmasq reads its files as nobody
	N=$MNT/networks
}

# outside COMMAND…: there
outside() { nsenter -t "$OUTSIDE" -n "$@"; }
in_outside() { [ "$(readlink "/proc/$OUTSIDE/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
make_outside() {
	need_cmd nsenter unshare
	unshare -n sleep infinity &
	OUTSIDE=$!
	wait_for in_outside
	ip link add wire0 type veth peer name wire1
	ip link set wire1 netns "$OUTSIDE"
	ip addr add 10.200.0.1/24 dev wire0
	ip addr add fd00:200::1/64 dev wire0 nodad
	ip link set wire0 up
	outside ip link set lo up
	outside ip addr add 10.200.0.2/24 dev wire1
	outside ip addr add fd00:200::2/64 dev wire1 nodad
	outside ip link set wire1 up
	outside nft -f - <<-END
		table inet seen {
			set v4 {
				type ipv4_addr
				size 1000
				flags dynamic
			}
			set v6 {
				type ipv6_addr
				size 1000
				flags dynamic
			}
			chain input {
				type filter hook input priority 0
				icmp type echo-request update @v4 { ip saddr }
				icmpv6 type echo-request update @v6 { ip6 saddr }
			}
		}
	END
	wait_for outside ping -q -c 1 -W 1 10.200.0.1 >"$T/ping"
	wait_for outside ping -q -c 1 -W 1 fd00:200::1 >"$T/ping"
}
end_outside() {
	kill "$OUTSIDE"
	wait "$OUTSIDE" 2>/dev/null || true
}
# seen FAMILY: whose echo requests came to the outside, in a line; forget_seen: from here on
seen() {
	outside nft list set inet seen "$1" | sed -n '/elements/,/}/p' | { grep -oE '[0-9a-f]+[.:][0-9a-f.:]+' || true; } |
		sort | tr '\n' ' '
}
forget_seen() { outside nft flush set inet seen v4 \; flush set inet seen v6; }

# join MACHINE NETWORK [NIC]: a card; a running one has it at once. With the address $FIXED, if that is set.
join() {
	mkdir "$M/$1/nics/${3:-lan}"
	[ -z "${FIXED:-}" ] || put "$M/$1/nics/${3:-lan}/fixed_address" "$FIXED"
	put "$M/$1/nics/${3:-lan}/network" "$2"
}
address() { cat "$M/$1/nics/lan/address"; }

# linux_card MACHINE NETWORK: a card that comes while Linux runs there, and an address by DHCP
# (Its kernel asks for a router at once, and takes an IPv6 address without asking whose it is: each is seconds of waiting.)
linux_card() {
	sh_linux "$1" 'cd /proc/sys/net/ipv6/conf/default; echo 0 >dad_transmits; echo 0 >router_solicitation_delay; cd /'
	join "$1" "$2"
	linux_sees() { sh_linux "$1" 'ls /sys/class/net' | grep -q eth0; }
	wait_for linux_sees "$1"
	lease "$1"
}
lease() {
	sh_linux "$1" 'udhcpc -q -n -t 20 -T 1 -i eth0 -s /etc/udhcpc.script' >"$T/udhcpc" ||
		fail "no lease for $1: $(cat "$T/udhcpc")"
}
# linux_ping6 MACHINE: it has an address of its network's prefix $2 that is not tentative any more
linux_address6() {
	sh_linux "$1" 'ip -6 addr show dev eth0' | grep -v -e tentative | grep -oE "$2[0-9a-f:]*" | head -n 1
}
has_address6() { [ -n "$(linux_address6 "$1" "$2")" ]; }
# guest_pings MACHINE ADDRESS [OPTION…]: an answer comes; guest_cannot: none does
guest_pings() { sh_linux "$1" "for i in 1 2 3 4 5 6 7 8 9 no; do ping -q -c 1 -W 4 ${*:3} $2 && break; done; [ \$i != no ]" >"$T/ping" || fail "$1 reaches no $2: $(cat "$T/ping")"; }
guest_cannot() { sh_linux "$1" "! ping -q -c 2 -i 0.2 -W 1 ${*:3} $2" >"$T/ping" || fail "$1 reaches $2: $(cat "$T/ping")"; }
# guest_cannot_any MACHINE ADDRESS…: none of them, all asked at once
guest_cannot_any() {
	sh_linux "$1" "(for a in ${*:2}; do (! ping -q -c 2 -i 0.2 -W 1 \$a || echo reached \$a) & done; wait)" >"$T/ping"
	is "$(grep -c '^2 packets transmitted' "$T/ping")" $(($# - 1)) "pings in $1"
	! grep '^reached' "$T/ping" || fail "$1 reaches what it must not: $(cat "$T/ping")"
}

# serves MACHINE: it answers HTTP with its name, IPv4 and IPv6
serves() { sh_linux "$1" "echo this-is-$1 >/tmp/index.html; httpd -h /tmp"; }
# fetch ADDRESS PORT: a page, by HTTP
fetch() {
	timeout 20 bash -c "exec 5<>'/dev/tcp/$1/$2' && printf 'GET / HTTP/1.0\r\n\r\n' >&5 && cat <&5"
}

# what the host's network looks like but for counters, and when it is so again
host_net() {
	ip -o link | sed 's/^[0-9]*: //; s/ state .*//' | sort
	ip -o addr | sed 's/^[0-9]*: //; s/ valid_lft.*//; s/ tentative//' | sort
	ip route
	nft -s list ruleset
	cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
	pgrep -x 'dnsmasq|passt.*' || true
}
same_net() { host_net | diff "$1" - >"$T/difference"; }
net_as() {
	local end=$((SECONDS + 30 * SLOWNESS))
	until same_net "$1"; do
		[ $SECONDS -lt $end ] || fail "left on the host: $(cat "$T/difference")"
		sleep 0.05
	done
}

# wire_guest MACHINE NETWORK [ADDRESS]: a micro guest that answers pings to its address there
wire_guest() {
	define_guest "$1" wire
	join "$1" "$2"
	wire_start "$@"
}
wire_start() {
	do_ctl "$1" start
	wait_console "$1" 'link 1'
	put "$M/$1/console" "i ${3:-$(held "$1" "$2")}"
}
# held MACHINE NETWORK: the IPv4 address that the network has for it
held() { sed -n "s/^\([0-9.]*\) $1\( .*\)*\$/\1/p" "$N/$2/hosts"; }

# --- traffic: tests/guest/traffic.c, in a guest and here -------------------------------------------------

# traffic_build: $TRAFFIC; traffic_program MACHINE…: and it is in the guests as /tmp/traffic
traffic_build() {
	need_cmd gcc
	TRAFFIC=$T/traffic
	gcc -O2 -Wall -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie -no-pie -fcf-protection=none \
		-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns \
		-Wl,-z,noseparate-code,-z,noexecstack,--build-id=none -s -o "$TRAFFIC" "$ROOT/tests/guest/traffic.c"
}
traffic_program() {
	traffic_build
	# here: large segments from the first one on, however long a guest takes for one
	echo reno >/proc/sys/net/ipv4/tcp_congestion_control
	echo 40 >/proc/sys/net/ipv4/tcp_min_tso_segs
	local m
	for m; do
		sh_linux "$m" '{ nc -l -p 4999 >/tmp/traffic & }'
		push_traffic() { cat "$TRAFFIC" >"/dev/tcp/$(address "$m")/4999"; }
		wait_for push_traffic
		sh_linux "$m" 'wait; chmod +x /tmp/traffic; wc -c </tmp/traffic' >"$T/size"
		like "$(cat "$T/size")" "$(stat -c %s "$TRAFFIC")" "the program in $m"
	done
}
# to_guest MACHINE MIB, from_guest MACHINE MIB: a TCP connection; both ends saw the same bytes
to_guest() { to_guest_begin "$@" && traffic_end "$1"; }
from_guest() { from_guest_begin "$@" && traffic_end "$1"; }
# the same in two: meanwhile $TRAFFIC_PID is what is under way here
to_guest_begin() {
	sh_linux "$1" '{ /tmp/traffic receive 5000 >/tmp/sum 2>&1 & }'
	"$TRAFFIC" send $(($2 << 20)) 5000 "$(address "$1")" >"$T/sum_here" &
	TRAFFIC_PID=$! TRAFFIC_BYTES=$(($2 << 20))
}
from_guest_begin() {
	sh_linux "$1" "{ /tmp/traffic send $(($2 << 20)) 5000 >/tmp/sum 2>&1 & }"
	"$TRAFFIC" receive 5000 "$(address "$1")" >"$T/sum_here" &
	TRAFFIC_PID=$! TRAFFIC_BYTES=$(($2 << 20))
}
traffic_end() {
	wait "$TRAFFIC_PID" || fail "the connection to $1 did not last: $(sh_linux "$1" 'cat /tmp/sum')"
	sh_linux "$1" 'wait; cat /tmp/sum' >"$T/sum_there"
	like "$(cat "$T/sum_here")" "^$TRAFFIC_BYTES [0-9]+$"
	grep -qxF "$(cat "$T/sum_here")" "$T/sum_there" ||
		fail "here: $(cat "$T/sum_here"), there: $(cat "$T/sum_there")"
}
