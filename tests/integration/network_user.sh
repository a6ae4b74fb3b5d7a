#!/bin/bash
# A plain user, without any privilege: a network is of mode `user` (passt); a Linux guest has an address by
# DHCP, reaches the outside, by names too, and is reached by ports of `forwards`; other modes are refused.
# time: 300
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

# ask COMMAND: the outside does it, and what it said
ask() {
	rm -f "$T/answer"
	echo "{ $1; } >$T/.answer 2>&1; mv $T/.answer $T/answer" >"$T/ask"
	answered() { [ -e "$T/answer" ]; }
	wait_for answered
	cat "$T/answer"
}

if [ -z "${AS_USER:-}" ]; then
	need_networks
	need_linux
	need_cmd passt fusermount3 setpriv busybox tcpdump
	[ "$(id -u)" = 0 ] || skip "needs root to become somebody else"
	make_outside
	for node in fuse:229 kvm:232 tun:200; do # as others have them
		n=$T/${node%:*} minor=${node#*:}
		mknod "$n" c 10 "$minor"
		chmod 666 "$n"
		mount --bind "$n" "/dev/$([ "${node%:*}" = tun ] && echo net/)${node%:*}"
	done
	ip route add default via 10.200.0.2 # what a user's program takes as the way out
	outside ip addr add 203.0.113.9/32 dev lo # beyond the router, for which the guest has the host itself
	mkdir "$T/www"
	echo this-is-outside >"$T/www/index.html"
	nsenter -t "$OUTSIDE" -n busybox httpd -f -h "$T/www" &
	www=$!
	nsenter -t "$OUTSIDE" -n dnsmasq -k -C /dev/null --no-resolv --no-hosts --local=/outside.test/ --host-record=outside.test,203.0.113.9 &
	dns=$!
	echo nameserver 203.0.113.9 >"$T/resolv.conf"
	mount --bind "$T/resolv.conf" /etc/resolv.conf
	H=$T/home
	mkdir "$H" "$H/run" "$H/linux" "$H/booted"
	cp "$LINUX"/{vmlinux,root.img,cmdline} "$H/linux"
	[ ! -s "${LINUX_BOOTED:-}/booted-1" ] || cp "$LINUX_BOOTED/booted-1" "$H/booted"
	mkfifo "$H/ask"
	chown -R 65534:65534 "$H"
	chmod 755 "$T"
	host_net >"$T/before"
	nsenter -t "$OUTSIDE" -n bash -c "$(declare -f fetch); while read -r line; do eval \"\$line\"; done <>$H/ask" &
	asked=$!
	setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$H" T="$H" XDG_RUNTIME_DIR="$H/run" \
		AS_USER=1 ISOLATED=1 LINUX="$H/linux" LINUX_BOOTED="$H/booted" bash "$ROOT/tests/integration/${0##*/}" ||
		fail "as a plain user"
	kill $asked $www $dns
	wait $asked $www $dns || true
	sed -i "/^$dns\$/d" "$T/before"
	net_as "$T/before"
	umount /etc/resolv.conf /dev/fuse /dev/kvm /dev/net/tun
	end_outside
	exit
fi

N=$MNT/networks
start_daemon
mkdir "$N/net"
is "$(cat "$N/net/mode")" user "the mode that a plain user's network has"
for mode in nat route isolated bridge; do refuses EPERM write "$N/net/mode" $mode; done
says 'root' "$N/net/error"
refuses EINVAL write "$N/net/forwards" 'tcp 8080'
put "$N/net/forwards" $'tcp 8080 web 80\nudp 5353 web 53'
boot_linux web

note "an address by DHCP; out"
linux_card web net
like "$(sh_linux web 'ip -4 addr show dev eth0')" 'inet 10\.200\.0\.1/'
like "$(sh_linux web 'wget -q -O - http://203.0.113.9/')" this-is-outside
like "$(sh_linux web 'nslookup outside.test')" '203\.0\.113\.9'
like "$(sh_linux web 'wget -q -O - http://outside.test/')" this-is-outside

note "in: TCP and UDP"
serves web
like "$(ask 'fetch 10.200.0.1 8080')" this-is-web
put "$M/web/nics/lan/ctl" 'capture on'
ask 'echo hello >/dev/udp/10.200.0.1/5353' >"$T/words"
arrived() { tcpdump -n -r "$M/web/nics/lan/pcap" 'udp dst port 53' 2>/dev/null | grep -q '10\.200\.0\.1\.53:'; }
wait_for arrived
put "$M/web/nics/lan/ctl" 'capture off'

note "its end takes passt with it"
[ -n "$(pgrep 'passt')" ] || fail "no passt runs"
do_ctl web kill
no_passt() { ! pgrep passt >"$T/pids"; }
wait_for no_passt
! bash -c "$(declare -f fetch); fetch 10.200.0.1 8080" >"$T/page" 2>&1 || fail "8080 is still open"
rmdir "$M/web/nics/lan" "$N/net"
