#!/bin/bash
# Disks and images on block devices: raw and qcow2, through the page cache and past it, with
# sectors of 512 and of 4096 bytes; a device that grows, and one that is too small.
# time: 300
. "${0%/*}/../lib.sh"
need_cmd qemu-img losetup

FVIMG=$TOOLS/fvimg
mkdir "$T/images"
cd "$T/images" || exit

# A loop device of its own over $1, sectors of $2 bytes: $device; gone when it is closed.
device_over() {
	device=$(losetup -f --show -b "$2" "$1" 2>losetup.log) || skip "no loop device: $(tail -n 1 losetup.log)"
	exec 9<"$device"
	losetup -d "$device"
}
away() { exec 9<&-; }

for sector in 512 4096; do
	note "raw, sectors of $sector bytes"
	rm -f disk.img s.raw
	truncate -s 8M disk.img s.raw
	device_over disk.img $sector
	for how in async=0 async=1 'direct=1' 'direct=1 async=1'; do
		# shellcheck disable=SC2086
		"$FVIMG" write raw "$device" 3 200 shadow=s.raw flush=17 $how || fail "$how"
		cmp "$device" s.raw || fail "$how"
	done

	note "it grows by itself"
	truncate -s 9M disk.img s.raw
	losetup -c "$device"
	"$FVIMG" resize raw "$device" 0 || fail "a device that grew"
	"$FVIMG" write raw "$device" 4 100 shadow=s.raw
	cmp "$device" s.raw
	! "$FVIMG" resize raw "$device" 4M 2>resize.log || fail "a device was resized"
	like "$(cat resize.log)" 'block device'

	note "qcow2 on it, over what was there before"
	truncate -s 0 s.raw && truncate -s 4M s.raw
	"$FVIMG" create qcow2 "$device" 4M cluster=4k || fail create
	for how in async=0 async=1 'direct=1'; do
		# shellcheck disable=SC2086
		"$FVIMG" write qcow2 "$device" 5 100 shadow=s.raw flush=17 $how || fail "$how"
		qemu-img compare -q -f raw -F qcow2 s.raw "$device" || fail "$how: contents differ"
		qemu-img check -q -f qcow2 "$device" || fail "$how: qemu-img check"
	done
	"$FVIMG" convert qcow2 "$device" raw o.raw && cmp o.raw s.raw

	note "qcow2 on a device that is too small for all of its disk"
	"$FVIMG" create qcow2 "$device" 100M cluster=4k
	! "$FVIMG" write qcow2 "$device" 6 3000 2>full.log || fail "more than the device has was written"
	like "$(cat full.log)" ENOSPC
	"$FVIMG" check "$device" fix=leaks >check.log || fail "$(tail -n 3 check.log)"
	away
done
