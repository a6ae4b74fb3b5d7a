#!/bin/bash
# A command with ` &` is a job: a directory in `jobs` with command, state, progress and error;
# rmdir cancels it. Both the machine's and the root's `jobs` show it.
# also: asan tsan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M
m=$M/m
put "$m/ctl" 'wait running 1000 &'
job=$(ls "$m/jobs")
like "$job" '^[0-9]+$'
is "$(ls "$MNT/jobs")" "$job"
is "$(cat "$m/jobs/$job/command")" 'wait running 1000'
is "$(cat "$m/jobs/$job/state")" running
cat "$m/jobs/$job/progress" "$m/jobs/$job/error" >/dev/null
rmdir "$m/jobs/$job"
none() { [ -z "$(ls "$m/jobs")" ] && [ -z "$(ls "$MNT/jobs")" ]; }
wait_for none
is "$(state_of m)" defined

note "one that fails says why"
put "$m/ctl" 'wait running 0 &'
job=$(ls "$m/jobs")
ended() { [ "$(cat "$m/jobs/$job/state")" != running ]; }
wait_for ended
is "$(cat "$m/jobs/$job/state")" failed
says '^ETIMEDOUT wait' "$m/jobs/$job/error"
rmdir "$m/jobs/$job"
note "one that succeeds"
put "$m/ctl" 'wait defined 10 &'
job=$(ls "$m/jobs")
wait_for ended
is "$(cat "$m/jobs/$job/state")" "done"
rmdir "$m/jobs/$job"
refuses EINVAL write "$m/ctl" 'fly &' || true
refuses EPERM,EACCES mkdir "$m/jobs/7"

note "finished ones do not pile up"
for _ in $(seq 200); do echo 'wait defined 1 &' >"$m/ctl"; done
quiet() { ! grep -q running "$m"/jobs/*/state; }
wait_for quiet
[ "$(ls "$m/jobs" | wc -l)" -le 100 ] || fail "$(ls "$m/jobs" | wc -l) finished jobs"
note "a machine with a job under way can be undefined, or says EBUSY; nothing hangs"
put "$m/ctl" 'wait running 1000 &'
got=$("$TOOLS/trycall" rmdir "$m")
like "$got" '^(ok|rmdir EBUSY)$'
if [ "$got" != ok ]; then
	for j in "$m"/jobs/*; do rmdir "$j"; done
	rmdir "$m"
fi
left() { [ -z "$(ls "$MNT/jobs")" ]; }
wait_for left
