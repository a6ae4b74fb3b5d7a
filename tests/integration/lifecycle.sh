#!/bin/bash
# The life of a machine that runs: start, hello on the console, pause, resume, reset, kill, start
# again; each is done when echo returns, and leaves no process behind.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
define_guest m hello
do_ctl m start
is "$(state_of m)" running
is "$(vmms)" 1 "processes"
wait_console m '^hello'
is "$(cat "$M/m/error")" ""
ls -d "$M/m/vcpu/0" >/dev/null
is "$(stat -c %s "$M/m/memory.img")" $((64 << 20))
[ -c "$(readlink -f "$M/m/tty")" ] || fail "tty is no terminal: $(readlink "$M/m/tty")"

do_ctl m pause
is "$(state_of m)" paused
do_ctl m resume
is "$(state_of m)" running
do_ctl m reset
is "$(state_of m)" running
twice() { [ "$(grep -c hello "$M/m/console")" = 2 ]; }
wait_for twice
is "$(vmms)" 1 "processes after a reset"
do_ctl m kill
is "$(state_of m)" stopped
wait_for no_vmm
is "$(ls "$M/m/vcpu")" ""
is "$(stat -c %s "$M/m/memory.img")" 0
is "$(grep -c hello "$M/m/console")" 2 "the console is kept"

for _ in $(seq 10); do
	do_ctl m start
	do_ctl m kill
done
wait_for no_vmm
do_ctl m start
wait_console m hello
printf 'pause\nresume\nkill\n' >"$M/m/ctl"
is "$(state_of m)" stopped
note "stop: this guest ignores the power button, so stop_timeout_s ends it"
do_ctl m start
put "$M/m/stop_timeout_s" 1
do_ctl m stop
wait_state m stopped
wait_for no_vmm
rmdir "$M/m"
