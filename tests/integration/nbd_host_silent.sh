#!/bin/bash
# A server whose host does not answer any more, neither where something was sent to it nor where we
# only wait, is given up after half a minute, and found again when it is back: nothing is lost.
# time: 200
. "${0%/*}/../lib.sh"

need_cmd nbdkit qemu-nbd ip
NBD=$BUILD/filevisor-nbd IO=$TOOLS/nbd_io
truncate -s 16M "$T/many.disk" "$T/one.disk"
nbdkit -f -i 127.0.0.1 -p 10822 --filter=cache file "$T/many.disk" cache=writeback 2>>"$T/server.log" &
servers=($!)
qemu-nbd -t -f raw -b 127.0.0.1 -p 10823 "$T/one.disk" 2>>"$T/server.log" &
servers+=($!)
answers() { "$IO" info "$NBD" "$1" - >"$T/info.out" 2>>"$T/info.log"; }
# load NAME URI
load() {
	wait_for answers "$2"
	"$IO" load "$NBD" "$2" - "$T/$1.shadow" 3 0 until="$T/stop" flush=100 \
		>"$T/$1.out" 2>"$T/$1.log" &
	loads+=($!)
}
told() { grep -q -- "$2" "$T/$1.log"; }
progress() { grep -c '^done' "$T/$1.out" || true; }
further() { [ "$(progress "$1")" -gt "$2" ]; }
loads=()
load many nbd://127.0.0.1:10822/
load one nbd://127.0.0.1:10823/
wait_for further many 2
wait_for further one 2
ip link set lo down
wait_for -t 100 told many ': lost: '
wait_for -t 100 told one ': lost: '
ip link set lo up
for n in many one; do
	wait_for told $n 'is back'
	wait_for further $n "$(progress $n)"
done
touch "$T/stop"
ended() { ! kill -0 "$1" 2>/dev/null; }
for l in "${loads[@]}"; do
	wait_for -t 100 ended "$l"
	wait "$l" || fail "$(cat "$T/many.log" "$T/one.log")"
done
no_nbd() { ! pgrep -f '^filevisor-nbd' >"$T/pids"; }
wait_for no_nbd
# What was flushed last is in the files. (Asked to end, a server may wait for ever for a connection whose
# end it did not hear of while the line was down.)
kill -KILL "${servers[@]}"
wait "${servers[@]}" 2>/dev/null || true
cmp "$T/many.disk" "$T/many.shadow"
cmp "$T/one.disk" "$T/one.shadow"
like "$(cat "$T/one.log")" "host does not answer|timed out"
