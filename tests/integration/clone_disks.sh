#!/bin/bash
# A clone's disks are its own from the instant on: what the first writes the second never sees,
# and the other way; of a guest that runs, of a snapshot, of one that is stopped; layers go when
# the last that needs them goes. A guest that keeps the same books in memory and on disk watches.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
last() { whole_lines "$M/$1/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(entries "$1")" -ge "$2" ]; }
goes_on() {
	wait_console "$1" '^entry [0-9]+$'
	wait_for reached "$1" $(($(entries "$1") + ${2:-10}))
}
agrees() { ! grep -aE -A2 'DISAGREE|disk error|failed' "$M/$1/console" || fail "memory and disk of $1 disagree"; }
all_agree() { local i; for i; do goes_on "$i" 70; agrees "$i"; done; } # 64 entries later all are compared
rest() { local i; for i; do do_ctl "$i" pause; done; } # others need the processor
vmms_are() { [ "$(vmms)" = "$1" ]; }
layers_are() { [ "$(ls "$STATE/layers" | wc -l)" = "$1" ]; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 20$'

note "of one that runs"
do_ctl m 'clone a'
is "$(state_of a)" running
is "$(cat "$M/a/disks/root/source")" "$T/disk"
all_agree a m
sum=$(sha256sum <"$T/disk")
do_ctl m 'clone b 3'
all_agree b1 b2 b3 m
is "$(sha256sum <"$T/disk")" "$sum" "the source is frozen, and was written"
rest b3
do_ctl b1 'clone c'
all_agree c b1
rest b1

note "reset and started again, each goes on with its own books"
do_ctl c reset
wait_console c 'begin [1-9][0-9]*$'
all_agree c
rest c
do_ctl b2 kill
was=$(last b2)
do_ctl b2 start
wait_console b2 'begin [1-9][0-9]*$'
all_agree b2
[ "$(whole_lines "$M/b2/console" | grep -aoE 'begin [0-9]+' | tail -n 1 | cut -d' ' -f2)" -ge "$was" ] || fail "b2 lost what it had written"
rest b2

note "of a snapshot, and of a saved one"
mkdir "$M/m/snapshots/s"
at=$(last m)
goes_on m 30
put "$M/m/snapshots/s/ctl" 'clone d 2'
all_agree d1 d2 m
rest d2
for i in 1 2; do
	first=$(whole_lines "$M/d$i/console" | grep -aoE '^entry [0-9]+$' | sed -n 2p | cut -d' ' -f2)
	[ "$first" -le $((at + 3)) ] || fail "d$i began with $first, the snapshot is of $at"
done
do_ctl a save
do_ctl a 'clone e'
is "$(state_of a)" saved
is "$(state_of e)" running
do_ctl a start
all_agree a e
rest a e

note "the first goes, with its snapshot: the others keep what they are over"
do_ctl m kill
wait_state m stopped
rmdir "$M/m/snapshots/s"
rmdir "$M/m"
do_ctl d2 resume
all_agree d1 d2
rest d1
do_ctl d2 reset
all_agree d2
kill_daemon
umount -l "$MNT"
start_daemon
for i in b3 e c; do do_ctl $i resume; done
all_agree d2 b3 e c
rest b3 e c d2

note "of one that is stopped: defined, and not started"
do_ctl d1 kill
wait_state d1 stopped
was=$(last d1)
do_ctl d1 'clone f 2 memory=48M cpus=2 autostart=true'
is "$(state_of f1)" defined
is "$(cat "$M/f2/cpus")" 2
is "$(cat "$M/f2/autostart")" true
is "$(cat "$M/f2/memory")" $((48 << 20))
do_ctl f1 start
goes_on f1
[ "$(grep -a ^begin "$M/f1/console" | cut -d' ' -f2)" -ge "$was" ] || fail "f1 began with older books"
do_ctl d1 start
all_agree f1 d1
rest f1

note "another content for a disk: nothing of the first's is over it"
truncate -s 1M "$T/other"
do_ctl d1 kill
wait_state d1 stopped
do_ctl d1 "clone g disks/root/source=$T/other"
is "$(cat "$M/g/disks/root/source")" "$T/other"
[ ! -e "$STATE/machines/g/layers" ] || ! grep -q "$T/disk" "$STATE/machines/g/layers" || fail "layers of the other disk"
do_ctl g start
wait_console g '^begin 0$'
all_agree g
[ "$(od -An -tu4 -j512 -N4 "$T/other" | tr -d ' ')" != 0 ] || fail "nothing was written"

note "when all are gone nothing is left"
undefine a b1 b2 b3 c d1 d2 e f1 f2 g
wait_for vmms_are 0
wait_for layers_are 0
is "$(ls -A "$STATE/machines")" ""
