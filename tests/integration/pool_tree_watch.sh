#!/bin/bash
# inotify sees pools and volumes come, change and go: by another client's hand, and when
# somebody copies a file into a pool's directory or takes one away.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_cmd inotifywait
start_daemon
P=$MNT/pools
mkdir "$T/store" "$P/p"

# listen FILE…: what happens to these is in $T/heard from now on
listen() {
	: >"$T/heard"
	inotifywait -q -m -e create,delete,modify --format '%w%f %e' "$@" >"$T/heard" 2>/dev/null &
	LISTENER=$!
	wait_for listening $#
}
listening() { [ "$(grep -cs '^inotify' /proc/$LISTENER/fdinfo/3)" = "$1" ]; }
heard() { grep -qx "$MNT/$1" "$T/heard"; }
count() { grep -cx "$MNT/$1" "$T/heard" || true; }
silence() { kill $LISTENER; wait $LISTENER 2>/dev/null || true; }

listen "$P" "$P/p" "$P/p/volumes" "$P/p/state"
mkdir "$P/q"
wait_for heard 'pools/q CREATE,ISDIR'
rmdir "$P/q"
wait_for heard 'pools/q DELETE,ISDIR'
put "$P/p/source" "$T/store"
wait_for heard 'pools/p/state MODIFY'
mkdir "$P/p/volumes/v"
wait_for heard 'pools/p/volumes/v CREATE,ISDIR'

note "files come and go in its directory"
truncate -s 1M "$T/store/came"
wait_for heard 'pools/p/volumes/came CREATE,ISDIR'
[ -f "$P/p/volumes/came/image" ]
rm "$T/store/came"
wait_for heard 'pools/p/volumes/came DELETE,ISDIR'
[ ! -e "$P/p/volumes/came" ]
is "$(count 'pools/p/volumes/v CREATE,ISDIR')" 1 "a client's own mkdir is told once"
silence

note "values of a volume"
V=$P/p/volumes/v
cat "$V"/* >/dev/null
listen "$V/image" "$V/format" "$V/size" "$V/error"
put "$V/size" 4M
wait_for heard 'pools/p/volumes/v/image MODIFY'
wait_for heard 'pools/p/volumes/v/size MODIFY'
put "$V/format" qcow2
wait_for heard 'pools/p/volumes/v/format MODIFY'
"$TOOLS/trycall" write "$V/ctl" fly >/dev/null
wait_for heard 'pools/p/volumes/v/error MODIFY'
silence

note "the directory of a volume that went says so itself"
truncate -s 1M "$T/store/gone"
wait_for test -d "$P/p/volumes/gone"
inotifywait -q -t 100 -e delete_self "$P/p/volumes/gone" >"$T/seen" 2>/dev/null &
watcher=$!
wait_for grep -qs '^inotify' /proc/$watcher/fdinfo/3
rm "$T/store/gone"
wait $watcher
