#!/bin/bash
# memory.img is guest RAM, random access, true size, holes; `registers` is text that never varies
# in length; `core` is an ELF core that gdb and readelf open.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd gdb readelf python3
start_daemon
boot m hello cpus=2 memory=80M
wait_console m hello
m=$M/m
do_ctl m pause
is "$(stat -c %s "$m/memory.img")" $((80 << 20))
python3 - "$m/memory.img" "$GUESTS/hello.elf" <<'END'
import os, struct, sys
elf = open(sys.argv[2], "rb").read()
fd = os.open(sys.argv[1], os.O_RDONLY)
ph, n = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
checked = 0
for i in range(n):
    kind, flags, off, va, pa, filesz = struct.unpack_from("<IIQQQQ", elf, ph + 56 * i)
    if kind == 1 and not flags & 2:         # text and constants are as they were loaded
        got = b""
        while len(got) < filesz:
            got += os.pread(fd, filesz - len(got), pa + len(got))
        assert got == elf[off:off+filesz], (i, hex(pa))
        checked += filesz
if not checked:                              # one segment for all: its first bytes are code
    entry = struct.unpack_from("<Q", elf, 24)[0]
    for i in range(n):
        kind, flags, off, va, pa, filesz = struct.unpack_from("<IIQQQQ", elf, ph + 56 * i)
        if kind == 1 and va <= entry < va + filesz:
            at = off + entry - va
            assert os.pread(fd, 64, pa + entry - va) == elf[at:at+64]
            checked += 64
assert checked
assert os.pread(fd, 100, 80 << 20) == b""
assert len(os.pread(fd, 100, (80 << 20) - 10)) == 10
hole = os.lseek(fd, 0, os.SEEK_HOLE)
assert hole < 80 << 20, "no hole in fresh memory"
data = os.lseek(fd, 0, os.SEEK_DATA)
assert 0 <= data < 1 << 21, data
END
note "a copy is sparse and equal"
cp --sparse=always "$m/memory.img" "$T/ram"
cmp "$T/ram" "$m/memory.img"

note "registers"
a=$(cat "$m/vcpu/0/registers")
like "$a" 'rip'
like "$a" 'cr3'
is "$(stat -c %s "$m/vcpu/0/registers")" "$(wc -c <"$m/vcpu/0/registers")"
is "$(wc -c <"$m/vcpu/1/registers")" "$(wc -c <"$m/vcpu/0/registers")"
[ -n "$(cat "$m/vcpu/0/state")" ]

note "core"
readelf -h "$m/core" >"$T/h" 2>&1 || fail "$(cat "$T/h")"
like "$(cat "$T/h")" 'CORE'
readelf -n "$m/core" >"$T/n" 2>/dev/null
is "$(grep -c PRSTATUS "$T/n")" 2 "notes: one for each vcpu"
like "$(readelf -lW "$m/core")" LOAD
rip=$(sed -n 's/^rip[ =]*//p' "$m/vcpu/0/registers" | head -n 1)
gdb -nx -batch -ex 'info registers rip' -ex 'info threads' "$GUESTS/hello.elf" "$m/core" >"$T/gdb" 2>&1
like "$(cat "$T/gdb")" "${rip#0x}|$(printf '0x%x' "$((16#${rip#0x}))")" "gdb: $(cat "$T/gdb")"
is "$(stat -c %s "$m/core")" "$(wc -c <"$m/core")" "size of core"
do_ctl m kill
like "$("$TOOLS/trycall" read "$m/core")" '(ok|ENODEV|ENODATA|ENXIO)'
is "$(stat -c %s "$m/core")" 0
