#!/bin/bash
# A guest may do what it likes, to itself: writes to every port and every byte of PCI configuration
# space, rings with loops and addresses beyond RAM, random bytes as code. VMM and daemon survive,
# or the machine is crashed with words; its neighbour runs on.
# time: 400
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
boot neighbour count
truncate -s 4M "$T/d.img"

# mischief GUEST [KEY=VALUE]…: it ends or runs on, and can be killed and started again
mischief() {
	local name=$1 s
	boot "$@"
	mkdir "$M/$name/disks/x" 2>/dev/null || true
	quiet() { [[ $(state_of "$name") =~ ^(stopped|crashed)$ ]] || console_has "$name" '(ok|done|end|survived)'; }
	wait_for -t 200 quiet
	s=$(state_of "$name")
	note "$name: $s $(head -n 1 "$M/$name/error") $(tail -n 1 "$M/$name/console" | tr -d '\r')"
	[ "$s" != crashed ] || [ -s "$M/$name/error" ] || fail "crashed without a word"
	! grep -q 'Sanitizer\|runtime error' "$T/daemon.log" || fail "$name: $(cat "$T/daemon.log")"
	case $(cat "$M/$name/error") in
	*"VMM ended"* | *signal* | *SIGSEGV* | *SIGABRT* | *SIGSYS*) fail "$name killed its VMM: $(cat "$M/$name/error")" ;;
	esac
	[ "$s" = crashed ] || [ "$s" = stopped ] || do_ctl "$name" kill
	rmdir "$M/$name"
}
for g in ports pcicfg; do mischief $g $g; done
define_guest badring badring
mkdir "$M/badring/disks/x"
put "$M/badring/disks/x/source" "$T/d.img"
do_ctl badring start
ended() { [[ $(state_of badring) =~ ^(stopped|crashed)$ ]]; }
wait_for -t 200 ended
note "badring: $(state_of badring) $(head -n 1 "$M/badring/error"): $(tail -n 3 "$M/badring/console" | paste -sd ' ')"
is "$(state_of badring)" stopped

note "random bytes as code, in an ELF that is otherwise good"
for seed in 1 2 3 4 5 6; do
	python3 - "$GUESTS/hello.elf" "$T/random.elf" $seed <<'END'
import random, struct, sys
elf = bytearray(open(sys.argv[1], "rb").read())
r = random.Random(int(sys.argv[3]))
ph, n = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
for i in range(n):
    kind, flags, off, va, pa, filesz = struct.unpack_from("<IIQQQQ", elf, ph + 56 * i)
    if kind == 1:
        lo = max(off, 64 + 56 * n)
        elf[lo:off + filesz] = r.randbytes(max(0, off + filesz - lo))
open(sys.argv[2], "wb").write(elf)
END
	define "random$seed" kernel="$T/random.elf" memory=64M on_crash=stop cpus=2
	"$TOOLS/trycall" write "$M/random$seed/ctl" start >"$T/started"
	# it may crash, or loop for ever; three looks at its state and registers
	for _ in 1 2 3; do
		cat "$M/random$seed/vcpu/0/registers" >/dev/null 2>&1 || true
		sleep 0.3
	done
	note "random$seed: $(cat "$T/started"), $(state_of "random$seed") $(head -n 1 "$M/random$seed/error")"
	undefine "random$seed"
done
is "$(state_of neighbour)" running
a=$(stat -c %s "$M/neighbour/console")
more() { [ "$(stat -c %s "$M/neighbour/console")" -gt "$a" ]; }
wait_for more
