#!/bin/bash
# A VMM that is killed while its guest writes leaves an image that is sound, holds all that the
# guest flushed, and that the next start opens at once.
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img
start_daemon
# a new machine, so that its console says only what this run did
on_image() {
	define_guest m disk cmdline='write count=2048'
	mkdir "$M/m/disks/d"
	put "$M/m/disks/d/source" "$image"
	do_ctl m start
}
for options in cluster_size=64k cluster_size=512 lazy_refcounts=on extended_l2=on; do
	image=$T/${options%%=*}.qcow2
	rm -f "$image"
	qemu-img create -q -f qcow2 -o $options "$image" 64M
	for rounds in 1 2 3; do
		on_image
		wait_console m "round $rounds$"
		kill -KILL "$(vmm_pids)"
		wait_state m crashed
		like "$(cat "$M/m/error")" 'signal 9'
		# all that was flushed is there: the words of one round, and those of the one under way
		done=$(whole_lines "$M/m/console" | grep -ao 'round [0-9][0-9]*' | tail -n 1)
		# leaked clusters are no harm (status 3); corruption is (2)
		status=0
		[ "$options" = lazy_refcounts=on ] || qemu-img check -q "$image" >"$T/check.txt" 2>&1 || status=$?
		[[ $status = [03] ]] || fail "$options: $(cat "$T/check.txt")"
		qemu-img convert -q -f qcow2 -O raw "$image" "$T/raw"
		python3 - "$T/raw" "${done#round }" <<'END'
import array, sys
last = int(sys.argv[2])
with open(sys.argv[1], "rb") as f:
    f.seek(8 * 512)
    words = array.array("I", f.read(2048 * 512))
assert len(words) == 2048 * 128
rounds = {w - i for i, w in enumerate(words)}
# what was said to be flushed is there; words still on their way to the console say no more than that
assert min(rounds) >= last and max(rounds) - min(rounds) <= 1, (rounds, last)
END
		undefine m
	done
	on_image # what lazy refcounts left dirty is repaired
	wait_console m 'round 1$'
	do_ctl m kill
	status=0
	qemu-img check -q "$image" >"$T/check.txt" 2>&1 || status=$?
	[[ $status = [03] ]] || [ "$options" = lazy_refcounts=on ] || fail "$options: $(cat "$T/check.txt")"
	undefine m
done
