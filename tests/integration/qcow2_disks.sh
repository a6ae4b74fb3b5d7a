#!/bin/bash
# Machines on qcow2 images with what qemu-img makes of them: chains, clusters of any size,
# compressed ones, data files. What the guest wrote is there, what was below is as it was, and
# every image passes qemu-img check.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img qemu-io
start_daemon
cd "$T" || exit

# expected FILE SEED: what `blk_write sector=100 count=500 seed=SEED` leaves over FILE, in place
expected() {
	python3 - "$1" "$2" <<'END'
import array, sys
words = array.array("I", ((int(sys.argv[2]) + i) & 0xffffffff for i in range(100 * 128, 600 * 128)))
with open(sys.argv[1], "r+b") as f:
    f.seek(100 * 512)
    words.tofile(f)
END
}
seed=10
# write_on IMAGE FORMAT RAW [KEY=VALUE]…: a guest writes on IMAGE, whose contents are those of RAW
write_on() {
	local image=$1 format=$2 raw=$3 kv m=w$((++seed))
	shift 3
	define_guest "$m" blk_write cmdline="sector=100 count=500 seed=$seed"
	mkdir "$M/$m/disks/d"
	put "$M/$m/disks/d/source" "$image"
	is "$(cat "$M/$m/disks/d/format")" "$format"
	for kv; do put "$M/$m/disks/d/${kv%%=*}" "${kv#*=}"; done
	do_ctl "$m" start
	wait_state "$m" stopped
	like "$(cat "$M/$m/console")" 'blk_write: done' "$image"
	expected "$raw" $seed
	[ "$format" = raw ] || qemu-img check -q -f "$format" "$image"
	is "$(qemu-img compare -f "$format" -F raw "$image" "$raw")" 'Images are identical.'
	undefine "$m"
}

head -c 2M /dev/urandom >below.raw
truncate -s 8M below.raw
sums=$(sha256sum below.raw)

note "a chain of three, each of another kind"
qemu-img create -q -f qcow2 -o cluster_size=512 -F raw -b below.raw mid.qcow2
qemu-io -f qcow2 -c 'write -P 0x11 1M 64k' -c 'write -z 3M 64k' mid.qcow2 >io.txt
qemu-img convert -q -O raw mid.qcow2 want.raw
mid=$(sha256sum mid.qcow2)
qemu-img create -q -f qcow2 -o cluster_size=2M,lazy_refcounts=on -F qcow2 -b mid.qcow2 top.qcow2
write_on "$T/top.qcow2" qcow2 want.raw
is "$(sha256sum below.raw)" "$sums" "the lowest image"
is "$(sha256sum mid.qcow2)" "$mid" "the one between"

note "ways to cache"
for cache in writeback none writethrough unsafe; do
	write_on "$T/top.qcow2" qcow2 want.raw cache=$cache
done
is "$(sha256sum mid.qcow2)" "$mid" "the one between"

note "kinds of images"
for options in compat=0.10 cluster_size=4k extended_l2=on refcount_bits=1 refcount_bits=64 preallocation=metadata; do
	qemu-img create -q -f qcow2 -o $options -F raw -b below.raw top.qcow2 2>>io.txt ||
		qemu-img create -q -f qcow2 -o $options top.qcow2 8M
	qemu-img convert -q -O raw top.qcow2 want.raw
	write_on "$T/top.qcow2" qcow2 want.raw
done
for type in zlib zstd; do
	qemu-img convert -q -c -O qcow2 -o compression_type=$type below.raw top.qcow2
	cp below.raw want.raw
	write_on "$T/top.qcow2" qcow2 want.raw
done
qemu-img create -q -f qcow2 -o data_file=data.raw top.qcow2 8M
truncate -s 0 want.raw
truncate -s 8M want.raw
write_on "$T/top.qcow2" qcow2 want.raw
cp below.raw want.raw
cp below.raw copy.raw
write_on "$T/copy.raw" raw want.raw

note "the same image read-only: not a byte changes"
qemu-img create -q -f qcow2 -F raw -b below.raw top.qcow2
before=$(sha256sum top.qcow2)
define_guest ro blk_read
mkdir "$M/ro/disks/d"
put "$M/ro/disks/d/readonly" true
put "$M/ro/disks/d/source" "$T/top.qcow2"
do_ctl ro start
wait_state ro stopped
like "$(cat "$M/ro/console")" 'blk_read: done'
is "$(sha256sum top.qcow2)" "$before"
is "$(sha256sum below.raw)" "$sums"
