#!/bin/bash
# find, grep -r, tar, rsync -r, cp -r, ls -lR and du of the whole tree end, whatever state the
# machines are in: no read blocks, sizes are true.
# time: 240
# also: asan
. "${0%/*}/../lib.sh"

need_cmd rsync tar
start_daemon
define defined memory=64M
if [ -w /dev/kvm ]; then
	boot running hello
	boot paused hello
	do_ctl paused pause
	boot stopped hello
	do_ctl stopped kill
	wait_console running hello
fi

# walks HOW COMMAND…: ends, and well
walks() {
	local how=$1
	shift
	timeout -s KILL 100 "$@" >"$T/out" 2>"$T/err.log" </dev/null || fail "$how: $? $(tail -n 5 "$T/err.log")"
}
walks find find "$MNT" -ls
walks ls ls -lR "$MNT"
walks du du -a "$MNT"
walks 'grep -r' grep -r . "$MNT" --exclude=memory.img --exclude=core
walks 'grep -r of all' grep -ra --binary-files=without-match 'hello' "$MNT"
walks tar tar cf "$T/tree.tar" -C "$T" mnt
tar tf "$T/tree.tar" >/dev/null
walks rsync rsync -r --no-perms "$MNT/" "$T/copy/"
[ -s "$T/copy/machines/defined/config" ]
rm -rf "$T/copy"
mkdir "$T/copy"
walks 'cp -r' cp -r "$MNT/machines" "$T/copy/"
is "$(cat "$T/copy/machines/defined/state")" defined
if [ -w /dev/kvm ]; then
	is "$(cat "$T/copy/machines/paused/state")" paused
	cmp "$T/copy/machines/paused/memory.img" "$M/paused/memory.img"
fi
walks cat sh -c 'find "$MNT" -type f ! -name memory.img ! -name core -exec cat {} +'

note "every regular file's size is what a read gives, but for live ones"
find "$MNT" -type f ! -name stats ! -name metrics ! -name events ! -name memory.img ! -name core \
	! -path '*/registers' ! -path '*/host/*' -print0 |
	while IFS= read -r -d '' f; do
		is "$(stat -c %s "$f")" "$(wc -c <"$f")" "size of $f"
	done
note "and a zero size never hides contents"
find "$MNT" -type f -size 0 ! -name memory.img ! -name core -print0 | while IFS= read -r -d '' f; do
	is "$(wc -c <"$f")" 0 "contents of the empty $f"
done
[ "$(grep -c . "$MNT/README")" -gt 5 ]
