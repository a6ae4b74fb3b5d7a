#!/bin/bash
# Disks come to a Linux that runs and go from it, raw and qcow2: mkdir and rmdir, or attach and
# detach; it sees their sizes, new ones too; what it wrote is there. One in use goes when it may;
# one that nobody may ask goes when its driver has let go, or by force, or with a reset.
# time: 600
. "${0%/*}/../lib.sh"

need_linux
need_cmd qemu-img qemu-io
start_daemon
D=$M/web/disks
truncate -s 12M "$T/data.img"
truncate -s 5M "$T/late.img"
qemu-img create -q -f qcow2 "$T/more.qcow2" 20M

# in_guest DISK SECTORS
in_guest() { [ "$(sh_linux web "cat /sys/block/$1/size 2>/dev/null || echo none")" = "$2" ]; }
not_in_guest() { in_guest "$1" none; }
# add NAME SOURCE
add() {
	mkdir "$D/$1"
	put "$D/$1/source" "$2"
}
attached() { [ "$(cat "$D/$1/state")" = attached ]; }

boot_linux web

note "mkdir: a raw disk comes"
add data "$T/data.img"
wait_for attached data
wait_for in_guest vdb $((12 << 11))
sh_linux web 'echo written by the guest | dd of=/dev/vdb bs=512 seek=9 conv=sync 2>/tmp/dd && sync'
is "$(dd if="$T/data.img" bs=512 skip=9 count=1 status=none | tr -d '\0')" 'written by the guest'
like "$(cat "$D/data/stats")" 'write_bytes [1-9]'

note "and a qcow2 beside it, found out to be one"
add more "$T/more.qcow2"
wait_for attached more
wait_for in_guest vdc $((20 << 11))
is "$(cat "$D/more/format")" qcow2
sh_linux web 'dd if=/dev/vdb of=/dev/vdc bs=512 skip=9 seek=2000 count=1 conv=fsync 2>/tmp/dd'

note "another size while it runs"
put "$D/more/ctl" 'resize 24M'
wait_for in_guest vdc $((24 << 11))

note "rmdir: the guest lets go"
rmdir "$D/more"
wait_for not_in_guest vdc
[ ! -e "$D/more" ] || fail "its directory is still there"
qemu-img check -q "$T/more.qcow2"
like "$(qemu-io -f qcow2 -c 'read -v 1024000 512' "$T/more.qcow2")" 'written.by.the.g' 'copied by the guest'
in_guest vdb $((12 << 11)) || fail "the other disk has gone"

note "detached, and attached again with what it had"
put "$D/data/ctl" detach
is "$(cat "$D/data/state")" detached
wait_for not_in_guest vdb
put "$D/data/ctl" attach
wait_for attached data
wait_for in_guest vdb $((12 << 11))
like "$(sh_linux web 'dd if=/dev/vdb bs=512 skip=9 count=1 2>/tmp/dd')" 'written by the guest'

note "other contents for a disk that stays, none, and the first again"
truncate -s 7M "$T/other.img"
echo 'something else' | dd of="$T/other.img" bs=512 seek=9 conv=sync,notrunc status=none
put "$D/data/source" "$T/other.img"
wait_for in_guest vdb $((7 << 11))
like "$(sh_linux web 'dd if=/dev/vdb bs=512 skip=9 count=1 2>/tmp/dd')" 'something else'
put "$D/data/ctl" eject
wait_for in_guest vdb 0
is "$(cat "$D/data/state")" ejected
put "$D/data/source" "$T/data.img"
wait_for in_guest vdb $((12 << 11))
like "$(sh_linux web 'dd if=/dev/vdb bs=512 skip=9 count=1 2>/tmp/dd')" 'written by the guest'

note "paused and resumed on the way"
do_ctl web pause
add late "$T/late.img"
is "$(cat "$D/late/state")" attached
do_ctl web resume
wait_for in_guest vdc $((5 << 11))

note "a disk that the guest ejects by itself is detached"
sh_linux web 'for s in /sys/bus/pci/slots/*; do [ $(cat $s/address) = 0000:00:05 ] && echo 0 >$s/power; done; true'
is_detached() { [ "$(cat "$D/$1/state")" = detached ]; }
wait_for is_detached late
not_in_guest vdc
like "$(grep disk-detached "$MNT/events" | tail -n 1)" 'let go'

note "again and again: nothing is left behind"
vmm=$(vmm_pids)
count() { echo "$(fds_of "$vmm") $(ls "/proc/$vmm/task" | wc -l)"; }
put "$D/late/ctl" attach
wait_for in_guest vdc $((5 << 11))
put "$D/late/ctl" detach
before=$(count) rss=$(rss_of "$vmm")
for _ in {1..20}; do
	put "$D/late/ctl" attach
	put "$D/late/ctl" detach
done
is "$(count)" "$before" "descriptors and threads of the VMM"
[ "$(rss_of "$vmm")" -lt $((rss + 2048)) ] || fail "memory of the VMM: $rss KiB, then $(rss_of "$vmm")"
in_guest vdb $((12 << 11)) || fail "the disk that stayed has gone"

note "by force, while a program has it open: its driver comes to an end, and others can come"
put "$M/web/console" 'sleep 1000 </dev/vdb &'
sh_linux web 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q /dev/vdb'
put "$D/data/ctl" 'detach force'
wait_for not_in_guest vdb
sh_linux web 'ls /sys/bus/pci/devices | grep -q 00:04.0; [ $? = 1 ]'
put "$D/data/ctl" attach
wait_for in_guest 'vd[bc]' $((12 << 11))
sh_linux web 'kill %1 || kill $(pidof sleep)'

note "after a reboot there is what is attached"
ready() { grep -ac 'filevisor-guest ready' "$M/web/console" || true; }
before=$(ready) # none where it went on from a snapshot
put "$M/web/console" 'reboot -f'
again() { [ "$(ready)" -gt "$before" ]; }
wait_for -t 180 again
in_guest vdb $((12 << 11)) || fail "not after the reboot"
not_in_guest vdc

note "without ACPI nobody can be asked: in words"
do_ctl web kill
wait_state web stopped
put "$M/web/cmdline" "$(cat "$LINUX/cmdline") acpi=off"
before=$(ready)
do_ctl web start
wait_for -t 180 again
refuses EOPNOTSUPP write "$D/data/ctl" detach
says 'ACPI hotplug.*/remove' "$M/web/error"
is "$(cat "$D/data/state")" attached
sh_linux web 'echo 1 >/sys/bus/pci/devices/0000:00:04.0/remove'
put "$D/data/ctl" detach
is "$(cat "$D/data/state")" detached
put "$D/data/ctl" attach
like "$(grep disk-plugged "$MNT/events" | tail -n 1)" 'rescan'
put "$D/data/ctl" 'detach force'
is "$(cat "$D/data/state")" detached
put "$M/web/console" 'poweroff -f'
