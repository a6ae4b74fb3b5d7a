#!/bin/bash
# Snapshots inside images, resizing, chains, rebase and commit: after each step the contents are
# those of raw files that went the same way, and the checks find nothing. qemu-img's
# own snapshot commands work on our images, and ours on its.
# time: 300
. "${0%/*}/../lib.sh"
need_cmd qemu-img

FVIMG=$TOOLS/fvimg
mkdir "$T/images"
cd "$T/images" || exit

sound() {
	qemu-img check -q "$1" >check.log 2>&1 || fail "$*: qemu-img check: $(tail -n 3 check.log)"
	"$FVIMG" check "$1" >check.log || fail "$*: $(tail -n 3 check.log)"
}
judge() { # RAW QCOW2 WHAT…
	qemu-img compare -q -f raw -F qcow2 "$1" "$2" || fail "$*: contents differ"
	shift
	sound "$@"
}
fv() { "$FVIMG" "$@" || fail "fvimg $*"; }

for how in cluster=512 cluster=4k,version=2 cluster=4k,refcount=4 cluster=64k cluster=64k,extended_l2=1 cluster=2M; do
	note "$how"
	options=${how//,/ }
	rm -f ./*
	fv create qcow2 a.qcow2 4M $options && truncate -s 4M s0.raw
	fv write qcow2 a.qcow2 1 60 shadow=s0.raw && cp s0.raw s1.raw
	fv snapshot create a.qcow2 one && sound a.qcow2 snapshot
	fv write qcow2 a.qcow2 2 60 shadow=s1.raw && cp s1.raw s2.raw
	fv snapshot create a.qcow2 two
	fv write qcow2 a.qcow2 3 60 shadow=s2.raw async=1
	judge s2.raw a.qcow2 "after two snapshots"
	fv export a.qcow2 one o.raw && cmp o.raw s0.raw
	fv export a.qcow2 two o.raw && cmp o.raw s1.raw
	qemu-img convert -l one -O raw a.qcow2 o.raw && cmp o.raw s0.raw

	cp a.qcow2 b.qcow2 && fv snapshot apply b.qcow2 one && judge s0.raw b.qcow2 apply
	fv write qcow2 b.qcow2 4 60 && sound b.qcow2 "written after apply"
	fv export b.qcow2 one o.raw && cmp o.raw s0.raw
	cp a.qcow2 b.qcow2 && fv snapshot delete b.qcow2 one && judge s2.raw b.qcow2 "delete one"
	fv export b.qcow2 two o.raw && cmp o.raw s1.raw
	fv snapshot delete b.qcow2 two && judge s2.raw b.qcow2 "delete two"
	is "$(fv snapshot list b.qcow2)" ""

	cp a.qcow2 b.qcow2
	qemu-img snapshot -d one b.qcow2 && sound b.qcow2 "qemu-img snapshot -d"
	qemu-img snapshot -a two b.qcow2 && judge s1.raw b.qcow2 "qemu-img snapshot -a"
	qemu-img snapshot -c three b.qcow2 && like "$(fv snapshot list b.qcow2)" ' three '
	fv snapshot delete b.qcow2 three && fv snapshot delete b.qcow2 two

	cp s1.raw r.raw
	for size in 10M 2500096 6M; do
		fv resize qcow2 b.qcow2 $size && truncate -s $size r.raw
		judge r.raw b.qcow2 "resize to $size"
	done

	fv create qcow2 c1.qcow2 7M $options backing=b.qcow2 backing_format=qcow2
	cp r.raw c1.raw && truncate -s 7M c1.raw
	fv write qcow2 c1.qcow2 5 60 shadow=c1.raw
	fv create qcow2 c2.qcow2 8M cluster=4k backing=./c1.qcow2 backing_format=qcow2
	cp c1.raw c2.raw && truncate -s 8M c2.raw
	fv write qcow2 c2.qcow2 6 30 shadow=c2.raw async=1
	judge c2.raw c2.qcow2 chain

	cp c2.qcow2 d.qcow2 && fv rebase d.qcow2 backing=b.qcow2 backing_format=qcow2
	judge c2.raw d.qcow2 rebase && like "$(fv info d.qcow2)" 'backing b.qcow2'
	cp c2.qcow2 d.qcow2 && fv rebase d.qcow2 && judge c2.raw d.qcow2 "rebase to nothing"
	cp c2.qcow2 d.qcow2 && cp c1.qcow2 e.qcow2
	fv rebase d.qcow2 unsafe=1 backing=e.qcow2 backing_format=qcow2 && judge c2.raw d.qcow2 "new name"
	fv commit d.qcow2 && judge c2.raw e.qcow2 commit && judge c2.raw d.qcow2 "after commit"
done

note "a table of more clusters than one block counts"
for how in refcount=64 refcount=16; do
	rm -f l.qcow2 l.raw
	fv create qcow2 l.qcow2 1G cluster=512 $how && truncate -s 1G l.raw
	fv write qcow2 l.qcow2 1 10 shadow=l.raw max=20k && fv snapshot create l.qcow2 one
	fv resize qcow2 l.qcow2 2G && truncate -s 2G l.raw
	fv write qcow2 l.qcow2 2 10 shadow=l.raw max=20k
	judge l.raw l.qcow2 "long tables, $how"
	fv snapshot apply l.qcow2 one && fv snapshot delete l.qcow2 one && sound l.qcow2 "long tables, $how"
done

note "counts too narrow for one more: refused, and nothing harmed"
fv create qcow2 x.qcow2 4M refcount=2
for i in 1 2; do fv write qcow2 x.qcow2 $i 50 && fv snapshot create x.qcow2 s$i; done
for what in 'create x.qcow2 s3' 'apply x.qcow2 s1'; do
	! "$FVIMG" snapshot $what 2>err.log || fail "not refused: $what"
	like "$(cat err.log)" ERANGE
done
sound x.qcow2 "after refusals"

note "repair of what is damaged"
fv create qcow2 y.qcow2 4M cluster=4k && truncate -s 4M y.raw
fv write qcow2 y.qcow2 1 60 shadow=y.raw
for at in 4096 8192; do # the refcount table, then the first refcount block
	cp y.qcow2 z.qcow2
	head -c 64 /dev/zero | tr '\0' '\7' | dd of=z.qcow2 bs=1 seek=$at conv=notrunc status=none
	! "$FVIMG" check z.qcow2 >/dev/null || fail "damage at $at is not seen"
	fv check z.qcow2 fix=all >check.log
	judge y.raw z.qcow2 "repaired at $at"
done
cp y.qcow2 z.qcow2 && printf '\1' | dd of=z.qcow2 bs=1 seek=79 conv=notrunc status=none # dirty
head -c 4096 /dev/zero | dd of=z.qcow2 bs=4096 seek=2 conv=notrunc status=none	     # no counts
fv write qcow2 z.qcow2 9 20 && sound z.qcow2 "opened dirty"
