#!/bin/bash
# A guest that writes to its memory and two disks without pause, while it is snapshot, gone back
# with, saved, started, cloned and its snapshots deleted, at random, and in every third round the
# daemon or a VMM is killed meanwhile. After each: memory and disks agree with each other (the
# guest compares all of both), and with what the guest had said is on its disks.
# All of it is 200 rounds, some four minutes; SEED=N makes the same choices again, as its first line says:
#	make all guests tools && ROUNDS=200 BUILD=build build/tests/tools/isolate -t 7200 bash tests/integration/snapshot_torture.sh
# (with BUILD=build/asan-ubsan or build/tsan, TOOLS=build GUESTS=build/guest SLOW=4 it is that build's.)
# time: 900
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
S=$M/m/snapshots
SEED=${SEED:-$RANDOM}
RANDOM=$SEED
note "SEED=$SEED"

console() { tail -c 20000 "$M/$1/console"; }
acks() { sed -nE 's/^ack ([0-9]+) \1$/\1/p'; }
last_ack() { console "$1" | sed -nE 's/^(begin|ack) ([0-9]+) (whole|torn|\2)$/\2/p' | tail -n 1; }
sound() { ! grep -aE -A3 'BAD|failed' "$M/$1/console" || fail "round $round, $what: $1 is not of one instant"; }
goods() { sed -nE 's/^good ([0-9]+) \1$/\1/p' "$M/$1/console"; }
# told MACHINE COUNT: it has said how it finds itself, or what is wrong, or it is no more
told() { sound "$1" && { [ "$(goods "$1" | wc -l)" -gt "$2" ] || [ "$(state_of "$1")" = crashed ]; }; }
# ask MACHINE FLOOR: all of it is of one instant, and nothing that it acknowledged up to then is
# lost. Of one whose VMM was killed that is known only by now, it is so of what the next finds.
ask() {
	local before good
	while :; do
		before=$(goods "$1" | wc -l)
		echo c 2>/dev/null >"$M/$1/console" || [ -n "$killed" ] || fail "round $round, $what: $1 does not listen: $(cat "$M/$1/error")"
		wait_for told "$1" "$before"
		[ "$(goods "$1" | wc -l)" = "$before" ] || break
		[ -n "$killed" ] || fail "round $round, $what: $1 is crashed: $(cat "$M/$1/error")"
		do_ctl "$1" start
	done
	good=$(goods "$1" | tail -n 1)
	[ "$good" -ge "$2" ] || fail "round $round, $what: $1 is at $good and had acknowledged $2"
}
# leap MACHINE LINES: behind so many lines of its console, the first round that does not follow the
# one before it
leap() {
	local was
	was=$(head -n "$2" "$M/$1/console" | acks | tail -n 1)
	tail -n +$(($2 + 1)) "$M/$1/console" | acks | awk -v was="$was" '$1 != was + 1 { print; exit } { was = $1 }'
}
has_leapt() { [ -n "$(leap "$1" "$2")" ]; }
settled() { [[ $(state_of "$1") =~ ^(running|saved|stopped|crashed|defined|paused)$ ]]; }
# any snapshot, in $subject
pick() {
	local all=("$S"/*)
	subject=
	[ ${#all[@]} = 0 ] || subject=${all[RANDOM % ${#all[@]}]##*/}
}
begun() { console "$1" | grep -aqE '^begin [0-9]+ (whole|torn)'; }

what=begin round=0 killed=
truncate -s 1M "$T/d0"
"$TOOLS/fvimg" create qcow2 "$T/d1" 1M >/dev/null
define_guest m torture
for i in 0 1; do
	mkdir "$M/m/disks/d$i"
	put "$M/m/disks/d$i/source" "$T/d$i"
done
put "$M/m/disks/d1/format" qcow2
do_ctl m start
wait_for begun m
mkdir "$S/s0"
declare -A low high # what was acknowledged before and after each was taken
low[s0]=0 high[s0]=$(last_ack m)

