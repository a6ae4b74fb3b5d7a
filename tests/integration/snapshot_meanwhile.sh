#!/bin/bash
# While a snapshot's memory is written the machine is free: it is paused, snapshot again, killed; a
# job that is cancelled leaves nothing, and a machine with a snapshot on its way is not undefined.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
S=$M/m/snapshots
filled() { [ -s "$M/m/console" ]; }
job_of() { grep -lx "snapshot $1" "$M"/m/jobs/*/command 2>/dev/null | head -n 1 | xargs -r dirname; }
# under way, with something written
writing() {
	local job
	job=$(job_of "$1")
	[ -n "$job" ] && [ "$(cat "$job/state")" = running ] && [[ $(cat "$job/progress") =~ ^done=[1-9] ]]
}
ended() { [ "$(cat "$(job_of "$1")/state")" != running ]; }
boot m fill memory=1G cmdline='mib=700 rewrite'
wait_for -t 180 filled

note "paused and resumed, and another one, meanwhile"
put "$M/m/ctl" 'snapshot one &'
wait_for writing one
do_ctl m pause
do_ctl m resume
refuses EEXIST mkdir "$S/one"
mkdir "$S/two"
wait_for ended one
is "$(cat "$(job_of one)/error")" ""
is "$(ls "$S" | tr '\n' ' ')" 'one two '
like "$(cat "$(job_of one)/progress")" 'percent=100'

note "cancelled: nothing is left"
layers=$(ls "$STATE/layers" | wc -l)
put "$M/m/ctl" 'snapshot three &'
wait_for writing three
rmdir "$(job_of three)"
gone() { [ -z "$(job_of three)" ]; }
wait_for gone
[ ! -e "$S/three" ] || fail "it is there"
is "$(find "$STATE/machines/m/snapshots" -name '.*')" ""
is "$(ls "$STATE/layers" | wc -l)" "$layers" "layers"
is "$(state_of m)" running

note "the guest is killed: the snapshot becomes whole"
rmdir "$S/one"
put "$M/m/ctl" 'snapshot four &'
wait_for writing four
do_ctl m kill
is "$(state_of m)" stopped
writing four && refuses EBUSY rmdir "$M/m"
wait_for ended four
is "$(cat "$(job_of four)/error")" ""
is "$(cat "$S/four/state")" running
put "$S/four/ctl" restore
is "$(state_of m)" running
n=$(stat -c %s "$M/m/console")
goes_on() { [ "$(stat -c %s "$M/m/console")" -gt $((n + 20)) ]; }
wait_for goes_on

note "the VMM is killed while memory is written: that snapshot is whole, or is not there"
put "$M/m/ctl" 'snapshot five &'
wait_for writing five
pids=$(vmm_pids)
kill -KILL $pids 2>/dev/null || true
wait_for ended five
is "$(find "$STATE/machines/m/snapshots" -name '.*')" ""
is "$([ -e "$S/five" ] && echo there)" "$([ -z "$(cat "$(job_of five)/error")" ] && echo there)"
rmdir "$S"/*
rmdir "$M/m"
empty() { [ -z "$(ls "$STATE/layers")" ]; }
wait_for empty
