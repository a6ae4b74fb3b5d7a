#!/bin/bash
# A snapshot of a guest that runs, in one file: made, copied to another machine of the same daemon
# and, through a pipe over ssh, to one of another daemon; there the guest goes on counting from
# the instant of the snapshot, with the disk as of then. What is no whole archive makes nothing.
# time: 300
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img cmp
vmm_forks
start_daemon -o allow_other
S=$M/m/snapshots
MNT2=$T/mnt2 STATE2=$T/state2
M2=$MNT2/machines
last_of() { whole_lines "$1/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(last_of "$1")" -ge "$2" ] 2>/dev/null; }
agrees() { ! grep -aE -A2 'DISAGREE|disk error|ledger: failed' "$1/console" || fail "memory and disk of $1 disagree"; }
no_images() { [ -z "$(ls -A "$1/images" 2>/dev/null)" ] || fail "left: $(ls -A "$1/images")"; }
# goes_on MACHINE ENTRY: it is saved; started, it goes on behind that entry without a boot
goes_on() {
	is "$(cat "$1/state")" saved
	put "$1/ctl" start
	wait_for reached "$1" $(($2 + 200))
	first=$(awk '$1 == "entry" && !n { n = $2 } END { print n }' "$1/console")
	[ "$first" -ge $(($2 - 1)) ] && [ "$first" -le $(($2 + 2)) ] || fail "it went on with $first, not at $2"
	! grep -aq 'begin' "$1/console" || fail "it booted"
	agrees "$1"
}

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 100$'
mkdir "$S/base"
at=$(for s in $(seq 0 63); do od -An -tu4 -N4 -j $((0x1000000 + s * 4096)) "$S/base/memory"; done | sort -n | tail -n 1 | tr -d ' ')

note "none is at hand until it is made"
is "$(stat -c %s "$S/base/archive")" 0
is "$(cat "$S/base/archive" | wc -c)" 0
put "$S/base/ctl" archive
size=$(stat -c %s "$S/base/archive")
[ "$size" -gt 1000 ] && [ "$size" -lt $((16 << 20)) ] || fail "it has $size bytes"
is "$(head -c 8 "$S/base/archive")" FVARCHIV
is "$(cat "$S/base/archive" | wc -c)" "$size"
cat "$S/base/archive" >"$T/a"
is "$(state_of m)" running
agrees "$M/m"

note "copied to a new machine"
mkdir "$M/copy"
cp "$T/a" "$M/copy/archive"
is "$(cat "$M/copy/error")" ""
is "$(cat "$M/copy/memory")" $((64 << 20))
like "$(cat "$M/copy/disks/root/source")" "^$STATE/images/.*-root.qcow2$"
is "$(cat "$M/copy/disks/root/format")" qcow2
cat "$S/base/disks/root/image" >"$T/then"
qemu-img compare -q -f raw -F qcow2 "$T/then" "$(cat "$M/copy/disks/root/source")" || fail "the disk is another"
cmp "$M/copy/disks/root/image" "$T/then"
cmp "$GUESTS/ledger.elf" "$(cat "$M/copy/kernel")"
goes_on "$M/copy" "$at"
agrees "$M/m"

note "it is a machine like others: it boots, with snapshots and clones"
mkdir "$M/copy/snapshots/own"
put "$M/copy/snapshots/own/ctl" 'clone child'
wait_state child running
do_ctl copy kill
do_ctl copy start
wait_console copy 'begin [0-9]+$' # behind what its kill cut off
do_ctl copy kill
rmdir "$M/copy/snapshots/own"

note "its files stay while a clone's disk is over them, and go then"
rmdir "$M/copy"
[ "$(find "$STATE/images" -name '*.qcow2' | wc -l)" = 1 ] || fail "the clone's disk is gone"
agrees "$M/child"
do_ctl child kill
stop_daemon && start_daemon -o allow_other
do_ctl child start
wait_state child running
do_ctl child kill
rmdir "$M/child"
no_images "$STATE"

