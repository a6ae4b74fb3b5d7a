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
	define_guest "$@" on_reboot=stop
	if [[ $name = *-disk ]]; then
		mkdir "$M/$name/disks/x"
		put "$M/$name/disks/x/source" "$T/d.img"
	fi
	do_ctl "$name" start
	quiet() { [[ $(state_of "$name") =~ ^(stopped|crashed)$ ]] || console_has "$name" survived; }
	wait_for -t 300 quiet
	s=$(state_of "$name")
	note "$name: $s $(head -n 1 "$M/$name/error") $(tail -n 1 "$M/$name/console" | tr -d '\r')"
	[[ $name = *-all ]] || console_has "$name" survived || fail "$name: $(cat "$M/$name/console" "$M/$name/error")"
	[ "$s" != crashed ] || [ -s "$M/$name/error" ] || fail "crashed without a word"
	! grep -q 'Sanitizer\|runtime error' "$T/daemon.log" || fail "$name: $(cat "$T/daemon.log")"
	case $(cat "$M/$name/error") in
	*"VMM ended"* | *signal* | *SIGSEGV* | *SIGABRT* | *SIGSYS*) fail "$name killed its VMM: $(cat "$M/$name/error")" ;;
	esac
	undefine "$name"
}
for g in ports pcicfg; do
	mischief $g $g
	mischief $g-disk $g
done
mischief ports-all ports cmdline=all
note "hostile rings"
define_guest badring badring
mkdir "$M/badring/disks/x"
put "$M/badring/disks/x/source" "$T/d.img"
do_ctl badring start
ended() { [[ $(state_of badring) =~ ^(stopped|crashed)$ ]]; }
wait_for -t 300 ended
is "$(state_of badring)" stopped "$(cat "$M/badring/error")"
console_has badring '^badring: survived' || fail "$(cat "$M/badring/console")"

note "random bytes as code"
for seed in 1 2 3 4 5 6 7 8; do
	define_guest random$seed random cpus=2 on_crash=stop cmdline="seed=$seed$([ $((seed % 2)) = 0 ] || echo ' user')"
	do_ctl random$seed start
	# it may crash, or loop for ever; three looks at its state and registers
	for _ in 1 2 3; do
		cat "$M/random$seed/vcpu/0/registers" >/dev/null 2>&1 || true
		sleep 0.2
	done
	note "random$seed: $(state_of "random$seed") $(head -n 1 "$M/random$seed/error")"
	undefine "random$seed"
done
is "$(state_of neighbour)" running
a=$(stat -c %s "$M/neighbour/console")
more() { [ "$(stat -c %s "$M/neighbour/console")" -gt "$a" ]; }
wait_for more
