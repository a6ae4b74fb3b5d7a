#!/bin/bash
# `clone` of a machine that runs: the new one goes on from where the first is, which goes on, too;
# many at once; a clone of a clone; each a machine like any other, also for the next daemon.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
# The numbers on a console come one after the other (but for the line that it began within).
in_order() {
	grep -aE '^[0-9]+$' "$M/$1/console" | sed '1d;$d' | awk 'NR != 1 && $1 != last + 1 { print last, $1; exit 1 } { last = $1 }' ||
		fail "$1: the count is broken"
}
last_of() { whole_lines "$M/$1/console" | grep -aE '^[0-9]+$' | tail -n 1; }
first_of() { whole_lines "$M/$1/console" | grep -aE '^[0-9]+$' | sed -n 2p; }
lines_of() { grep -acE '^[0-9]+$' "$M/$1/console" || true; }
counted() { [ "$(lines_of "$1")" -gt "$2" ]; }
goes_on() { wait_for counted "$1" $(($(lines_of "$1") + 5)); }
vmms_are() { [ "$(vmms)" = "$1" ]; }
id_of() { awk '$1 == "id" { print $2 }' "$STATE/machines/$1/access"; }

boot m count autostart=true
wait_console m '^20'
before=$(last_of m)
do_ctl m 'clone a'
is "$(state_of a)" running
is "$(cat "$M/m/error")" ""
goes_on a
goes_on m
in_order a
in_order m
[ "$(first_of a)" -ge "$before" ] || fail "a began at $(first_of a), m was at $before"
[ "$(first_of a)" -le "$(last_of m)" ] || fail "a is ahead"
is "$(cat "$M/a/autostart")" false
is "$(cat "$M/a/memory")" "$((64 << 20))"
is "$(cat "$M/a/kernel")" "$(cat "$M/m/kernel")"
[ -n "$(id_of m)" ] && [ "$(id_of a)" != "$(id_of m)" ] || fail "ids: $(id_of m) $(id_of a)"
like "$(tail -n 5 "$MNT/events")" '"event":"command","machine":"m","command":"clone a","uid":0,"result":"ok"'
like "$(grep '"event":"defined","machine":"a"' "$MNT/events")" '"clone_of":"m"'

note "each is a machine of its own"
do_ctl a pause
is "$(state_of a)" paused
goes_on m
do_ctl a resume
goes_on a
put "$M/a/console" x
do_ctl a reset
wait_console a '^2$' # the first may stand behind a line that was cut short
in_order m
do_ctl a kill
is "$(state_of a)" stopped
wait_for vmms_are 1
goes_on m
do_ctl a start
wait_console a '^5$'

note "many at once"
do_ctl m 'clone b 12 cmdline="x y"'
wait_for vmms_are 14 # who held the memory has ended, too
for i in {1..12}; do
	is "$(state_of "b$i")" running
	is "$(cat "$M/b$i/cmdline")" "x y"
done
[ ! -e "$M/b" ] && [ ! -e "$M/b13" ] || fail "a machine too many"
for i in {1..12}; do
	goes_on "b$i"
	in_order "b$i"
done
is "$(for i in {1..12}; do id_of "b$i"; done | sort -u | wc -l)" 12

note "a clone of a clone, of a paused one, and by a job"
do_ctl b1 'clone c'
goes_on c
in_order c
do_ctl c pause
do_ctl c 'clone d'
is "$(state_of c)" paused
is "$(state_of d)" running
goes_on d
in_order d
do_ctl m 'clone e 3 &'
wait_for test -e "$M/e3"
wait_state e3 running
goes_on e3

note "the first is gone: the others do not care"
do_ctl m kill
wait_state m stopped
rmdir "$M/m"
goes_on b1
goes_on d
do_ctl b2 'clone f'
goes_on f

note "the next daemon finds them"
kill_daemon
umount -l "$MNT"
start_daemon
for i in a c d f b{1..12} e{1..3}; do
	like "$(state_of "$i")" 'running|paused'
done
goes_on b7
in_order b7
is "$(state_of c)" paused
do_ctl c resume
goes_on c
do_ctl b7 kill
is "$(state_of b7)" stopped
do_ctl b8 'clone g'
goes_on g
pid=$(cut -d' ' -f1 "$RUN/machines/$(id_of b9)/vmm.pid")
kill -KILL "$pid"
wait_state b9 crashed
stop_daemon
start_daemon
goes_on g
undefine a c d f g b{1..12} e{1..3}
wait_for vmms_are 0
is "$(ls "$STATE/machines")" ""
is "$(ls "$RUN/machines")" ""
is "$(ls "$STATE/layers" 2>/dev/null)" "" "layers"
