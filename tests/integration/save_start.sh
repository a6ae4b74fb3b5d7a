#!/bin/bash
# `save` stops a machine with its whole state on disk, and `start` lets it go on from there: a guest
# that counts leaves no number out and says none twice, in the same daemon and in the next.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
# Every number once, in order, on the console.
in_order() {
	grep -aE '^[0-9]+$' "$M/$1/console" | sed '$d' | awk 'NR != 1 && $1 != last + 1 { print last, $1; exit 1 } { last = $1 }' ||
		fail "the count is broken"
}
counted() { [ "$(grep -acE '^[0-9]+$' "$M/$1/console")" -gt "$2" ]; }
goes_on() { wait_for counted "$1" $(($(grep -acE '^[0-9]+$' "$M/$1/console") + 20)); }

boot m count
wait_console m '^20'
do_ctl m save
is "$(state_of m)" saved
wait_for no_vmm
is "$(cat "$M/m/error")" ""
[ -s "$STATE/machines/m/saved" ] || fail "no state"
like "$(cat "$STATE/machines/m/saved-memory")" "^memory 1 packed $((64 << 20))"
is "$(ls "$STATE/layers" | wc -l)" 1
[ "$(du -k "$STATE"/layers/*.mem | cut -f1)" -lt 4096 ] || fail "zero pages cost something"

note "while it is saved"
refuses EBUSY write "$M/m/ctl" save
refuses EBUSY write "$M/m/ctl" kill
says 'discard' "$M/m/error"
refuses EBUSY write "$M/m/cpus" 2
refuses EBUSY write "$M/m/memory" 128M
refuses EBUSY mkdir "$M/m/disks/more"
refuses EBUSY rmdir "$M/m"
put "$M/m/stop_timeout_s" 7

note "it goes on"
do_ctl m start
is "$(state_of m)" running
is "$(cat "$M/m/error")" ""
goes_on m
in_order m
[ ! -e "$STATE/machines/m/saved" ] || fail "the state was used and is still there"
[ ! -e "$STATE/machines/m/saved-memory" ] || fail "its memory is still there"
is "$(ls "$STATE/layers")" "" "layers"
wait_for grep -qx 'memory.to_load_bytes 0' "$M/m/stats"

note "over a daemon that ends, and one that is killed"
do_ctl m save
stop_daemon
start_daemon
is "$(state_of m)" saved
do_ctl m start
goes_on m
do_ctl m pause
do_ctl m save
is "$(state_of m)" saved
kill_daemon
umount -l "$MNT"
start_daemon
is "$(state_of m)" saved
mv "$M/m" "$M/n"
do_ctl n start
goes_on n
in_order n

note "again and again"
for _ in $(seq 10); do
	do_ctl n save
	do_ctl n start
done
goes_on n
in_order n

note "as a job, and discarded"
put "$M/n/ctl" 'save &'
wait_state n saved
do_ctl n discard
is "$(state_of n)" stopped
is "$(find "$STATE/machines/n" -name "*saved*" | wc -l)" 0
is "$(ls "$STATE/layers")" "" "layers"
refuses EBUSY write "$M/n/ctl" discard
do_ctl n start
wait_for counted n 0
do_ctl n kill
rmdir "$M/n"

note "memory above 4 GiB, more vcpus than one"
boot big count memory=5G cpus=4
wait_console big '^20'
do_ctl big save
do_ctl big start
goes_on big
in_order big
do_ctl big kill
rmdir "$M/big"
