#!/bin/bash
# Disks: mkdir attaches, a guest reads and writes what the host sees; read-only is kept; what is
# absent, no file, unreadable, or used by another running machine is refused with words.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
truncate -s 8M "$T/a.img"
head -c $((64 << 10)) /dev/urandom >"$T/b.img"
mkdir "$T/dir"

define_guest w blk_write cmdline='sector=5 count=64 seed=7'
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
wait_state w stopped
like "$(cat "$M/w/console")" 'blk_write: done'
python3 - "$T/a.img" <<'END'
import struct, sys
data = open(sys.argv[1], "rb").read()
assert len(data) == 8 << 20
first, n = 5 * 128, 64 * 128                         # 64 sectors from sector 5, in words
words = struct.unpack_from("<%dI" % (first + n), data)
assert all(w == 0 for w in words[:first]), "before"
assert list(words[first:]) == [7 + i for i in range(first, first + n)], words[first:first+4]
assert not any(data[(5 + 64) * 512:]), "behind"
END
like "$(cat "$M/w/stats")" 'disk.data.write'

note "written on the host, read by the guest"
define_guest r blk_read
mkdir "$M/r/disks/data"
put "$M/r/disks/data/readonly" true
put "$M/r/disks/data/source" "$T/b.img"
sum=$(sha256sum "$T/b.img")
do_ctl r start
wait_state r stopped
python3 - "$T/b.img" "$M/r/console" <<'END'
import re, struct, sys
data = open(sys.argv[1], "rb").read()
words = struct.unpack("<%dI" % (len(data) // 4), data)
want = sum(w * i for i, w in enumerate(words, 1)) % (1 << 64)
said = open(sys.argv[2]).read()
got = re.search(r"checksum (0x[0-9a-f]+|[0-9]+)", said)
assert got and int(got[1], 0) == want, (said, hex(want))
assert "blk_read: done" in said
END

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
