#!/bin/bash
# What is refused, in words: bad names, going back to what the machine is no longer, deleting what
# is in use; and what there is no room for leaves the guest running and nothing behind.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
S=$M/m/snapshots
define_guest m count
refuses EINVAL mkdir "$S/a b"
refuses EINVAL mkdir "$S/-a"
refuses ENOENT rmdir "$S/none"
do_ctl m start
wait_console m '^20'
mkdir "$S/live"
refuses EEXIST mkdir "$S/live"
refuses EBUSY rmdir "$M/m"
refuses EINVAL write "$S/live/ctl" nonsense
refuses EINVAL write "$S/live/ctl" 'restore now'
{ ! echo 'cpus = 2;' >"$S/live/config"; } 2>/dev/null || fail "its config was written"
refuses EPERM,EACCES,EEXIST mkdir "$S/live/more"
do_ctl m kill

note "another machine than then"
put "$M/m/memory" 128M
refuses EBUSY write "$S/live/ctl" restore
says 'memory was 67108864, is 134217728' "$S/live/error"
put "$M/m/memory" 64M
put "$M/m/cpus" 2
refuses EBUSY write "$S/live/ctl" restore
says 'cpus was 1, is 2' "$S/live/error"
put "$M/m/cpus" 1
mkdir "$M/m/disks/more"
refuses EBUSY write "$S/live/ctl" restore
says 'disk more was not there' "$S/live/error"
rmdir "$M/m/disks/more"
is "$(state_of m)" stopped
put "$S/live/ctl" restore
is "$(state_of m)" running
is "$(cat "$S/live/error")" ""
do_ctl m kill
rmdir "$S/live" "$M/m"
stop_daemon

note "no room: the guest goes on, nothing is left"
mkdir "$T/small"
mount -t tmpfs -o size=8m tmpfs "$T/small"
# shellcheck disable=SC2034 # of lib.sh
STATE=$T/small
start_daemon
boot k fill cmdline=mib=24
filled() { [ -s "$M/k/console" ]; }
wait_for filled
refuses ENOSPC,EDQUOT mkdir "$M/k/snapshots/large"
is "$(state_of k)" running
says 'ENOSPC|EDQUOT' "$M/k/error"
is "$(ls "$M/k/snapshots")" ""
is "$(find "$T/small/machines/k/snapshots" "$T/small/layers" -mindepth 1)" "" "halves are left"
undefine k
stop_daemon
umount "$T/small"
