#!/bin/bash
# The process at the ready: there is one, it is no machine's, the next machine has it, and another takes its place. It
# may be killed at any time, goes with the daemon, and is of the program as it is on disk.
# time: 240
# also: asan tsan
. "${0%/*}/../lib.sh"

replaced() {
	local now
	now=$(cat "$RUN/spare/pid") && [ -n "$now" ] && [ "$now" != "$old" ]
}

mkdir "$T/bin"
cp "$BUILD/filevisor-vmm" "$T/bin/"
start_daemon --vmm "$T/bin/filevisor-vmm"

note "one is there, and no machine is"
wait_for spare_ready
no_vmm
is "$(ls "$M")" ""
is "$(awk '/^Seccomp:/ { print $2 }' "/proc/$(spare_pids)/status")" 0

note "killed: another takes its place"
for _ in 1 2; do
	old=$(cat "$RUN/spare/pid")
	kill -KILL "$old"
	wait_for replaced
	[ ! -e "/proc/$old" ] || fail "$old is a zombie"
done

note "killed together with the daemon, or left by it: nothing remains"
kill_daemon
wait_for no_spare
umount -l "$MNT"
start_daemon --vmm "$T/bin/filevisor-vmm"
wait_for spare_ready
stop_daemon
no_spare || fail "a daemon that ended has left $(spare_pids)"
[ ! -e "$RUN/spare" ] || fail "RUN/spare is left: $(ls "$RUN/spare")"

note "none, if that is asked for"
start_daemon --no-spare
sleep 0.3 # it would be there
no_spare || fail "there is one"
[ ! -e "$RUN/spare" ] || fail "RUN/spare is there"
if [ ! -w /dev/kvm ]; then exit 0; fi
boot without hello
wait_console without hello
is "$(vmms)" 1
stop_daemon

note "a machine has it"
start_daemon --vmm "$T/bin/filevisor-vmm"
wait_for spare_ready
old=$(cat "$RUN/spare/pid")
boot m hello
wait_console m hello
is "$(pgrep -f '^filevisor-vmm m' || true)" "$old" "whose process it was"
is "$(vmms)" 2
[[ $(cat "$M/m/stats") =~ vcpu ]] || fail "no counters"
wait_for replaced

note "and a daemon that comes later finds it"
kill_daemon
wait_for no_spare
umount -l "$MNT"
start_daemon --vmm "$T/bin/filevisor-vmm"
is "$(state_of m)" running
do_ctl m kill
wait_for gone_vmm_of m

note "after an upgrade: of the new program"
wait_for spare_ready
is "$(spare_pids)" "$(cat "$RUN/spare/pid")"
cp "$BUILD/filevisor-vmm" "$T/bin/new"
mv "$T/bin/new" "$T/bin/filevisor-vmm"
do_ctl m start
is "$(stat -Lc %i "/proc/$(pgrep -f '^filevisor-vmm m|^[^ ]*/filevisor-vmm')/exe" | sort -u | head -n 1)" \
	"$(stat -c %i "$T/bin/filevisor-vmm")" "program of the VMM"
do_ctl m kill
wait_for gone_vmm_of m

note "a program that cannot be run: starts are refused, and go on when it can"
mv "$T/bin/filevisor-vmm" "$T/bin/away"
refuses ENOENT write "$M/m/ctl" start
mv "$T/bin/away" "$T/bin/filevisor-vmm"
do_ctl m start
do_ctl m kill
wait_for gone_vmm_of m

note "killed at any moment while machines start"
kill_spares() {
	while [ -e "$T/killing" ]; do
		for pid in $(spare_pids); do kill -KILL "$pid" 2>/dev/null || true; done
		sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
	done
}
: >"$T/killing"
kill_spares &
killer=$!
started=0
for _ in $(seq 30); do
	# one that was taken a moment before is killed as any VMM is
	if echo start 2>/dev/null >"$M/m/ctl"; then
		started=$((started + 1))
		is "$(state_of m)" running
		do_ctl m kill
	else
		says '^(EIO|EPIPE) start: ' "$M/m/error"
	fi
	wait_for gone_vmm_of m
done
rm "$T/killing"
wait $killer
note "$started of 30 started"
do_ctl m start
is "$(state_of m)" running
do_ctl m kill
wait_for gone_vmm_of m
undefine m without
no_vmm
stop_daemon
wait_for no_spare
