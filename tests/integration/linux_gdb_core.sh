#!/bin/bash
# gdb opens vmlinux with the core of the running guest, and with the `core` copied: the kernel's
# banner and every vcpu are there; a daemon killed meanwhile makes no hole in the console.
# time: 400
. "${0%/*}/../lib.sh"

need_linux
need_cmd gdb
start_daemon
boot_linux m cpus=2
put "$M/m/console" 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo "n=$i."; done'
wait_console m 'n=20\.'
kill_daemon
sleep 1
start_daemon
wait_for -t 120 console_has m 'n=400\.'
tr -d '\r' <"$M/m/console" | grep -ao 'n=[0-9]*\.' >"$T/numbers"
seq -f 'n=%g.' 400 | cmp - "$T/numbers" || fail "the console has a hole"

for core in "$M/m/core" "$T/core"; do
	[ -e "$core" ] || cp --sparse=always "$M/m/core" "$core"
	timeout 100 gdb -nx -batch -ex 'x/s (char *) &linux_banner' -ex 'info threads' "$LINUX/vmlinux" "$core" >"$T/gdb.log" 2>&1 || true
	grep -q 'Linux version' "$T/gdb.log" || fail "gdb does not see the banner"
	is "$(grep -c '^[* ] *[0-9]* *\(LWP\|Thread\|process\|<main\)' "$T/gdb.log")" 2 "threads"
done
do_ctl m kill
