#!/bin/bash
# An image never makes us open what its user did not mean: what its header may name, whose files
# are opened, and that a format is found out once, when the source is set, and never again.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img
start_daemon
D=$M/m/disks/d
# names FILE BACKING [FORMAT]: FILE becomes a qcow2 image whose header names BACKING
names() { qemu-img create -q -f qcow2 -u -F "${3:-raw}" -b "$2" "$1" 1M; }
# starts WHAT: the machine starts, and is ended
starts() { do_ctl m start || fail "$1"; do_ctl m kill; }

mkdir "$T/images" "$T/elsewhere" "$T/images/sub"
truncate -s 1M "$T/images/base.raw" "$T/elsewhere/base.raw" "$T/images/sub/base.raw"
chmod 755 "$T"
define_guest m hello
mkdir "$D"
names "$T/images/top" base.raw
put "$D/source" "$T/images/top"
is "$(cat "$D/format")" qcow2
starts "a chain in its directory"

note "names that lead elsewhere"
for name in /dev/null /dev/zero /proc/self/mem /etc/passwd "$T/elsewhere/base.raw" ../elsewhere/base.raw \
	sub/../../elsewhere/base.raw //etc/passwd; do
	names "$T/images/top" "$name"
	refuses EACCES write "$M/m/ctl" start
	says "^EACCES start: disk d: .*$(basename "$name").*\`backing\`" "$M/m/error"
	is "$(state_of m)" stopped
done
for name in nbd:localhost:10809 nbd://localhost/x 'json:{"driver":"null-co"}' fat:rw:/etc http://localhost/x; do
	names "$T/images/top" "$name"
	refuses EOPNOTSUPP write "$M/m/ctl" start
	says 'is not a path' "$M/m/error"
done
names "$T/images/top" absent.raw
refuses ENOENT write "$M/m/ctl" start

note "loops, and chains without an end"
names "$T/images/top" top qcow2
refuses ELOOP write "$M/m/ctl" start
names "$T/images/top" other qcow2
names "$T/images/other" top qcow2
refuses ELOOP write "$M/m/ctl" start
ln -s other "$T/images/link"
names "$T/images/top" link qcow2
refuses EACCES write "$M/m/ctl" start
says 'symbolic link' "$M/m/error"

note "what is named in backing is permitted, and no more"
names "$T/images/top" ../elsewhere/base.raw
refuses EACCES write "$M/m/ctl" start
put "$D/backing" "$T/elsewhere/base.raw"
starts "with backing"
names "$T/images/top" ../elsewhere/other.raw
refuses EACCES write "$M/m/ctl" start
names "$T/images/top" sub/base.raw
starts "below its directory"
put "$D/backing" ""

note "a header without its backing file's format"
qemu-img create -q -f qcow2 "$T/images/top" 1M
python3 - "$T/images/top" <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    name = b"base.raw"
    f.seek(8); f.write(struct.pack(">QI", 1024, len(name)))
    f.seek(1024); f.write(name)
END
refuses EOPNOTSUPP write "$M/m/ctl" start
says 'format' "$M/m/error"

note "a raw disk stays raw, whatever its guest writes"
cp "$T/elsewhere/base.raw" "$T/images/guest.raw"
put "$D/source" "$T/images/guest.raw"
is "$(cat "$D/format")" raw
names "$T/images/evil" /etc/passwd
cat "$T/images/evil" >"$T/images/guest.raw" # as a guest could
truncate -s 1M "$T/images/guest.raw"
starts "raw with a header"
is "$(cat "$D/format")" raw
put "$D/source" "$T/images/guest.raw" # the same value again
is "$(cat "$D/format")" raw
cat "$M/m/config" >"$T/config"
cat "$T/config" >"$M/m/config"
is "$(cat "$D/format")" raw
sed -i '/format/d' "$T/config" # nor does a text that does not say make us look
cat "$T/config" >"$M/m/config"
is "$(cat "$D/format")" raw
kill_daemon
start_daemon
is "$(cat "$D/format")" raw
starts "raw after a new start"
put "$D/source" "$T/images/base.raw"
put "$D/source" "$T/images/guest.raw" # set to another value: looked at
is "$(cat "$D/format")" qcow2
refuses EACCES write "$M/m/ctl" start
put "$D/format" raw
starts "said to be raw"

note "a qcow2 image that is none"
head -c 1M /dev/urandom >"$T/images/noise"
put "$D/source" "$T/images/noise"
is "$(cat "$D/format")" raw
put "$D/format" qcow2
refuses EINVAL write "$M/m/ctl" start
says 'noise' "$M/m/error"
refuses EINVAL write "$D/format" vmdk

if [ "$(id -u)" = 0 ]; then
	note "files are opened as the owner may"
	names "$T/images/top" base.raw
	put "$D/source" "$T/images/top"
	chown -R 65534:65534 "$T/images"
	chown 65534:65534 "$M/m"
	starts "the owner's files"
	chown 0:0 "$T/images/base.raw"
	chmod 600 "$T/images/base.raw"
	refuses EACCES write "$M/m/ctl" start
	says 'base\.raw' "$M/m/error"
	is "$(setpriv --reuid=65534 --regid=65534 --clear-groups "$TOOLS/trycall" write "$D/source" "$T/images/base.raw")" \
		"write EACCES"
fi
