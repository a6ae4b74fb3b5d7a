#!/bin/bash
# Long commands of volumes as jobs: they show how far they are and can be ended, which leaves the
# old content whole; what they did is in events. The daemon killed in the middle of it: the same.
# also: asan tsan
# time: 240
. "${0%/*}/../lib.sh"

need_cmd qemu-img
mkdir "$T/store"
start_daemon
P=$MNT/pools/p V=$MNT/pools/p/volumes
mkdir "$P"
put "$P/source" "$T/store"
head -c 256M /dev/urandom >"$T/store/big"
cp "$T/store/big" "$T/copy"
put "$P/ctl" refresh

the_job() { ls "$MNT/jobs" | tail -n 1; }
state_of_job() { cat "$MNT/jobs/$1/state"; }
job_ended() { [ ! -d "$MNT/jobs/$1" ] || [ "$(state_of_job "$1")" != running ]; }
under_way() { [ -n "$(cat "$MNT/jobs/$1/progress")" ]; }

note "ended early"
put "$V/big/ctl" 'convert qcow2 compress &'
job=$(the_job)
wait_for under_way "$job"
like "$(cat "$MNT/jobs/$job/progress")" '^done=[0-9]+ total=268435456 unit=bytes percent=[0-9]+$'
refuses EBUSY write "$V/big/ctl" 'resize 1G'
refuses EBUSY rmdir "$V/big"
rmdir "$MNT/jobs/$job"
wait_for job_ended "$job"
is "$(cat "$V/big/format")" raw
cmp "$T/copy" "$T/store/big"
no_left_overs() { [ "$(ls -A "$T/store")" = big ]; }
wait_for no_left_overs

note "killed in the middle"
put "$V/big/ctl" 'convert qcow2 compress &'
job=$(the_job)
wait_for under_way "$job"
kill_daemon
cmp "$T/copy" "$T/store/big"
start_daemon
wait_for test -d "$V/big"
is "$(cat "$V/big/format")" raw
is "$(ls "$V")" big "what was half-made is no volume"

note "done"
put "$V/big/ctl" 'convert qcow2 &'
job=$(the_job)
wait_for -t 120 job_ended "$job"
is "$(state_of_job "$job")" "done"
is "$(cat "$V/big/format")" qcow2
qemu-img compare -q -f raw -F qcow2 "$T/copy" "$T/store/big"
grep -q '"event":"command","pool":"p","volume":"big","command":"convert qcow2","uid":[0-9]*,"job":[0-9]*,"result":"ok"' "$MNT/events"
cmp "$V/big/image" "$T/copy"

note "acknowledged is durable: killed while volumes are made"
(
	i=0
	while i=$((i + 1)); mkdir "$V/v$i" && echo 1M >"$V/v$i/size" && echo qcow2 >"$V/v$i/format"; do
		echo "$i" >"$T/made"
	done
) 2>/dev/null &
maker=$!
some_made() { [ "$(cat "$T/made")" -gt 20 ]; }
wait_for some_made
kill_daemon
wait $maker || true
start_daemon
put "$P/ctl" refresh
for i in $(seq "$(cat "$T/made")"); do
	is "$(cat "$V/v$i/size") $(cat "$V/v$i/format") $(sed -n 's/^new //p' "$V/v$i/info")" "1048576 qcow2 true"
	qemu-img check -q "$T/store/v$i"
done
