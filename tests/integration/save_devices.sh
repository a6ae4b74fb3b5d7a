#!/bin/bash
# What is in devices when a machine is saved is there when it goes on: a writer of a disk with its
# requests under way, a disk in qcow2, interrupts of the serial port, typing that nobody has read yet.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img
vmm_forks
start_daemon
note "a guest that writes its disk all the while"
for format in raw qcow2; do
	image=$T/disk.$format
	qemu-img create -q -f $format "$image" 64M
	define_guest m disk cmdline='write count=512'
	mkdir "$M/m/disks/d"
	put "$M/m/disks/d/source" "$image"
	do_ctl m start
	rounds() { whole_lines "$M/m/console" | grep -ao '^round [0-9]*' | sed -n '$s/round //p'; }
	past() { [ "$(rounds)" -gt "$1" ]; }
	wait_console m 'round 2$'
	for _ in $(seq 8); do
		n=$(rounds)
		do_ctl m save
		is "$(state_of m)" saved
		do_ctl m start
		wait_for past "$n"
	done
	do_ctl m save
	last=$(rounds)
	whole_lines "$M/m/console" | grep -aE '^round [0-9]+' | awk '$2 != NR { print; exit 1 }' || fail "rounds lost or twice"
	! grep -aqi fail "$M/m/console" || fail "requests failed: $(grep -ai fail "$M/m/console" | head -n 3)"
	qemu-img convert -q -f $format -O raw "$image" "$T/raw"
	python3 - "$T/raw" "$last" <<'END'
import array, sys
last = int(sys.argv[2])
with open(sys.argv[1], "rb") as f:
    f.seek(8 * 512)
    words = array.array("I", f.read(512 * 512))
for i, w in enumerate(words):
    assert last <= w - i <= last + 1, (i, w - i, last)
END
	note "its disk is another one now: refused, and still saved"
	if [ $format = raw ]; then
		truncate -s 32M "$image"
		refuses EINVAL write "$M/m/ctl" start
		says 'disk d had 67108864 bytes when it was saved' "$M/m/error"
		is "$(state_of m)" saved
		truncate -s 64M "$image"
		do_ctl m start
		wait_for past "$last"
		do_ctl m save
	fi
	truncate -s 64M "$T/other"
	refuses EBUSY write "$M/m/disks/d/source" "$T/other"
	refuses EBUSY rmdir "$M/m/disks/d"
	refuses EBUSY write "$M/m/disks/d/ctl" 'resize 128M'
	refuses EBUSY write "$M/m/disks/d/image" x
	accepts read "$M/m/disks/d/image"
	do_ctl m discard
	rmdir "$M/m"
done

note "interrupts, and typing"
boot e echo_irq
echo hello >"$M/e/console"
wait_console e hello
do_ctl e pause
printf 'typed before\n' >"$M/e/console"
do_ctl e save
do_ctl e start
wait_console e 'typed before'
echo again >"$M/e/console"
wait_console e again
undefine e
