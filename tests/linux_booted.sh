#!/bin/bash
# linux_booted.sh DIRECTORY: boots the Linux guest once with one vcpu and once with two, snapshots it at
# its shell and leaves the archives booted-1 and booted-2 in the directory. With LINUX_BOOTED set to it,
# boot_linux of lib.sh makes machines from these instead of booting.
out=$1
. "${0%/*}/lib.sh"

unset LINUX_BOOTED
need_linux
start_daemon
for n in 1 2; do
	define_linux "m$n" cpus=$n
	do_ctl "m$n" start
done
for n in 1 2; do
	wait_linux "m$n"
	mkdir "$M/m$n/snapshots/booted"
	do_ctl "m$n" kill
	put "$M/m$n/snapshots/booted/ctl" archive
	cp "$M/m$n/snapshots/booted/archive" "$out/booted-$n"
	rmdir "$M/m$n/snapshots/booted"
done
