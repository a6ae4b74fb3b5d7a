#!/bin/bash
# The daemon, the VMM of the first, who holds its memory, or any VMM is killed at any moment of a
# clone: there are all of the new machines or (where a daemon was there to see it) none, each is
# whole, no process and no layer is left that nobody knows, and the first loses nothing.
# time: 400
. "${0%/*}/../lib.sh"

need_kvm
ROUNDS=${ROUNDS:-24}
vmm_forks
start_daemon
last() { whole_lines "$M/$1/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(entries "$1")" -ge "$2" ]; }
goes_on() {
	wait_console "$1" '^(entry|begin) [0-9]+$'
	wait_for reached "$1" $(($(entries "$1") + ${2:-5}))
}
agrees() { ! grep -aE -A2 'DISAGREE|disk error|failed' "$M/$1/console" || fail "memory and disk of $1 disagree"; }
# its guest says something, or it is the one that was killed
lives() { ! state_is "$1" running || console_has "$1" '^(entry|begin) [0-9]+$'; }
begins() { grep -ac 'begin [0-9]' "$M/m/console" || true; } # perhaps behind a line that was cut short
begun() { [ "$(begins)" -gt "$1" ]; }
running() { grep -l running "$M"/*/state 2>/dev/null | wc -l; }
no_others() { [ "$(vmms)" = "$(running)" ]; }
layers_known() {
	is "$(cat "$STATE"/machines/*/layers "$STATE"/machines/*/snapshots/*/{layers,memory} 2>/dev/null |
		grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' | sort -u | grep -Fxf <(ls "$STATE/layers" | cut -d. -f1) | wc -l)" \
		"$(ls "$STATE/layers" | wc -l)" "layers that nobody refers to"
}
only_known() { (layers_known) >/dev/null 2>&1; }
first_pid() { cut -d' ' -f1 "$RUN/machines/$(awk '$1 == "id" { print $2 }' "$STATE/machines/m/access")/vmm.pid"; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 5$'
mkdir "$M/m/snapshots/s"
for ((round = 1; round <= ROUNDS; round++)); do
	from=$M/m
	[ $((RANDOM % 3)) != 0 ] || from=$M/m/snapshots/s
	first=$(first_pid)
	(trap - ERR; echo 'clone k 4' >"$from/ctl") 2>/dev/null &
	job=$!
	sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
	victim=$((RANDOM % 4))
	note "round $round: ${from##*/}, kills $victim"
	case $victim in
	0) kill_daemon ;;
	1) kill -KILL "$first" 2>/dev/null || true ;;
	2) pid=$(pgrep -P "$first" | head -n 1) && kill -KILL "$pid" 2>/dev/null || true ;;
	3) pid=$(vmm_pids | shuf -n 1) && kill -KILL "$pid" 2>/dev/null || true ;;
	esac
	wait $job || true
	if [ $victim = 0 ]; then
		umount -l "$MNT"
		start_daemon
		is "$(names "$STATE/machines" '^\.')" "" "left-overs"
	else
		n=$(names "$M" '^k' | wc -l)
		[ "$n" = 0 ] || [ "$n" = 4 ] || fail "$n of 4 machines"
	fi
	for i in "$M"/k*; do
		i=${i##*/}
		like "$(state_of "$i")" '^(defined|running|crashed|stopped)$' "$i"
		[ "$(state_of "$i")" != running ] || wait_for lives "$i"
		agrees "$i"
	done
	wait_for no_others
	for i in "$M"/k*; do undefine "${i##*/}"; done
	if [ "$(state_of m)" != running ]; then
		was=$(last m) n=$(begins)
		do_ctl m start
		wait_for begun "$n"
		goes_on m 10
		[ "$(whole_lines "$M/m/console" | grep -aoE 'begin [0-9]+' | tail -n 1 | cut -d' ' -f2)" -ge "$was" ] || fail "lost what was written"
	fi
	goes_on m 70
	agrees m
	wait_for only_known
done
rmdir "$M/m/snapshots/s"
