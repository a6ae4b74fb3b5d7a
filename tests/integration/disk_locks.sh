#!/bin/bash
# One image, one writer: machines, qemu-img and QEMU's own tools keep out of each other's way,
# whatever the image is called and wherever in a chain it is; share = true lifts it knowingly.
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img qemu-io
start_daemon
# disk MACHINE SOURCE [KEY=VALUE]…
disk() {
	local d=$M/$1/disks/d kv
	[ -d "$d" ] || mkdir "$d"
	put "$d/source" "$2"
	shift 2
	for kv; do put "$d/${kv%%=*}" "${kv#*=}"; done
}
define_guest a hello
define_guest b hello
truncate -s 1M "$T/base.raw"
for n in 1 2; do qemu-img create -q -f qcow2 -F raw -b base.raw "$T/$n.qcow2"; done

note "two overlays share what is below; nobody writes that meanwhile"
disk a "$T/1.qcow2"
disk b "$T/2.qcow2"
do_ctl a start
do_ctl b start
do_ctl b kill
disk b "$T/base.raw"
refuses EBUSY write "$M/b/ctl" start
says 'in use by machine a' "$M/b/error"
put "$M/b/disks/d/readonly" true
do_ctl b start
do_ctl b kill
put "$M/b/disks/d/readonly" false

note "one image twice, by whatever name"
ln "$T/1.qcow2" "$T/hard.qcow2"
ln -s 1.qcow2 "$T/soft.qcow2"
for name in 1 hard soft; do
	disk b "$T/$name.qcow2"
	refuses EBUSY write "$M/b/ctl" start
	says 'in use by machine a \(disk d\)' "$M/b/error"
done
define_guest c hello
disk c "$T/2.qcow2"
mkdir "$M/c/disks/e"
put "$M/c/disks/e/source" "$T/2.qcow2"
refuses EBUSY write "$M/c/ctl" start
says 'disk e: .*same image as disk d' "$M/c/error"
put "$M/c/disks/d/readonly" true
put "$M/c/disks/e/readonly" true
do_ctl c start
do_ctl c kill

note "live, too: what another machine has is not put in"
truncate -s 1M "$T/free.img"
disk b "$T/free.img"
do_ctl b start
refuses EBUSY write "$M/b/disks/d/source" "$T/1.qcow2"
is "$(cat "$M/b/disks/d/source")" "$T/free.img"
is "$(cat "$M/b/disks/d/state")" attached
do_ctl b kill

note "qemu-img and QEMU's tools see our locks, and we theirs"
! qemu-img snapshot -c s "$T/1.qcow2" 2>"$T/said" || fail "qemu-img wrote to it"
like "$(cat "$T/said")" 'lock'
! qemu-io -f qcow2 -c 'write 0 4k' "$T/1.qcow2" >"$T/said" 2>&1 || fail "qemu-io wrote to it"
qemu-img info -U "$T/1.qcow2" >"$T/said"
do_ctl a kill
qemu-img snapshot -c s "$T/1.qcow2"
mkfifo "$T/commands"
qemu-io -f qcow2 "$T/1.qcow2" <"$T/commands" >"$T/said" 2>&1 &
holder=$!
exec 9>"$T/commands"
echo 'write 0 4k' >&9
wait_for grep -q wrote "$T/said"
refuses EBUSY write "$M/a/ctl" start
says 'in use by another program' "$M/a/error"
exec 9>&-
wait $holder
do_ctl a start
do_ctl a kill

note "a machine's image that is open keeps it from starting with it"
exec 8<"$M/a/disks/d/image"
refuses EBUSY write "$M/a/ctl" start
says 'has its image open' "$M/a/error"
exec 8<&-
wait_for accepts write "$M/a/ctl" start
do_ctl a kill

note "shared knowingly"
put "$M/a/disks/d/share" true
do_ctl a start
disk b "$T/1.qcow2"
refuses EBUSY write "$M/b/ctl" start
put "$M/b/disks/d/share" true
do_ctl b start
is "$(state_of a) $(state_of b)" 'running running'
