#!/bin/bash
# A file on a mount whose server does not answer any more: who opens it waits, alone. The tree, other
# machines and other commands go on; an interrupt, `kill` or the job's rmdir gets the waiting
# command out; and the daemon ends and starts again at once.
# also: tsan
. "${0%/*}/../lib.sh"

need_kvm
[ "$(id -u)" = 0 ] || skip "the hanging mount is another daemon's, which needs root here"
# A second tree is the mount that hangs: its daemon is stopped.
mkdir "$T/other"
"$BUILD/filevisord" -f --state "$T/state2" --run "$T/run2" "$T/other" >"$T/other.log" 2>&1 &
other=$!
other_up() { mkdir "$T/other/machines/h"; }
wait_for other_up
# (its files have no page cache: every open asks the daemon)
file=$T/other/machines/h/cmdline
echo words >"$file"
start_daemon
truncate -s 1M "$T/a.img"
define_guest m hello
define_guest n hello
mkdir "$M/m/disks/d"
put "$M/m/disks/d/source" "$T/a.img"
put "$M/m/config" "$(sed "s|$T/a.img|$file|" "$M/m/config")"
is "$(cat "$M/m/disks/d/source")" "$file"
kill -STOP $other

note "a start that hangs in an open: everything else goes on"
echo 'start &' >"$M/m/ctl"
is "$(cat "$M/m/jobs/"*/state)" running
do_ctl n start
wait_console n hello
do_ctl n kill
like "$(cat "$M/m/ctl")" '# kill'
refuses EBUSY write "$M/m/ctl" start
is "$(cat "$M/m/jobs/"*/state | head -n 1)" running

note "kill gets it out"
do_ctl m kill
job_failed() { ! grep -q running "$M"/m/jobs/*/state; }
wait_for job_failed
is "$(state_of m)" defined

note "so do the job's rmdir, and an interrupt"
echo 'start &' >"$M/m/ctl"
jobs=("$M"/m/jobs/*) # that of the start before has ended, and has the smaller number
job=${jobs[-1]##*/}
rmdir "$M/m/jobs/$job"
job_gone() { [ ! -e "$M/m/jobs/$job" ]; }
wait_for job_gone
timeout -s INT -k 20 2 "$TOOLS/trycall" write "$M/m/ctl" start >"$T/said" || true
is "$(state_of m)" defined
timeout -s INT -k 20 2 "$TOOLS/trycall" write "$M/n/kernel" "$file" >"$T/said" || true
like "$(cat "$M/n/kernel")" 'hello'

note "the daemon ends though one hangs, and starts again"
echo 'start &' >"$M/m/ctl"
stop_daemon
start_daemon
is "$(state_of m)" defined
do_ctl n start
do_ctl n kill

note "when the server is there again, so is the file"
kill -CONT $other
do_ctl m start
do_ctl m kill
kill $other
wait $other || true
