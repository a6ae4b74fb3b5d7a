#!/bin/bash
# What qemu-img writes we read the same, and what we write passes its check and compare: every
# cluster size, refcount width, version, compression, subclusters, data files, preallocation.
# time: 300
. "${0%/*}/../lib.sh"
need_cmd qemu-img qemu-io python3

FVIMG=$TOOLS/fvimg
mkdir "$T/images"
cd "$T/images" || exit

sound() { # IMAGE WHAT: both checks find nothing, leaks included
	qemu-img check -q "$1" >check.log 2>&1 || fail "$2: qemu-img check: $(tail -n 3 check.log)"
	"$FVIMG" check "$1" >check.log || fail "$2: $(tail -n 3 check.log)"
}
same() { qemu-img compare -q -f raw -F qcow2 "$1" "$2" || fail "$3: contents differ"; }

refused() { # PATTERN COMMAND…
	local pattern=$1
	shift
	! "$@" >refused.log 2>&1 || fail "not refused: $*"
	like "$(cat refused.log)" "$pattern"
}

python3 - <<'END'
import random
random.seed(5)
size = 6 << 20
with open("src.raw", "wb") as f:
    f.truncate(size)
    for i in range(40):
        n = random.randrange(512, 100000) // 512 * 512
        f.seek(random.randrange(0, size - n) // 512 * 512)
        f.write(random.randbytes(n) if i % 2 else (b"abcdefgh" * 12500)[:n])
END

note "images of qemu-img"
for cluster in 512 4k 64k 2M; do
	for how in compat=1.1 compat=0.10 refcount_bits=1 refcount_bits=2 refcount_bits=64 \
		lazy_refcounts=on extended_l2=on compression_type=zstd; do
		[[ $how$cluster != extended* || $cluster = 64k || $cluster = 2M ]] || continue
		for compress in '' -c; do
			what="$cluster $how $compress"
			qemu-img convert -O qcow2 $compress -o cluster_size=$cluster,$how src.raw q.qcow2
			"$FVIMG" convert qcow2 q.qcow2 raw o.raw || fail "$what"
			cmp src.raw o.raw || fail "$what"
			sound q.qcow2 "$what"
		done
	done
done

note "our images"
for cluster in 512 4k 64k 2M; do
	for how in version=3 version=2 refcount=1 refcount=8 refcount=64 extended_l2=1 zstd=1; do
		[[ $how$cluster != extended* || $cluster = 64k || $cluster = 2M ]] || continue
		for compress in '' compress=1; do
			what="$cluster $how $compress"
			"$FVIMG" convert raw src.raw qcow2 q.qcow2 cluster=$cluster $how $compress || fail "$what"
			same src.raw q.qcow2 "$what"
			sound q.qcow2 "$what"
		done
	done
done

note "data files"
for raw in 0 1; do
	for how in version=3 extended_l2=1; do
		rm -f data.raw
		truncate -s 0 s.raw && truncate -s 8M s.raw
		"$FVIMG" create qcow2 d.qcow2 8M data_file=data.raw data_file_raw=$raw $how
		"$FVIMG" write qcow2 d.qcow2 1 200 shadow=s.raw
		same s.raw d.qcow2 "data file $raw $how"
		sound d.qcow2 "data file $raw $how"
		[ $raw = 0 ] || cmp s.raw data.raw || fail "the data file is no raw image"
	done
done
qemu-img create -q -f qcow2 -o data_file=q.raw,data_file_raw=on qd.qcow2 4M
qemu-io -c 'write -q -P 5 1M 1M' -c 'write -q -z 1500k 64k' qd.qcow2
"$FVIMG" convert qcow2 qd.qcow2 raw o.raw
cmp o.raw q.raw

note "preallocation"
for how in metadata falloc full; do
	for more in version=3 extended_l2=1 cluster=512; do
		truncate -s 0 s.raw && truncate -s 4M s.raw
		"$FVIMG" create qcow2 p.qcow2 4M prealloc=$how $more
		same s.raw p.qcow2 "prealloc=$how $more"
		"$FVIMG" write qcow2 p.qcow2 1 200 shadow=s.raw max=100k
		same s.raw p.qcow2 "prealloc=$how $more"
		sound p.qcow2 "prealloc=$how $more"
	done
done

note "bitmaps of others: both stay valid, one that was in use stays so"
qemu-img create -q -f qcow2 b.qcow2 8M
qemu-img bitmap --add b.qcow2 enabled
qemu-img bitmap --add --disable b.qcow2 disabled
"$FVIMG" write qcow2 b.qcow2 1 50
sound b.qcow2 bitmaps
is "$(qemu-img info --output=json b.qcow2 | python3 -c '
import json, sys
for b in json.load(sys.stdin)["format-specific"]["data"]["bitmaps"]:
    print(b["name"], *sorted(b["flags"]))')" $'enabled auto\ndisabled'

note "locks hold between us and QEMU"
qemu-img create -q -f raw l.raw 1M
refused 'lock' "$FVIMG" locked write l.raw qemu-io -f raw -c 'write -q 0 4k' l.raw
refused 'lock' "$FVIMG" locked write b.qcow2 qemu-img info b.qcow2
refused 'lock' "$FVIMG" locked read l.raw qemu-io -f raw -c 'write -q 0 4k' l.raw
"$FVIMG" locked read l.raw qemu-io -r -f raw -c 'read -q 0 4k' l.raw
refused 'in use' "$FVIMG" locked write l.raw "$FVIMG" locked read l.raw true
mkfifo wait.fifo
qemu-io -f raw l.raw <wait.fifo >/dev/null &
exec 8>wait.fifo
echo 'write 0 4k' >&8
# seen from outside: to try the lock would keep QEMU from it
locked_by_qemu() { grep -q ":$(stat -c %i l.raw) " /proc/locks; }
wait_for locked_by_qemu
refused 'in use' "$FVIMG" locked write l.raw true
exec 8>&-
wait
"$FVIMG" locked write l.raw true

note "refused, with words"
cp q.qcow2 x.qcow2 && printf '\x80' | dd of=x.qcow2 bs=1 seek=78 conv=notrunc status=none
refused 'not known here: unnamed \(bit 15\)' "$FVIMG" convert qcow2 x.qcow2 raw o.raw
cp q.qcow2 x.qcow2 && printf '\x01' | dd of=x.qcow2 bs=1 seek=35 conv=notrunc status=none
refused 'encrypted \(AES\)' "$FVIMG" convert qcow2 x.qcow2 raw o.raw
refused 'not a qcow2 image' "$FVIMG" convert qcow2 src.raw raw o.raw
refused 'power of two' "$FVIMG" create qcow2 x.qcow2 1M cluster=3k
refused 'too large for its cluster size' "$FVIMG" create qcow2 x.qcow2 1P cluster=512
