#!/bin/bash
# inotify sees what the daemon changes: state, error, events, the machines directory, a value
# behind the other view's back; and what another client does.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_cmd inotifywait
start_daemon
define m memory=64M
m=$M/m

# watch EVENT FILE: runs inotifywait in the background until that event; then seen()
watch() {
	rm -f "$T/watch.log"
	inotifywait -q -e "$1" -t 100 "${@:2}" >"$T/seen" 2>"$T/watch.log" &
	WATCHER=$!
	wait_for watching
}
# the kernel lists the watch for the process; or it saw a late event of what was before, and ended
watching() { grep -qs '^inotify' /proc/$WATCHER/fdinfo/3 || ! kill -0 $WATCHER 2>/dev/null; }
seen() { wait "$WATCHER" || fail "inotifywait saw nothing of $1: $(cat "$T/watch.log")"; }

watch create "$M"
mkdir "$M/new"
seen 'a new machine'
like "$(cat "$T/seen")" 'CREATE.*new'
watch delete "$M"
rmdir "$M/new"
seen 'a machine gone'
watch modify "$m/cpus"
echo 'cpus = 5;' >"$m/config"
seen 'cpus by way of config'
watch modify "$m/config"
put "$m/cpus" 6
seen 'config by way of cpus'
watch modify "$m/error"
"$TOOLS/trycall" write "$m/ctl" fly >/dev/null
seen 'error'
watch modify "$MNT/events"
"$TOOLS/trycall" write "$m/ctl" fly >/dev/null
seen 'events'
watch create "$m/disks"
truncate -s 1M "$T/d.img"
printf 'disks = { root = { source = "%s"; }; };\n' "$T/d.img" >"$m/config"
seen 'a disk by way of config'

[ -w /dev/kvm ] || exit 0
put "$m/kernel" "$GUESTS/hello.elf"
put "$m/memory" 64M
put "$m/cmdline" poweroff
note "the guest switches itself off: nobody wrote, watchers hear"
inotifywait -q -m -e modify "$m/state" >"$T/states" 2>/dev/null &
monitor=$!
wait_for grep -qs '^inotify' /proc/$monitor/fdinfo/3
watch modify "$m/console"
do_ctl m start
seen 'console'
wait_state m stopped
changed_twice() { [ "$(wc -l <"$T/states")" -ge 2 ]; }
wait_for changed_twice
kill $monitor
watch modify "$m/ctl"
do_ctl m start
seen 'ctl (what may be written)'
