#!/bin/bash
# Random writes, zeroes and flushes into our images and, alike, into a raw file: the contents
# are the same and the checks find nothing; alone and over a backing file, from the caller's
# thread and through a queue with workers, through the page cache and past it.
# time: 300
. "${0%/*}/../lib.sh"
need_cmd qemu-img python3

FVIMG=$TOOLS/fvimg
mkdir "$T/images"
cd "$T/images" || exit

judge() { # RAW QCOW2 WHAT
	qemu-img compare -q -f raw -F qcow2 "$1" "$2" || fail "$3: contents differ"
	qemu-img check -q "$2" >check.log 2>&1 || fail "$3: qemu-img check: $(tail -n 3 check.log)"
	"$FVIMG" check "$2" >check.log || fail "$3: $(tail -n 3 check.log)"
}
python3 -c 'import random; random.seed(2); open("base.raw", "wb").write(random.randbytes(5 << 20))'

seed=0
for cluster in 512 4k 64k 2M; do
	for how in version=3 version=2 refcount=1 refcount=64 extended_l2=1; do
		[[ $how$cluster != extended* || $cluster = 64k || $cluster = 2M ]] || continue
		for async in 0 1; do
			seed=$((seed + 1))
			what="cluster=$cluster $how async=$async"
			rm -f s.raw && truncate -s 8M s.raw
			"$FVIMG" create qcow2 a.qcow2 8M cluster=$cluster $how
			"$FVIMG" write qcow2 a.qcow2 $seed 200 shadow=s.raw async=$async flush=13 || fail "$what"
			judge s.raw a.qcow2 "$what"
			cp base.raw s.raw && truncate -s 8M s.raw
			"$FVIMG" create qcow2 b.qcow2 8M cluster=$cluster $how backing=base.raw backing_format=raw
			"$FVIMG" write qcow2 b.qcow2 $seed 200 shadow=s.raw async=$async flush=13 || fail "$what"
			judge s.raw b.qcow2 "$what, with a backing file"
			"$FVIMG" convert qcow2 b.qcow2 raw o.raw
			cmp o.raw s.raw || fail "$what: read back"
		done
	done
done

note "lazy refcounts: dirty while it is written, counted when it is closed, or after a crash"
dirty() { echo $(($(od -An -tu1 -j79 -N1 "$1") & 1)); }
for how in cluster=4k extended_l2=1; do
	rm -f s.raw && truncate -s 8M s.raw
	"$FVIMG" create qcow2 l.qcow2 8M lazy=1 $how
	"$FVIMG" write qcow2 l.qcow2 3 200 shadow=s.raw flush=13
	judge s.raw l.qcow2 "lazy $how"
	is "$(dirty l.qcow2)" 0 "the dirty bit after closing"
	"$FVIMG" write qcow2 l.qcow2 4 200 shadow=s.raw flush=13 abort=1
	is "$(dirty l.qcow2)" 1 "the dirty bit after a crash"
	cp l.qcow2 theirs.qcow2
	"$FVIMG" write qcow2 l.qcow2 5 50 shadow=s.raw && judge s.raw l.qcow2 "lazy $how, opened dirty"
	qemu-img check -q -r all theirs.qcow2 >check.log 2>&1 || fail "$(tail -n 3 check.log)"
	"$FVIMG" check theirs.qcow2 >check.log || fail "$(tail -n 3 check.log)"
done

note "past the page cache"
for cluster in 512 64k; do
	rm -f s.raw && truncate -s 8M s.raw
	"$FVIMG" create qcow2 a.qcow2 8M cluster=$cluster
	if ! "$FVIMG" write qcow2 a.qcow2 1 100 shadow=s.raw async=1 direct=1 2>direct.log; then
		like "$(cat direct.log)" O_DIRECT
		skip "this file system has no O_DIRECT"
	fi
	judge s.raw a.qcow2 "cluster=$cluster direct"
	cp base.raw s.raw && truncate -s 8M s.raw
	"$FVIMG" create qcow2 b.qcow2 8M cluster=$cluster backing=base.raw backing_format=raw
	"$FVIMG" write qcow2 b.qcow2 2 100 shadow=s.raw direct=1
	judge s.raw b.qcow2 "cluster=$cluster direct, with a backing file"
done
