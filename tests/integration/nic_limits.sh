#!/bin/bash
# A guest that sends as fast as it can, and one that is sent more than it may have: what passes is no more
# than the limit and its burst, and not much less; a limit that is changed while they run.
# time: 240
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
traffic_build
start_daemon
mkdir "$N/own"
echo 'mode = "isolated"; subnet = "10.81.0.0/24";' >"$N/own/config"
boot_bench() { # MACHINE tx|rx
	define_guest "$1" net_bench "cmdline=$2 size=1500 count=4000000000"
	join "$1" own
	do_ctl "$1" start
}
count() { awk -v n="$2" '$1 == n { print $2 }' "$M/$1/nics/lan/stats"; }
now_us() { echo "${EPOCHREALTIME/./}"; }

# begin MACHINE COUNTER: of a while in which it is looked at
begin() { at=$(now_us) had=$(count "$1" "$2"); }
# microseconds and counts since then; the time is taken outside of the counts, so it is never too short
since() {
	got=$(($(count "$1" "$2") - had))
	took=$(($(now_us) - at))
}
# fast MACHINE COUNTER RATE: in some second it gets at least half of that, however slow the machine is in others
fast() {
	begin "$1" "$2"
	until since "$1" "$2" && [ $took -ge 500000 ]; do sleep 0.1; done
	[ $((got * 2)) -ge $(($3 * (took / 1000) / 1000)) ]
}
# kept MACHINE COUNTER RATE: what passes until it is three seconds' worth took that long but for a burst of a tenth
# of a second; a frame more than that may be the last one, of 64 KiB
kept() {
	begin "$1" "$2"
	enough() { since "$1" "$2" && [ $got -ge $((3 * $3)) ]; }
	wait_for enough "$@"
	[ $got -le $(($3 * (took / 1000) / 1000 + $3 / 10 + $4)) ] ||
		fail "$1: $got of $2 in $took us, the limit is $3 a second"
}

note "from the guest: bytes, and frames"
boot_bench sender tx
wait_for fast sender tx_bytes 4000000
put "$M/sender/nics/lan/limits" 'tx_bps=1000000'
kept sender tx_bytes 1000000 65600
wait_for fast sender tx_bytes 1000000
put "$M/sender/nics/lan/limits" 'tx_pps=500'
kept sender tx_packets 500 1
wait_for fast sender tx_packets 500
undefine sender

note "to the guest: bytes, and frames"
boot_bench receiver rx
"$TRAFFIC" flood 4000000000 1400 9 10.81.0.255 2>"$T/flood" &
flood=$!
wait_for fast receiver rx_bytes 4000000
put "$M/receiver/nics/lan/limits" 'rx_bps=1000000'
kept receiver rx_bytes 1000000 65600
wait_for fast receiver rx_bytes 1000000
put "$M/receiver/nics/lan/limits" 'rx_pps=500'
kept receiver rx_packets 500 1
wait_for fast receiver rx_packets 500
put "$M/receiver/nics/lan/limits" ''
wait_for fast receiver rx_bytes 4000000
kill $flood
wait $flood 2>/dev/null || true
