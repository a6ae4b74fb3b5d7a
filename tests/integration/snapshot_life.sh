#!/bin/bash
# A snapshot of a guest that runs: taken by mkdir while it counts on, read as files, renamed, gone
# back to (the count goes on from there), deleted; of a paused and of a stopped machine, too.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
S=$M/m/snapshots
last() { whole_lines "$M/$1/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(entries "$1")" -ge "$2" ]; }
goes_on() { wait_for reached "$1" $(($(entries "$1") + ${2:-20})); }
# (a line that was cut short when its guest ended is none)
# went_back MACHINE LINES LAST: behind that many lines of its console, it goes on after an entry up to LAST
fallen() { tail -n +"$2" "$M/$1/console" | sed '$d' | awk '/^entry [0-9]+$/ { if (was && $2 <= was) { print $2; exit } was = $2 }'; }
has_fallen() { [ -n "$(fallen "$1" "$2")" ]; }
went_back() {
	wait_for has_fallen "$1" "$2"
	[ "$(fallen "$1" "$2")" -le $(($3 + 1)) ] || fail "it went on with $(fallen "$1" "$2"), not before $3"
}
agrees() { ! grep -aE -A2 'DISAGREE|disk error' "$M/$1/console" || fail "memory and disk of $1 disagree"; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 20$'

note "taken while it runs"
mkdir "$S/one"
is "$(state_of m)" running
is "$(cat "$M/m/error")" ""
one=$(last m)
is "$(cat "$S/one/state")" running
is "$(cat "$S/one/parent")" ""
like "$(cat "$S/one/size")" '^own [1-9][0-9]*'
is "$(stat -c %s "$S/one/memory")" $((64 << 20))
grep -q 'ledger.elf' "$S/one/config" || fail "no definition"
is "$(head -c 4 "$S/one/core")" $'\x7fELF'
is "$(stat -c %s "$S/one/disks/root/image")" $((1 << 20))
sum=$(sha256sum <"$S/one/memory")
image=$(sha256sum <"$S/one/disks/root/image")
goes_on m 100
is "$(sha256sum <"$S/one/memory")" "$sum" "its memory changed"
is "$(sha256sum <"$S/one/disks/root/image")" "$image" "its disk changed"
grep -q '"event":"snapshot-taken".*"snapshot":"one"' "$MNT/events" || fail "no event"
# word n of memory and of the disk are of one instant
at_disk=$(od -An -tu4 -v -w512 "$S/one/disks/root/image" | awk 'NR <= 64 && $1 > max { max = $1 } END { print max }')
at_memory=$(for s in $(seq 0 63); do od -An -tu4 -N4 -j $((0x1000000 + s * 4096)) "$S/one/memory"; done | sort -n | tail -n 1 | tr -d ' ')
[ "$at_disk" -eq "$at_memory" ] || [ "$at_disk" -eq $((at_memory + 1)) ] || fail "disk at $at_disk, memory at $at_memory"

note "the second knows the first, and stores what differs"
mkdir "$S/two"
is "$(cat "$S/two/parent")" one
goes_on m 100
refuses EEXIST mkdir "$S/two"
refuses EBUSY rmdir "$M/m"

note "back, and forth"
lines=$(wc -l <"$M/m/console")
put "$S/one/ctl" restore
is "$(state_of m)" running
went_back m "$lines" "$one"
goes_on m 30
agrees m
put "$S/two/ctl" restore
goes_on m 50
[ "$(last m)" -gt "$one" ] || fail "not forth"
agrees m
is "$(sha256sum <"$S/one/memory")" "$sum" "its memory changed"
is "$(sha256sum <"$S/one/disks/root/image")" "$image" "its disk changed"

note "names, and deleting what others stand on"
mv "$S/one" "$S/first"
is "$(cat "$S/two/parent")" first
mkdir "$S/three"
is "$(cat "$S/three/parent")" two
rmdir "$S/two"
is "$(cat "$S/three/parent")" first
goes_on m 20
put "$S/three/ctl" restore
goes_on m 20
agrees m

note "paused, stopped, and over a daemon that is killed"
do_ctl m pause
put "$M/m/ctl" 'snapshot paused'
is "$(cat "$S/paused/state")" paused
is "$(state_of m)" paused
do_ctl m resume
goes_on m
do_ctl m kill
mkdir "$S/still"
is "$(cat "$S/still/state")" stopped
is "$(stat -c %s "$S/still/memory")" 0
kill_daemon
umount -l "$MNT"
start_daemon
is "$(ls "$S" | tr '\n' ' ')" 'first paused still three '
put "$S/first/ctl" restore
is "$(state_of m)" running
goes_on m 50
agrees m
put "$S/still/ctl" restore
is "$(state_of m)" stopped
do_ctl m start
goes_on m
agrees m
do_ctl m save
refuses EBUSY mkdir "$S/saved"
says saved "$M/m/error"
do_ctl m start
goes_on m
agrees m
do_ctl m kill
rmdir "$S"/*
rmdir "$M/m"
empty() { [ -z "$(ls "$STATE/layers")" ]; }
wait_for empty
