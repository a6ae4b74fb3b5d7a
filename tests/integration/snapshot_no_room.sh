#!/bin/bash
# A file system of the state in which there is no room, or a little too little, for what is asked: snapshots,
# clones, saves, archives and what goes back to a snapshot or begins with an archive are done or
# refused with ENOSPC in words. Either way the guest goes on (one that waits for room to write to its
# disk when there is some), the snapshot and archive that were there stay as they were, and no halves
# are left, for this daemon or the next.
# time: 300
. "${0%/*}/../lib.sh"

need_kvm
need_cmd mkfs.ext4
truncate -s 32M "$T/fs"
mkfs.ext4 -q -F -m 0 -N 256 -O ^has_journal "$T/fs"
mkdir "$STATE"
mount -o loop "$T/fs" "$STATE" || skip "cannot mount a loop device"
rmdir "$STATE/lost+found"
chmod 700 "$STATE"
vmm_forks
start_daemon
S=$M/m/snapshots
last() { whole_lines "$M/m/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(last)" -ge "$1" ]; }
grown() { [ "$(wc -l <"$M/m/console")" -ge "$1" ]; }
agrees() { ! grep -aE -A2 'DISAGREE|disk error|ledger: failed' "$M/m/console" || fail "$1: memory and disk disagree"; }
all_of() { sha256sum "$S/base/memory" "$S/base/archive" "$S/base/disks/root/image" "$S/base/config"; }

# leave KIB: that much room; leave iN: room enough, but for N files
leave() {
	local free i n
	no_ballast
	if [[ $1 = i* ]]; then
		mkdir "$STATE/ballast"
		for ((i = 0; ; i++)); do : >"$STATE/ballast/$i" || break; done 2>/dev/null
		for ((n = 0; n < ${1#i}; n++)); do rm "$STATE/ballast/$((i - 1 - n))"; done
		return
	fi
	for i in 64 4 1; do # what is left may be in pieces, and a large file needs some of its own
		while free=$(($(stat -f -c '%a * %S' "$STATE") / 1024 - $1)) && [ $free -ge $i ] &&
			head -c $((free / i * i))K /dev/zero >>"$STATE/ballast"; do :; done 2>/dev/null
	done
}
no_ballast() { rm -rf "$STATE/ballast"; }
# What is there but for what comes and goes with a guest that runs.
no_halves() {
	is "$(find "$STATE" -name '.*' ! -name .lock)" "" "$1: halves"
	is "$(names "$S")" base "$1: snapshots"
	is "$(names "$M")" "m"$'\n'"still" "$1: machines"
}

truncate -s 1M "$T/disk"
truncate -s 1M "$T/disk2"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
define_guest still ledger
mkdir "$M/still/disks/root"
put "$M/still/disks/root/source" "$T/disk2"
do_ctl m start
wait_for reached 100
mkdir "$S/base"
put "$S/base/ctl" archive
cp "$S/base/archive" "$T/a"
was=$(all_of)

# Each is done, or is refused; then undone where it was done.
do_snapshot() { "$TOOLS/trycall" mkdir "$S/new"; }
undo_snapshot() { rmdir "$S/new"; }
do_save() { "$TOOLS/trycall" write "$M/m/ctl" save; }
undo_save() { do_ctl m start; }
do_fork() { "$TOOLS/trycall" write "$M/m/ctl" 'clone new'; }
undo_fork() { undefine new; }
do_forks() { "$TOOLS/trycall" write "$M/m/ctl" 'clone new 5'; }
undo_forks() { undefine new{1..5}; }
do_clone() { "$TOOLS/trycall" write "$S/base/ctl" 'clone new'; }
undo_clone() { undefine new; }
do_copy() { "$TOOLS/trycall" write "$M/still/ctl" 'clone new'; }
undo_copy() { undefine new; }
do_archive() { "$TOOLS/trycall" write "$S/base/ctl" archive; }
undo_archive() { was=$(all_of); } # another, of the same
do_restore() { "$TOOLS/trycall" write "$S/base/ctl" restore; }
undo_restore() { :; }
do_import() {
	mkdir "$M/new" 2>/dev/null || { echo mkdir ENOSPC; return; }
	if cp "$T/a" "$M/new/archive" 2>"$T/cp.err"; then
		echo ok
	else
		says '^ENOSPC archive' "$M/new/error"
		is "$(state_of new)" defined
		is "$(names "$M/new/disks")" ""
		is "$(names "$STATE/images")" ""
		rmdir "$M/new"
		echo write ENOSPC
	fi
}
undo_import() { undefine new; }

refused=0 done=0
for deed in ${DEEDS:-snapshot save fork forks clone copy archive restore import}; do
	for room in 0 16 200 400 600 1500 i0 i1 i2 i3 i4 i5 i6; do
		what="$deed, $room left"
		leave $room
		got=$("do_$deed")
		case $got in
		ok) done=$((done + 1)) ;;
		*ENOSPC) refused=$((refused + 1)) ;;
		*) fail "$what: $got: $(cat "$M/m/error" "$S/base/error")" ;;
		esac
		if [[ $got != ok && $deed != import ]]; then
			grep -qs '^ENOSPC ' "$M/m/error" "$S/base/error" "$M/still/error" || fail "$what: refused without words"
		fi
		[ "$got" != ok ] || [ "$deed" != save ] || is "$(state_of m)" saved "$what"
		case $got,$(state_of m) in
		ok,* | *,running | *,paused) no_ballast ;;
		*,saved) # all that there was room for, when it was too late to turn back
			[ $deed = restore ] || fail "$what was refused, and m is saved"
			says 'it is saved at the snapshot: ' "$S/base/error"
			no_ballast
			do_ctl m start
			;;
		*) fail "$what was refused, and m is $(state_of m)" ;;
		esac
		[ "$got" != ok ] || "undo_$deed"
		[ "$(state_of m)" != paused ] || do_ctl m resume
		is "$(state_of m)" running "$what"
		wait_for grown $(($(wc -l <"$M/m/console") + 5)) # its numbers may have gone back
		agrees "$what"
		no_halves "$what"
		[ $deed != archive ] || is "$(names "$STATE/machines/m/snapshots"/*/ | grep -c '^archive$')" 1
	done
	is "$(all_of)" "$was" "$deed: the snapshot"
done
note "$done done, $refused refused"
[ $refused -gt 10 ] && [ $done -gt 10 ]
kill_daemon
umount -l "$MNT"
start_daemon
wait_for grown $(($(wc -l <"$M/m/console") + 5))
no_halves "the next daemon"
is "$(all_of)" "$was"
do_ctl m kill
rmdir "$S/base"
rmdir "$M/m" "$M/still"
nothing() { [ -z "$(find "$STATE/layers" "$STATE/images" "$STATE/machines" -mindepth 1)" ]; }
wait_for nothing
stop_daemon
umount "$STATE"
