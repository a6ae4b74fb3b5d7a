#!/bin/bash
# A network disk under load while its server is killed and started again, stopped and continued:
# every request is answered, and nothing that was answered is lost, though the server forgets at each
# death whatever was not flushed. The process in between ends with who it works for.
# time: 300
# also: asan
. "${0%/*}/../lib.sh"

need_cmd nbdkit qemu-nbd qemu-img psktool
NBD=$BUILD/filevisor-nbd IO=$TOOLS/nbd_io
nbd_processes() { pgrep -fc '^filevisor-nbd' || true; }
none_left() { [ "$(nbd_processes)" = 0 ]; }
file_has() { grep -q -- "$2" "$1"; }

# Servers: each function starts one in the foreground
forgetful() { # what is not flushed dies with it
	exec nbdkit -f -U "$T/sock" --filter=cache file "$T/disk" cache=writeback "$@"
}
over_tcp() { exec qemu-nbd -t -f raw -x disk -b 127.0.0.1 -p 10810 "$T/disk"; }
over_tls() {
	exec nbdkit -f -i 127.0.0.1 -p 10811 --tls=require --tls-psk="$T/psk" -e disk \
		--filter=cache file "$T/disk" cache=writeback
}
one_connection() {
	exec nbdkit -f -U "$T/sock" --filter=multi-conn --filter=cache file "$T/disk" cache=writeback \
		multi-conn-mode=disable multi-conn-track-dirty=off
}
no_fua() { exec nbdkit -f -U "$T/sock" --filter=fua --filter=cache file "$T/disk" cache=writeback; }
start_server() {
	rm -f "$T/sock"
	"$@" >>"$T/server.log" 2>&1 &
	SERVER=$!
}
kill_server() {
	kill -KILL $SERVER
	wait $SERVER 2>/dev/null || true
}
answers() { "$IO" info "$NBD" "$URI" "$EXPORT" >>"$T/info.log" 2>&1; }
progress() { grep -cs '^done' "$T/load.out" || true; } # (its shell may not have made it yet)
further() { [ "$(progress)" -gt "$1" ]; }
alive() { kill -0 "$LOAD" 2>/dev/null || fail "the load ended: $(cat "$T/load.log")"; }

# under_load NAME URI EXPORT KILLS OPTIONS SERVER…: the load runs, the server dies so often
under_load() {
	local name=$1 kills=$4 options=$5 i at
	URI=$2 EXPORT=$3
	shift 5
	note "$name"
	rm -f "$T/disk" "$T/shadow" "$T/stop" "$T/load.log" "$T/load.out"
	truncate -s 32M "$T/disk"
	start_server "$@"
	wait_for answers
	# shellcheck disable=SC2086
	"$IO" load "$NBD" "$URI" "$EXPORT" "$T/shadow" 7 0 until="$T/stop" $options \
		>"$T/load.out" 2>"$T/load.log" &
	LOAD=$!
	for ((i = 0; i < kills; i++)); do
		at=$(progress)
		wait_for further $((at + 3))
		alive
		kill_server
		[ $((i % 2)) = 0 ] || sleep 0.3 # away for a while, or back at once
		start_server "$@"
	done
	at=$(progress)
	wait_for further $((at + 3))
	touch "$T/stop"
	wait "$LOAD" || fail "$name: $(cat "$T/load.log")"
	wait_for none_left
	kill "$SERVER"
	wait "$SERVER" || true
	cmp "$T/disk" "$T/shadow"
	is "$(grep -c 'is back' "$T/load.log")" "$(grep -c ': lost: ' "$T/load.log")" "losses and returns told"
	[ "$(grep -c ': lost: ' "$T/load.log")" -ge 1 ]
}

SOCK="nbd+unix:///?socket=$T/sock"
under_load "flushed now and then" "$SOCK" - 8 "flush=500 fua=40" forgetful
under_load "never flushed but by us" "$SOCK" - 4 "" forgetful
under_load "written through" "$SOCK" - 4 "fua=1" forgetful
under_load "a single connection" "$SOCK" - 4 "flush=200" one_connection
under_load "no FUA" "$SOCK" - 3 "flush=200 fua=3" no_fua
under_load "over TCP" "nbd://127.0.0.1:10810/disk" - 4 "flush=300" over_tcp
psktool -u guest -p "$T/psk" >/dev/null
under_load "over TLS" "nbds://guest@127.0.0.1:10811/disk?tls-psk-file=$T/psk" disk 4 "flush=300" over_tls

# start_load: on a new disk, at a new server
start_load() {
	URI=$SOCK EXPORT=-
	rm -f "$T/stop" "$T/shadow" "$T/disk" "$T/load.log" "$T/load.out"
	truncate -s 32M "$T/disk"
	start_server forgetful
	wait_for answers
	"$IO" load "$NBD" "$URI" - "$T/shadow" 7 0 until="$T/stop" flush=100 >"$T/load.out" 2>"$T/load.log" &
	LOAD=$!
}

note "a server that hangs, and returns"
start_load
wait_for further 3
kill -STOP $SERVER
at=$(progress)
sleep 1
alive
[ "$(progress)" -le $((at + 1)) ] || fail "a stopped server answered"
kill -CONT $SERVER
wait_for further $((at + 3))
touch "$T/stop"
wait $LOAD || fail "after a hang: $(cat "$T/load.log")"
is "$(cat "$T/load.log")" "" "a hang is no loss"
kill_server

note "a server that returns with another disk is not taken"
start_load
wait_for further 2
kill_server
mv "$T/disk" "$T/disk.whole"
truncate -s 1M "$T/disk"
start_server forgetful
wait_for file_has "$T/load.log" 'smaller now'
alive
kill_server
mv "$T/disk.whole" "$T/disk"
start_server forgetful
wait_for file_has "$T/load.log" 'is back'
touch "$T/stop"
wait $LOAD || fail "after another disk: $(cat "$T/load.log")"
is "$(grep -c 'smaller now' "$T/load.log")" 1 "said once"

note "it ends with who it works for, also when that is killed, and while the server is away"
mkfifo "$T/hold"
"$IO" hold "$NBD" "$URI" - <"$T/hold" >"$T/hold.out" &
HOLD=$!
# shellcheck disable=SC2034
exec {KEEP}>"$T/hold"
wait_for file_has "$T/hold.out" held
is "$(nbd_processes)" 1
kill -KILL $HOLD
wait $HOLD 2>/dev/null || true
wait_for none_left
"$IO" hold "$NBD" "$URI" - <"$T/hold" >"$T/hold2.out" &
HOLD=$!
wait_for file_has "$T/hold2.out" held
kill_server
is "$(nbd_processes)" 1
kill -KILL $HOLD
wait $HOLD 2>/dev/null || true
wait_for none_left