# What is done; each knows what may be killed meanwhile.
do_snapshot() { mkdir "$S/s$round"; }
do_restore() { echo restore >"$S/$subject/ctl"; }
do_save() { echo save >"$M/m/ctl"; }
do_delete() { rmdir "$S/$subject"; }
do_clone() { echo "clone c$round" >"$S/$subject/ctl"; }
do_fork() { echo "clone c$round" >"$M/m/ctl"; }
do_clones() { echo "clone c$round 3" >"$S/$subject/ctl"; }
read -ra deeds <<<"${DEEDS:-snapshot snapshot snapshot restore restore save delete clone fork clones}"

kill_something() {
	local pids
	sleep "0.$(printf %06d $((RANDOM * 200000 / 32768)))"
	if [ $((RANDOM % 2)) = 0 ]; then
		what+=", daemon killed"
		kill_daemon
		wait "$asker" || true
		umount -l "$MNT"
		start_daemon
	else
		what+=", VMMs killed"
		pids=$(vmm_pids)
		# shellcheck disable=SC2086
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
		wait "$asker" || true
	fi
}

# Clones that there are: each is whole, goes on from where it was made of, and then goes.
see_clones() {
	local c name
	for c in "$M"/c*; do
		name=${c##*/}
		wait_for settled "$name"
		if [ "$(state_of "$name")" = running ]; then
			ask "$name" "$1"
			do_ctl "$name" kill
		elif [ -z "$killed" ]; then
			fail "round $round, $what: $name is $(state_of "$name"): $(cat "$c/error")"
		fi
		rmdir "$c" || fail "round $round, $what: rmdir $name: $(cat "$c/error" "$M/../error")"
	done
}

for round in $(seq "${ROUNDS:-30}"); do
	deed=${deeds[RANDOM % ${#deeds[@]}]}
	pick
	[ -n "$subject" ] || deed=snapshot
	what="$deed ${subject:-}" killed=
	lines=$(wc -l <"$M/m/console")
	before=$(last_ack m)
	if [ $((RANDOM % 3)) = 0 ]; then
		killed=yes
		(trap - ERR && "do_$deed") 2>/dev/null &
		asker=$!
		kill_something
	else
		"do_$deed" || fail "round $round, $what: $(cat "$M/m/error" "$S/$subject/error")"
	fi
	wait_for settled m
	floor=$before
	case $deed in
	snapshot)
		if [ -d "$S/s$round" ]; then
			low[s$round]=$before high[s$round]=$(last_ack m)
		elif [ -z "$killed" ]; then
			fail "round $round: no snapshot"
		fi
		;;
	restore)
		[ "${low[$subject]}" -ge "$floor" ] || floor=${low[$subject]}
		if [ -z "$killed" ]; then
			is "$(state_of m)" running "round $round, $what"
			wait_for has_leapt m "$lines"
			at=$(leap m "$lines")
			[ "$at" -gt "${low[$subject]}" ] && [ "$at" -le $((high[$subject] + 2)) ] ||
				fail "round $round, $what: goes on at $at, not between ${low[$subject]} and ${high[$subject]}"
		fi
		;;
	esac
	case $(state_of m) in
	running) ;;
	paused) do_ctl m resume ;;
	*) do_ctl m start || fail "round $round, $what" ;;
	esac
	case $deed in
	clone | clones) see_clones "${low[$subject]}" ;;
	*) see_clones "$before" ;;
	esac
	ask m "$floor"
	# not more than a machine can have on top of each other
	while [ "$(ls "$S" | wc -l)" -gt 12 ]; do pick && rmdir "$S/$subject"; done
done

note "each that is left is gone back to; then nothing is left"
for subject in $(names "$S"); do
	round=end what="restore $subject" killed=
	put "$S/$subject/ctl" restore
	ask m "${low[$subject]}"
done
do_ctl m kill
rmdir "$S"/*
rmdir "$M/m"
no_layers() { [ -z "$(ls "$STATE/layers")" ]; }
wait_for no_layers
