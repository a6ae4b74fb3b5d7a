#!/bin/bash
# A snapshot over sshfs: made by mkdir there, its archive made and copied from a mounted tree to a new
# machine of a mounted tree by cp, which goes on counting from the instant of the snapshot.
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
need_cmd cmp
vmm_forks
start_daemon
start_sshd
R=$T/remote
mount_sshfs "$R"
last_of() { whole_lines "$M/$1/console" | grep -aoE '^(entry|begin) [0-9]+$' | tail -n 1 | cut -d' ' -f2; }
reached() { [ "$(last_of "$1")" -ge "$2" ] 2>/dev/null; }
agrees() { ! grep -aE -A2 'DISAGREE|disk error|ledger: failed' "$M/$1/console" || fail "memory and disk of $1 disagree"; }

truncate -s 1M "$T/disk"
define_guest m ledger
mkdir "$M/m/disks/root"
put "$M/m/disks/root/source" "$T/disk"
do_ctl m start
wait_console m '^entry 50$'
before=$(last_of m)
mkdir "$R/machines/m/snapshots/base"
[ -d "$M/m/snapshots/base" ] || fail "no snapshot"
after=$(last_of m)
echo archive >"$R/machines/m/snapshots/base/ctl"
is "$(cat "$M/m/snapshots/base/error")" ""
# what sshfs knew of its size before, it may know for a while
size=$(stat -c %s "$M/m/snapshots/base/archive")
[ "$size" -gt 1000 ]
has_size() { [ "$(stat -c %s "$R/machines/m/snapshots/base/archive")" = "$size" ]; }
wait_for has_size
cp "$R/machines/m/snapshots/base/archive" "$T/a"
cmp "$T/a" "$M/m/snapshots/base/archive"

# sshfs does not wait for the close of what it wrote
ended() { [ "$(state_of "$1")" = saved ] || [ -s "$M/$1/error" ]; }
goes_on() {
	wait_for ended "$1"
	is "$(cat "$M/$1/error")" ""
	cmp "$M/$1/disks/root/image" "$M/m/snapshots/base/disks/root/image"
	do_ctl "$1" start
	wait_for reached "$1" $((after + 20))
	first=$(awk '$1 == "entry" && NF == 2 && !n { n = $2 } END { print n + 0 }' "$M/$1/console")
	[ "$first" -ge "$before" ] && [ "$first" -le $((after + 2)) ] || fail "$1 went on with $first, not between $before and $after"
	agrees "$1"
}
note "from a file"
mkdir "$R/machines/one"
cp "$T/a" "$R/machines/one/archive"
goes_on one

note "from tree to tree"
mkdir "$R/machines/two"
cp "$R/machines/m/snapshots/base/archive" "$R/machines/two/archive"
goes_on two

note "what is cut short makes nothing"
mkdir "$R/machines/half"
head -c $((size / 2)) "$T/a" >"$R/machines/half/archive" 2>/dev/null || true
refused() { [ -s "$M/half/error" ]; }
wait_for refused
says '^EINVAL archive: .*cut short' "$M/half/error"
is "$(state_of half)" defined
agrees m
undefine one two half
do_ctl m kill
rmdir "$R/machines/m/snapshots/base"
undefine m
end_ssh "$R"
