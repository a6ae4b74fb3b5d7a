#!/bin/bash
# More than 3 GiB (with the hole below 4 GiB), several vcpus, huge pages where there are some.
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
note "several vcpus"
boot smp smp cpus=3 cmdline=halt
wait_console smp 'smp: done'
console_has smp 'processors in the MADT 3'
console_has smp 'processors started 3'
is "$(ls "$M/smp/vcpu" | paste -sd ' ')" "0 1 2"
do_ctl smp kill

note "5 GiB: the guest writes to both ends of each piece of RAM"
for guest in memmap memmap_pvh; do
	define_guest $guest $guest cmdline="halt words of $guest"
	put "$M/$guest/memory" 5G
	do_ctl $guest start
	wait_console $guest '^memmap: '
	console_has $guest '^memmap: done' || fail "$guest: $(cat "$M/$guest/console")"
	console_has $guest "words of $guest"
	[ $guest = memmap ] || do_ctl $guest kill
done
python3 - "$M/memmap/memory.img" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
assert size == 6 << 30, size            # 5 GiB of RAM and 1 GiB of hole below 4 GiB
assert len(os.pread(fd, 4096, (6 << 30) - 4096)) == 4096
last = (6 << 30) - 4096
assert os.lseek(fd, last, os.SEEK_DATA) == last, "the last page was not written"
at = os.lseek(fd, 3 << 30, os.SEEK_DATA)
assert at >= 4 << 30, hex(at)           # nothing is in the hole
END
rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$(vmm_pids)/status")
[ "$rss" -lt 200000 ] || fail "5 GiB of untouched memory cost $rss KiB"
do_ctl memmap kill

note "huge pages: none reserved is said in words"
define huge kernel="$GUESTS/hello.elf" memory=64M hugepages=true
free=$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)
if [ "$free" -lt 32 ]; then
	refuses ENOMEM,ENOSPC write "$M/huge/ctl" start
	says '^E[A-Z]+ start: .*[Hh]uge' "$M/huge/error"
	echo $((free + 40)) >/proc/sys/vm/nr_hugepages 2>/dev/null || true
	reserved=yes
fi
free=$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)
if [ "$free" -ge 32 ]; then
	do_ctl huge start
	wait_console huge hello
	[ "$(awk '/^HugePages_(Free|Rsvd)/ { n += $1 == "HugePages_Free:" ? $2 : -$2 } END { print n }' /proc/meminfo)" -lt "$free" ]
	do_ctl huge kill
	[ -z "${reserved:-}" ] || echo 0 >/proc/sys/vm/nr_hugepages
else
	note "no huge pages to be had: not tried"
fi
put "$M/huge/hugepages" true
refuses EINVAL,ERANGE write "$M/huge/memory" 65M || true

note "more memory than the host has: refused in words or given lazily, never an OOM kill"
define vast kernel="$GUESTS/hello.elf"
got=$("$TOOLS/trycall" write "$M/vast/memory" 512G)
if [ "$got" = ok ]; then
	got=$("$TOOLS/trycall" write "$M/vast/ctl" start)
	[ "$got" = ok ] || says '^E[A-Z]+ start: ' "$M/vast/error"
fi
note "512G: $got"
