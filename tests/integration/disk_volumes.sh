#!/bin/bash
# Volumes as disks: named POOL/VOLUME, with the format of the volume, busy while a machine runs with
# them, exchanged and resized while it runs, known again by a new daemon, free when it has ended.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img qemu-io
start_daemon
P=$MNT/pools D=$M/m/disks/d
mkdir "$T/store" "$P/p"
for n in 1 2; do
	truncate -s ${n}M "$T/store/raw$n"
	printf '%b' "\\x$n$n\\x$n$n\\x$n$n\\x$n$n" | dd of="$T/store/raw$n" conv=notrunc status=none
done
qemu-img create -q -f qcow2 "$T/store/cow" 4M
qemu-io -f qcow2 -c 'write -P 0x44 0 4k' "$T/store/cow" >"$T/io.txt"
put "$P/p/source" "$T/store"
# users VOLUME: who runs with it
users() { cat "$P/p/volumes/$1/users"; }
wait_for [ -d "$P/p/volumes/cow" ]

define_guest m disk
mkdir "$D"
refuses ENOENT write "$D/source" p/absent
refuses ENOENT write "$D/source" absent/raw1
refuses EINVAL write "$D/source" p/
put "$D/source" p/cow
is "$(cat "$D/format")" qcow2
put "$D/source" p/raw1
is "$(cat "$D/format")" raw
is "$(cat "$D/source")" p/raw1
do_ctl m start
wait_console m "word $((0x11111111))"
is "$(users raw1)" 'm disks/d'
refuses EBUSY rmdir "$P/p/volumes/raw1"
define_guest n hello
mkdir "$M/n/disks/d"
put "$M/n/disks/d/source" p/raw1
refuses EBUSY write "$M/n/ctl" start
says 'machine m' "$M/n/error"

note "exchanged while it runs: the one is free, the other is not"
put "$D/source" p/cow
wait_console m "word $((0x44444444))"
is "$(users raw1)" ''
is "$(users cow)" 'm disks/d'
do_ctl n start
is "$(users raw1)" 'n disks/d'
refuses EBUSY write "$D/source" p/raw1 # what is refused changes nothing
is "$(users cow)" 'm disks/d'
is "$(users raw1)" 'n disks/d'
do_ctl n kill
is "$(users raw1)" ''
put "$D/source" "$T/store/raw2"
wait_console m "word $((0x22222222))"
is "$(users cow)" ''
put "$D/source" p/cow
is "$(users cow)" 'm disks/d'

note "resized while it runs, by the disk and by the volume"
put "$D/ctl" 'resize 5M'
wait_console m 'sectors 10240'
put "$P/p/volumes/cow/ctl" 'resize 6M'
wait_console m 'sectors 12288'

note "a new daemon knows who has it"
kill_daemon
start_daemon
is "$(users cow)" 'm disks/d'
is "$(cat "$D/state")" attached
put "$D/ctl" eject
is "$(users cow)" ''
put "$D/source" p/cow
do_ctl m kill
is "$(users cow)" ''
size_is() { [ "$(cat "$P/p/volumes/cow/size")" = "$1" ]; }
wait_for size_is $((6 << 20))
qemu-img check -q "$T/store/cow"

note "a pool that is gone is said at the start"
put "$M/n/disks/d/source" p/raw1
rmdir "$P/p"
refuses ENOENT write "$M/n/ctl" start
says 'pool' "$M/n/error"
