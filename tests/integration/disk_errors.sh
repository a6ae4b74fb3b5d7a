#!/bin/bash
# Storage that fails: space that ran out pauses the machine with words, and after `resume` nothing
# is lost; other errors are reported to the guest, or pause, or are ignored, as on_error says.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img
[ "$(id -u)" = 0 ] || skip "mounting a small file system needs root"
start_daemon
mkdir "$T/small"
mount -t tmpfs -o size=1m tmpfs "$T/small"
# data MACHINE IMAGE [KEY=VALUE]…: gives it the disk d
data() {
	local d=$M/$1/disks/d kv
	mkdir "$d"
	put "$d/source" "$2"
	shift 2
	for kv; do put "$d/${kv%%=*}" "${kv#*=}"; done
}
event_of() { python3 - "$MNT/events" "$@" <<'END'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
kind, machine = sys.argv[2:4]
sys.exit(not any(e["event"] == kind and e.get("machine") == machine for e in lines))
END
}

note "no space left: paused; space made: goes on, nothing lost"
for format in raw qcow2; do
	m=full-$format
	qemu-img create -q -f $format "$T/small/$m.img" 16M
	define_guest $m blk_write cmdline='sector=0 count=8192 seed=3'
	data $m "$T/small/$m.img"
	do_ctl $m start
	wait_state $m paused
	says '^ENOSPC .*d: ' "$M/$m/error"
	says 'resume' "$M/$m/error"
	event_of disk-error $m || fail "no event of it"
	! console_has $m error || fail "the guest was told"
	do_ctl $m resume # too early: it fails again
	wait_state $m paused
	mount -o remount,size=32m "$T/small"
	do_ctl $m resume
	wait_state $m stopped
	like "$(cat "$M/$m"/console)" 'blk_write: done'
	is "$(cat "$M/$m"/error)" ""
	[ $format = raw ] || qemu-img check -q "$T/small/$m.img"
	rm "$T/small/$m.img"
	mount -o remount,size=1m "$T/small"
done

note "a new daemon finds it paused, and why"
truncate -s 16M "$T/small/a.img"
define_guest again blk_write cmdline='sector=0 count=8192 seed=4'
data again "$T/small/a.img"
do_ctl again start
wait_state again paused
kill_daemon
start_daemon
is "$(state_of again)" paused
says 'resume' "$M/again/error"
mount -o remount,size=32m "$T/small"
do_ctl again resume
wait_state again stopped
like "$(cat "$M/again/console")" 'blk_write: done'
rm "$T/small/a.img"
mount -o remount,size=1m "$T/small"

note "told to the guest, or to nobody"
truncate -s 16M "$T/small/b.img"
define_guest told blk_write cmdline='sector=0 count=8192 seed=5'
data told "$T/small/b.img" on_error=report
do_ctl told start
wait_state told stopped
like "$(cat "$M/told/console")" 'blk_write: failed'
rm "$T/small/b.img"
truncate -s 16M "$T/small/c.img"
define_guest nobody blk_write cmdline='sector=0 count=8192 seed=6 noread noflush'
data nobody "$T/small/c.img" on_error=ignore
do_ctl nobody start
wait_state nobody stopped
like "$(cat "$M/nobody/console")" 'blk_write: done'
rm "$T/small/c.img"

note "an image with a cluster that cannot be read"
python3 -c 'import random; random.seed(1); print("".join(random.choices("abcdefghijklm", k=1 << 20)), end="")' >"$T/plain" # compresses to half
truncate -s 1M "$T/plain"
qemu-img convert -q -c -O qcow2 "$T/plain" "$T/bad.qcow2"
python3 - "$T/bad.qcow2" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(0, 2)
    size = f.tell()
    at = 5 * 65536          # behind the tables: compressed data
    assert size > at + 4096, size
    f.seek(at)
    f.write(b"\xff" * (size - at))
END
define_guest eio blk_read
data eio "$T/bad.qcow2" readonly=true
do_ctl eio start
wait_state eio stopped
like "$(cat "$M/eio/console")" 'error at sector'
event_of disk-error eio || fail "no event of it"
put "$M/eio/disks/d/on_error" pause
do_ctl eio start
wait_state eio paused
says '^EIO .*d: ' "$M/eio/error"
do_ctl eio kill
is "$(state_of eio)" stopped
umount "$T/small"
