#!/bin/bash
# Without /dev/kvm, or with something else in its place, the tree still mounts, host/kvm says why,
# and start fails with ENODEV and words.
. "${0%/*}/../lib.sh"

# gone absent|null: in this test's own mounts
gone() {
	case $1 in
	null) mount --bind /dev/null /dev/kvm ;;
	absent)
		mkdir "$T/dev"
		mount -t tmpfs dev "$T/dev"
		cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/fuse "$T/dev/"
		mkdir "$T/dev/pts" "$T/dev/shm"
		mount --bind /dev/pts "$T/dev/pts"
		ln -s pts/ptmx "$T/dev/ptmx"
		ln -s /proc/self/fd "$T/dev/fd"
		mount --move "$T/dev" /dev
		;;
	esac
}
[ ! -e /dev/kvm ] || kinds="null absent"
for kind in ${kinds:-as-it-is}; do
	note "/dev/kvm: $kind"
	gone "$kind"
	start_daemon
	cat "$MNT"/host/kvm/* >"$T/kvm"
	like "$(cat "$T/kvm")" '(No such file|absent|not there|ENOENT|ENOTTY|ENODEV|not KVM|no KVM|unusable)'
	define m memory=64M kernel="$GUESTS/hello.elf"
	refuses ENODEV write "$M/m/ctl" start
	says '^ENODEV start: .*/dev/kvm' "$M/m/error"
	is "$(state_of m)" defined
	no_vmm
	rmdir "$M/m"
	stop_daemon
done
