#!/bin/bash
# The daemon is killed at a clone, when the new layer is noted and the VMM still writes to the one below: the
# next daemon does not merge that one away. A clone made then, and the guest itself when it starts anew, find
# on disk what memory has.
. "${0%/*}/../lib.sh"

need_kvm
need_cmd strace
vmm_forks
start_daemon
grown() { [ "$(entries "$1")" -ge "$2" ]; }
goes_on() { wait_for grown "$1" $(($(entries "$1") + 70)); } # 64 entries later all are compared
agrees() { ! grep -aE -A2 'DISAGREE|disk error|failed' "$M/$1/console" || fail "memory and disk of $1 disagree"; }
layers_of() { grep -c ^layer "$STATE/machines/m/layers"; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 5$'
# two layers, the upper one written to: with one more there is something to merge
mkdir "$M/m/snapshots/s"
goes_on m
do_ctl m 'clone c'
undefine c
goes_on m
layers=$(layers_of)

note "killed as soon as a third is noted"
strace -f -qq -o /dev/null -p "$DAEMON" -P "$STATE/machines/m" -e trace=fsync -e inject=fsync:signal=KILL &
traced() { ! grep -l '^TracerPid:.0$' "/proc/$DAEMON"/task/*/status >/dev/null; }
wait_for traced
(trap - ERR; echo 'clone d' >"$M/m/ctl") 2>/dev/null || true
wait "$DAEMON" || true
wait
DAEMON=
is "$(layers_of)" $((layers + 1)) "layers that are noted"
umount -l "$MNT"
start_daemon
is "$(names "$M")" m
goes_on m
agrees m
do_ctl m 'clone e'
goes_on e
agrees e
do_ctl m kill
do_ctl m start
goes_on m
agrees m
