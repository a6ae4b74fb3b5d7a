#!/bin/bash
# A guest that goes on has its kernel in memory: that its file is gone does not stop it; only a
# reset needs that, and is refused with words while the guest runs on.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
cp "$GUESTS/count.elf" "$T/kernel"
define m kernel="$T/kernel" memory=64M
do_ctl m start
wait_console m '^10$'
mkdir "$M/m/snapshots/s"
mv "$T/kernel" "$T/kernel.gone"
do_ctl m 'clone a'
put "$M/m/snapshots/s/ctl" 'clone b'
grep -q 'machine b goes on, but cannot be reset: kernel: ' "$T/daemon.log" || fail "nothing is said of it"
for i in a b; do
	is "$(state_of $i)" running
	wait_console $i '^[0-9]+$'
	refuses ENOENT write "$M/$i/ctl" reset
	says 'no kernel' "$M/$i/error"
	is "$(state_of $i)" running
	n=$(wc -l <"$M/$i/console")
	more() { [ "$(wc -l <"$M/$i/console")" -gt "$n" ]; }
	wait_for more
done
do_ctl m reset # it has the file open
undefine b
mv "$T/kernel.gone" "$T/kernel"
put "$M/m/snapshots/s/ctl" 'clone b'
do_ctl b reset
wait_console b '^2$' # the first may stand behind a line that was cut short
rmdir "$M/m/snapshots/s"
