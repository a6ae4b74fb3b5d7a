#!/bin/bash
# The daemon, or the VMM, is killed at any moment while snapshots are taken, deleted and gone back
# to: the ones that were there are whole, no rubbish is left, and a guest whose memory and disk
# tell of each other finds them of one instant, and nothing lost that it was told is on the disk.
# time: 600
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
S=$M/m/snapshots
last() { whole_lines "$M/m/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(entries m)" -ge "$1" ]; }
killed= # that its VMM was, may be known only by now
comes_to() {
	[ -z "$killed" ] || [ "$(state_of m)" != crashed ] || do_ctl m start
	reached "$1"
}
goes_on() { wait_for comes_to $(($(entries m) + 10)); }
agrees() { ! grep -aE -A2 'DISAGREE|disk error|failed' "$M/m/console" || fail "memory and disk disagree: $*"; }
settled() { [[ $(state_of m) =~ ^(running|saved|stopped|crashed|defined|paused)$ ]]; }
# Only what is told of is there, once a job that merges layers has noted so.
hidden() { find "$STATE/machines/m" -name '.*' ! -path "$STATE/machines/m" | head; }
clean() { [ -z "$(hidden)" ]; }
no_rubbish() { wait_for clean || fail "rubbish, $1: $(hidden)"; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 20$'
mkdir "$S/base"
base=$(sha256sum "$S/base/memory" "$S/base/disks/root/image")

n=0 taken=0
for round in $(seq "${ROUNDS:-30}"); do
	n=$((n + 1))
	case $((RANDOM % 4)) in
	0 | 1) what="mkdir s$n" ; { mkdir "$S/s$n" || true; } 2>/dev/null & ;;
	2) what=restore ; { echo restore >"$S/base/ctl" || true; } 2>/dev/null & ;;
	3)
		victim=$(names "$S" | sed '/base/d' | shuf -n 1)
		what="rmdir ${victim:-nothing}"
		{ rmdir "$S/${victim:-nothing}" || true; } 2>/dev/null &
		;;
	esac
	asker=$!
	sleep "0.$(printf %06d $((RANDOM * 400000 / 32768)))"
	if [ $((RANDOM % 2)) = 0 ]; then
		who=daemon killed=
		kill_daemon
		wait $asker || true
		umount -l "$MNT"
		start_daemon
	else
		who=VMM killed=yes
		pids=$(vmm_pids)
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
		wait $asker || true
	fi
	wait_for settled
	is "$(cd "$S" && sha256sum "$S/base/memory" "$S/base/disks/root/image")" "$base" "base, $what, $who killed, round $round"
	no_rubbish "$what, $who killed, round $round"
	for s in "$S"/*; do
		is "$(stat -c %s "$s/memory")" $((64 << 20)) "$s after $what"
	done
	taken=$(ls "$S" | wc -l)
	wait_for settled
	case $(state_of m) in
	paused) do_ctl m resume ;;
	running) ;;
	*) do_ctl m start ;;
	esac
	goes_on
	agrees "$what, $who killed, round $round"
done
note "$taken snapshots at the end"
killed=
for s in $(names "$S"); do
	put "$S/$s/ctl" restore
	goes_on
	agrees "$s"
done
do_ctl m kill
rmdir "$S"/*
rmdir "$M/m"
empty() { [ -z "$(ls "$STATE/layers")" ]; }
wait_for empty
