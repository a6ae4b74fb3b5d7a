#!/bin/bash
# autostart = true starts a machine with the daemon, unless it still runs; a broken one does not
# hinder the others, and says why.
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
define_guest a hello autostart=true
define_guest b hello
define c kernel="$GUESTS/hello.elf" memory=64M autostart=true
cp "$GUESTS/hello.elf" "$T/k"
put "$M/c/kernel" "$T/k"
rm "$T/k"
stop_daemon
no_vmm
start_daemon
wait_state a running
is "$(state_of b)" defined
failed() { [ -s "$M/c/error" ]; }
wait_for failed
says '^ENOENT start: ' "$M/c/error"

pid=$(vmm_pids)
kill_daemon
start_daemon
wait_state a running
is "$(vmm_pids)" "$pid" "the running machine is kept"
do_ctl a kill
stop_daemon
start_daemon
wait_state a running
