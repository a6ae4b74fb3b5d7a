#!/bin/bash
# The examples that keep the last N snapshots, as cron and systemd would run them: as many are kept
# as they say, the latest ones, each can be gone back to; others' snapshots are left alone, and what
# cannot be done is said.
# time: 180
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
E=$ROOT/examples
S=$M/web/snapshots
truncate -s 1M "$T/disk"
define_guest web ledger
mkdir "$M/web/disks/root"
put "$M/web/disks/root/source" "$T/disk"
do_ctl web start
wait_console web '^entry 5$'
mkdir "$S/by-hand" "$S/hourly-mine"

# what stands in them, with this test's paths
here() { sed "s|/usr/local/libexec/filevisor/|$E/|g; s|/filevisor/machines|$M|g; s|%i|web|g"; }
kept() { names "$S" "^$1-[0-9]{8}-[0-9]{6}\.[0-9]{3}$" | wc -l; }

note "cron: the lines are five times and a user before the command"
cron=$(here <"$E/filevisor-snapshots.cron" | awk '$6 == "root" { $1 = $2 = $3 = $4 = $5 = $6 = ""; print }')
is "$(wc -l <<<"$cron")" 2
while read -r line; do
	for _ in 1 2 3; do sh -c "$line" || fail "$line"; done
done <<<"$cron"
is "$(kept hourly)" 3
is "$(kept nightly)" 3
"$E/snapshots-keep.sh" "$M/web" 2 hourly
is "$(kept hourly)" 2
is "$(kept nightly)" 3
newest=$(names "$S" '^hourly-[0-9]' | sort | tail -n 1)

note "systemd"
service=$E/filevisor-snapshots@.service
if command -v systemd-analyze >/dev/null; then
	mkdir "$T/units"
	here <"$service" >"$T/units/filevisor-snapshots@web.service"
	cp "$E/filevisor-snapshots@.timer" "$T/units/filevisor-snapshots@web.timer"
	systemd-analyze verify --man=no "$T/units/"* >"$T/verify" 2>&1 || fail "$(cat "$T/verify")"
	systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' "$E/filevisor-snapshots@.timer")" >"$T/calendar"
fi
exec_start=$(here <"$service" | sed -n 's/^ExecStart=//p')
sh -c "$exec_start"
is "$(kept hourly)" 3
[ -d "$S/$newest" ] || fail "a newer one was removed"

note "what was kept is good, and what is others' is there"
[ -d "$S/by-hand" ] && [ -d "$S/hourly-mine" ] || fail "another's snapshot is gone"
put "$S/$newest/ctl" restore
is "$(state_of web)" running

note "what cannot be done is said"
do_ctl web save
! "$E/snapshots-keep.sh" "$M/web" 2 hourly 2>"$T/said" || fail "a saved machine was snapshot"
like "$(cat "$T/said")" 'EBUSY .*saved'
is "$(kept hourly)" 3 "kept after a failure"
do_ctl web discard
rmdir "$S"/*
rmdir "$M/web"
