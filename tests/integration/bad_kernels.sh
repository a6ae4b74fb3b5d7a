#!/bin/bash
# Kernels and initrds that are none: refused with an errno and words, or a guest that crashes; the
# daemon and its neighbours take no harm and nothing leaks.
# time: 240
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd xz zstd lz4 gzip python3
start_daemon
boot neighbour hello
define m memory=64M
m=$M/m

mkdir "$T/dir"
: >"$T/empty"
head -c 100000 /dev/urandom >"$T/random"
head -c 300 "$GUESTS/hello.elf" >"$T/truncated"
python3 - "$GUESTS/hello.elf" "$T" <<'END'
import struct, sys
elf = bytearray(open(sys.argv[1], "rb").read())
def variant(name, at, data):
    e = bytearray(elf)
    e[at:at+len(data)] = data
    open(f"{sys.argv[2]}/{name}", "wb").write(e)
variant("arm", 18, struct.pack("<H", 183))              # e_machine
variant("phoff", 32, struct.pack("<Q", 1 << 62))
variant("phnum", 56, struct.pack("<H", 0xffff))
ph = struct.unpack_from("<Q", elf, 32)[0]
n = struct.unpack_from("<H", elf, 56)[0]
loads = [ph + 56 * i for i in range(n) if struct.unpack_from("<I", elf, ph + 56 * i)[0] == 1]
p = loads[0]
variant("paddr-high", p + 24, struct.pack("<Q", 1 << 40))
variant("paddr-wrap", p + 24, struct.pack("<Q", (1 << 64) - 4096))
variant("paddr-zero", p + 24, struct.pack("<Q", 0))
variant("memsz", p + 40, struct.pack("<Q", 1 << 50))
variant("filesz", p + 32, struct.pack("<Q", 1 << 50))
variant("offset", p + 8, struct.pack("<Q", 1 << 62))
END
for tool in gzip xz zstd lz4; do
	$tool -q -c <"$GUESTS/hello.elf" >"$T/hello.$tool"
	{ head -c 200 "$T/hello.$tool"; head -c 5000 /dev/urandom; } >"$T/cut.$tool"
	$tool -q -c <"$T/random" >"$T/random.$tool"
done
# a bomb: 4 GiB of nothing in a small file
head -c $((1 << 30)) /dev/zero | zstd -q -19 --long=30 -c >"$T/bomb.zstd" || head -c $((1 << 28)) /dev/zero | zstd -q -c >"$T/bomb.zstd"

# tried KERNEL: start is refused with words; or it was taken, and then the guest may only crash
tried() {
	local got
	got=$("$TOOLS/trycall" write "$m/kernel" "$1")
	if [ "$got" = ok ]; then
		got=$("$TOOLS/trycall" write "$m/ctl" start)
	fi
	note "${1##*/}: $got: $(head -n 1 "$m/error")"
	if [ "$got" = ok ]; then
		[[ ${1##*/} = paddr-zero ]] || fail "${1##*/} was started"
		do_ctl m kill 2>/dev/null || true
		return
	fi
	like "$got" '^write (ENOEXEC|EISDIR|EINVAL|ENOENT|EFBIG|EIO|ENODATA|ENOMEM|ENOSPC|EBADMSG|EACCES)$'
	says "^${got#write } (start|kernel): " "$m/error"
	[ "$(vmms)" = 1 ] || wait_for one_vmm
	like "$(state_of m)" '^(defined|stopped|crashed)$'
}
one_vmm() { [ "$(vmms)" = 1 ]; }
# once before counting, for what is kept for good
tried "$T/random"
wait_for spare_ready
fds=$(fds_of "$DAEMON")
for k in absent dir empty random truncated arm phoff phnum paddr-high paddr-wrap paddr-zero memsz filesz offset \
	cut.gzip cut.xz cut.zstd cut.lz4 random.gzip random.xz random.zstd random.lz4 bomb.zstd; do
	tried "$T/$k"
done
tried /dev/zero
tried relative/path
tried "$T/$(printf 'x%.0s' $(seq 300))"
wait_for one_vmm
same_fds() { [ "$(fds_of "$DAEMON")" = "$fds" ]; }
wait_for same_fds || fail "descriptors of the daemon: $(fds_of "$DAEMON"), were $fds"

note "an initrd that does not fit, or is none"
put "$m/kernel" "$GUESTS/hello.elf"
truncate -s 100M "$T/huge"
for i in "$T/huge" "$T/dir" "$T/absent"; do
	got=$("$TOOLS/trycall" write "$m/initrd" "$i")
	[ "$got" != ok ] || got=$("$TOOLS/trycall" write "$m/ctl" start)
	like "$got" '^write (EFBIG|ENOSPC|EISDIR|EINVAL|ENOENT|ENOMEM)$' "initrd ${i##*/}"
	says '^E[A-Z]+ (start|initrd): ' "$m/error"
done
put "$m/initrd" ""

note "every packing of a good one boots"
for tool in gzip xz zstd lz4; do
	put "$m/kernel" "$T/hello.$tool"
	do_ctl m start
	has() { [ "$(grep -c hello "$m/console")" -ge "$want" ]; }
	want=$((${want:-0} + 1))
	wait_for has
	do_ctl m kill
done
is "$(state_of neighbour)" running
