#!/bin/bash
# Disks come and go while a guest runs: it hears of each, lets go or does not; whatever is done
# to the machine meanwhile, nothing waits and nothing is left. A guest that cannot be asked, one that
# does not answer, one that ejects what it likes.
# also: asan tsan
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
for n in a b c; do truncate -s 1M "$T/$n.img"; done
# plug MACHINE DISK: attached by mkdir, as a user would
plug() {
	mkdir "$M/$1/disks/$2"
	put "$M/$1/disks/$2/source" "$T/$2.img"
}
state_of_disk() { cat "$M/$1/disks/$2/state"; }
disk_is() { [ "$(state_of_disk "$1" "$2")" = "$3" ]; }
said() { grep -acxE "$2" "$M/$1/console" || true; }
says_so() { [ "$(said "$1" "$2")" -ge "$3" ]; }

note "one that listens: mkdir and rmdir"
boot m hotplug
wait_console m 'hotplug: ready'
plug m a
wait_console m '^came 3'
is "$(state_of_disk m a)" attached
plug m b
wait_console m '^came 4'
rmdir "$M/m/disks/a"
wait_console m '^asked 3'
wait_console m '^ejected 3'
is "$(state_of_disk m b)" attached
plug m c
wait_for says_so m 'came 3' 2
put "$M/m/disks/c/ctl" 'detach force'
wait_for says_so m 'asked 3' 2 # to end with what is gone
wait_for says_so m 'ejected 3' 2
is "$(state_of_disk m c)" detached

note "a hundred times: no descriptor, no thread, no memory"
vmm=$(vmm_pids)
count() { echo "$(fds_of "$vmm") $(ls "/proc/$vmm/task" | wc -l)"; }
attach_c() { echo attach >"$M/m/disks/c/ctl"; }
cycle() {
	wait_for attach_c # who opened its file may have yet to close it
	put "$M/m/disks/c/ctl" "detach $1"
}
cycle ''
before=$(count) rss=$(rss_of "$vmm")
for i in {1..50}; do
	cycle ''
	cycle force
done
is "$(count)" "$before" "descriptors and threads of the VMM"
[ -n "${SLOW:-}" ] || [ "$(rss_of "$vmm")" -lt $((rss + 1024)) ] ||
	fail "memory of the VMM: $rss KiB, then $(rss_of "$vmm")"
is "$(state_of_disk m b)" attached

note "asked while it is paused, it answers when it goes on"
put "$M/m/disks/c/ctl" attach
do_ctl m pause
put "$M/m/disks/c/ctl" 'detach &'
wait_for disk_is m c waiting
do_ctl m resume
wait_for disk_is m c detached
do_ctl m kill

note "one that does not let go: said in words, force takes it; a reset, too"
boot s hotplug cmdline=stubborn
wait_console s 'hotplug: ready'
plug s a
wait_console s '^came 3'
refuses EBUSY write "$M/s/disks/a/ctl" detach
says 'EBUSY .*does not let go.*force' "$M/s/error"
is "$(state_of_disk s a)" waiting
wait_console s '^asked 3'
put "$M/s/disks/a/ctl" 'detach force'
is "$(state_of_disk s a)" detached
put "$M/s/disks/a/ctl" attach
put "$M/s/disks/a/ctl" 'detach &'
wait_for disk_is s a waiting
do_ctl s reset
wait_for disk_is s a detached
wait_for says_so s 'hotplug: ready' 2
put "$M/s/disks/a/ctl" attach
put "$M/s/disks/a/ctl" 'detach &'
wait_for disk_is s a waiting
do_ctl s kill # nobody waits for the guest
is "$(state_of_disk s a)" detached

note "one that does not listen: a disk that no driver uses goes all the same"
boot d hotplug cmdline=deaf
wait_console d 'hotplug: ready'
plug d b
like "$(grep disk-plugged "$MNT/events" | tail -n 1)" 'rescan'
is "$(said d 'came.*')" 0
put "$M/d/disks/b/ctl" detach
is "$(state_of_disk d b)" detached
do_ctl d kill
define_guest u disk # has a driver
mkdir "$M/u/disks/root"
put "$M/u/disks/root/source" "$T/c.img"
do_ctl u start
wait_console u 'sectors 2048'
refuses EOPNOTSUPP write "$M/u/disks/root/ctl" detach
says 'EOPNOTSUPP .*ACPI hotplug.*remove' "$M/u/error"
is "$(state_of_disk u root)" attached
put "$M/u/disks/root/ctl" 'detach force'
is "$(state_of_disk u root)" detached
do_ctl u kill

note "one that ejects what nobody asked for: told, and the disk can come again"
boot g hotplug cmdline=grabs
wait_console g 'hotplug: ready'
for i in 1 2 3; do
	if [ -d "$M/g/disks/a" ]; then put "$M/g/disks/a/ctl" attach; else plug g a; fi
	wait_for says_so g 'ejected 3' $i
	wait_for disk_is g a detached
done
like "$(grep disk-detached "$MNT/events" | tail -n 1)" 'let go'
do_ctl g kill

note "mischief: it can do nothing to the board, nor to the machine"
boot x hotplug cmdline=mischief cpus=1
wait_console x 'round 0'
plug x a
for i in {1..10}; do
	"$TOOLS/trycall" write "$M/x/disks/a/ctl" 'detach force' >"$T/said" # it may have gone by itself
	put "$M/x/disks/a/ctl" attach
done
is "$(state_of x)" running
! console_has x 'the board has gone' || fail "a guest ejected what is of the board"
do_ctl x reset
begins_again() { [ "$(grep -ac 'hotplug: ready' "$M/x/console")" = 2 ]; } # perhaps behind a line that was cut short
wait_for begins_again
do_ctl x kill
