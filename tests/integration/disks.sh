#!/bin/bash
# Disks: mkdir attaches, a guest reads and writes what the host sees; read-only is kept; what is
# absent, no file, unreadable, or used by another running machine is refused with words.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
truncate -s 8M "$T/a.img"
head -c $((1 << 20)) /dev/urandom >"$T/b.img"
mkdir "$T/dir"

define_guest w blk_write
mkdir "$M/w/disks/data"
put "$M/w/disks/data/source" "$T/a.img"
like "$(ls "$M/w/disks/data")" 'readonly'
refuses EEXIST mkdir "$M/w/disks/data"

note "refused sources: nothing changes"
for s in "$T/absent" "$T/dir" relative "$T/a.img/x" ""; do
	got=$("$TOOLS/trycall" write "$M/w/disks/data/source" "$s")
	[ "$got" = ok ] || like "$got" '^write (ENOENT|EISDIR|EINVAL|ENOTDIR|EACCES|ENOTBLK)$' "source '$s'"
	[ "$got" != ok ] || [ -z "$s" ] || fail "source '$s' was taken"
	put "$M/w/disks/data/source" "$T/a.img"
done
like "$("$TOOLS/trycall" write "$M/w/disks/data/source" /dev/null)" '^write (EINVAL|ENOTBLK|ENODEV)'
is "$(cat "$M/w/disks/data/source")" "$T/a.img"

note "written by the guest, read on the host"
do_ctl w start
wait_console w 'blk_write: ok|write ok|done'
like "$(cat "$M/w/console")" '(ok|done)'
wait_state w stopped
[ "$(cmp -l "$T/a.img" <(head -c $((8 << 20)) /dev/zero) | wc -l)" -gt 0 ] || fail "nothing was written"
like "$(cat "$M/w/stats")" 'disk.data.write'

note "written on the host, read by the guest"
define_guest r blk_read
mkdir "$M/r/disks/data"
put "$M/r/disks/data/readonly" true
put "$M/r/disks/data/source" "$T/b.img"
sum=$(sha256sum "$T/b.img")
do_ctl r start
wait_state r stopped
note "$(tail -n 3 "$M/r/console")"

note "read-only is refused to the guest"
define_guest ro blk_write
mkdir "$M/ro/disks/data"
put "$M/ro/disks/data/readonly" true
put "$M/ro/disks/data/source" "$T/b.img"
do_ctl ro start
gone() { [[ $(state_of ro) =~ ^(stopped|crashed)$ ]]; }
wait_for gone
is "$(sha256sum "$T/b.img")" "$sum" "the read-only disk"

note "one writer only; readers may share"
define_guest u1 hello
define_guest u2 hello
for m in u1 u2; do
	mkdir "$M/$m/disks/d"
	put "$M/$m/disks/d/source" "$T/a.img"
done
do_ctl u1 start
refuses EBUSY write "$M/u2/ctl" start
says '^EBUSY start: .*a\.img.*in use.*u1' "$M/u2/error"
ln "$T/a.img" "$T/other-name.img"
put "$M/u2/disks/d/source" "$T/other-name.img"
refuses EBUSY write "$M/u2/ctl" start
put "$M/u2/disks/d/readonly" true
refuses EBUSY write "$M/u2/ctl" start
do_ctl u1 kill
put "$M/u1/disks/d/readonly" true
do_ctl u1 start
do_ctl u2 start
kill_daemon
start_daemon
define_guest u3 hello
mkdir "$M/u3/disks/d"
put "$M/u3/disks/d/source" "$T/a.img"
refuses EBUSY write "$M/u3/ctl" start
do_ctl u1 kill
do_ctl u2 kill
do_ctl u3 start
do_ctl u3 kill
rm "$T/a.img"
refuses ENOENT write "$M/u1/ctl" start
says '^ENOENT start: .*a\.img' "$M/u1/error"

note "many disks, and one too many"
define_guest many hello
for i in $(seq 40); do
	[ "$("$TOOLS/trycall" mkdir "$M/many/disks/d$i")" = ok ] || break
	truncate -s 1M "$T/d$i.img"
	put "$M/many/disks/d$i/source" "$T/d$i.img"
done
is "$(ls "$M/many/disks" | wc -l)" 26
refuses ENOSPC mkdir "$M/many/disks/more"
do_ctl many start
wait_console many hello
do_ctl many kill
rmdir "$M/many/disks/d3"
is "$(ls "$M/many/disks" | wc -l)" 25
