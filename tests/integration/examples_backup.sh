#!/bin/bash
# The example that backs up a machine of another host, over real ssh and sshfs: what it copies is of
# one instant and sparse; the next run into the same directory brings it up to date; the snapshots
# that it took are gone; what cannot be done is said.
# time: 300
. "${0%/*}/../lib.sh"

need_kvm
need_cmd rsync
start_daemon
start_sshd
export SSHFS_OPTIONS="-F $T/ssh/config"
back_up() { timeout 200 "$ROOT/examples/backup-rsync.sh" "fv:$MNT" web "$T/backup"; }
truncate -s 1M "$T/disk"
define_guest web ledger
mkdir "$M/web/disks/root"
put "$M/web/disks/root/source" "$T/disk"
do_ctl web start
wait_console web '^entry 100$'

# The last entry of the ledger's books, in the copy's disk and memory.
on_disk() { od -An -tu4 -v -w512 "$T/backup/disks/root/image" | awk 'NR <= 64 && $1 > max { max = $1 } END { print max }'; }
in_memory() { for s in $(seq 0 63); do od -An -tu4 -N4 -j $((0x1000000 + s * 4096)) "$T/backup/memory"; done | sort -n | tail -n 1 | tr -d ' '; }
one_instant() {
	local d m
	d=$(on_disk) m=$(in_memory)
	[ "$d" -ge "$1" ] || fail "the copy is at $d, the guest was at $1"
	[ "$d" = "$m" ] || [ "$d" = $((m + 1)) ] || fail "the copy's disk is at $d, its memory at $m"
}

back_up
one_instant 100
is "$(cat "$T/backup/state")" running
cmp "$T/backup/config" "$M/web/config" || fail "another definition"
is "$(stat -c %s "$T/backup/memory")" $((64 << 20))
[ "$(stat -c %b "$T/backup/memory")" -lt $((32 << 11)) ] || fail "the copy is not sparse"
first=$(on_disk)
is "$(ls "$M/web/snapshots")" "" "snapshots left"

note "again"
wait_console web "^entry $((first + 100))$"
back_up
one_instant $((first + 100))
is "$(ls "$M/web/snapshots")" "" "snapshots left"
is "$(state_of web)" running

note "what cannot be done is said"
do_ctl web save
! back_up 2>"$T/said" || fail "a saved machine was backed up"
like "$(cat "$T/said")" 'saved'
do_ctl web discard
end_ssh
