#!/bin/bash
# The content of a volume and of a disk as a file: read and written by cp, cmp, dd, qemu-img,
# mkfs and mount (through a loop device), sparse both ways, whatever the format; errors come at
# write(2) and in words; nobody writes it while a machine has it.
# time: 300
# also: asan
. "${0%/*}/../lib.sh"

need_cmd qemu-img qemu-io python3
start_daemon
mkdir "$T/store" "$T/mp" "$MNT/pools/p"
put "$MNT/pools/p/source" "$T/store"
V=$MNT/pools/p/volumes

# make NAME SIZE FORMAT [KEY=VALUE]…
make() {
	local v=$V/$1 kv
	mkdir "$v"
	put "$v/size" "$2"
	put "$v/format" "$3"
	for kv in "${@:4}"; do put "$v/${kv%%=*}" "${kv#*=}"; done
}
# extents FILE: its data, as SEEK_DATA and SEEK_HOLE tell it
extents() {
	python3 - "$1" <<'END'
import os, sys
fd, at = os.open(sys.argv[1], os.O_RDONLY), 0
size = os.fstat(fd).st_size
while at < size:
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(fd, data, os.SEEK_HOLE)
    print(data >> 20, at >> 20)
END
}
# good FILE FORMAT: qemu-img finds nothing wrong with it, once it is let go by who wrote it
# (close(2) does not wait for a FUSE file system to do so)
good() {
	wait_for qemu-img info -f "$2" "$1" >/dev/null
	[ "$2" = raw ] || qemu-img check -q -f "$2" "$1" || fail "qemu-img check: $(qemu-img check -f "$2" "$1" 2>&1)"
}
used_kib() { du -k "$1" | cut -f 1; }

note "images that qemu-img made"
qemu-img create -q -f qcow2 "$T/store/base.qcow2" 24M
qemu-io -f qcow2 -c 'write -P 0x11 0 1M' -c 'write -P 0x22 10M 3M' "$T/store/base.qcow2" >"$T/qemu-io.log"
(cd "$T/store" && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2 24M)
qemu-io -f qcow2 -c 'write -P 0x33 12M 2M' -c 'write -z 0 512k' "$T/store/over.qcow2" >"$T/qemu-io.log"
qemu-img convert -c -O qcow2 "$T/store/over.qcow2" "$T/store/packed.qcow2"
head -c 3M /dev/urandom >"$T/store/plain.img"
put "$MNT/pools/p/ctl" refresh
for name in base.qcow2 over.qcow2 packed.qcow2; do
	is "$(cat "$V/$name/format")" qcow2
	is "$(stat -c %s "$V/$name/image")" $((24 << 20))
	qemu-img convert -f qcow2 -O raw "$T/store/$name" "$T/$name.raw"
	cmp "$T/$name.raw" "$V/$name/image"
	qemu-img compare -q -f raw -F raw "$T/$name.raw" "$V/$name/image"
	cp --sparse=always "$V/$name/image" "$T/$name.out"
	cmp "$T/$name.raw" "$T/$name.out"
	[ "$(used_kib "$T/$name.out")" -le $((6 << 10)) ] || fail "$name: not sparse: $(du -k "$T/$name.out")"
	rm "$T/$name.out"
	qemu-img convert -f raw -O qcow2 "$V/$name/image" "$T/again.qcow2"
	qemu-img compare -q "$T/again.qcow2" "$T/store/$name"
done
cmp "$T/store/plain.img" "$V/plain.img/image"
is "$(extents "$V/base.qcow2/image")" "$(printf '0 1\n10 13')" "data of base.qcow2"
cp "$V/base.qcow2/image" "$T/copy" # by itself finds the holes
[ "$(used_kib "$T/copy")" -le $((6 << 10)) ] || fail "cp: not sparse"
cmp "$T/copy" "$T/base.qcow2.raw"
tar cSf "$T/tar" -C "$V/base.qcow2" image
[ "$(stat -c %s "$T/tar")" -le $((6 << 20)) ] || fail "tar -S: not sparse"
tar xOf "$T/tar" image | cmp - "$T/base.qcow2.raw"

