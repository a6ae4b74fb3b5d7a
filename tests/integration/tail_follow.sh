#!/bin/bash
# tail -f follows `console` and `events`, in both of tail's ways (inotify and polling).
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
define_guest m hello
tail -n +1 -F "$M/m/console" >"$T/inotify" 2>/dev/null &
a=$!
tail -n +1 ---disable-inotify -s 0.1 -F "$M/m/console" >"$T/polling" 2>/dev/null &
b=$!
tail -n +1 -f "$MNT/events" >"$T/events" &
c=$!
for i in 1 2 3; do
	do_ctl m start
	wait_console m hello
	for f in inotify polling; do
		lines() { [ "$(grep -c hello "$T/$f")" -ge "$i" ]; }
		wait_for lines
	done
	runs() { [ "$(grep -c '"to":"running"' "$T/events")" = "$i" ]; }
	wait_for runs
	do_ctl m kill
done
is "$(grep -c hello "$T/inotify")" 3
is "$(grep -c hello "$T/polling")" 3
kill $a $b $c
