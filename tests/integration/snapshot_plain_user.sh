#!/bin/bash
# A plain user's daemon, mounted by fusermount3: snapshots of his machines, clones of them, saved and
# archived ones, without root anywhere; also for his next daemon. All files are his, others read none.
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
need_cmd fusermount3 setpriv cmp
if [ "$(id -u)" = 0 ]; then
	# /dev/fuse and /dev/kvm for everybody, in here; the rest of this as somebody else
	for node in fuse:229 kvm:232; do
		mknod "$T/${node%:*}" c 10 "${node#*:}"
		chmod 666 "$T/${node%:*}"
		mount --bind "$T/${node%:*}" "/dev/${node%:*}"
	done
	rmdir "$MNT"
	chmod 755 "$T"
	chown 65534:65534 "$T"
	trap - EXIT
	exec setpriv --reuid=65534 --regid=65534 --clear-groups env ISOLATED=1 HOME="$T" \
		bash "$ROOT/tests/integration/${0##*/}"
fi
start_daemon
S=$M/m/snapshots
last_of() { whole_lines "$M/$1/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(last_of "$1")" -ge "$2" ] 2>/dev/null; }
first_of() { awk '$1 == "entry" && NF == 2 && !n { n = $2 } END { print n + 0 }' "$M/$1/console"; }
agrees() { ! grep -aE -A2 'DISAGREE|disk error|ledger: failed' "$M/$1/console" || fail "memory and disk of $1 disagree"; }
goes_on() {
	wait_for reached "$1" $(($(last_of "$1") + 20))
	agrees "$1"
}
# joins MACHINE ENTRY: it has not booted, but gone on behind that entry
joins() {
	is "$(state_of "$1")" running
	wait_for reached "$1" $(($2 + 20))
	[ "$(first_of "$1")" -ge "$2" ] || fail "$1 went on with $(first_of "$1"), not behind $2"
	! grep -aq begin "$M/$1/console" || fail "$1 booted"
	agrees "$1"
}
his() {
	is "$(find "$STATE" "$RUN" ! -user 65534 | head -n 3)" "" "others' files"
	is "$(find "$STATE" "$RUN" -type f -perm /077 | head -n 3)" "" "files that others can read"
}
vmms_are() { [ "$(vmms)" = "$1" ]; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 50$'

note "snapshots"
mkdir "$S/a"
goes_on m
at=$(last_of m)
mkdir "$S/b"
is "$(cat "$S/b/parent")" a
is "$(stat -c %U "$S/b")" nobody
is "$(head -c 4 "$S/b/core" | od -An -c | tr -d ' ')" '177ELF'
goes_on m
his

note "clones"
do_ctl m 'clone forked 3'
for i in 1 2 3; do joins "forked$i" "$at"; done
put "$S/b/ctl" 'clone child 2'
for i in 1 2; do joins "child$i" "$at"; done
for pid in $(vmm_pids); do is "$(stat -c %u "/proc/$pid")" 65534 "uid of a VMM"; done
goes_on m
wait_for vmms_are 6 # who held the memory has ended
his
undefine forked1 forked2 child1

note "saved, and gone on with by the next daemon"
do_ctl m save
is "$(state_of m)" saved
do_ctl m 'clone of_saved'
joins of_saved "$at"
kill_daemon
fusermount3 -uz "$MNT"
start_daemon
is "$(state_of m)" saved
do_ctl m start
goes_on m
for c in forked3 child2 of_saved; do goes_on $c; done
undefine forked3 child2 of_saved

note "archived"
put "$S/b/ctl" archive
mkdir "$M/copy"
cp "$S/b/archive" "$M/copy/archive"
is "$(cat "$M/copy/error")" ""
is "$(state_of copy)" saved
cmp "$S/b/disks/root/image" "$M/copy/disks/root/image"
do_ctl copy start
joins copy "$at"
his
undefine copy

note "gone back to"
goes_on m
lines=$(wc -l <"$M/m/console") was=$(last_of m)
put "$S/b/ctl" restore
# its count falls back, to where the snapshot was taken
again() {
	tail -n +$((lines + 1)) "$M/m/console" | awk -v from="$at" -v last="$was" \
		'/^entry [0-9]+$/ { if ($2 < last && $2 > from) { found = 1; exit } if ($2 > last) last = $2 } END { exit !found }'
}
wait_for again
goes_on m
do_ctl m kill
put "$S/a/ctl" restore
goes_on m
do_ctl m kill
rmdir "$S/a" "$S/b"
rmdir "$M/m"
no_files() { [ -z "$(find "$STATE/layers" "$STATE/images" -type f)" ]; }
wait_for no_files