note "what is not whole, or no archive, makes nothing"
refused() { # WORDS FILE
	mkdir -p "$M/bad"
	! cp "$2" "$M/bad/archive" 2>/dev/null || fail "$2 was taken"
	says "$1" "$M/bad/error"
	is "$(state_of bad)" defined
	[ ! -e "$M/bad/disks/root" ] || fail "it has a disk"
	no_images "$STATE"
}
head -c $((size / 2)) "$T/a" >"$T/half"
refused '^EINVAL archive: .*cut short' "$T/half"
head -c $((size - 1)) "$T/a" >"$T/half"
refused '^EINVAL archive: .*cut short' "$T/half"
{ cat "$T/a"; echo; } >"$T/long"
refused '^EINVAL archive: .*behind its end' "$T/long"
{ head -c 3000 "$T/a"; head -c 1 /dev/zero; tail -c +3002 "$T/a"; } >"$T/flipped"
cmp -s "$T/a" "$T/flipped" || refused '^EINVAL archive' "$T/flipped"
head -c 4096 /dev/urandom >"$T/noise"
refused '^EINVAL archive: .*no archive' "$T/noise"
! cp "$T/a" "$M/m/archive" 2>/dev/null || fail "a machine that runs took one"
says '^EBUSY archive' "$M/m/error"
rmdir "$M/bad"

note "a daemon that is killed half way leaves nothing of it"
mkdir "$M/torn"
mkfifo "$T/fifo"
cat "$T/fifo" >"$M/torn/archive" 2>/dev/null &
writer=$!
exec 9>"$T/fifo"
head -c $((size - 1)) "$T/a" >&9 # smaller parts may be less than a block of zstd's
under_way() { [ -n "$(names "$STATE/images" '^\.new-')" ]; }
wait_for under_way
refuses EBUSY rmdir "$M/torn"
kill_daemon
exec 9>&-
wait "$writer" 2>/dev/null || true
start_daemon -o allow_other
is "$(state_of torn)" defined
no_images "$STATE"
is "$(find "$STATE/layers" -newer "$T/noise" -name '*.mem' | wc -l)" 0 "memory was left"
cp "$T/a" "$M/torn/archive"
goes_on "$M/torn" "$at"
undefine torn
no_images "$STATE"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	note "an ordinary user's: its files are his, and nobody else's"
	as() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups "$@"; }
	chmod a+x "$T"
	chmod a+r "$T/a"
	chmod 1777 "$M"
	as 1001 mkdir "$M/his"
	chmod 666 "$M/his/archive"
	! as 1002 cp "$T/a" "$M/his/archive" 2>/dev/null || fail "somebody else's was taken"
	says '^EACCES archive' "$M/his/error"
	as 1001 cp "$T/a" "$M/his/archive"
	is "$(cat "$M/his/error")" ""
	for f in "$STATE"/images/*; do is "$(stat -c %u:%a "$f")" 1001:600; done
	! as 1002 cat "$(cat "$M/his/kernel")" 2>/dev/null >&2 || fail "others read his kernel"
	! as 1001 ls "$STATE" 2>/dev/null >&2 || fail "the state can be listed"
	! as 1001 ls "$STATE/images" 2>/dev/null >&2 || fail "the images can be listed"
	! as 1001 ls "$STATE/machines" 2>/dev/null >&2 || fail "the machines of the state can be listed"
	goes_on "$M/his" "$at"
	do_ctl his kill
	do_ctl his start
	wait_console his 'begin [0-9]+$'
	do_ctl his kill
	rmdir "$M/his"
	no_images "$STATE"
fi

note "by a pipe over ssh, to another daemon"
start_sshd
mkdir -p "$MNT2"
"$BUILD/filevisord" -f --state "$STATE2" --run "$T/run2" "$MNT2" >>"$T/daemon2.log" 2>&1 &
other=$!
there() { [ -d "$M2" ]; }
wait_for there
mkdir "$M2/far"
ssh -F "$T/ssh/config" fv cat "$S/base/archive" | cat >"$M2/far/archive"
is "$(cat "$M2/far/error")" ""
cmp "$M2/far/disks/root/image" "$T/then"
kill -KILL "$other"
wait "$other" 2>/dev/null || true
umount -l "$MNT2"
"$BUILD/filevisord" -f --state "$STATE2" --run "$T/run2" "$MNT2" >>"$T/daemon2.log" 2>&1 &
other=$!
wait_for there
goes_on "$M2/far" "$at"
put "$M2/far/ctl" kill
rmdir "$M2/far"
no_images "$STATE2"
kill "$other"
wait "$other" || fail "the other daemon ended badly"
end_ssh

note "with the disks alone"
do_ctl m kill
mkdir "$S/still"
put "$S/still/ctl" archive
mkdir "$M/disks_alone"
cat "$S/still/archive" >"$M/disks_alone/archive"
is "$(cat "$M/disks_alone/error")" ""
is "$(state_of disks_alone)" defined
cmp "$S/still/disks/root/image" "$M/disks_alone/disks/root/image"
do_ctl disks_alone start
wait_console disks_alone '^begin [1-9]'
undefine disks_alone
no_images "$STATE"
rmdir "$S/still" "$S/base"
rmdir "$M/m"
stop_daemon
