#!/bin/bash
# What watchers hear of snapshots: IN_CREATE, IN_DELETE and IN_MOVED in snapshots/ whoever did it (a
# client's mkdir, a job), IN_MODIFY of what changes in them; nothing twice, and news of other things
# comes while a mkdir of a snapshot is still under way.
# also: tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
need_cmd inotifywait
start_daemon
S=$M/m/snapshots
truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 5$'

watch() { # LOG PATH…
	local log=$1
	shift
	inotifywait -q -m --format '%e %w%f' -e create,delete,moved_to,moved_from,modify "$@" >"$T/$log" 2>"$T/$log.err" &
	WATCH=$!
	# the watch is there when what is done is heard
	sleep 1
}
unwatch() { kill "$WATCH"; wait "$WATCH" 2>/dev/null || true; }
heard() { grep -qxF -- "$2" "$T/$1" || fail "not heard: $2; but $(tail -n 20 "$T/$1")"; }
once() { wait_for grep -qxF -- "$2" "$T/$1"; is "$(grep -cxF -- "$2" "$T/$1")" 1 "$2"; }

watch names "$S"
mkdir "$S/one"
once names "CREATE,ISDIR $S/one"
put "$M/m/ctl" 'snapshot two &'
once names "CREATE,ISDIR $S/two"
wait_for grep -q '"command":"snapshot two".*"result":"ok"' "$MNT/events"
put "$M/m/ctl" 'snapshot three'
once names "CREATE,ISDIR $S/three"
mv "$S/two" "$S/second"
once names "MOVED_FROM,ISDIR $S/two"
once names "MOVED_TO,ISDIR $S/second"
rmdir "$S/one"
once names "DELETE,ISDIR $S/one"
is "$(ls "$S" | tr '\n' ' ')" 'second three '
unwatch
is "$(grep -c . "$T/names")" 6 "all that was heard: $(cat "$T/names")"

note "what is known of one changes"
watch values "$S/three/parent" "$S/three/size" "$S/three/error"
is "$(cat "$S/three/parent")" second
mv "$S/second" "$S/2"
wait_for grep -q "MODIFY $S/three/parent" "$T/values"
is "$(cat "$S/three/parent")" 2
echo nonsense 2>/dev/null >"$S/three/ctl" || true
wait_for grep -q "MODIFY $S/three/error" "$T/values"
rmdir "$S/2"
wait_for grep -q "MODIFY $S/three/size" "$T/values"
is "$(cat "$S/three/parent")" ""
unwatch

note "others hear what happens elsewhere while one is taken"
define_guest big memtouch memory=512M cmdline='forever mib=400'
mkdir "$M/other"
watch elsewhere "$M/other/cpus" "$M/other/state" "$M/big/jobs"
do_ctl big start
wait_console big .
mkdir "$M/big/snapshots/base" &
pid=$!
for i in 2 3 4 5; do
	timeout 20 sh -c "echo $i >$M/other/cpus" || fail "a write elsewhere waits for a snapshot"
	timeout 20 cat "$M/big/state" >/dev/null || fail "a read waits for a snapshot"
done
wait_for grep -q "MODIFY $M/other/cpus" "$T/elsewhere"
wait_for grep -q "CREATE,ISDIR $M/big/jobs/" "$T/elsewhere"
wait $pid || fail "mkdir: $(cat "$M/big/error")"
unwatch
do_ctl m kill
do_ctl big kill
rmdir "$S/three" "$M/big/snapshots/base"
