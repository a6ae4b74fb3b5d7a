#!/bin/bash
# A machine's disk on a network server: a pool shows its exports, a volume of it is a disk; the server
# is killed and started again under the guest's writes, and forgets what was not flushed; the daemon
# too; the guest sees nothing but time. What is not there when it is wanted is refused with words.
# time: 240
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd nbdkit qemu-nbd
start_daemon
P=$MNT/pools/net
URI="nbd+unix:///?socket=$T/sock"
truncate -s 16M "$T/disk" "$T/store"

start_server() { # forgets at its death what was not flushed
	rm -f "$T/sock"
	nbdkit -f -U "$T/sock" --filter=cache file "$T/disk" cache=writeback "$@" >>"$T/server.log" 2>&1 &
	SERVER=$!
	wait_for test -S "$T/sock"
}
kill_server() {
	kill -KILL $SERVER
	wait $SERVER 2>/dev/null || true
}
stop_server() {
	kill $SERVER
	wait $SERVER || true
}
nbd_processes() { pgrep -fc '^filevisor-nbd .*--attach' || true; }
none_left() { [ "$(nbd_processes)" = 0 ]; }
round() { whole_lines "$M/m/console" | grep -ao '^round [0-9]*' | tail -n 1 | tr -dc 0-9; }
further() { [ "$(round || true)" -gt "$1" ]; }
some_rounds() {
	local now
	now=$(round || true)
	wait_for -t 120 further $((${now:-0} + 2))
}
fresh_machine() { # GUEST CMDLINE
	define_guest m "$1" cmdline="$2"
	mkdir "$M/m/disks/d"
	wait_for source_is "${3:-net/default}"
}
# A pool whose server was away is looked at again after a while: what uses it succeeds then.
source_is() { echo "$1" >"$M/m/disks/d/source"; }
started() { echo start >"$M/m/ctl"; }

note "a pool of exports"
start_server
mkdir "$P"
put "$P/type" nbd
put "$P/source" "$URI"
wait_for test -d "$P/volumes/default"
is "$(cat "$P/volumes/default/size")" $((16 << 20))
wait_for none_left

note "killed under load: not a request fails, and all is there"
fresh_machine disk 'write count=2048'
wait_for started
wait_console m 'round 1$'
for i in 1 2 3 4; do
	kill_server
	[ $((i % 2)) = 0 ] || sleep 0.3
	start_server
	some_rounds
done
is "$(nbd_processes)" 1
! console_has m 'disk: fails' || fail "the guest saw errors"

note "the daemon killed: the machine does not notice, and its disk is still in use"
kill_daemon
kill_server
umount -l "$MNT"
start_daemon
start_server
some_rounds
is "$(state_of m)" running
is "$(nbd_processes)" 1
wait_for test -d "$P/volumes/default"
is "$(cat "$P/volumes/default/users")" 'm disks/d'
last=$(round)
do_ctl m kill
wait_for none_left
stop_server
python3 - "$T/disk" "$last" <<'END'
import array, sys
last = int(sys.argv[2])
with open(sys.argv[1], "rb") as f:
    f.seek(8 * 512)
    words = array.array("I", f.read(2048 * 512))
rounds = [w - i & 0xffffffff for i, w in enumerate(words)]
assert min(rounds) >= last, (min(rounds), last)                 # what was flushed is there
assert max(rounds) <= min(rounds) + 1, (min(rounds), max(rounds))
END
undefine m

note "written, lost, and read back by the guest"
start_server
fresh_machine blk_write 'sector=0 count=32768 seed=99'
wait_for started
for i in 1 2 3; do
	sleep 0.1
	kill_server
	start_server
done
wait_for -t 120 state_is m stopped
like "$(cat "$M/m/console")" 'blk_write: done'
wait_for none_left
undefine m

note "taken into use and left while the machine runs"
printf '\x11\x11\x11\x11' | dd of="$T/store" conv=notrunc status=none
stop_server
printf '\x22\x22\x22\x22' | dd of="$T/disk" conv=notrunc status=none
start_server
fresh_machine disk '' "$T/store"
wait_for started
wait_console m "word $((0x11111111))"
is "$(nbd_processes)" 0
wait_for source_is net/default
wait_console m "word $((0x22222222))"
is "$(nbd_processes)" 1
put "$M/m/disks/d/source" "$T/store"
wait_for none_left
do_ctl m kill
undefine m

note "what cannot be had is refused"
kill_server
fresh_machine disk '' "$T/store"
got=$("$TOOLS/trycall" write "$M/m/disks/d/source" net/default)
if [ "$got" = ok ]; then # it was there when we looked: then it is missed at the start
	refuses ENOENT,ECONNREFUSED,ENXIO,EIO write "$M/m/ctl" start
	like "$(cat "$M/m/error")" '^E[A-Z]+ .*[a-z]{3}'
else
	like "$(cat "$M/m/error")" '^E[A-Z]+ .*[a-z]{3}'
fi
is "$(state_of m)" defined
wait_for none_left
undefine m
start_server --readonly
wait_for test -d "$P/volumes/default"
fresh_machine disk ''
readonly_said() { "$TOOLS/trycall" write "$M/m/ctl" start | grep -qE 'EROFS|EACCES'; }
wait_for readonly_said
put "$M/m/disks/d/readonly" true
wait_for started
wait_console m 'word'
do_ctl m kill
wait_for none_left
undefine m
stop_server
