#!/bin/bash
# A copy of a snapshot's directory is a backup: cp -r --sparse=always of it, also through sshfs, has
# its values, disks and memory; qemu-img reads the disks, gdb the core; nothing in it blocks, runs or
# changes anything; tar and rsync copy it, too. It goes on being readable while it is deleted.
# time: 300
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img gdb rsync
vmm_forks
start_daemon
S=$M/m/snapshots
"$TOOLS/fvimg" create qcow2 "$T/data.qcow2" 64M >/dev/null
truncate -s 1M "$T/disk"
define_guest m ledger
for d in root data; do mkdir "$M/m/disks/$d"; done
put "$M/m/disks/root/source" "$T/disk"
put "$M/m/disks/data/source" "$T/data.qcow2"
put "$M/m/disks/data/format" qcow2
mkdir "$M/m/disks/empty"
do_ctl m start
wait_console m '^entry 50$'
mkdir "$S/base"
before=$(grep -c . "$MNT/events")

sum_of() { (cd "$1" && sha256sum memory disks/root/image disks/data/image config time state); }
sum=$(sum_of "$S/base")
on_disk() { od -An -tu4 -v -w512 "$1/disks/root/image" | awk 'NR <= 64 && $1 > max { max = $1 } END { print max }'; }

note "cp"
timeout 100 cp -r --sparse=always "$S/base" "$T/copy"
is "$(sum_of "$T/copy")" "$sum"
is "$(ls "$T/copy" | tr '\n' ' ')" 'README archive config core ctl disks error memory parent pause_us size state time '
is "$(ls "$T/copy/disks" | tr '\n' ' ')" 'data empty root '
is "$(stat -c %s "$T/copy/disks/empty/image")" 0
[ "$(on_disk "$T/copy")" -ge 50 ] || fail "the copy's disk is of before"
[ "$(stat -c %b "$T/copy/memory")" -lt $((16 << 11)) ] || fail "the copy's memory is not sparse"
[ "$(stat -c %b "$T/copy/disks/data/image")" -lt 1024 ] || fail "the copy's disk is not sparse"
! grep -v '^#' "$T/copy/ctl" || fail "its ctl has commands"

note "programs that read it"
like "$(qemu-img info "$T/copy/disks/data/image")" 'virtual size: 64 MiB'
qemu-img compare -f raw -F raw "$S/base/disks/data/image" "$T/copy/disks/data/image" >/dev/null
qemu-img convert -f raw -O qcow2 "$T/copy/disks/root/image" "$T/root.qcow2"
qemu-img compare "$T/root.qcow2" "$S/base/disks/root/image" >/dev/null
regs=$(gdb -batch -ex 'info registers rip' -ex 'x/4xb 0x1000000' "$GUESTS/ledger.elf" "$T/copy/core" 2>&1)
like "$regs" 'rip +0x'
like "$regs" '0x1000000'

note "tar, rsync, find, grep"
timeout 100 tar cSf "$T/a.tar" -C "$S" base
mkdir "$T/tar" "$T/rsync"
tar xSf "$T/a.tar" -C "$T/tar"
is "$(sum_of "$T/tar/base")" "$sum" tar
timeout 100 rsync -rt --sparse "$S/base/" "$T/rsync/"
is "$(sum_of "$T/rsync")" "$sum" rsync
timeout 60 grep -rqa running "$S/base" || fail "grep -r"
is "$(find "$S/base" -newermt '2 minutes' | head -n 1)" "" "mtimes in the future"

note "what is written to it is refused, and back into a machine, runs nothing"
refuses EACCES,EPERM write "$S/base/memory" x
refuses EACCES,EPERM write "$S/base/disks/root/image" x
refuses EACCES,EPERM write "$S/base/disks/root/source" x
refuses EPERM unlink "$S/base/time"
refuses EPERM,EACCES,EEXIST mkdir "$S/base/disks/more"
refuses EPERM chmod "$S/base/memory" 0444
cp "$T/copy/ctl" "$S/base/ctl"
is "$(grep -c '"event":"command"' <(tail -n +$((before + 1)) "$MNT/events") || true)" 0 "commands that were run"

note "a copy of the machine is a definition, and takes no snapshots of itself"
timeout 100 cp -r --sparse=always "$M/m" "$M/copy" 2>"$T/cp.txt" && true
is "$(state_of copy)" defined
is "$(ls "$M/copy/snapshots")" ""
cmp "$M/m/config" "$M/copy/config"
rmdir "$M/copy"

note "over sshfs"
start_sshd
mount_sshfs "$T/remote"
timeout 200 cp -r --sparse=always "$T/remote/machines/m/snapshots/base" "$T/far"
is "$(sum_of "$T/far")" "$sum" sshfs
end_ssh "$T/remote"

note "who has it open reads on while it is deleted"
exec 5<"$S/base/memory" 6<"$S/base/disks/root/image"
rmdir "$S/base"
[ ! -e "$S/base" ] || fail "it is still there"
is "$(sha256sum <&5)" "$(sha256sum <"$T/copy/memory")" "memory"
is "$(sha256sum <&6)" "$(sha256sum <"$T/copy/disks/root/image")" "disk"
exec 5<&- 6<&-
is "$(state_of m)" running
do_ctl m kill
