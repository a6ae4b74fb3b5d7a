#!/bin/bash
# Pools and volumes as directories: mkdir, values, rmdir, mv; refusals by errno, with words in the
# nearest `error`; what copiers and walkers do; all of it there again after a restart.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
P=$MNT/pools
mkdir "$T/store" "$T/other"

note "a pool: made, set, named anew"
mkdir "$P/ssd"
is "$(cat "$P/ssd/state")" inactive
is "$(cat "$P/ssd/type")" dir
is "$(ls "$P/ssd/volumes")" ""
refuses EEXIST mkdir "$P/ssd"
refuses EINVAL mkdir "$P/.hidden"
says '^EINVAL mkdir .hidden: ' "$MNT/error"
refuses EPERM,EACCES create "$P/file"
refuses EINVAL write "$P/ssd/type" floppy
refuses EINVAL write "$P/ssd/source" relative
got=$("$TOOLS/trycall" write "$P/ssd/source" "$T/absent")
[ "$got" = ok ] || like "$got" '^write (ENOENT|EINVAL)$'
is "$("$TOOLS/trycall" write "$P/ssd/state" active)" "open EACCES"
is "$("$TOOLS/trycall" write "$P/ssd/capacity" 1)" "open EACCES"
put "$P/ssd/source" "$T/store"
is "$(cat "$P/ssd/source")" "$T/store"
is "$(cat "$P/ssd/state")" active
is "$(cat "$P/ssd/error")" ""
[ "$(cat "$P/ssd/capacity")" -gt 0 ]
is "$(df --output=size -B4096 "$P/ssd/state" | tail -n 1 | tr -d ' ')" $(($(cat "$P/ssd/capacity") / 4096)) "df of a pool"
put "$P/ssd/ctl" refresh
refuses EINVAL write "$P/ssd/ctl" fly
says '^EINVAL fly: ' "$P/ssd/error"
refuses EEXIST,EINVAL,EPERM mkdir "$P/ssd/state"
mv "$P/ssd" "$P/disk"
[ ! -e "$P/ssd" ]
mkdir "$P/ssd"
refuses EEXIST rename "$P/ssd" "$P/disk"
rmdir "$P/ssd"
mv "$P/disk" "$P/ssd"

note "a volume: made, set, its keys in any order while it is new"
V=$P/ssd/volumes
mkdir "$V/root"
is "$(cat "$V/root/format") $(cat "$V/root/size")" "raw 0"
[ -f "$T/store/root" ]
put "$V/root/size" 8M
put "$V/root/format" qcow2
put "$V/root/cluster_size" 4K
is "$(cat "$V/root/size") $(cat "$V/root/format") $(cat "$V/root/cluster_size")" "8388608 qcow2 4096"
is "$(stat -c %s "$V/root/image")" 8388608
like "$(cat "$V/root/info")" 'cluster_size 4096'
mkdir "$V/over"
put "$V/over/format" qcow2
put "$V/over/backing" root
is "$(cat "$V/over/size")" 8388608 "size, of what it is over"
refuses EBUSY rmdir "$V/root"
says '^EBUSY rmdir root: ' "$V/root/error"
refuses EEXIST mkdir "$V/root"
refuses EINVAL write "$V/root/size" many
refuses EINVAL write "$V/root/format" vmdk
refuses EINVAL write "$V/root/ctl" 'fly away'
is "$("$TOOLS/trycall" write "$V/root/users" me)" "open EACCES"
is "$("$TOOLS/trycall" write "$V/root/allocation" 1)" "open EACCES"
refuses EPERM,EACCES create "$V/root/notes"
refuses EPERM,EACCES create "$V/notes"
refuses EINVAL mkdir "$V/$(printf 'x%.0s' {1..200})"
rmdir "$V/over" "$V/root"
is "$(ls -A "$T/store")" ""

note "a file in its directory is a volume"
truncate -s 1M "$T/store/came.img"
wait_for test -d "$V/came.img"
is "$(stat -c %s "$V/came.img/image")" 1048576
mkdir "$T/store/directory"
mkfifo "$T/store/fifo"
put "$P/ssd/ctl" refresh
is "$(ls "$V")" came.img
rmdir "$V/came.img"
[ ! -e "$T/store/came.img" ]

note "modes and owners"
is "$(stat -c %a "$P")" 1777
(umask 027 && mkdir "$V/mine")
is "$(stat -c %a "$V/mine")" 750
is "$(stat -c '%a %a' "$V/mine/image")" "600 600"
is "$(stat -c %a "$V/mine/size")" 640
chmod 644 "$V/mine/image"
is "$(stat -c %a "$V/mine/image")" 644
chmod 700 "$V/mine"
is "$(stat -c %a "$V/mine/size")" 600
if [ "$(id -u)" = 0 ]; then
	chown 1001:1002 "$P/ssd"
	is "$(stat -c %u:%g "$P/ssd/source" "$V")" "$(printf '1001:1002\n1001:1002')"
	is "$(stat -c %u "$V/mine/size")" 0 "a volume belongs to who made it"
	chown 1003 "$V/mine"
	is "$(stat -c %u "$V/mine/image")" 1003
	like "$("$TOOLS/trycall" chown "$V/mine/size" 7)" EPERM
	chown 0:0 "$P/ssd" "$V/mine"
fi

note "editors and copiers"
put "$V/mine/size" 1M
sed -i 's/.*/2M/' "$V/mine/size"
is "$(cat "$V/mine/size")" 2097152
printf 'some content' | dd of="$V/mine/image" conv=notrunc status=none
(umask 022 && cp -r "$V/mine" "$V/copy" 2>"$T/cp.txt") && true
is "$(cat "$V/copy/size")" 2097152 "cp -r of a volume"
cmp "$V/mine/image" "$V/copy/image"
timeout -s KILL 100 cp -r "$P" "$T/saved"
cmp "$T/saved/ssd/volumes/mine/image" "$V/mine/image"
timeout -s KILL 100 grep -r nothing "$P" || is $? 1 "grep -r"
timeout -s KILL 100 tar cf /dev/null -C "$MNT" pools
find "$P" -type f ! -name image -print0 | while IFS= read -r -d '' f; do
	is "$(stat -c %s "$f")" "$(wc -c <"$f")" "size of $f"
done
rmdir "$V/copy"
grep -q 'volumes/NAME:' "$P/ssd/README"
grep -q 'snapshot NAME' "$P/ssd/README"

note "all of it is there again"
kill_daemon
start_daemon
wait_for test -d "$V/mine"
is "$(cat "$P/ssd/source")" "$T/store"
is "$(stat -c %a "$V/mine/image")" 644
is "$(cat "$V/mine/size")" 2097152

note "rmdir forgets the pool, not what it holds"
rmdir "$P/ssd"
[ -f "$T/store/mine" ]
is "$(ls "$P")" ""
