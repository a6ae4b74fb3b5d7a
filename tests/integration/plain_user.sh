#!/bin/bash
# Everything as a plain user with fusermount3: mount, define, run, kill, unmount.
. "${0%/*}/../lib.sh"

need_cmd fusermount3 setpriv
[ "$(id -u)" = 0 ] || skip "needs root to become somebody else"
# /dev/fuse and /dev/kvm for everybody, in here
for node in fuse:229 kvm:232; do
	[ -e "/dev/${node%:*}" ] || continue
	mknod "$T/${node%:*}" c 10 "${node#*:}"
	chmod 666 "$T/${node%:*}"
	mount --bind "$T/${node%:*}" "/dev/${node%:*}"
done
mkdir "$T/home"
chown -R 65534:65534 "$T/home"
chmod 755 "$T"
MNT=$T/home/fv M=$MNT/machines STATE=$T/home/.local/state/filevisor
as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$T/home" XDG_STATE_HOME="$T/home/.local/state"
	XDG_RUNTIME_DIR="$T/home/run" MNT="$MNT" M="$M")
user() { "${as_user[@]}" "$@"; }
user mkdir "$MNT" "$T/home/run"
"${as_user[@]}" "$BUILD/filevisord" -f "$MNT" >"$T/daemon.log" 2>&1 &
DAEMON=$!
up() { kill -0 $DAEMON || fail "$(cat "$T/daemon.log")"; user cat "$MNT/stats"; }
wait_for up
[ -d "$STATE" ] || fail "no state in XDG_STATE_HOME"
is "$(ls -A "$T/home/run")" filevisor "run time directory"

user mkdir "$M/m"
is "$(user stat -c %U "$M/m")" nobody
user sh -c 'echo 64M > $M/m/memory'
# root itself is kept out of a user's FUSE mount
! ls "$MNT" 2>/dev/null || note "root may look"
if user test -w /dev/kvm; then
	user sh -c "echo '$GUESTS/hello.elf' > \$M/m/kernel; echo start > \$M/m/ctl"
	hello() { user grep -q hello "$M/m/console"; }
	wait_for hello
	is "$(stat -c %u "/proc/$(vmm_pids)")" 65534 "uid of the VMM"
	kill -KILL $DAEMON
	wait $DAEMON 2>/dev/null || true
	"${as_user[@]}" "$BUILD/filevisord" -f "$MNT" >>"$T/daemon.log" 2>&1 &
	DAEMON=$!
	wait_for up
	is "$(user cat "$M/m/state")" running
	user sh -c 'echo kill > $M/m/ctl'
else
	note "no /dev/kvm for a user: the tree only"
	user sh -c '! echo start > $M/m/ctl' 2>/dev/null
fi
user rmdir "$M/m"
user fusermount3 -u "$MNT"
wait $DAEMON || fail "the daemon ended with $?"
DAEMON=
wait_for no_vmm
