#!/bin/bash
# Storage that does not answer any more, under images that are open: who reads or writes them
# waits, and can be killed; the tree, other images and all else go on; when it answers again, so does
# all that waited.
# also: asan tsan
. "${0%/*}/../lib.sh"

[ "$(id -u)" = 0 ] || skip "the mount that hangs is another daemon's, which needs root here"
# A second tree is the storage: its daemon is stopped.
mkdir "$T/other" "$T/store"
"$BUILD/filevisord" -f --state "$T/state2" --run "$T/run2" "$T/other" >"$T/other.log" 2>&1 &
other=$!
other_up() { mkdir "$T/other/pools/p"; }
wait_for other_up
put "$T/other/pools/p/source" "$T/store"
mkdir "$T/other/pools/p/volumes/v"
file=$T/other/pools/p/volumes/v/image
head -c 16M /dev/urandom >"$file"
start_daemon
head -c 2M /dev/urandom >"$T/fine.img"
define m
mkdir "$M/m/disks/d" "$M/m/disks/fine"
put "$M/m/disks/d/source" "$file"
put "$M/m/disks/fine/source" "$T/fine.img"
D=$M/m/disks/d/image
cmp "$file" "$D"

# (each opens it for itself, while it can: the kernel has one reader wait for another's place in a file)
fds=()
for i in 0 1 2 3 4 5 6 7 8 9 10 11; do
	exec {fd}<"$D"
	fds+=("$fd")
done
exec 5<"$D"
dd bs=1M count=1 of="$T/start" status=none <&5
kill -STOP $other

note "readers wait"
readers=()
# (behind what the kernel may have read ahead)
for i in "${!fds[@]}"; do
	dd bs=64k skip=$((100 + i)) count=1 of="$T/read$i" status=none <&"${fds[i]}" &
	readers+=($!)
done
waits() { grep -q '^Name:.*dd$' "/proc/$1/status" && grep -q '^State:.[SD]' "/proc/$1/status" && [ -e "$T/read$2" ]; }
for i in "${!readers[@]}"; do wait_for waits "${readers[i]}" "$i"; done
for fd in "${fds[@]}"; do exec {fd}<&-; done

note "all else goes on"
for i in 1 2 3; do cmp "$T/fine.img" "$M/m/disks/fine/image"; done
printf changed | dd of="$M/m/disks/fine/image" conv=notrunc status=none
is "$(head -c 7 "$M/m/disks/fine/image")" changed
is "$(stat -c %s "$D")" $((16 << 20))
ls -lR "$MNT" >/dev/null
cat "$M/m/config" "$MNT/events" >/dev/null
put "$M/m/cpus" 2
mkdir "$M/n" && rmdir "$M/n"

note "a reader that is killed is gone, also one whose turn has not come"
for i in 0 5 11; do
	kill -KILL "${readers[i]}"
	wait "${readers[i]}" 2>/dev/null && true
	[ ! -e "/proc/${readers[i]}" ] || fail "reader $i lives on"
done
kill -TERM "${readers[1]}" # (what asks for an end by default; one who catches it must wait)
wait "${readers[1]}" 2>/dev/null && true
python3 -c '
import os, signal
signal.signal(signal.SIGUSR1, lambda *a: None)
open("python", "w").close()
assert len(os.pread(5, 4096, 8 << 20)) == 4096' &
caught=$!
catches() { [ -e "$T/python" ] && grep -q '^State:.[SD]' "/proc/$caught/status"; }
wait_for catches
kill -USR1 $caught
sleep 0.3 # (nothing tells that it was not heard)
kill -0 $caught || fail "a read was interrupted by a signal that the reader catches"
like "$(timeout -s KILL 5 head -c 7 "$M/m/disks/fine/image")" changed

note "so is who opens it"
status=0
timeout -s KILL 2 cat "$D" >/dev/null || status=$?
is $status 137 "cat of what does not answer"

note "it answers again"
kill -CONT $other
for i in 2 3 4 6 7 8 9 10; do
	wait "${readers[i]}" || fail "reader $i"
done
wait $caught || fail "the reader that caught a signal"
exec 5<&-

note "writers: the same"
exec 6<>"$D"
kill -STOP $other
dd if=/dev/zero bs=64k count=4 status=none >&6 &
writer=$!
wait_for test -e /proc/$writer/fd/1
sleep 0.2
kill -KILL $writer
wait $writer 2>/dev/null && true
like "$(timeout -s KILL 5 head -c 7 "$M/m/disks/fine/image")" changed
kill -CONT $other
printf 'and on' >&6
exec 6>&-
closed() { is "$("$TOOLS/trycall" read "$D")" ok; }
wait_for closed
rmdir "$M/m"
stop_daemon
kill $other
wait $other
