#!/bin/bash
# disks/NAME/image: what the guest sees, whatever the format: read and written while no machine has
# it, read as of open while one writes, by several at once; lost to its readers, not to the guest,
# when there is no room for what is overwritten.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img qemu-io
mkdir -p "$STATE"
small=
if [ "$(id -u)" = 0 ]; then
	small=yes
	mount -t tmpfs -o size=64m tmpfs "$STATE" # where the daemon keeps what is overwritten
fi
start_daemon
I=$M/m/disks/d/image
# snapshot FILE: one moment of what `disk write count=2048` writes round after round
snapshot() {
	python3 - "$1" <<'END'
import array, sys
with open(sys.argv[1], "rb") as f:
    f.seek(8 * 512)
    words = array.array("I", f.read(2048 * 512))
assert len(words) == 2048 * 128, len(words)
rounds = [(w - i) & 0xffffffff for i, w in enumerate(words)]
# those written in the round under way first, the rest of the round before behind them
assert max(rounds) - min(rounds) <= 1, (min(rounds), max(rounds))
assert rounds == sorted(rounds, reverse=True)
print(min(rounds))
END
}

note "nobody has it: as qemu-img sees it, and written"
head -c 1M /dev/urandom >"$T/base.raw"
truncate -s 64M "$T/base.raw"
qemu-img create -q -f qcow2 -F raw -b base.raw "$T/top.qcow2"
qemu-io -f qcow2 -c 'write -P 0x55 20M 64k' -c 'write -z 512k 64k' "$T/top.qcow2" >"$T/io.txt"
define_guest m disk cmdline='write count=2048'
mkdir "$M/m/disks/d"
put "$M/m/disks/d/source" "$T/top.qcow2"
qemu-img convert -q -O raw "$T/top.qcow2" "$T/want"
size_is() { [ "$(stat -c %s "$I")" = "$1" ]; }
wait_for size_is $((64 << 20))
cmp "$I" "$T/want"
cp --sparse=always "$I" "$T/copy"
cmp "$T/copy" "$T/want"
[ "$(stat -c %b "$T/copy")" -lt 8192 ] || fail "a sparse copy is not sparse"
head -c 100000 /dev/urandom >"$T/piece"
dd if="$T/piece" of="$I" bs=100000 seek=7 conv=notrunc status=none
dd if="$T/piece" of="$T/want" bs=100000 seek=7 conv=notrunc status=none
is "$(qemu-img compare -U -f qcow2 -F raw "$T/top.qcow2" "$T/want")" 'Images are identical.'
qemu-img check -U -q "$T/top.qcow2" # (it is let go of a moment after close(2))
exec 7<>"$I"
refuses EBUSY write "$M/m/ctl" start # while it is open for writing
exec 7>&-

note "a guest writes: read as of open"
do_ctl m start
wait_console m 'round 2$'
[ "$("$TOOLS/trycall" write "$I" x)" != ok ] || fail "written under a running machine"
exec 5<"$I"
first=$(snapshot /dev/fd/5)
like "$first" '^[0-9]+$'
wait_console m "round $((first + 3))$"
exec 6<"$I"
cat <&5 >"$T/rest" # its past stays what it was
exec 5<"$I"
readers=()
for n in 1 2 3; do
	cp "$I" "$T/run$n" &
	readers+=($!)
done
for pid in "${readers[@]}"; do wait "$pid" || fail "a reader failed"; done
for n in 1 2 3; do snapshot "$T/run$n" >"$T/round$n"; done
cat <&6 >"$T/late"
[ "$(snapshot "$T/late")" -gt "$first" ] || fail "$(snapshot "$T/late") is not later than $first"
exec 5<&- 6<&-
cp --sparse=always "$I" "$T/copy"
snapshot "$T/copy" >"$T/round"
cmp -i $((2 << 20)) "$T/copy" "$T/want" # where no guest wrote

note "nothing stays behind"
kept() { find "/proc/$(vmm_pids)/fd" -lname "$STATE/*(deleted)" | wc -l; }
kept_is() { [ "$(kept)" = "$1" ]; }
wait_for kept_is 0
exec 5<"$I"
kept_is 1
exec 5<&-
wait_for kept_is 0

if [ -n "$small" ]; then
	note "no room for what is overwritten: the reader is told, the guest goes on"
	mount -o remount,size=3m "$STATE"
	undefine m
	define_guest m disk cmdline='write count=16384' # 8 MiB a round; 3 MiB of room
	mkdir "$M/m/disks/d"
	put "$M/m/disks/d/source" "$T/top.qcow2"
	do_ctl m start
	wait_console m 'round 1$'
	exec 5<"$I"
	wait_console m 'round 4$'
	! cat <&5 >"$T/lost" 2>"$T/said" || fail "read what cannot be known"
	like "$(cat "$T/said")" 'Input/output error'
	exec 5<&-
	wait_console m 'round 6$'
	is "$(state_of m)" running
	! console_has m 'disk: fails'
	cat "$I" >"$T/again" & # others read meanwhile
	reader=$!
	wait $reader || true
fi

note "the VMM dies under a reader"
exec 5<"$I"
kill -KILL "$(vmm_pids)"
wait_state m crashed
! cat <&5 >"$T/lost" 2>"$T/said" || fail "read from nobody"
exec 5<&-
cat "$I" >"$T/lost"
is "$(stat -c %s "$T/lost")" $((64 << 20))
undefine m
if [ -n "$small" ]; then
	stop_daemon
	umount "$STATE"
fi
