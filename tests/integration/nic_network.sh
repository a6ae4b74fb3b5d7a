#!/bin/bash
# A micro guest with a card in a nat network: pings, the link live, limits that cannot be, a card beside
# it, `save`, a daemon that is killed; what cannot be connected says which card. Nothing stays.
# also: asan tsan
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
need_cmd ip ping dnsmasq nft
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
# a network as a daemon before has left it
mkdir -p "$STATE/networks/lan"
printf 'id %s\nuid 0\ngid 0\nmode 0700\n' "$(cat /proc/sys/kernel/random/uuid)" >"$STATE/networks/lan/access"
echo 'subnet = "10.99.0.1/24";' >"$STATE/networks/lan/config"
start_daemon

mac1='mac = "52:54:00:00:99:01";' mac2='mac = "52:54:00:00:99:02";'
# cards MACHINE TEXT: as its config has them
cards() {
	sed '/^nics/,$d' "$M/$1/config" >"$T/config"
	echo "nics = { $2 };" >>"$T/config"
	cat "$T/config" >"$M/$1/config"
}
taps() { ip -o link show type tun | grep -c . || true; }
taps_are() { [ "$(taps)" = "$1" ]; }
pings() { ping -q -c 2 -i 0.2 -W 20 10.99.0.2 >"$T/ping" || fail "no ping $1: $(cat "$T/ping")"; }
links() { [ "$(grep -ac "$1" "$M/m/console")" = "$2" ]; }
events() { grep -c "\"event\":\"$1\"" "$MNT/events" || true; }

define_guest m net
cards m "lan = { network = \"lan\"; $mac1 };"
is "$(events nic-added)" 1
do_ctl m start
wait_console m 'link 1'
is "$(taps)" 1 "taps"
pings "after the start"
like "$(cat "$M/m/stats")" 'nic\.lan\.rx_packets [1-9]'

note "the cable is out, and in again; limits"
cards m "lan = { network = \"lan\"; $mac1 link = false; };"
wait_for links 'link 0' 1
ping -q -c 1 -W 1 10.99.0.2 >"$T/ping" && fail "a ping passed without a link"
cards m "lan = { network = \"lan\"; $mac1 limits = \"rx_pps=1000 tx_bps=1M\"; };"
wait_for links 'link 1' 2
pings "after the link came back"
cards m "lan = { network = \"lan\"; $mac1 limits = \"rx_pps=fast\"; };" 2>"$T/words" && fail "a limit that is none"
pings "after limits that cannot be"

note "another card, though nobody hears of it"
cards m "lan = { network = \"lan\"; $mac1 }; two = { network = \"lan\"; $mac2 };"
is "$(taps)" 2 "taps"
like "$(grep nic-plugged "$MNT/events")" '"nic":"two".*rescan'

note "a daemon that is killed: the guest stays connected, under the next one, too"
kill_daemon
umount -l "$MNT"
pings "without a daemon"
start_daemon
is "$(state_of m)" running
pings "with another daemon"
cards m "lan = { network = \"lan\"; $mac1 link = false; }; two = { network = \"lan\"; $mac2 };"
wait_for links 'link 0' 2
cards m "lan = { network = \"lan\"; $mac1 }; two = { network = \"lan\"; $mac2 };"
wait_for links 'link 1' 3

note "saved with both, and started"
do_ctl m save
wait_for taps_are 0
cards m "lan = { network = \"lan\"; $mac1 };" 2>"$T/words" && fail "a saved machine lost a card"
says 'network card two.*saved' "$M/m/error"
do_ctl m start
is "$(taps)" 2 "taps"
pings "after it was saved"

note "the VMM is killed: its cables are out, and it starts again"
kill -KILL "$(vmm_pids)"
wait_state m crashed
wait_for taps_are 0
do_ctl m start
wait_console m 'link 1'
pings "after it was killed"
do_ctl m kill
wait_for taps_are 0

note "one that its driver has stays, where nobody can be asked"
cards m "lan = { network = \"lan\"; $mac1 };"
do_ctl m start
pings "with one card"
cards m '' 2>"$T/words" && fail "a card that its driver has was taken"
says 'ACPI hotplug.*/remove' "$M/m/error"
pings "after that"
do_ctl m kill

note "what cannot be: in words, with the card's name"
cards m "lan = { network = \"lan\"; $mac1 }; far = { network = \"wan\"; $mac2 };"
refuses ENOENT write "$M/m/ctl" start
says 'network card far: .*wan' "$M/m/error"
is "$(state_of m)" stopped
wait_for taps_are 0
cards m "lan = { network = \"lan\"; $mac1 }; two = { network = \"lan\"; $mac1 };" 2>"$T/words" &&
	fail "an address twice"
cards m "lan = { network = \"lan\"; $mac1 };"
define_guest n net
cards n "lan = { network = \"lan\"; $mac1 };"
do_ctl m start
refuses EADDRINUSE write "$M/n/ctl" start
says 'network card lan: .*machine m' "$M/n/error"
pings "while another wanted its address"
chown 1234 "$M/n"
cards n "lan = { network = \"lan\"; $mac2 };"
refuses EACCES write "$M/n/ctl" start
says 'network card lan: .*1234' "$M/n/error"
undefine m n
wait_for taps_are 0
