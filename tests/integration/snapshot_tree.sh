#!/bin/bash
# Snapshots as the tree has them: names, modes, owners, times, what is in `ctl` and README; a mkdir
# that is interrupted leaves nothing; nobody else waits for one that is under way; a machine's
# archive file is empty, and what is no archive is refused and changes nothing.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
S=$M/m/snapshots
truncate -s 1M "$T/disk"
define_guest m ledger
chmod 750 "$M/m"
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 5$'
earlier=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
mkdir "$S/base"
later=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)

note "values"
time=$(cat "$S/base/time")
like "$time" '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$'
[[ ! $time < $earlier && ! $time > $later ]] || fail "time $time, not between $earlier and $later"
is "$(cat "$S/base/state")" running
[ "$(cat "$S/base/pause_us")" -gt 0 ] || fail "no pause"
is "$(cat "$S/base/disks/root/source")" "$T/disk"
is "$(cat "$S/base/disks/root/size")" $((1 << 20))
is "$(stat -c %s "$S/base/archive")" 0
is "$(cat "$S/base/archive")" ""
for word in restore clone archive; do like "$(cat "$S/base/ctl")" "# $word"; done
! grep -v '^#' "$S/base/ctl" || fail "ctl has more than comments"
for f in memory core disks pause_us restore 'cp -r'; do grep -q -- "$f" "$S/base/README" || fail "README without $f"; done
grep -q 'snapshots/NAME' "$M/m/README"
[ "$(wc -l <"$M/m/disks/root/layers")" -ge 1 ] || fail "no layers over a disk that was snapshot"
for f in "$S"/base/* "$S"/base/disks/root/*; do
	[ -d "$f" ] || is "$(stat -c %s "$f")" "$(timeout 30 cat "$f" | wc -c)" "size of $f"
done

note "modes"
is "$(stat -c %a "$S/base")" 750
for f in memory core archive disks/root/image; do is "$(stat -c %a "$S/base/$f")" 400 "$f"; done
for f in time config state; do is "$(stat -c %a "$S/base/$f")" 440 "$f"; done
chown 1000 "$M/m"
is "$(stat -c %u "$S/base/memory" "$S/base/disks/root/image" "$S/base" | sort -u)" 1000
chown 0 "$M/m"

note "names"
refuses EEXIST mkdir "$S/base"
refuses EINVAL mkdir "$S/.hidden"
refuses EINVAL mkdir "$S/$(printf 'a%.0s' {1..64})"
mkdir "$S/$(printf 'a%.0s' {1..63})"
refuses EPERM,EACCES create "$S/file"
mv "$S/base" "$S/first"
[ ! -e "$S/base" ] && [ -s "$S/first/config" ] || fail "not renamed"
refuses EEXIST rename "$S/first" "$S/$(printf 'a%.0s' {1..63})"
rmdir "$S/$(printf 'a%.0s' {1..63})"
refuses ENOENT rmdir "$S/base"
is "$(stat -c %h "$S")" 3 "links of snapshots/"

note "a mkdir that is interrupted leaves nothing; meanwhile all else answers"
define_guest big memtouch memory=1G cmdline='forever mib=800'
do_ctl big start
wait_console big .
for _ in 1 2 3 4 5; do
	mkdir "$M/big/snapshots/part" 2>/dev/null &
	pid=$!
	sleep 0.05
	timeout 10 cat "$M/big/state" "$M/m/state" "$S/first/time" >/dev/null || fail "a read waits"
	timeout 10 ls "$M/big" "$S" >/dev/null || fail "a listing waits"
	kill -INT $pid 2>/dev/null || true
	kill -TERM $pid 2>/dev/null || true
	wait $pid || true
	[ ! -d "$M/big/snapshots/part" ] || rmdir "$M/big/snapshots/part"
	is "$(ls "$M/big/snapshots")" ""
	is "$(find "$STATE/machines/big" -name '.new*')" "" "left behind"
	is "$(state_of big)" running
done
timeout 60 mkdir "$M/big/snapshots/whole"
do_ctl big kill
refuses EBUSY rmdir "$M/big"
rmdir "$M/big/snapshots/whole" "$M/big"

note "what is no archive"
define new
is "$(stat -c %s "$M/new/archive")" 0
is "$(cat "$M/new/archive")" ""
before=$(cat "$M/new/config")
for text in x "$(head -c 5000 /dev/zero | tr '\0' a)"; do
	echo "$text" 2>/dev/null >"$M/new/archive" || true # what close(2) says, echo does not
	says '^E[A-Z]+ archive: ' "$M/new/error"
done
! head -c 300000 /dev/urandom >"$M/new/archive" 2>/dev/null || fail "it was taken"
: >"$M/new/archive"
is "$(cat "$M/new/config")" "$before"
is "$(state_of new)" defined
! echo x 2>/dev/null >"$M/m/archive" || fail "a machine that runs was made another"
is "$(state_of m)" running
do_ctl m kill
rmdir "$S/first" "$M/m"
