#!/bin/bash
# Pools and volumes belong to who made them; content is for whom the mode of `image` says; a directory
# is used with the rights of the pool's owner; handing over is chown.
# also: asan
. "${0%/*}/../lib.sh"

need_cmd setpriv
[ "$(id -u)" = 0 ] || skip "needs root to be several users"
as() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups "$@"; }
try() { local id=$1; shift; as "$id" "$TOOLS/trycall" "$@"; }
start_daemon -o allow_other
P=$MNT/pools
chmod 755 "$T"
mkdir "$T/alice" "$T/secret"
chown 1001:1001 "$T/alice"
chmod 700 "$T/secret"

as 1001 mkdir "$P/a"
is "$(stat -c %u:%g:%a "$P/a")" 1001:1001:755
is "$(try 1002 write "$P/a/source" "$T/alice")" 'open EACCES'
like "$(try 1002 rmdir "$P/a")" 'EACCES|EPERM'
like "$(try 1002 rename "$P/a" "$P/mine")" 'EACCES|EPERM'
is "$(as 1002 cat "$P/a/state")" inactive "others may look"

note "a directory that she cannot write is none for her pool"
got=$(try 1001 write "$P/a/source" "$T/secret")
[ "$got" != ok ] || [ "$(cat "$P/a/state")" = failed ] || fail "used a directory that she may not enter"
is "$(try 1001 write "$P/a/source" "$T/alice")" ok
is "$(cat "$P/a/state")" active

note "her volumes, and whose content is whose"
V=$P/a/volumes
as 1001 mkdir "$V/v"
is "$(try 1001 write "$V/v/size" 1M)" ok
is "$(stat -c %u:%a "$V/v") $(stat -c %u:%a "$V/v/image")" "1001:755 1001:600"
is "$(stat -c %u "$T/alice/v")" 1001
as 1001 sh -c 'printf hers | dd of="$1" conv=notrunc status=none' sh "$V/v/image"
is "$(as 1001 head -c 4 "$V/v/image")" hers
is "$(try 1002 read "$V/v/image")" 'open EACCES'
is "$(try 1002 write "$V/v/size" 2M)" 'open EACCES'
like "$(try 1002 mkdir "$V/w")" 'EACCES'
like "$(try 1002 rmdir "$V/v")" 'EACCES'
like "$(try 1002 truncate "$V/v/image")" 'EACCES'
as 1001 chmod 644 "$V/v/image"
is "$(as 1002 head -c 4 "$V/v/image")" hers
is "$(try 1002 write "$V/v/image" x)" 'open EACCES'
as 1001 chmod 700 "$P/a"
! as 1002 cat "$V/v/image" >/dev/null 2>&1 || fail "looked into a shut pool"
as 1001 chmod 755 "$P/a"

note "a machine of somebody else has it only with leave"
as 1002 mkdir "$M/bob"
as 1002 mkdir "$M/bob/disks/d"
as 1001 chmod 600 "$V/v/image"
like "$(try 1002 write "$M/bob/disks/d/source" a/v)" 'EACCES|ok'
put "$M/bob/disks/d/source" a/v # (root may name it)
like "$(try 1002 read "$M/bob/disks/d/image")" '^open EACCES$'
as 1001 chmod 666 "$V/v/image"
is "$(as 1002 head -c 4 "$M/bob/disks/d/image")" hers

note "handed over"
chown 1002:1002 "$V/v"
is "$(try 1002 write "$V/v/image" x)" ok
is "$(stat -c %u "$V/v/size")" 1002
kill_daemon
start_daemon -o allow_other
wait_for test -d "$V/v"
is "$(stat -c %u:%a "$V/v/image")" 1002:666 "after a restart"
is "$(stat -c %u "$P/a")" 1001
