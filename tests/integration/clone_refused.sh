#!/bin/bash
# What `clone` refuses, with words, and leaves nothing of: names that are taken or none, values that
# make no sense or that the guest has seen, disks and memory that the caller may not read.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon -o allow_other
# Nothing but m (and what is named) is there, in the tree or on disk.
nothing_left() {
	local want
	want=$(printf '%s\n' m "$@" | sort)
	is "$(ls "$M")" "$want" "machines"
	is "$(ls -A "$STATE/machines")" "$want" "their directories"
	wait_for vmms_are "${VMMS:-1}"
	is "$(ls "$STATE/layers" 2>/dev/null | wc -l)" "${LAYERS:-0}" "layers"
}
vmms_are() { [ "$(vmms)" = "$1" ]; }
no_clone() { # ERRNO WORDS COMMAND
	refuses "$1" write "$M/m/ctl" "$3"
	says "$2" "$M/m/error"
	is "$(state_of m)" running
	nothing_left
}

boot m count
wait_console m '^5'
note "words"
no_clone EINVAL 'usage: clone NEW' clone
no_clone EINVAL 'no name for a machine' 'clone .a'
no_clone EINVAL 'no name for a machine' 'clone a/b'
no_clone ERANGE '0 is not within 1 and 1000' 'clone a 0'
no_clone ERANGE '1001 is not within' 'clone a 1001'
no_clone EINVAL 'neither a number of machines nor KEY=VALUE' 'clone a b'
no_clone EINVAL 'is not KEY=VALUE' 'clone a 2 3'
no_clone EINVAL 'a quote is not closed' 'clone a cmdline="x'
no_clone EINVAL 'cmdline is given twice' 'clone a cmdline=x cmdline=y'
no_clone EINVAL 'too long a name' "clone $(printf 'a%.0s' {1..63}) 2"

note "values"
no_clone EINVAL 'nothing: there is no such value' 'clone a nothing=1'
no_clone EINVAL 'autostart: .*neither true nor false' 'clone a autostart=perhaps'
no_clone ENOENT 'disks/root/source: there is no disk root' 'clone a disks/root/source=/x'
no_clone ENOENT 'kernel: /nowhere' 'clone a kernel=/nowhere'
no_clone EBUSY 'memory: its guest goes on' 'clone a memory=128M'
no_clone EBUSY 'cpus: its guest goes on' 'clone a 3 cpus=2'

note "names"
no_clone EEXIST 'there is a machine m already' 'clone m'
mkdir "$M/a2"
refuses EEXIST write "$M/m/ctl" 'clone a 3'
says 'there is a machine a2 already' "$M/m/error"
nothing_left a2
rmdir "$M/a2"
do_ctl m 'clone a 3'
wait_for vmms_are 4
undefine a1 a2 a3
mkdir "$M/m/snapshots/s"
refuses EEXIST write "$M/m/snapshots/s/ctl" 'clone m'
says 'there is a machine m already' "$M/m/snapshots/s/error"
LAYERS=1 nothing_left
refuses EBUSY write "$M/m/snapshots/s/ctl" 'clone a cpus=3'

note "another user: what he may not read he may not clone"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	as() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups "$@"; }
	try() { local id=$1; shift; as "$id" "$TOOLS/trycall" "$@"; }
	chmod 755 "$T"
	chmod 777 "$M/m" # so that others may write its ctl, and its snapshots'
	like "$(try 1001 write "$M/m/ctl" 'clone his')" EACCES
	says 'its memory: you may not read memory.img' "$M/m/error"
		like "$(try 1001 write "$M/m/snapshots/s/ctl" 'clone his')" EACCES
	says 'its memory: you may not read memory.img' "$M/m/snapshots/s/error"
	LAYERS=1 nothing_left
	chmod 644 "$M/m/memory.img"
	echo secret >"$T/secret"
	chmod 600 "$T/secret"
	like "$(try 1001 write "$M/m/ctl" "clone his kernel=$T/secret")" EACCES
	says 'kernel: ' "$M/m/error"
	LAYERS=1 nothing_left

	note "... and what he may is his, and runs as he"
	is "$(try 1001 write "$M/m/ctl" 'clone his')" ok
	is "$(try 1001 write "$M/m/snapshots/s/ctl" 'clone hers')" ok
	for i in his hers; do
		is "$(stat -c %u:%g "$M/$i")" 1001:1001
		is "$(state_of $i)" running
		like "$(stat -c %a "$M/$i")" '^7[0145][0145]$'
		pid=$(cut -d' ' -f1 "$RUN/machines/$(awk '$1 == "id" { print $2 }' "$STATE/machines/$i/access")/vmm.pid")
		like "$(grep -E '^[UG]id' "/proc/$pid/status" | tr '\n\t' '  ')" '^Uid: 1001 1001 1001 1001 Gid: 1001 1001 1001 1001'
		wait_console $i '^[0-9]+$'
	done
	like "$(try 1002 write "$M/his/ctl" 'clone more')" EACCES
	undefine his hers
fi
rmdir "$M/m/snapshots/s"
nothing_left
