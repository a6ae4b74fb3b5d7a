#!/bin/bash
# Linux is saved and goes on, also with another daemon: what runs in it counts on, its clock is
# right, its disk fine, and its kernel has nothing to complain of.
# time: 400
. "${0%/*}/../lib.sh"

need_linux
start_daemon
boot_linux web cpus=2
sh_linux web 'echo before > /file; (while :; do date +%s >> /stamps; n=$((n + 1)); echo $n > /n; sleep 0.2; done) & echo'
stamps() { number_linux web 'wc -l < /stamps'; }
# How far its clock is from ours: at least, at most. (It counts as its kernel has calibrated the TSC,
# which may be badly where a host is loaded; and an answer takes its time.)
clock() {
	local before after guest
	before=$(date +%s)
	guest=$(number_linux web 'date +%s')
	after=$(date +%s)
	echo $((guest - after)) $((guest - before))
}
clock_right() {
	local now
	now=$(clock)
	[ "${now#* }" -ge $((${was% *} - 1)) ] && [ "${now% *}" -le $((${was#* } + 1)) ] ||
		fail "the guest's clock is off by $now, it was by $was"
}
sleep 1
n=$(stamps)
[ "$n" -gt 0 ]
uptime=$(number_linux web 'cut -d. -f1 /proc/uptime')
was=$(clock)
lines=$(wc -l <"$M/web/console")
do_ctl web save
is "$(state_of web)" saved
sleep 30 # longer than an answer takes
do_ctl web start
clock_right
more() { [ "$(stamps)" -gt "$1" ]; }
wait_for more "$n"
[ "$(number_linux web 'cut -d. -f1 /proc/uptime')" -ge "$uptime" ] || fail "its uptime went back"

note "with another daemon"
do_ctl web save
stop_daemon
start_daemon
is "$(state_of web)" saved
do_ctl web start
clock_right
wait_for more "$(stamps)"

note "its disk"
is "$(sh_linux web 'cat /file')" before
sh_linux web 'echo after > /file2; sync; sort -c -n /stamps && echo in order' | grep -q 'in order'
note "what its kernel says since"
if tail -n +"$lines" "$M/web/console" | grep -aiE 'stall|lockup|unstable|BUG|WARNING|backwards|I/O error|timed out'; then
	fail "its kernel complains"
fi
do_ctl web save
do_ctl web start
put "$M/web/stop_timeout_s" 120
do_ctl web stop
is "$(state_of web)" stopped
is "$(cat "$M/web/error")" ""
