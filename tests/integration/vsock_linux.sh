#!/bin/bash
# Linux's own AF_VSOCK: 16 MiB each way with checksums, both ways of connecting, half a close, many at
# once, one that nobody listens to; a clone has an address of its own and no old connections.
# time: 500
. "${0%/*}/../lib.sh"

need_linux
io=$TOOLS/unix_io
vmm_forks
start_daemon
mkdir "$T/host"
define_linux web
put "$M/web/vsock/enabled" true
put "$M/web/vsock/listen" "1234=$T/host/echo.sock"
"$io" echo "$T/host/echo.sock" &
host=$!
do_ctl web start
wait_linux web
talk() { printf '%s' "$3" | timeout 60 "$io" connect "$M/$1/vsock/$2"; }
echoes() { [ "$(talk "$1" "$2" "$3")" = "$3" ]; }
nothing() { grep -qx 'connections 0' "$M/$1/vsock/stats"; }

note "its address"
is "$(sh_linux web 'vsock cid')" "$(cat "$M/web/vsock/cid")"

note "from the host, and half a close"
is "$(talk web 7 nobody)" ''
put "$M/web/console" 'vsock echo 22 2>/dev/null &'
wait_for echoes web 22 'there and back'
head -c 16M /dev/urandom >"$T/data"
timeout 240 "$io" connect "$M/web/vsock/22" <"$T/data" >"$T/back"
cmp "$T/data" "$T/back"
mkfifo "$T/hold"
exec {HOLD}<>"$T/hold"
"$io" many "$M/web/vsock/22" 50 <&"$HOLD" >"$T/many.txt" &
many=$!
has_50() { [ "$(cat "$T/many.txt")" = 50 ]; }
wait_for -t 120 has_50

note "from the guest"
is "$(sh_linux web 'echo up there | vsock connect 2 1234')" 'up there'
# (all of it is sent before any of it is read: less than fits between the two)
is "$(sh_linux web 'head -c 100000 /dev/zero | vsock connect 2 1234 | wc -c')" 100000
is "$(sh_linux web 'vsock connect 2 4321 </dev/null; true' | tr -d '\r')" 'vsock: refused'

note "a clone is told: its own address, and none of the connections"
mkdir "$M/web/snapshots/now"
put "$M/web/snapshots/now/ctl" 'clone twin'
# (the kernel may say between them that it is a clone)
sh_linux twin 'vsock cid' | grep -qx "$(cat "$M/twin/vsock/cid")" || fail "$(tail -n 5 "$M/twin/console")"
[ "$(cat "$M/twin/vsock/cid")" != "$(cat "$M/web/vsock/cid")" ] || fail "two of one address"
nothing twin || fail "$(cat "$M/twin/vsock/stats")"
wait_for echoes twin 22 'in the twin'
sh_linux twin 'echo twin | vsock connect 2 1234' | grep -qx twin || fail "$(tail -n 5 "$M/twin/console")"
wait_for echoes web 22 'in the first'
kill "$many"
wait_for nothing web

note "saved, and started again"
do_ctl web save
do_ctl web start
wait_for echoes web 22 'after all that'
kill "$host"
