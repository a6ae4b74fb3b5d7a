#!/bin/bash
# A pool is its owner's: the directory is opened with his rights, what he makes there is his, and
# nobody else can have him open what they name. Volumes have owners of their own.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_cmd setpriv qemu-img
[ "$(id -u)" = 0 ] || skip "needs root to be several users"
as() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups "$@"; }
try() { local id=$1; shift; as "$id" "$TOOLS/trycall" "$@"; }
start_daemon -o allow_other
P=$MNT/pools
chmod 1777 "$P"
mkdir "$T/alice" "$T/bob" "$T/roots"
chown 1001:1001 "$T/alice"
chown 1002:1002 "$T/bob"
chmod 700 "$T/alice" "$T/bob" "$T/roots"
chmod 755 "$T"

as 1001 mkdir "$P/a"
like "$(try 1001 write "$P/a/source" "$T/roots")" 'write EACCES'
like "$(try 1001 write "$P/a/source" "$T/bob")" 'write EACCES'
is "$(try 1001 write "$P/a/source" "$T/alice")" ok
is "$(try 1002 write "$P/a/source" "$T/bob")" "open EACCES"
as 1001 chmod 666 "$P/a/source"
like "$(try 1002 write "$P/a/source" "$T/bob")" 'write EPERM'
is "$(cat "$P/a/source")" "$T/alice"
like "$(try 1001 write "$P/a/type" lvm)" 'write EPERM'

as 1001 mkdir "$P/a/volumes/v"
is "$(stat -c %u:%a "$T/alice/v")" 1001:600
is "$(try 1001 write "$P/a/volumes/v/size" 1M)" ok
is "$(try 1002 write "$P/a/volumes/v/size" 2M)" "open EACCES"
like "$(try 1002 mkdir "$P/a/volumes/w")" EACCES

note "an image that names what its pool's owner may read, and not in his pool"
echo secret >"$T/alice.secret"
chown 1001 "$T/alice.secret"
chmod 600 "$T/alice.secret"
truncate -s 1M "$T/alice.secret"
as 1001 qemu-img create -q -u -f qcow2 -b "$T/alice.secret" -F raw "$T/alice/evil" 1M
wait_for test -d "$P/a/volumes/evil"
put "$P/a/ctl" refresh
like "$(as 1001 "$TOOLS/trycall" read "$P/a/volumes/evil/image")" 'EACCES'
like "$(try 1001 write "$P/a/volumes/evil/backing" "$T/alice.secret")" ok
as 1001 head -c 6 "$P/a/volumes/evil/image" | grep -q secret

note "handed over"
chown -R 1002:1002 "$T/alice"
chown 1002:1002 "$P/a"
wait_for grep -q '^active$' "$P/a/state"
is "$(stat -c %u "$P/a")" 1002
