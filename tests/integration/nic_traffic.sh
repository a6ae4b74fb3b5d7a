#!/bin/bash
# TCP between a Linux guest and the host, both ways, with sums: 64 MiB with all offloads; a cable that is
# pulled and put in under traffic; frames of 9000 bytes with each side's offloads turned off, where the
# capture shows every frame's checksum to be correct.
# time: 600
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
need_linux
need_cmd tcpdump
start_daemon
mkdir "$N/lan"
echo 'subnet = "10.79.0.0/24"; mtu = 9000;' >"$N/lan/config"
boot_linux web
linux_card web lan
traffic_program web
tap=$(ip -o link show type tun | sed 's/^[0-9]*: \([^:]*\):.*/\1/')
nic=$M/web/nics/lan
# count NAME: of the card's statistics
count() { awk -v n="$1" '$1 == n { print $2 }' "$nic/stats"; }
feature() { sh_linux web "/tmp/traffic feature eth0 $1"; }
# captured FILTER: frames in the capture that tcpdump shows; there must be some
captured() {
	cp "$nic/pcap" "$T/pcap"
	tcpdump -n -vv -r "$T/pcap" "$1" >"$T/frames" 2>"$T/tcpdump.log"
	[ -s "$T/frames" ] || fail "no frames with $1"
}

sh_linux web 'ip link set eth0 mtu 1500'

note "64 MiB in, and out: large segments, whose checksums are made by whoever needs them"
frames=$(count rx_packets)
to_guest web 64
[ $(($(count rx_packets) - frames)) -lt $((64 * 1024 * 1024 / 2900)) ] || fail "$(count rx_packets) frames: few of more than the MTU"
frames=$(count tx_packets)
from_guest web 64
[ $(($(count tx_packets) - frames)) -lt $((64 * 1024 * 1024 / 2900)) ] || fail "$(count tx_packets) frames: few of more than the MTU"

note "a cable that is pulled, and put in again, under traffic: the connection goes on"
carrier() { [ "$(sh_linux web 'cat /sys/class/net/eth0/carrier')" = "$1" ]; }
passed() { echo $(($(count tx_bytes) + $(count rx_bytes))); }
has_passed() { [ "$(passed)" -ge "$1" ]; }
flaps() {
	local i
	for i in 1 2 3; do
		wait_for has_passed $(($(passed) + 500000))
		kill -0 "$TRAFFIC_PID" 2>/dev/null || fail "the connection ended before the cable was out for the $i. time"
		put "$nic/link" false
		wait_for carrier 0
		put "$nic/link" true
		wait_for carrier 1
	done
}
from_guest_begin web 8
flaps
traffic_end web
to_guest_begin web 8
flaps
traffic_end web

note "offloads off, the guest's and the host's: frames of 9000 bytes at most, each with a correct checksum"
sh_linux web 'ip link set eth0 mtu 9000'
feature 'tx-checksum-ip-generic off'
feature 'rx-gro-hw off'
"$TRAFFIC" feature "$tap" tx-checksum-ip-generic off
put "$nic/ctl" 'capture on'
from_guest web 2
to_guest web 2
captured 'tcp port 5000 and greater 1000'
grep -q '10\.79\.0\.1\.5000\|10\.79\.0\.1\.[0-9]* >' "$T/frames" || fail "nothing from the host"
grep -q "$(address web)\.5000 >" "$T/frames" || fail "nothing from the guest"
! grep -m 5 incorrect "$T/frames" || fail "checksums"
grep -q 'cksum 0x[0-9a-f]* (correct)' "$T/frames"
! tcpdump -n -r "$T/pcap" 'tcp and greater 9015' 2>/dev/null | grep -m 5 . || fail "frames over the MTU"
captured 'tcp and greater 9014'
put "$nic/ctl" 'capture off'

note "on again: segments larger than frames are again"
feature 'tx-checksum-ip-generic on'
feature 'rx-gro-hw on'
"$TRAFFIC" feature "$tap" tx-checksum-ip-generic on
put "$nic/ctl" 'capture on'
from_guest web 1
to_guest web 1
captured 'tcp and greater 9015 and src port 5000'
captured 'tcp and greater 9015 and dst port 5000'
