#!/bin/bash
# Writes at odd offsets and in one-byte pieces: a document is collected whole, an attribute takes
# each write as the whole value, logs take typing at any offset; none of it corrupts or hangs.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M cpus=2
m=$M/m

note "documents"
accepts bytewise "$m/config" 'cpus = 12;'
is "$(cat "$m/cpus")" 12
printf 'cpus = 13;\n' | dd of="$m/config" bs=1 status=none
is "$(cat "$m/cpus")" 13
printf '# a comment behind the text that is there\n' >>"$m/config"
is "$(cat "$m/cpus")" 13
refuses EINVAL append "$m/config" 'cpus = 14;' # twice now
is "$(cat "$m/cpus")" 13
python3 - "$m/config" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
text = b"cpus = 14;\n# tail\n"
for i in reversed(range(len(text))):       # backwards
    assert os.pwrite(fd, text[i:i+1], i) == 1
os.close(fd)
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    os.pwrite(fd, b"x", 1 << 40)
    raise SystemExit("a write at 1 TiB was taken")
except OSError as e:
    import errno
    assert e.errno == errno.EFBIG, e
try:
    os.close(fd)
except OSError:
    pass
END
is "$(cat "$m/cpus")" 14
{ echo 'cpus = 15;'; sleep 0.1; echo 'memory = "96M";'; } >"$m/config"
is "$(cat "$m/cpus") $(cat "$m/memory")" "15 $((96 << 20))"
# fsync takes the text as close does
printf 'cpus = 16;\n' | dd of="$m/config" conv=fsync status=none
is "$(cat "$m/cpus")" 16

note "attributes"
printf 'x17\n' | dd of="$m/cpus" bs=4 count=1 status=none 2>/dev/null && fail "x17 cpus"
accepts pwrite "$m/cpus" 17 1000
is "$(cat "$m/cpus")" 17
accepts append "$m/cpus" 18
is "$(cat "$m/cpus")" 18
is "$("$TOOLS/trycall" twice "$m/cpus" '1\n' '9\n')" ok
is "$(cat "$m/cpus")" 9
accepts truncate "$m/cpus"
is "$(cat "$m/cpus")" 9 "truncation changes nothing"
refuses EFBIG,EINVAL fill "$m/cpus" 300000 1
is "$(cat "$m/cpus")" 9

note "what cannot be written"
for f in state error stats metrics memory.img core README; do
	got=$("$TOOLS/trycall" write "$m/$f" x)
	like "$got" ' (EACCES|EPERM|EROFS|EINVAL|EBADF|EOPNOTSUPP)$' "write to $f"
done
is "$(state_of m)" defined