note "in: cp, dd, qemu-img; what was there is gone"
make in.raw 24M raw
make in.qcow2 24M qcow2
make in.small 24M qcow2 cluster_size=4K
for v in raw qcow2 small; do
	f=${v/small/qcow2}
	head -c 24M /dev/urandom >"$V/in.$v/image"
	cp --sparse=always "$T/over.qcow2.raw" "$V/in.$v/image"
	cmp "$T/over.qcow2.raw" "$V/in.$v/image"
	good "$T/store/in.$v" $f
	qemu-img compare -q -f raw -F "$f" "$T/over.qcow2.raw" "$T/store/in.$v"
	dd if="$T/packed.qcow2.raw" of="$V/in.$v/image" bs=1M conv=fsync,notrunc status=none
	cmp "$T/packed.qcow2.raw" "$V/in.$v/image"
	truncate -s 0 "$V/in.$v/image"
	is "$(stat -c %s "$V/in.$v/image")" $((24 << 20)) "size after truncation"
	is "$(extents "$V/in.$v/image")" "" "data after truncation"
	qemu-img convert -n -f raw -O raw "$T/base.qcow2.raw" "$V/in.$v/image"
	cmp "$T/base.qcow2.raw" "$V/in.$v/image"
done
mkdir "$V/grown"
cp "$T/over.qcow2.raw" "$V/grown/image" # one that is new has the size of what is copied
cmp "$T/over.qcow2.raw" "$V/grown/image"
is "$(cat "$V/grown/size")" $((24 << 20))
is "$(cat "$V/grown/error")" ""

note "no end is moved by writing"
is "$("$TOOLS/trycall" pwrite "$V/in.qcow2/image" x $((24 << 20)))" "write ENOSPC"
says '^ENOSPC image: ' "$V/in.qcow2/error"
! dd if=/dev/zero of="$V/in.raw/image" bs=1M count=25 status=none 2>/dev/null || fail "25 MiB went into 24"
is "$(stat -c %s "$V/in.raw/image")" $((24 << 20))

note "holes and ranges"
python3 - "$V/in.qcow2/image" <<'END'
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
KEEP, PUNCH, ZERO, COLLAPSE = 1, 2, 16, 8
M = 1 << 20
def call(fd, mode, at, n):
    return 0 if libc.fallocate(fd, mode, at, n) == 0 else ctypes.get_errno()
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, b"x" * (4 * M), 4 * M)
assert call(fd, PUNCH | KEEP, 5 * M, M) == 0
assert call(fd, ZERO, 6 * M, 65536) == 0
assert call(fd, 0, 0, 24 * M) == 0
assert call(fd, COLLAPSE, 0, M) == 95
assert os.pread(fd, 1, 5 * M) == b"\0" and os.pread(fd, 1, 6 * M) == b"\0" and os.pread(fd, 1, 7 * M) == b"x"
assert os.lseek(fd, 5 * M, os.SEEK_DATA) > 5 * M
# small, unaligned and vectored
for at, n in (1, 1), (4095, 3), (65535, 70000), (M - 1, 2 * M + 3):
    data = os.urandom(n)
    assert os.pwrite(fd, data, at) == n
    assert os.pread(fd, n, at) == data
    assert os.preadv(fd, [bytearray(1), b := bytearray(n - 1)], at) == n and b == data[1:]
os.fsync(fd)
assert os.pread(fd, 10, 24 * M) == b"" and len(os.pread(fd, 10, 24 * M - 4)) == 4
os.close(fd)
END
good "$T/store/in.qcow2" qcow2

note "a file system in it, mounted"
if [ "$(id -u)" = 0 ] && command -v losetup mkfs.ext4 >/dev/null && losetup -f >/dev/null 2>&1; then
	make fs 64M qcow2
	mkfs.ext4 -q -F "$V/fs/image"
	loop=$(losetup -f --show "$V/fs/image")
	mount "$loop" "$T/mp"
	head -c 9M /dev/urandom >"$T/file"
	cp "$T/file" "$T/mp/file"
	mkdir "$T/mp/dir"
	sync -f "$T/mp"
	rm -f "$T/mp/none"
	fstrim "$T/mp"
	umount "$T/mp"
	losetup -d "$loop"
	good "$T/store/fs" qcow2
	loop=$(losetup -r -f --show "$V/fs/image")
	mount -o ro "$loop" "$T/mp"
	cmp "$T/file" "$T/mp/file"
	[ -d "$T/mp/dir" ]
	umount "$T/mp"
	losetup -d "$loop"
	qemu-img convert -f qcow2 -O raw "$T/store/fs" "$T/fs.raw"
	e2fsck -fn "$T/fs.raw" >"$T/fsck.log" 2>&1 || fail "e2fsck: $(cat "$T/fsck.log")"
