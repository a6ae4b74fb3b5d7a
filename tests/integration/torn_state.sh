#!/bin/bash
# SIGKILL of the daemon at any moment loses nothing that was acknowledged: a writer notes what
# returned well; after each kill and restart all of it is there, and no half-made thing is.
# time: 300
. "${0%/*}/../lib.sh"

start_daemon
# Writes values, whole configs and machines without end, noting each success in the file acked.
writer() {
	local i=0
	exec 2>/dev/null
	while :; do
		i=$((i + 1))
		mkdir "$M/w$1-$i" && echo "made w$1-$i" >>"$T/acked.$1"
		echo $((i % 200 + 1)) >"$M/keep$1/cpus" && echo "cpus $((i % 200 + 1))" >>"$T/acked.$1"
		printf 'cpus = %d;\nmemory = "64M";\ncmdline = "%d";\n' $((i % 200 + 1)) $i >"$T/new.$1"
		cp "$T/new.$1" "$M/keep$1/config" && echo "cmdline $i" >>"$T/acked.$1"
		rmdir "$M/w$1-$i" && echo "gone w$1-$i" >>"$T/acked.$1"
		[ -e "$T/stop" ] && return
	done
}
# the last that was made may have been on its way out, unacknowledged
in_flight() { [ "$(sed -n 's/^made //p' "$T/acked.$2" | tail -n 1)" = "$1" ]; }
mkdir "$M/keep1" "$M/keep2"
rounds=12
for round in $(seq $rounds); do
	rm -f "$T/stop"
	for w in 1 2; do
		: >"$T/acked.$w"
		writer $w &
	done
	sleep "0.$((RANDOM % 50 + 10))"
	kill_daemon
	touch "$T/stop"
	wait
	umount -l "$MNT" 2>/dev/null || true
	start_daemon
	for w in 1 2; do
		cmdline=$(sed -n 's/^cmdline //p' "$T/acked.$w" | tail -n 1)
		if [ -n "$cmdline" ]; then # the last acknowledged or the one in flight
			now=$(cat "$M/keep$w/cmdline")
			[ "$now" = "$cmdline" ] || [ "$now" = $((cmdline + 1)) ] ||
				fail "round $round: cmdline '$now' after '$cmdline' was acknowledged"
		fi
		is "$(cat "$M/keep$w/error" | grep -c damaged || true)" 0
		while read -r what name; do
			case $what in
			made) [ -d "$M/$name" ] || grep -q "gone $name" "$T/acked.$w" || in_flight "$name" "$w" ||
				fail "round $round: $name was made and is not there" ;;
			gone) [ ! -e "$M/$name" ] || fail "round $round: $name was undefined and is there" ;;
			esac
		done <"$T/acked.$w"
	done
	is "$(find "$STATE" -name '*.new' -o -name '*.tmp' | wc -l)" 0 "left-overs in the state"
	for m in "$M"/w*; do
		is "$(cat "$m/state")" defined
		rmdir "$m"
	done
done
note "$rounds kills"
