#!/bin/bash
# POSIX permissions are the access control: a machine belongs to who made it; others may look or
# not as the mode says; chmod and chown hand over; a path is opened with the rights of who names it.
# also: asan
. "${0%/*}/../lib.sh"

need_cmd setpriv
[ "$(id -u)" = 0 ] || skip "needs root to be several users"
as() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups "$@"; }
start_daemon -o allow_other
chmod 1777 "$M" || note "machines is open already"
as 1001 mkdir "$M/alice"
as 1002 mkdir "$M/bob"
is "$(stat -c %u:%g "$M/alice")" 1001:1001
is "$(stat -c %u "$M/alice/ctl")" 1001

try() { local id=$1; shift; as "$id" "$TOOLS/trycall" "$@"; }
is "$(try 1001 write "$M/alice/cpus" 2)" ok
is "$(try 1002 write "$M/alice/cpus" 3)" "open EACCES"
like "$(try 1002 rmdir "$M/alice")" 'EACCES|EPERM'
like "$(try 1002 rename "$M/alice" "$M/mine")" 'EACCES|EPERM'
like "$(try 1002 chmod "$M/alice" 777)" 'EPERM'
like "$(try 1001 chown "$M/alice" 1002)" 'EPERM'
is "$(cat "$M/alice/cpus")" 2
is "$(as 1002 cat "$M/alice/state")" defined "others may look"

note "chmod: shut, and opened for one file"
as 1001 chmod 700 "$M/alice"
! as 1002 cat "$M/alice/state" 2>/dev/null || fail "looked into a shut directory"
as 1001 chmod 755 "$M/alice"
as 1001 chmod 666 "$M/alice/ctl"
like "$(try 1002 write "$M/alice/ctl" '#')" ok
is "$(try 1002 write "$M/alice/cpus" 3)" "open EACCES"
chown 1002:1002 "$M/alice"
is "$(try 1002 write "$M/alice/cpus" 3)" ok
kill_daemon
start_daemon -o allow_other
is "$(stat -c %u "$M/alice")" 1002 "owner after a restart"
is "$(stat -c %a "$M/alice/ctl")" 666 "mode after a restart"

note "paths: with the caller's own rights"
echo secret >"$T/secret"
chmod 600 "$T/secret"
mkdir "$T/private"
touch "$T/private/disk"
chmod 666 "$T/private/disk"
chmod 700 "$T/private"
for path in "$T/secret" "$T/private/disk"; do
	like "$(try 1002 write "$M/bob/kernel" "$path")" 'EACCES'
	says '^EACCES kernel: ' "$M/bob/error"
	like "$(try 1002 write "$M/bob/initrd" "$path")" 'EACCES'
	as 1002 mkdir "$M/bob/disks/d"
	like "$(try 1002 write "$M/bob/disks/d/source" "$path")" 'EACCES'
	like "$(try 1002 write "$M/bob/config" "kernel = \"$path\";")" 'EACCES'
	as 1002 rmdir "$M/bob/disks/d"
done
is "$(cat "$M/bob/kernel")" ""
truncate -s 1M "$T/ro.img"
chmod 644 "$T/ro.img" # readable, not writable by 1002
as 1002 mkdir "$M/bob/disks/d"
as 1002 sh -c 'echo true > "$1/readonly" && echo "$2" > "$1/source"' sh "$M/bob/disks/d" "$T/ro.img"
if [ -w /dev/kvm ]; then
	note "root may name it for him, he may not open it by a start of his own"
	cp "$GUESTS/hello.elf" "$T/kernel"
	chmod 600 "$T/kernel"
	put "$M/bob/kernel" "$T/kernel"
	like "$(try 1002 write "$M/bob/ctl" start)" 'EACCES'
	says '^EACCES start: ' "$M/bob/error"
	chmod 644 "$T/kernel"
	is "$(try 1002 write "$M/bob/ctl" start)" ok
	pid=$(vmm_pids)
	[ "$(stat -c %u "/proc/$pid")" != 0 ] || fail "a guest's VMM runs as root"
	is "$(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")" 0000000000000000 "capabilities of the VMM"
	# a sanitizer's run time needs system calls that the filter forbids: its builds have none
	grep -q '__[at]san_init' "$BUILD/filevisor-vmm" ||
		is "$(awk '/^Seccomp:/ { print $2 }' "/proc/$pid/status")" 2 "seccomp of the VMM"
	is "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/$pid/status")" 1
	put "$M/bob/disks/d/readonly" true
	do_ctl bob kill
	put "$M/bob/disks/d/readonly" false
	like "$(try 1002 write "$M/bob/ctl" start)" 'EACCES' # no write permission for a disk to be written
fi
