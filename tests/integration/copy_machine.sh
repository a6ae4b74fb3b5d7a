#!/bin/bash
# cp -r of a machine's directory makes another definition, also of a running machine; what cannot
# be copied refuses politely and takes no harm. tar x and rsync -r do the same.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
truncate -s 1M "$T/disk.img"
: >"$T/initrd"
define a memory=96M cpus=3 cmdline='one two' on_crash=preserve autostart=false
mkdir "$M/a/disks/root"
put "$M/a/disks/root/source" "$T/disk.img"
put "$M/a/disks/root/readonly" true
if [ -w /dev/kvm ]; then
	put "$M/a/kernel" "$GUESTS/hello.elf"
	do_ctl a start
	wait_console a hello
fi

# same NAME HOW: has a's definition, and is only defined
same() {
	cmp "$M/a/config" "$M/$1/config" || fail "$2: another config"
	is "$(state_of "$1")" defined "$2"
	is "$(cat "$M/$1/disks/root/source")" "$T/disk.img" "$2"
	[ ! -s "$M/$1/console" ] || fail "$2: the console was copied"
	rmdir "$M/$1"
}
timeout 60 cp -r "$M/a" "$M/b" 2>"$T/cp.txt" && true
[ -d "$M/b" ] || fail "cp: $(cat "$T/cp.txt")"
same b 'cp -r'
tar cf "$T/a.tar" -C "$M/a" .
mkdir "$M/c"
timeout 60 tar xf "$T/a.tar" -C "$M/c" 2>"$T/tar.txt" && true
same c 'tar x'
timeout 60 rsync -r "$M/a/" "$M/d/" 2>"$T/rsync.txt" && true
same d 'rsync -r'
timeout 60 cp -r "$M/a" "$T/backup"
timeout 60 cp -r "$T/backup" "$M/e" 2>"$T/cp2.txt" && true
same e 'cp -r from a backup'
if [ -w /dev/kvm ]; then
	is "$(state_of a)" running
	is "$(vmms)" 1 "machines that run"
fi
