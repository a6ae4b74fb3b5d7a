#!/bin/bash
# A volume that a running guest writes is read as it was when it was opened: by cp, qemu-img, a loop
# device, rsync over ssh and sshfs, through the volume and through the machine's disk; walkers of
# the whole tree end; a reader that goes away takes its snapshot with it.
# time: 300
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img rsync
start_daemon
start_sshd
mkdir "$T/store" "$MNT/pools/p"
put "$MNT/pools/p/source" "$T/store"
V=$MNT/pools/p/volumes/v
mkdir "$V"
put "$V/size" 16M
put "$V/format" qcow2
printf 'where no guest writes' | dd of="$V/image" bs=1M seek=12 conv=notrunc status=none
define_guest m disk cmdline='write count=2048'
mkdir "$M/m/disks/d"
put "$M/m/disks/d/source" p/v
do_ctl m start
wait_console m 'round 2$'

# snapshot FILE: the round of the one moment that it holds (see guest_disk.c)
snapshot() {
	python3 - "$1" <<'END'
import array, sys
with open(sys.argv[1], "rb") as f:
    f.seek(8 * 512)
    words = array.array("I", f.read(2048 * 512))
rounds = [(w - i) & 0xffffffff for i, w in enumerate(words)]
assert len(rounds) == 2048 * 128 and max(rounds) - min(rounds) <= 1, (min(rounds), max(rounds))
assert rounds == sorted(rounds, reverse=True)
print(min(rounds))
END
}
kept() { is "$(dd if="$1" bs=21 skip=12M iflag=skip_bytes count=1 status=none)" 'where no guest writes' "$1"; }
round_now() { whole_lines "$M/m/console" | tr -d '\r' | sed -n 's/^round \([0-9]*\)$/\1/p' | tail -n 1; }

note "by volume and by disk"
for image in "$V/image" "$M/m/disks/d/image"; do
	is "$(stat -c %s "$image")" $((16 << 20))
	before=$(round_now)
	cp --sparse=always "$image" "$T/copy"
	[ "$(snapshot "$T/copy")" -ge $((before - 1)) ] || fail "older than its opening"
	kept "$T/copy"
	[ "$(du -k "$T/copy" | cut -f 1)" -lt $((8 << 10)) ] || fail "not sparse"
	qemu-img convert -f raw -O qcow2 "$image" "$T/copy.qcow2"
	qemu-img convert -f qcow2 -O raw "$T/copy.qcow2" "$T/copy"
	snapshot "$T/copy"
done

note "a moment stays while the guest goes on, each opening has its own"
exec 5<"$V/image"
cat <&5 >"$T/first" # (/dev/fd/5 would open it anew)
round=$(snapshot "$T/first")
wait_console m "round $((round + 3))$"
exec 6<"$V/image"
python3 -c 'import os, shutil, sys
with open(sys.argv[1], "wb") as out:
    for at in range(0, 16 << 20, 1 << 20):
        out.write(os.pread(5, 1 << 20, at))' "$T/again"
cmp "$T/first" "$T/again"
cat <&6 >"$T/later"
[ "$(snapshot "$T/later")" -ge $((round + 2)) ] || fail "the later one is not later"
exec 5<&- 6<&-

note "mounted as a loop device: one moment"
if [ "$(id -u)" = 0 ] && loop=$(losetup -r -f --show "$V/image" 2>/dev/null); then
	snapshot "$loop" >"$T/1"
	wait_console m "round $(($(cat "$T/1") + 3))$"
	is "$(snapshot "$loop")" "$(cat "$T/1")" "what the loop device holds"
	losetup -d "$loop"
fi

note "from afar"
mount_sshfs "$T/remote"
mkdir "$T/got"
cp "$T/remote/pools/p/volumes/v/image" "$T/got/sshfs"
rsync -S -e "ssh -F $T/ssh/config" "fv:$V/image" "$T/got/rsync"
scp -q -F "$T/ssh/config" "fv:$M/m/disks/d/image" "$T/got/scp"
sftp -q -F "$T/ssh/config" -b - fv >"$T/sftp.txt" <<END
get $V/image $T/got/sftp
END
for f in sshfs rsync scp sftp; do
	snapshot "$T/got/$f" >>"$T/rounds"
	kept "$T/got/$f"
done
end_ssh "$T/remote"

note "walkers of all of it"
for walk in 'tar cf /dev/null -C' 'grep -rc nothing' 'find -ls' 'cp -r --sparse=always -t got'; do
	case $walk in
	tar*) timeout -s KILL 100 $walk "$T" mnt ;;
	find*) timeout -s KILL 100 find "$MNT" -ls >/dev/null ;;
	grep*) timeout -s KILL 100 $walk "$MNT" >/dev/null || is $? 1 grep ;;
	cp*) timeout -s KILL 100 $walk "$MNT" ;;
	esac
done
snapshot "$T/got/mnt/pools/p/volumes/v/image"
state_is m running

note "readers that go away leave nothing"
for _ in 1 2 3 4 5; do
	head -c 100k "$V/image" >/dev/null
	timeout -s KILL 0.05 sha256sum "$V/image" >/dev/null || true
done
none_open() { [ -z "$(find "/proc/$(vmm_pids)/fd" "/proc/$DAEMON/fd" -lname '*(deleted)' ! -lname '/memfd:*')" ]; }
wait_for none_open
round=$(round_now)
wait_console m "round $((round + 2))$"
do_ctl m kill
exec 5<"$V/image" # nobody writes it now: the file itself
cat <&5 >"$T/last"
snapshot "$T/last"
is "$("$TOOLS/trycall" write "$M/m/ctl" start)" 'write EBUSY' "a reader of what nobody writes keeps it so"
exec 5<&-
do_ctl m start
do_ctl m kill
qemu-img check -q "$T/store/v"
rmdir "$M/m" "$V"
