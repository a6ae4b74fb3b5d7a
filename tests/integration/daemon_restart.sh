#!/bin/bash
# The daemon may be stopped, killed and started at any time: guests run on, the next daemon finds
# them in the state they are in by then, and the console has no hole.
# time: 240
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
boot m count
boot p hello
do_ctl p pause
wait_console m '^5$'
pids=$(vmm_pids)
boot ends hello cmdline=poweroff
: >"$T/numbers"

# the numbers that were printed (but the last, which may be in the making), joined over console.old:
# each once, in order
no_hole() {
	cat "$M/m/console.old" "$M/m/console" 2>/dev/null | sed '$d' | tr -d '\r' | grep -aE '^[0-9]+$' >"$T/numbers"
	awk 'NR > 1 && $1 != last + 1 { print "after " last " came " $1; bad = 1 } { last = $1 } END { exit bad }' \
		"$T/numbers" || fail "the console has a hole"
	note "$(wc -l <"$T/numbers") numbers without a hole"
}
for how in kill_daemon stop_daemon kill_daemon kill_daemon; do
	$how
	is "$(pgrep -c filevisord || true)" 0
	before=$(tail -n 1 "$T/numbers")
	sleep 0.3 # the guests print on, unheard
	start_daemon
	is "$(state_of m)" running "after $how"
	is "$(state_of p)" paused "after $how"
	for pid in $pids; do kill -0 "$pid" || fail "a guest's process ended by $how"; done
	no_hole
	[ "$(tail -n 1 "$T/numbers")" -gt "${before:-0}" ] || fail "the guest stood still"
done
do_ctl p resume
is "$(state_of p)" running
do_ctl m pause
no_hole
do_ctl m resume
do_ctl m reset
wait_state ends stopped

note "what ends while nobody looks is known afterwards"
do_ctl p kill
boot off hello cmdline=poweroff
boot dies count cmdline=crash_at=40
kill_daemon
sleep 0.5
start_daemon
wait_state off stopped
wait_state dies crashed
says 'triple fault' "$M/dies/error"
do_ctl m kill
kill_daemon
wait_for no_vmm
start_daemon
is "$(state_of m)" stopped

note "a VMM that is killed while the daemon is away: crashed"
do_ctl m start
wait_console m '^5$'
kill_daemon
kill -KILL "$(vmm_pids)"
wait_for no_vmm
start_daemon
wait_state m crashed
[ -s "$M/m/error" ]
