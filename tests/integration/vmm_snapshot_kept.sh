#!/bin/bash
# A machine that paused because its disk was full is saved with the requests that failed: who goes on
# from it tries them again, and so does the machine itself.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm

mkdir "$T/small" "$T/1"
mount -t tmpfs -o size=4M none "$T/small"
truncate -s 16M "$T/small/disk"
mkfifo "$T/in"
# disk NAME OPTION…: the guest writes more than there is room for
disk() {
	"$TOOLS/vmm_run" --vmm "$BUILD/filevisor-vmm" --timeout $((200 * SLOWNESS)) --disk "$T/small/disk" --cpus 2 --queues 2 \
		--cmdline 'disk=0 sector=0 count=16384 seed=7' --log "$T/$1.log" "${@:2}" "$GUESTS/blk_write.elf"
}
disk a <"$T/in" >"$T/a.out" 2>"$T/a.err" &
run=$!
exec 3>"$T/in"
told() { grep -aq -- "$1" "$T/a.err"; }
wait_for told '^state paused io'
echo "!instant $T/1" >&3
echo "!write raw $T/1/map $T/1/memory" >&3
wait_for told '^written' || fail "$(cat "$T/a.err")"
cp --sparse=always "$T/small/disk" "$T/disk"
mount -o remount,size=64M "$T/small"

note "the machine itself goes on"
echo '!resume' >&3
wait "$run" || fail "vmm_run: $(cat "$T/a.err" "$T/a.log")"
like "$(tail -n 1 "$T/a.log")" 'blk_write: done'

note "and one from its state"
cp --sparse=always "$T/disk" "$T/small/disk"
disk b --map "$T/1/map" --load "$T/1/state" </dev/null >"$T/b.out" 2>"$T/b.err" ||
	fail "vmm_run: $(cat "$T/b.err" "$T/b.log")"
like "$(tail -n 1 "$T/b.log")" 'blk_write: done'
umount "$T/small"
