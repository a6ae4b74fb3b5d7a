#!/bin/bash
# Shows filevisor from nothing to a Linux that answers on its console, printing
# every shell line before it is run: what is printed can be typed by hand.
# Leaves nothing behind but the cached guest kernel.
#
#   examples/demo.sh [BUILD-DIRECTORY]
set -eu
cd "$(dirname "$0")/.."
build=$(readlink -f "${1:-build}")

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
	printf '$ %s\n' "$*"
	eval "$*"
}

say "A guest: Debian's Linux 6.1 in a small configuration, and a root disk with busybox (cached)"
printf '$ %s\n' "linux=\$(tests/guest/linux/build.sh)"
linux=$(tests/guest/linux/build.sh | tail -n 1)
root=$(mktemp -d "${TMPDIR:-/tmp}/filevisor-demo.XXXXXX")

clean_up() {
	set +e
	if mountpoint -q "$root/fv"; then
		for ctl in "$root"/fv/machines/*/ctl; do
			[ -e "$ctl" ] && echo kill > "$ctl" 2> /dev/null
		done
		fusermount3 -u "$root/fv" 2> /dev/null || umount -l "$root/fv"
	fi
	[ -n "${daemon:-}" ] && wait "$daemon" 2> /dev/null
	rm -rf "$root"
}
trap clean_up EXIT

# Until the console shows a line that matches: what `tail -f console | grep -m1` does by hand.
see() {
	local deadline=$((SECONDS + 120)) console=fv/machines/${2:-web}/console

	until grep -q "$1" "$console"; do
		if [ $SECONDS -gt $deadline ]; then
			echo "demo: the console did not show '$1'; its end was:" >&2
			tail "$console" >&2
			exit 1
		fi
		sleep 0.2
	done
}

say "The daemon mounts a tree"
run "cd $root"
run "mkdir fv"
run "cp --sparse=always $linux/root.img web.img"
run "$build/filevisord -f --state $root/state --run $root/run fv &"
daemon=$!
for _ in $(seq 100); do
	[ -e fv/version ] && break
	sleep 0.1
done
run "ls fv"

say "mkdir defines a guest"
run "mkdir fv/machines/web"
run "cd fv/machines/web"
run "echo 64M > memory"
run "echo $linux/vmlinux > kernel"
run "cat $linux/cmdline > cmdline"
run "mkdir disks/root"
run "echo $root/web.img > disks/root/source"
run "cat config"
cd "$root"

say "It runs on KVM"
run "echo start > fv/machines/web/ctl"
run "cat fv/machines/web/state"
see 'filevisor-guest ready'
run "head -n 12 fv/machines/web/console"

say "Type into its console"
run "echo 'uname -a; nproc; free -m' > fv/machines/web/console"
see 'Linux.*GNU/Linux\|Linux (none)\|Linux filevisor\|Mem:'
see 'Mem:'
run "tail -n 7 fv/machines/web/console"

say "Errors are errnos, and words in a file"
run "echo start > fv/machines/web/ctl || cat fv/machines/web/error"
run "cat fv/machines/web/ctl"

say "Pause it, look at a vcpu, let it go on"
run "echo pause > fv/machines/web/ctl"
run "cat fv/machines/web/state"
run "head -n 6 fv/machines/web/vcpu/0/registers"
run "echo resume > fv/machines/web/ctl"

say "Snapshot it while it runs: memory and disks of one instant"
run "mkdir fv/machines/web/snapshots/base"
run "cat fv/machines/web/state"
run "cat fv/machines/web/snapshots/base/pause_us     # so many microseconds it stood still"
run "ls fv/machines/web/snapshots/base"
run "cat fv/machines/web/snapshots/base/size"

say "Clone it from there: the new ones go on where it was, and share memory and disks with it"
run "echo 'clone copy 2' > fv/machines/web/snapshots/base/ctl"
run "grep . fv/machines/*/state"
run "echo 'echo I am the \$(printf %s clo ne)' > fv/machines/copy2/console"
see 'I am the clone' copy2
run "tail -n 2 fv/machines/copy2/console"

say "Go back: what the guest did since is undone"
run "echo 'echo lost > /file; sync; ls /file' > fv/machines/web/console"
see '^/file' web
run "echo restore > fv/machines/web/snapshots/base/ctl"
run "echo 'ls /file; echo went \$(printf %s ba ck)' > fv/machines/web/console"
see 'went back' web
run "tail -n 3 fv/machines/web/console"
run "echo kill > fv/machines/copy1/ctl; echo kill > fv/machines/copy2/ctl"
run "rmdir fv/machines/copy1 fv/machines/copy2 fv/machines/web/snapshots/base"

say "Switch it off (ACPI power button) and undefine it"
run "echo stop > fv/machines/web/ctl"
run "cat fv/machines/web/state"
run "rmdir fv/machines/web"
run "tail -n 3 fv/events"
say "Done: unmounting"
