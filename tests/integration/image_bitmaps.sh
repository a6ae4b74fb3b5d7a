#!/bin/bash
# Persistent dirty bitmaps: what we write into an image shows in those that are enabled, as QEMU
# reads them; after a crash, or where all changed at once, they say that they are not in
# step, and disabled ones are left alone.
# time: 300
. "${0%/*}/../lib.sh"
need_cmd qemu-img qemu-io qemu-nbd python3

FVIMG=$TOOLS/fvimg
mkdir "$T/images"
cd "$T/images" || exit

# flags IMAGE: of all bitmaps
flags() {
	qemu-img info --output=json "$1" | python3 -c '
import json, sys
for b in json.load(sys.stdin)["format-specific"]["data"].get("bitmaps", []):
    print(b["name"], *sorted(b["flags"]))'
}

# dirty IMAGE BITMAP GRANULARITY: the numbers of dirty units, as QEMU's NBD server tells them
dirty() {
	rm -f nbd.sock
	qemu-nbd -r -B "$2" -f qcow2 -k "$PWD/nbd.sock" "$1" &
	wait_for test -S nbd.sock
	qemu-img map --output=json --image-opts \
		"driver=nbd,server.type=unix,server.path=$PWD/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:$2" >map.json
	wait $!
	python3 - "$3" <<'END'
import json, sys
unit = int(sys.argv[1])
for e in json.load(open("map.json")):
    if not e["data"]:
        for n in range(e["start"] // unit, (e["start"] + e["length"] + unit - 1) // unit):
            print(n)
END
}

# differ A B GRANULARITY: the numbers of units in which two raw files differ
differ() {
	python3 - "$@" <<'END'
import sys
a, b, unit = open(sys.argv[1], "rb").read(), open(sys.argv[2], "rb").read(), int(sys.argv[3])
for n in range((len(b) + unit - 1) // unit):
    if a[n * unit:(n + 1) * unit] != b[n * unit:(n + 1) * unit]:
        print(n)
END
}

sound() {
	qemu-img check -q "$1" >check.log 2>&1 || fail "$2: qemu-img check: $(tail -n 3 check.log)"
	"$FVIMG" check "$1" >check.log || fail "$2: $(tail -n 3 check.log)"
}

while read -r cluster unit how; do
	what="cluster_size=$cluster -g $unit $how"
	note "$what"
	rm -f b.qcow2 zero.raw s.raw && truncate -s 6M zero.raw s.raw
	qemu-img create -q -f qcow2 -o cluster_size=$cluster,lazy_refcounts=on b.qcow2 6M
	qemu-img bitmap --add -g $unit b.qcow2 on
	qemu-img bitmap --add --disable -g $unit b.qcow2 off
	"$FVIMG" write qcow2 b.qcow2 3 12 shadow=s.raw max=20k $how
	sound b.qcow2 "$what"
	is "$(flags b.qcow2)" $'on auto\noff'
	dirty b.qcow2 on $unit >dirty.txt
	differ zero.raw s.raw $unit >differ.txt
	[ -s differ.txt ] || fail "nothing was written"
	is "$(sort differ.txt | comm -23 - <(sort dirty.txt))" "" "$what: written and not dirty"
	[ "$(wc -l <dirty.txt)" -lt $((6 * 1048576 / unit)) ] || fail "$what: all is dirty"
	is "$(dirty b.qcow2 off $unit)" "" "$what: a disabled bitmap"

	# what is dirty stays so, and QEMU goes on where we left it
	"$FVIMG" write qcow2 b.qcow2 4 12 shadow=s.raw max=20k $how
	qemu-io -c 'write -q -P 7 5M 1k' b.qcow2
	cp dirty.txt before.txt
	dirty b.qcow2 on $unit >dirty.txt
	is "$(sort before.txt | comm -23 - <(sort dirty.txt))" "" "$what: forgotten"
	grep -qx $((5 * 1048576 / unit)) dirty.txt || fail "$what: QEMU's write is not there"
	sound b.qcow2 "$what, again"

	# cleared by QEMU, so that clusters come free; all dirty
	qemu-img bitmap --clear b.qcow2 on
	"$FVIMG" write qcow2 b.qcow2 5 2 shadow=s.raw max=4k
	sound b.qcow2 "$what, cleared"
	[ -n "$(dirty b.qcow2 on $unit)" ] || fail "$what: not dirty after clearing"
done <<-'END'
	512 65536 async=0
	4k 512 async=1
	64k 512 async=0
	64k 65536 async=1
END

note "not in step: after a crash, and when a snapshot was applied"
"$FVIMG" snapshot create b.qcow2 s
is "$(flags b.qcow2)" $'on auto\noff'
cp b.qcow2 c.qcow2
"$FVIMG" snapshot apply b.qcow2 s
is "$(flags b.qcow2)" $'on auto in-use\noff'
sound b.qcow2 "a snapshot applied"
"$FVIMG" write qcow2 c.qcow2 6 5 abort=1
is "$(flags c.qcow2)" $'on auto in-use\noff'
"$FVIMG" write qcow2 c.qcow2 7 5
is "$(flags c.qcow2)" $'on auto in-use\noff' "once lost, not found again"
sound c.qcow2 "a crash"
