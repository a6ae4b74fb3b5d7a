#!/bin/bash
# A Linux with a card in a nat network: an address by DHCP, pings both ways, TCP both ways,
# the link down and up, limits, another card that comes and goes while it runs, `save`, a daemon that is
# killed, the machine's end: nothing stays.
# time: 600
. "${0%/*}/../lib.sh"

need_linux
need_cmd ip ping dnsmasq nft
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
# a network as a daemon before has left it
mkdir -p "$STATE/networks/lan"
printf 'id %s\nuid 0\ngid 0\nmode 0755\n' "$(cat /proc/sys/kernel/random/uuid)" >"$STATE/networks/lan/access"
echo 'subnet = "10.77.0.1/24";' >"$STATE/networks/lan/config"
start_daemon

# cards TEXT: the machine's, as config has them
cards() {
	sed '/^nics/,$d' "$M/web/config" >"$T/config"
	echo "nics = { $1 };" >>"$T/config"
	wait_for -t 240 store || fail "cards: $(cat "$M/web/error")"
}
# a guest that has much to do may let go of a card only when it is asked again
store() { cat "$T/config" >"$M/web/config"; }
in_guest() { sh_linux web "$1" >"$T/answer" && cat "$T/answer"; }
taps() { ip -o link show type tun | grep -c . || true; }
no_taps() { [ "$(taps)" = 0 ]; }
carrier() { [ "$(sh_linux web "cat /sys/class/net/$1/carrier 2>/dev/null || echo none")" = "$2" ]; }

define_linux web
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; };'
do_ctl web start
wait_linux web
is "$(taps)" 1 "taps"

note "an address by DHCP, and pings"
like "$(in_guest 'cat /sys/class/net/eth0/address')" 52:54:00:00:77:01
sh_linux web 'udhcpc -q -n -i eth0 -s /etc/udhcpc.script'
address=$(sh_linux web "ip -4 addr show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p'")
like "$address" '^10\.77\.0\.[0-9]+$'
ping -q -c 3 -i 0.2 -W 20 "$address" >"$T/ping" || fail "no ping: $(cat "$T/ping")"
ping -q -c 3 -i 0.2 -W 20 -s 9000 "$address" >"$T/ping" || fail "no ping in pieces: $(cat "$T/ping")"
sh_linux web 'ping -q -c 2 -W 20 10.77.0.1'

note "TCP in: what the guest gets is what was sent; and out again"
head -c 512K /dev/urandom >"$T/data"
put "$M/web/console" 'nc -l -p 5000 >/tmp/data; md5sum </tmp/data; nc -l -p 5001 </tmp/data; echo sent'
send() { cat "$T/data" >"/dev/tcp/$address/5000"; }
wait_for -t 120 send
sum=$(md5sum <"$T/data")
wait_for -t 120 console_has web "${sum%% *}"
receive() { cat <"/dev/tcp/$address/5001" >"$T/back" && [ -s "$T/back" ]; }
wait_for -t 120 receive
cmp "$T/data" "$T/back" || fail "what came back is not what was sent"
wait_console web "^(/ # )?sent"

note "the cable is out, and in again"
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; link = false; };'
wait_for carrier eth0 0
ping -q -c 1 -W 1 "$address" >"$T/ping" && fail "a ping passed without a link"
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; };'
wait_for carrier eth0 1
ping -q -c 3 -i 0.3 -W 20 "$address" >"$T/ping" || fail "no ping after the link came back"

note "another card comes, and goes"
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; }; two = { network = "lan"; mac = "52:54:00:00:77:02"; };'
there() { sh_linux web 'cat /sys/class/net/*/address' | grep -q 52:54:00:00:77:02; }
not_there() { ! there; }
wait_for there
is "$(taps)" 2 "taps"
sh_linux web 'ip link set eth1 up && cat /sys/class/net/eth1/carrier'
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; };'
wait_for not_there
one_tap() { [ "$(taps)" = 1 ]; }
wait_for one_tap
ping -q -c 3 -i 0.3 -W 20 "$address" >"$T/ping" || fail "no ping on the card that stayed"

note "a daemon that is killed: the guest stays connected, and so does the next daemon"
kill_daemon
umount -l "$MNT"
ping -q -c 3 -i 0.3 -W 20 "$address" >"$T/ping" || fail "no ping without a daemon"
start_daemon
is "$(state_of web)" running
ping -q -c 3 -i 0.3 -W 20 "$address" >"$T/ping" || fail "no ping with another daemon"
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; link = false; };'
wait_for carrier eth0 0
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; };'
wait_for carrier eth0 1

note "saved with both cards, and started: each is where it was"
cards 'lan = { network = "lan"; mac = "52:54:00:00:77:01"; }; two = { network = "lan"; mac = "52:54:00:00:77:02"; };'
wait_for there
do_ctl web save
wait_for no_taps
do_ctl web start
is "$(taps)" 2 "taps"
ping -q -c 3 -i 0.3 -W 20 "$address" >"$T/ping" || fail "no ping after it was saved"
there || fail "the second card has gone"

note "its network is not there: the start says so"
do_ctl web kill
wait_for no_taps
cards 'lan = { network = "wan"; };'
refuses ENOENT write "$M/web/ctl" start
says 'network card lan: .*wan' "$M/web/error"
is "$(taps)" 0 "taps"
