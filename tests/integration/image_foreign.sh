#!/bin/bash
# Images that qemu-img and qemu-io made, of every kind that qemu-img create, convert, snapshot and
# bitmap can make: we read the same as they do, write into them what they then read, and
# their check finds nothing after.
# time: 600
. "${0%/*}/../lib.sh"
need_cmd qemu-img qemu-io python3

FVIMG=$TOOLS/fvimg
mkdir "$T/images"
cd "$T/images" || exit

sound() { # IMAGE WHAT: both checks find nothing, leaks included
	qemu-img check -q "$1" >check.log 2>&1 || fail "$2: qemu-img check: $(tail -n 3 check.log)"
	"$FVIMG" check "$1" >check.log || fail "$2: $(tail -n 3 check.log)"
}

# A few writes, zeroes and discards by QEMU, the same for each image.
scribble() { # IMAGE SEED
	local n=$2 commands=() i
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		n=$(((n * 1103515245 + 12345) % 2147483648))
		local at=$((n / 65536 % 5000 * 512)) bytes=$(((n / 64 % 300 + 1) * 512))
		case $((i % 4)) in
		0) commands+=(-c "write -q -z $at $bytes") ;;
		1) commands+=(-c "write -q -z -u $at $bytes") ;;
		*) commands+=(-c "write -q -P $i $at $bytes") ;;
		esac
	done
	qemu-io "${commands[@]}" -c "discard -q 1M 300k" "$1" || fail "qemu-io $1"
}

# We read as they do; what we write they read; nothing is harmed.
judge() { # IMAGE WHAT
	qemu-img convert -f qcow2 -O raw "$1" theirs.raw || fail "$2: qemu-img convert"
	"$FVIMG" convert qcow2 "$1" raw ours.raw || fail "$2: fvimg convert"
	cmp theirs.raw ours.raw || fail "$2: read"
	"$FVIMG" write qcow2 "$1" 7 60 shadow=ours.raw flush=9 || fail "$2: write"
	qemu-img compare -q -f raw -F qcow2 ours.raw "$1" || fail "$2: written"
	sound "$1" "$2"
}

note "every option of create"
python3 -c 'import random; random.seed(3); open("base.raw", "wb").write(random.randbytes(2 << 20))'
qemu-img create -q -f qcow2 -o cluster_size=2k base.qcow2 3M && scribble base.qcow2 9
seed=0
while read -r options; do
	for below in '' '-b base.raw -F raw' '-b base.qcow2 -F qcow2'; do
		[[ "$options$below" != *data_file_raw*-b* && "$options$below" != *preallocation*-b* ]] || continue
		rm -f q.qcow2 data.raw
		seed=$((seed + 1))
		# shellcheck disable=SC2086
		qemu-img create -q -f qcow2 -o "$options" $below q.qcow2 3M || fail "qemu-img create -o $options $below"
		scribble q.qcow2 $seed
		judge q.qcow2 "$options $below"
		[[ $options != *raw=on* ]] || cmp data.raw ours.raw || fail "$options: the data file is no raw image"
	done
done <<-'END'
	compat=0.10,cluster_size=512
	compat=0.10,cluster_size=64k
	compat=0.10,cluster_size=2M
	compat=1.1,cluster_size=1k,refcount_bits=1
	compat=1.1,cluster_size=4k,refcount_bits=2
	compat=1.1,cluster_size=8k,refcount_bits=4
	compat=1.1,cluster_size=32k,refcount_bits=8
	compat=1.1,cluster_size=128k,refcount_bits=16
	compat=1.1,cluster_size=256k,refcount_bits=32
	compat=1.1,cluster_size=512k,refcount_bits=64
	compat=1.1,cluster_size=1M
	compat=1.1,cluster_size=2M,compression_type=zstd
	lazy_refcounts=on,cluster_size=4k
	lazy_refcounts=on,extended_l2=on
	extended_l2=on,cluster_size=16k
	extended_l2=on,cluster_size=64k,refcount_bits=8
	extended_l2=on,cluster_size=2M
	preallocation=metadata
	preallocation=metadata,cluster_size=512
	preallocation=metadata,extended_l2=on
	preallocation=falloc
	preallocation=full,cluster_size=8k
	data_file=data.raw
	data_file=data.raw,data_file_raw=on
	data_file=data.raw,extended_l2=on,cluster_size=32k
	data_file=data.raw,preallocation=metadata,cluster_size=4k
	data_file=data.raw,data_file_raw=on,preallocation=metadata