else
	note "(no loop devices here)"
fi

note "many readers, and a writer beside them is refused or they read one content"
for _ in 1 2 3 4 5 6; do cmp "$T/over.qcow2.raw" "$V/over.qcow2/image" & done
for _ in 1 2 3 4 5 6; do wait -n || fail "a reader"; done
exec 4>"$V/in.raw/image" 5<"$V/base.qcow2/image"
like "$("$TOOLS/trycall" read "$V/in.raw/image")" '^(ok|open EBUSY)$'
like "$("$TOOLS/trycall" write-raw "$V/base.qcow2/image" x)" '^open EBUSY$' # it would not stay as of open
exec 4>&- 5<&-
dd if="$V/base.qcow2/image" of=/dev/null bs=4k count=100 status=none iflag=direct

note "the disk of a machine: the same content"
define m
mkdir "$M/m/disks/d" "$M/m/disks/e"
put "$M/m/disks/d/source" p/over.qcow2
is "$(cat "$M/m/disks/d/size")" $((24 << 20))
cmp "$T/over.qcow2.raw" "$M/m/disks/d/image"
put "$M/m/disks/e/format" qcow2
put "$M/m/disks/e/source" "$T/again.qcow2"
cmp "$T/packed.qcow2.raw" "$M/m/disks/e/image"
printf 'by the disk' | dd of="$M/m/disks/e/image" conv=notrunc status=none
is "$(head -c 11 "$M/m/disks/e/image")" 'by the disk'
good "$T/again.qcow2" qcow2
qemu-img convert -f qcow2 -O raw "$T/again.qcow2" "$T/o"
is "$(head -c 11 "$T/o")" 'by the disk'

note "a copy of the machine is one of its definition: the disk is the same, and unharmed"
sum=$(sha256sum <"$M/m/disks/e/image")
cp -r "$M/m" "$M/n" 2>"$T/cp.txt" && true
is "$(cat "$M/n/disks/e/source")" "$T/again.qcow2"
cp -r "$M/m/." "$M/n/" 2>"$T/cp.txt" && true
tar cf "$T/m.tar" -C "$M/m" .
mkdir "$M/o"
tar xf "$T/m.tar" -C "$M/o" 2>"$T/tar.txt" && true
is "$(cat "$M/o/disks/e/source")" "$T/again.qcow2"
is "$(sha256sum <"$M/m/disks/e/image")" "$sum" "content after copies"

note "a volume that is gone, or damaged"
exec 3<"$V/packed.qcow2/image"
rmdir "$V/packed.qcow2" 2>/dev/null || true # refused while it is open, or the reader goes on
is "$(sha256sum <&3)" "$(sha256sum <"$T/packed.qcow2.raw")"
exec 3<&-
printf 'QFI\xfb\0\0\0\x09 of a version that is none' >"$T/store/bad.qcow2"
put "$MNT/pools/p/ctl" refresh
if [ "$(cat "$V/bad.qcow2/format")" = qcow2 ]; then
	like "$("$TOOLS/trycall" read "$V/bad.qcow2/image")" '^open E'
	says '^E[A-Z]+ image: ' "$V/bad.qcow2/error"
fi

[ -w /dev/kvm ] || exit 0
note "a machine that runs keeps writers away, not readers"
put "$M/m/kernel" "$GUESTS/idle.elf"
put "$M/m/memory" 64M
rmdir "$M/m/disks/e"
exec 4>"$V/grown/image" # (one that is open for writing keeps machines away)
put "$M/m/disks/d/source" p/grown
is "$("$TOOLS/trycall" write "$M/m/ctl" start)" 'write EBUSY'
exec 4>&-
put "$M/m/ctl" start
like "$(cat "$V/grown/users")" 'm disks/d'
for image in "$V/grown/image" "$M/m/disks/d/image"; do
	is "$("$TOOLS/trycall" write "$image" x)" 'open EBUSY'
	is "$(stat -c %s "$image")" $((24 << 20))
	is "$(head -c 24M "$image" | wc -c)" $((24 << 20))
done
says '^EBUSY image: ' "$V/grown/error"
refuses EBUSY rmdir "$V/grown"
put "$M/m/ctl" kill
printf x | dd of="$V/grown/image" conv=notrunc status=none
