#!/bin/bash
# Layers of deleted snapshots are merged while the guest writes, and into the user's own file when
# it has ended; a daemon that is killed meanwhile loses nothing.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img
vmm_forks
start_daemon
D=$M/m/disks/d

note "a guest writes; snapshots come and go"
truncate -s 64M "$T/disk.raw"
define_guest m disk cmdline='write count=2048'
mkdir "$D"
put "$D/source" "$T/disk.raw"
do_ctl m start
wait_console m 'round 2$'
for n in 1 2 3 4 5; do
	do_ctl m "snapshot s$n"
done
before=$(stat -c %Y.%s "$T/disk.raw")
for n in 1 2 3 4; do
	rmdir "$M/m/snapshots/s$n"
done

note "the layers of those that are gone become one; the source is as it was"
# (a snapshot that is kept has more names for what was merged)
disk_files() { find "$STATE/layers" -name '*.qcow2' -printf '%i\n' | sort -u | wc -l; }
two_left() { [ "$(disk_files)" -le 2 ]; }
wait_for two_left
is "$(stat -c %Y.%s "$T/disk.raw")" "$before"
rmdir "$M/m/snapshots/s5"
wait_for two_left

note "the daemon is killed at some moment of it"
for _ in 1 2 3; do
	for n in 1 2 3; do
		do_ctl m "snapshot k$n"
	done
	for n in 1 2 3; do
		rmdir "$M/m/snapshots/k$n"
	done
	kill -9 "$DAEMON"
	wait "$DAEMON" || true
	umount -l "$MNT" 2>/dev/null || true
	start_daemon
done
state_is() { [ "$(cat "$M/m/state")" = "$1" ]; }
state_is running

note "it has ended: the user's file is whole"
cat "$M/m/disks/d/image" >"$T/seen" # of one moment, through all layers
do_ctl m kill
cp "$M/m/disks/d/image" "$T/want"
none_left() { [ "$(find "$STATE/layers" -type f | wc -l)" = 0 ]; }
wait_for none_left
cmp "$T/disk.raw" "$T/want"
