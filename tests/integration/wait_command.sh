#!/bin/bash
# `wait STATE SECONDS` returns when it is so, or with ETIMEDOUT; a signal ends it early; meanwhile
# nobody else is held up, not even other writers of the same ctl.
# also: asan tsan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M
m=$M/m

accepts write "$m/ctl" 'wait defined 5'
refuses ETIMEDOUT write "$m/ctl" 'wait running 0'
refuses ETIMEDOUT write "$m/ctl" 'wait running 1'
says '^ETIMEDOUT wait running 1: ' "$m/error"
is "$(state_of m)" defined

# waits for an answer of the file system
in_the_kernel() { grep -qsE 'fuse|request_wait' "/proc/$1/wchan"; }
note "a signal ends it"
for signal in INT TERM KILL; do
	# a shell's background jobs ignore SIGINT; this one does not
	python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp("sh", ["sh", "-c", "echo wait running 1000 > $0", sys.argv[1]])' "$m/ctl" 2>/dev/null &
	pid=$!
	wait_for in_the_kernel $pid
	kill -$signal $pid
	status=0
	wait $pid 2>/dev/null || status=$?
	[ $status != 0 ] || fail "the wait ended well by SIG$signal"
done
# a program which goes on after the signal sees the call end
python3 - "$m/ctl" <<'END'
import os, signal, sys, time
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.3)
fd = os.open(sys.argv[1], os.O_WRONLY)
try:
    os.write(fd, b"wait running 1000\n")
    raise SystemExit("the wait ended well")
except Alarm:
    pass
except OSError as e:
    print("#", e)
END

note "nobody is held up: more waiters than the daemon has threads"
pids=()
for _ in $(seq 40); do
	echo 'wait crashed 1000' >"$m/ctl" 2>/dev/null &
	pids+=($!)
done
put "$m/cpus" 2
is "$(cat "$m/cpus")" 2
accepts write "$m/ctl" '#'
mkdir "$M/other"
rmdir "$M/other"
is "$(state_of m)" defined
find "$MNT" -name state >/dev/null
if [ -w /dev/kvm ]; then
	put "$m/kernel" "$GUESTS/hello.elf"
	echo 'wait running 100' >"$m/ctl" &
	waiter=$!
	do_ctl m start
	wait $waiter
	echo 'wait stopped 100' >"$m/ctl" &
	waiter=$!
	do_ctl m kill
	wait $waiter
fi
kill "${pids[@]}"
for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done

note "an undefined machine's waiters end"
define gone
echo 'wait running 1000' >"$M/gone/ctl" 2>/dev/null &
waiter=$!
wait_for in_the_kernel $waiter
rmdir "$M/gone"
status=0
wait $waiter || status=$?
[ $status != 0 ] || fail "waiting for an undefined machine ended well"

note "shutdown ends them, too"
echo 'wait running 1000' >"$m/ctl" 2>/dev/null &
waiter=$!
wait_for in_the_kernel $waiter
stop_daemon
wait $waiter 2>/dev/null || true
