#!/bin/bash
# The daemon is killed at any moment of saves and starts: afterwards the guest runs, or is saved
# whole, and has left out and done twice nothing; no rubbish is left.
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
boot m count
wait_console m '^20'
alive() { [[ $(state_of m) =~ ^(running|saved)$ ]]; }
in_order() {
	grep -aE '^[0-9]+$' "$M/m/console" | sed '$d' | awk 'NR != 1 && $1 != last + 1 { print last, $1; exit 1 } { last = $1 }' ||
		fail "the count is broken"
}
counted() { [ "$(grep -acE '^[0-9]+$' "$M/m/console")" -gt "$1" ]; }
saves=0 starts=0
for round in $(seq "${ROUNDS:-30}"); do
	command=save
	[ "$(state_of m)" != saved ] || command=start
	{ echo $command >"$M/m/ctl" || true; } 2>/dev/null &
	asker=$!
	usleep=$((RANDOM * 150000 / 32768))
	sleep "0.$(printf %06d $usleep)"
	kill_daemon
	wait $asker || true
	umount -l "$MNT"
	start_daemon
	wait_for alive || fail "round $round: $command, killed after $usleep us: $(state_of m): $(cat "$M/m/error")"
	if [ "$(state_of m)" = saved ]; then
		saves=$((saves + 1))
		wait_for no_vmm
	else
		starts=$((starts + 1))
		is "$(find "$STATE/machines/m" -name '*saved*')" "" "rubbish in round $round"
		is "$(ls "$STATE/layers")" "" "layers in round $round"
	fi
done
note "$saves times saved, $starts times running"
[ "$(state_of m)" = running ] || do_ctl m start
wait_for counted $(($(grep -acE '^[0-9]+$' "$M/m/console") + 20))
in_order
do_ctl m kill

note "the VMM is killed while it is saved: saved whole, or crashed and nothing left"
ended() { [[ $(state_of m) =~ ^(crashed|saved)$ ]]; }
for _ in $(seq 10); do
	do_ctl m start
	{ echo save >"$M/m/ctl" || true; } 2>/dev/null &
	asker=$!
	sleep "0.0$(printf %05d $((RANDOM * 90000 / 32768)))"
	pids=$(vmm_pids)
	[ -z "$pids" ] || kill -KILL "$pids" 2>/dev/null || true
	wait $asker || true
	wait_for ended
	wait_for no_vmm
	[ "$(state_of m)" = saved ] || is "$(find "$STATE/machines/m" "$STATE/layers" -name '*saved*' -o -name '*.mem')" "" "rubbish"
done
[ "$(state_of m)" != saved ] || do_ctl m discard
rmdir "$M/m"
