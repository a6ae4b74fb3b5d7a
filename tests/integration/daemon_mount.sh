#!/bin/bash
# The daemon itself: SIGTERM unmounts, a stale mount is recovered, a second daemon on the same
# state or mountpoint is refused in words, options are checked, and it tells when it is ready.
# also: asan
. "${0%/*}/../lib.sh"

fv="$BUILD/filevisord"
start_daemon
note "a second daemon: same state, same mountpoint"
mkdir "$T/mnt2"
! out=$(timeout 60 "$fv" -f --state "$STATE" --run "$T/run2" "$T/mnt2" 2>&1) || fail "a second daemon ran"
like "$out" "$STATE.*(in use|running|another)|(in use|running|another).*$STATE"
! out=$(timeout 60 "$fv" -f --state "$T/state3" --run "$T/run3" "$MNT" 2>&1) || fail "mounted twice"
like "$out" "$MNT"
[ -s "$MNT/version" ]
is "$(mounts_here)" 1 "mounts"

note "SIGTERM and SIGINT end it well, also while somebody stands in the tree"
mkdir "$M/m"
(cd "$M/m" && exec sleep 1000) &
sleeper=$!
stands() { [ "$(readlink /proc/$sleeper/cwd)" = "$M/m" ]; }
wait_for stands
stop_daemon
kill $sleeper
start_daemon
kill -INT "$DAEMON"
wait "$DAEMON"
DAEMON=
! mounted || fail "still mounted"

note "umount ends it well, too"
start_daemon
umount "$MNT"
wait "$DAEMON"
DAEMON=

note "a stale mount"
start_daemon
kill_daemon
! out=$(ls "$MNT" 2>&1) || fail "a dead mount answered"
like "$out" 'not connected'
start_daemon
is "$(ls "$M")" m
is "$(mounts_here)" 1 "mounts"
stop_daemon

note "in the background: returns when the tree is there"
"$fv" --state "$STATE" --run "$RUN" "$MNT" </dev/null >"$T/bg.log" 2>&1
is "$(ls "$M")" m
pkill -TERM -x filevisord
gone() { ! pgrep -x filevisord >/dev/null; }
wait_for gone
! mounted || fail "still mounted"

note "systemd is told"
python3 - "$fv" "$STATE" "$RUN" "$MNT" "$T" <<'END'
import os, socket, subprocess, sys
fv, state, run, mnt, t = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(t + "/notify")
s.settimeout(60)
p = subprocess.Popen([fv, "-f", "--state", state, "--run", run, mnt],
                     env=dict(os.environ, NOTIFY_SOCKET=t + "/notify"), stderr=open(t + "/n.log", "w"))
said = b""
while b"READY=1" not in said:
    said = s.recv(4096)
assert os.path.exists(mnt + "/version"), "ready before it was mounted"
p.terminate()
while b"STOPPING=1" not in said:
    said = s.recv(4096)
assert p.wait(60) == 0
END

note "what cannot be is said"
for args in "" "--nonsense $MNT" "$T/absent" "-f $T/bg.log" "-f -o nonsense_option $MNT" "$MNT extra"; do
	# shellcheck disable=SC2086
	! out=$(timeout 60 "$fv" --state "$T/s" --run "$T/r" $args 2>&1) || fail "filevisord $args"
	[ -n "$out" ] || fail "filevisord $args: no words"
done
! out=$(timeout 60 "$fv" -f --state "$T/bg.log" --run "$T/r" "$MNT" 2>&1) || fail "a file as --state"
[ -n "$out" ]
out=$("$fv" --help)
like "$out" 'MOUNTPOINT'
like "$("$fv" --version)" '[0-9]+\.[0-9]+'
! mounted || fail "still mounted"