END

note "names of what is below, from elsewhere"
mkdir -p d1/d2
cp base.raw d1/below.raw
(cd d1/d2 && qemu-img create -q -f qcow2 -b ../below.raw -F raw over.qcow2)
(cd d1 && qemu-img create -q -f qcow2 -b d2/over.qcow2 -F qcow2 top.qcow2)
judge d1/top.qcow2 "relative names"
qemu-img create -q -f qcow2 -b "$PWD/base.raw" -F raw abs.qcow2
judge abs.qcow2 "an absolute name"
qemu-img create -q -f qcow2 -b file:base.raw -F raw file.qcow2
judge file.qcow2 "a name with file:"

note "compressed, with what is written over it"
cp base.raw full.raw && truncate -s 3M full.raw
for type in zlib zstd; do
	for more in cluster_size=512 cluster_size=64k cluster_size=2M extended_l2=on; do
		qemu-img convert -c -O qcow2 -o "compression_type=$type,$more" full.raw q.qcow2
		scribble q.qcow2 5
		judge q.qcow2 "$type $more"
	done
done

note "snapshots inside"
for options in compat=0.10 cluster_size=512 cluster_size=4k,refcount_bits=8 extended_l2=on compression_type=zstd; do
	rm -f s.qcow2
	qemu-img create -q -f qcow2 -o $options s.qcow2 3M
	for n in 1 2 3; do
		scribble s.qcow2 $n
		qemu-img convert -O raw s.qcow2 s$n.raw
		qemu-img snapshot -c snap$n s.qcow2
	done
	qemu-img resize -q s.qcow2 4M 2>resize.log || like "$(cat resize.log)" 'v2 image'
	scribble s.qcow2 4
	judge s.qcow2 "$options, with snapshots"
	for n in 1 2 3; do
		"$FVIMG" export s.qcow2 snap$n o.raw || fail "$options snap$n"
		qemu-img compare -q -f raw -F raw o.raw s$n.raw || fail "$options: snap$n differs"
	done
done

note "dirty: the counts are stale, and set right when it is written"
qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=4k dirty.qcow2 3M
# killed in mid-air: nothing was counted
{ qemu-io -c 'write -q -P 1 0 300k' -c 'write -q -P 2 1M 20k' -c flush -c abort dirty.qcow2 || true; } 2>abort.log
like "$(python3 -c '
import struct; f = open("dirty.qcow2", "rb"); f.seek(72)
print("incompatible", struct.unpack(">Q", f.read(8))[0])')" 'incompatible 1$'
"$FVIMG" convert qcow2 dirty.qcow2 raw ours.raw || fail "a dirty image cannot be read"
cp dirty.qcow2 repaired.qcow2 && qemu-img check -q -r all repaired.qcow2 >/dev/null 2>&1
qemu-img compare -q -f raw -F qcow2 ours.raw repaired.qcow2 || fail "a dirty image is read wrong"
judge dirty.qcow2 "dirty"

note "bitmaps"
for granularity in 512 64k 1M; do
	rm -f b.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=4k b.qcow2 3M
	qemu-img bitmap --add -g $granularity b.qcow2 on
	qemu-img bitmap --add --disable -g $granularity b.qcow2 off
	scribble b.qcow2 4
	judge b.qcow2 "bitmaps of $granularity"
done
