#!/bin/bash
# Pools on file systems that come and go: one that is not mounted shows nothing, and what is known of
# its volumes is kept; it is back by itself; a full one says so and nothing is half there.
# also: asan tsan
. "${0%/*}/../lib.sh"

[ "$(id -u)" = 0 ] || skip "needs root to mount"
need_cmd qemu-img
mkdir "$T/disk" "$T/pool"
mount -t tmpfs -o size=32m none "$T/disk"
mount --bind "$T/disk" "$T/pool"
start_daemon
P=$MNT/pools/p V=$MNT/pools/p/volumes
mkdir "$P"
put "$P/source" "$T/pool"
mkdir "$V/one"
put "$V/one/size" 1M
head -c 1M "$BUILD/filevisord" >"$T/pool/raw"
wait_for test -d "$V/raw"
put "$P/ctl" refresh
is "$(cat "$V/raw/format")" raw

note "not mounted: nothing is shown"
umount "$T/pool"
put "$P/ctl" refresh
is "$(ls "$V")" ""
is "$(cat "$P/state")" active
note "mounted again: as it was, though a raw one looks like qcow2 by now"
qemu-img create -q -f qcow2 -b /etc/passwd -F raw "$T/evil" 1M
dd if="$T/evil" of="$T/disk/raw" conv=notrunc status=none
mount --bind "$T/disk" "$T/pool"
put "$P/ctl" refresh
wait_for test -d "$V/raw"
is "$(cat "$V/raw/format")" raw
is "$(cat "$V/one/size")" 1048576
is "$(sed -n 's/^new //p' "$V/one/info")" true
note "it is watched again"
echo x >"$T/disk/two"
wait_for test -d "$V/two"

note "full: refused in words, the old image stays, nothing is half there"
put "$V/one/size" 64M
refuses ENOSPC write "$V/one/prealloc" full
is "$(cat "$V/one/prealloc") $(cat "$V/one/size")" "off 67108864"
head -c 24M /dev/urandom >"$T/disk/big"
wait_for test -d "$V/big"
refuses ENOSPC write "$V/big/ctl" "convert qcow2"
says '^ENOSPC convert qcow2: ' "$V/big/error"
is "$(cat "$V/big/format")" raw
is "$(ls -A "$T/disk")" "$(printf '%s\n' big one raw two)"

note "the directory itself went"
umount "$T/pool"
rmdir "$T/pool"
wait_for grep -q '^failed$' "$P/state"
says "^ENOENT $T/pool: " "$P/error"
is "$(cat "$P/capacity")" 0
mkdir "$T/pool"
mount --bind "$T/disk" "$T/pool"
wait_for grep -q '^active$' "$P/state"
wait_for test -d "$V/one"
grep -q '"event":"pool-state","pool":"p","from":"active","to":"failed","reason":"ENOENT ' "$MNT/events"

rmdir "$P"
umount "$T/pool" "$T/disk"
