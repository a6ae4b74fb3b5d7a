#!/bin/bash
# Watchers, writers, readers, walkers and the daemon's own notifications meet for a while, the
# daemon is killed and stopped in their midst: nothing hangs, no process is stuck in the kernel, and
# the tree mounts again.
# time: 300
# also: asan tsan
# alone
. "${0%/*}/../lib.sh"

need_cmd inotifywait python3
start_daemon
kvm=
[ ! -w /dev/kvm ] || kvm=yes
for i in 1 2 3; do
	define m$i memory=64M
	[ -z "$kvm" ] || put "$M/m$i/kernel" "$GUESTS/hello.elf"
done
mkdir "$T/store" "$MNT/pools/p"
put "$MNT/pools/p/source" "$T/store"
V=$MNT/pools/p/volumes
mkdir "$V/v"
put "$V/v/size" 1M
# forever WORK: in the background, whatever it answers
forever() {
	(
		trap - EXIT ERR
		set +e
		while [ ! -e "$T/stop" ]; do "$@"; done
	) >/dev/null 2>&1 &
	pids+=($!)
}
life() { echo start >"$M/$1/ctl"; echo pause >"$M/$1/ctl"; echo resume >"$M/$1/ctl"; echo kill >"$M/$1/ctl"; }
values() { echo $((RANDOM % 9 + 1)) >"$M/m1/cpus"; sed -i 's/cpus = [0-9]*/cpus = 4/' "$M/m1/config"; }
defines() { mkdir "$M/x$1"; mv "$M/x$1" "$M/y$1"; rmdir "$M/y$1"; }
walks() { find "$MNT" -type f ! -name core ! -name memory.img -exec cat {} + ; }
watches() { timeout 1 inotifywait -q -m -r "$M" "$MNT/pools"; }
volumes() { mkdir "$V/w$1"; echo 64K >"$V/w$1/size"; cat "$V"/*/*; rmdir "$V/w$1"; }
arrivals() { cp /etc/passwd "$T/store/file"; cat "$V/file/image"; rm "$T/store/file"; }
images() { head -c 1M /dev/urandom >"$V/v/image"; timeout -s KILL 0.01 cat "$V/v/image"; }
waits() { timeout 0.3 sh -c 'echo "wait crashed 100" > "$M/m2/ctl"'; }
polls() {
	timeout -s KILL 5 python3 -c '
import select, os, time
fds = [os.open(f"{os.environ["M"]}/m{i}/{n}", os.O_RDONLY) for i in (1, 2, 3) for n in ("state", "cpus", "config", "ctl")]
p = select.poll()
[p.register(f, select.POLLPRI) for f in fds]
end = time.time() + 1
while time.time() < end:
    for f, e in p.poll(200):
        os.pread(f, 100, 0)
'
}
for round in 1 2 3 4; do
	rm -f "$T/stop"
	pids=()
	forever life m1; forever life m2; forever life m2; forever values
	forever defines 1; forever defines 2; forever walks; forever watches; forever waits
	forever volumes 1; forever volumes 2; forever arrivals; forever images
	forever polls; forever tail -n 1 "$MNT/events"
	sleep 4
	case $round in
	1 | 3) kill_daemon ;;
	2) stop_daemon ;;
	4) note "the last round: it lives" ;;
	esac
	touch "$T/stop"
	pkill -f inotifywait || true
	ended() { for p in "${pids[@]}"; do ! kill -0 "$p" 2>/dev/null || return 1; done; }
	wait_for -t 100 ended
	! ps -eo stat,args | grep '^D' || fail "a process is stuck in the kernel"
	[ -n "$DAEMON" ] || start_daemon
	is "$(cat "$M/m3/state")" defined
	wait_for test -d "$V/v"
	is "$(stat -c %s "$V/v/image")" 1048576
	for m in m1 m2; do
		echo kill 2>/dev/null >"$M/$m/ctl" || true
		wait_for gone_vmm_of $m
	done
	note "round $round: well"
done
