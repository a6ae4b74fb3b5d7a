#!/bin/bash
# A machine that runs gets other limits, sizes, contents and none at all for a disk that stays;
# refusals change nothing; what was done counts at the next start, too.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img qemu-io
start_daemon
D=$M/m/disks/d
# word FILE N: its first word becomes N
word() { python3 -c 'import struct, sys; f = open(sys.argv[1], "r+b"); f.write(struct.pack("<I", int(sys.argv[2])))' "$1" "$2"; }
for n in 1 2 3; do
	truncate -s ${n}M "$T/$n.img"
	word "$T/$n.img" $((n * 1111))
done
qemu-img create -q -f qcow2 "$T/4.qcow2" 4M
qemu-io -f qcow2 -c 'write -P 0x44 0 4k' "$T/4.qcow2" >"$T/qemu-io.txt"
events() { grep -c "\"$1\".*\"disk\": *\"d\"" "$MNT/events" || true; }

define_guest m disk
mkdir "$D"
put "$D/source" "$T/1.img"
is "$(cat "$D/state")" detached
do_ctl m start
wait_console m 'sectors 2048'
wait_console m 'word 1111'
is "$(cat "$D/state")" attached
is "$(cat "$D/format")" raw

note "another size: the guest is told"
put "$D/ctl" 'resize 5M'
wait_console m 'sectors 10240'
is "$(stat -c %s "$T/1.img")" $((5 << 20))
is "$(stat -c %s "$D/image")" $((5 << 20))
refuses EINVAL write "$D/ctl" 'resize 1M'
says 'EINVAL disks/d: resize 1M: .*shrink' "$M/m/error"
refuses EINVAL write "$D/ctl" 'resize 5000'
refuses EINVAL write "$D/ctl" 'resize much'

note "other contents for the device that stays"
put "$D/ctl" "change $T/2.img"
wait_console m 'word 2222'
wait_console m 'sectors 4096'
is "$(cat "$D/source")" "$T/2.img"
put "$D/source" "$T/3.img"
wait_console m 'word 3333'
put "$D/source" "$T/4.qcow2" # another format: found out, stored
wait_console m "word $((0x44444444))"
wait_console m 'sectors 8192'
is "$(cat "$D/format")" qcow2
like "$(cat "$M/m/config")" 'format = "qcow2"'

note "what is refused changes nothing"
before=$(cat "$M/m/config")
refuses ENOENT write "$D/source" "$T/absent"
refuses EISDIR write "$D/source" "$T"
refuses EINVAL write "$D/ctl" "change $T/1.img vmdk"
refuses EINVAL write "$D/ctl" "change $T/1.img qcow2"
refuses EINVAL write "$D/ctl" "change"
is "$(cat "$M/m/config")" "$before"
is "$(cat "$D/state")" attached
! console_has m 'disk: fails'

note "ejected: the device stays, its requests fail; and something else put in"
put "$D/ctl" eject
wait_console m 'disk: fails'
wait_console m 'sectors 0$'
is "$(cat "$D/source")" ""
is "$(cat "$D/state")" ejected
refuses ENXIO,EBUSY,EINVAL write "$D/ctl" 'resize 9M'
put "$D/source" "$T/2.img"
wait_console m 'disk: works again'
is "$(cat "$D/state")" attached

note "limits count at once, and are checked"
put "$D/limits" 'iops=5'
is "$(cat "$D/limits")" iops=5
refuses EINVAL write "$D/limits" 'iops=many'
is "$(cat "$D/limits")" iops=5
put "$D/limits" ''

note "a new daemon knows it all"
kill_daemon
start_daemon
is "$(cat "$D/state")" attached
is "$(cat "$D/source")" "$T/2.img"
is "$(stat -c %s "$D/image")" $((2 << 20))
define_guest n hello
mkdir "$M/n/disks/d"
put "$M/n/disks/d/source" "$T/2.img"
refuses EBUSY write "$M/n/ctl" start
says 'in use by machine m' "$M/n/error"
put "$M/n/disks/d/source" "$T/3.img" # let go of when it was changed
do_ctl n start
do_ctl n kill
put "$D/ctl" "change $T/1.img"
wait_console m 'sectors 10240'

note "commands that make no sense now"
refuses EBUSY write "$D/ctl" attach
refuses EINVAL write "$D/ctl" 'detach hard'
refuses EINVAL write "$D/ctl" 'explode'
do_ctl m kill
refuses EBUSY write "$D/ctl" detach
refuses EBUSY write "$D/ctl" attach
is "$(cat "$D/state")" detached

note "still: resized here, smaller only where it is said"
put "$D/ctl" 'resize 6M'
is "$(stat -c %s "$T/1.img")" $((6 << 20))
refuses EINVAL write "$D/ctl" 'resize 1M'
put "$D/ctl" 'resize 1M shrink'
is "$(stat -c %s "$T/1.img")" $((1 << 20))
put "$D/ctl" "change $T/4.qcow2"
is "$(cat "$D/format")" qcow2
put "$D/ctl" 'resize 7M'
like "$(qemu-img info "$T/4.qcow2")" "$((7 << 20)) bytes"
do_ctl m start
wait_console m 'sectors 14336'
do_ctl m kill
qemu-img check -q "$T/4.qcow2"

note "every change is an event"
like "$(events disk-changed)" '^[5-9]'
is "$(events disk-ejected)" 1
like "$(events disk-resized)" '^[1-9]'
like "$(events disk-attached)" '^[1-9]'
