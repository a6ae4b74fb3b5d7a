#!/bin/bash
# filevisord --clean, as `make uninstall` calls it: after a daemon and guests that were killed nothing of networks stays
# on the host; what a guest uses stays, and while a daemon runs nothing is touched.
# also: asan
. "${0%/*}/../lib.sh"
. "$ROOT/tests/lib_net.sh"

need_networks
clean() { "$BUILD/filevisord" --state "$STATE" --run "$RUN" --clean >"$T/clean.log" 2>&1; }
refused() {
	! clean || fail "not refused"
	grep -qE "$1" "$T/clean.log" || fail "$(cat "$T/clean.log")"
}

host_net >"$T/before"
clean || fail "where there never was anything: $(cat "$T/clean.log")"
start_daemon
mkdir "$N/lan" "$N/idle"
echo 'subnet = "10.99.0.0/24"; subnet6 = "fd99::/64";' >"$N/lan/config"
put "$N/lan/forwards" 'tcp 8080 web 80'
wire_guest web lan
put "$N/idle/ctl" start
host_net >"$T/up"
refused 'in use|another|already'
host_net | diff "$T/up" - || fail "it was touched all the same"
kill_daemon
umount -l "$MNT"
refused 'machine web runs: stop or kill it first'
ping -q -c 3 -i 0.3 -W 20 10.99.0.2 >"$T/ping" || fail "no ping, although web runs"
! ip link show fv-idle >"$T/link" 2>&1 || fail "what nobody uses stays"
pkill -KILL -f '^filevisor-vmm'
wait_for no_vmm
clean || fail "$(cat "$T/clean.log")"
net_as "$T/before"
clean || fail "a second time: $(cat "$T/clean.log")"

start_daemon
is "$(cat "$N/lan/state")" stopped
is "$(state_of web)" crashed
wire_start web lan
ping -q -c 3 -i 0.3 -W 20 "$(held web lan)" >"$T/ping" || fail "no ping afterwards"
