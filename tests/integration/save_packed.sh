#!/bin/bash
# A saved guest's memory is packed: smaller than what it holds, read as it is touched. What the
# guest, a reader, a snapshot and the next save see of it while it comes is all of it; damage that
# is met then ends the guest in words.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
mib=200
memory() { ls "$STATE"/layers/*.mem; }
# The part of guest memory that is filled: nothing changes it.
sum() { dd if="$1" bs=1M skip=16 count="$mib" status=none | sha256sum; }
saved_packed() { like "$(cat "$STATE/machines/m/saved-memory")" "^memory 1 packed "; }
goes_on() {
	local size
	size=$(stat -c %s "$M/m/console")
	grown() { [ "$(stat -c %s "$M/m/console")" -gt $((size + 20)) ]; }
	wait_for grown
}

boot m fill memory=512M cmdline=mib=$mib
wait_console m '^filled MiB'
good=$(sum "$M/m/memory.img")
do_ctl m save
saved_packed
kib=$(du -k "$(memory)" | cut -f1)
[ "$kib" -lt $((mib * 1024 * 6 / 10)) ] || fail "$kib KiB for $mib MiB of which half is a pattern"

note "read at once"
do_ctl m start
is "$(sum "$M/m/memory.img")" "$good"
goes_on

note "saved and started again while it comes, and paused"
for _ in 1 2 3; do
	do_ctl m save
	saved_packed
	do_ctl m start
done
do_ctl m pause
do_ctl m save
do_ctl m start
[ "$(state_of m)" = running ] || do_ctl m resume
goes_on
is "$(sum "$M/m/memory.img")" "$good"

note "a snapshot while it comes"
do_ctl m save
do_ctl m start
mkdir "$M/m/snapshots/early"
is "$(sum "$M/m/snapshots/early/memory")" "$good"
goes_on
do_ctl m kill
do_ctl m start
wait_console m '^filled MiB'
rmdir "$M/m/snapshots/early"

note "killed while it comes"
do_ctl m save
for _ in 1 2 3; do
	cp "$STATE/machines/m/saved" "$T/saved"
	cp "$STATE/machines/m/saved-memory" "$T/map"
	cp "$(memory)" "$T/memory"
	name=$(memory)
	do_ctl m start
	do_ctl m kill
	wait_for no_vmm
	stop_daemon
	cp "$T/saved" "$STATE/machines/m/saved"
	cp "$T/map" "$STATE/machines/m/saved-memory"
	cp "$T/memory" "$name"
	start_daemon
	is "$(state_of m)" saved
done

note "damaged, which is found when it is there to be read"
size=$(stat -c %s "$(memory)")
for at in $((size / 3)) $((size / 2)); do
	printf '%b' "\\x$(printf %02x $(($(od -An -tu1 -j "$at" -N 1 "$(memory)") ^ 8)))" |
		dd of="$(memory)" bs=1 seek="$at" conv=notrunc status=none
done
ended() { [[ $(state_of m) =~ ^(crashed|saved|stopped)$ ]]; }
echo start 2>/dev/null >"$M/m/ctl" || true
wait_for ended
wait_for no_vmm
says 'memory.*damaged|the VMM ended' "$M/m/error" # the latter where it was met before the guest ran
