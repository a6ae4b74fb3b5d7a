#!/bin/bash
# A Linux with two vcpus writes to its ext2 root without pause, syncs, and notes what is synced, while it is
# snapshot, cloned, saved and gone back with. Each that goes on is the one that it was (its uptime and what
# it had synced say so), has the right time and both vcpus, and a kernel that has nothing to complain of;
# its disk is sound once it is unmounted, and so is, repaired as after a power cut, that of each snapshot
# and of a clone whose VMM was killed; what was synced is on all of them.
# time: 500
. "${0%/*}/../lib.sh"

need_cmd e2fsck debugfs
need_linux
start_daemon
S=$M/web/snapshots

# The writer: a log that only grows, files that come, change and go. What is in /tmp/ack is on disk.
# (All in one line, as what is typed is; hardly a process, as each may take a second: so `read -t` waits.)
writer='n=0; mkdir /w; while [ ! -e /tmp/rest ]; do n=$((n + 1)); echo "entry $n $((n * 7919 % 10007))" >> /w/log;
for i in 1 2 3; do echo "$n $n $n" > /w/file$i-$((n % 7)); done; [ $((n % 5)) != 4 ] || rm -f /w/file?-[135]; sync; echo $n > /tmp/ack; done; echo > /tmp/rests'
writer=${writer//$'\n'/ }
get_ack='until read ack < /tmp/ack; do :; done'
complaints='stall|lockup|unstable|BUG|WARNING|backwards|I/O error|timed out'

# look MACHINE: what it says of itself in $up, $ack; each vcpu has the right time, but for what the first was
# late by: a Linux that boots on a loaded host, without KVM's help, loses some seconds
look() {
	local before after time0 time1 now words
	before=$(date +%s)
	words=$(sh_linux "$1" "read up x < /proc/uptime; $get_ack; echo looks \$(taskset -c 0 date +%s) \$(taskset -c 1 date +%s) \${up%.*} \$ack")
	after=$(date +%s)
	read -r time0 time1 up ack <<<"$(sed -n 's/^looks //p' <<<"$words")"
	[ -n "$ack" ] || fail "$1 says: $words"
	for now in "$time0" "$time1"; do
		: "${late_min:=$((before - now - 1))}" "${late_max:=$((after - now + 1))}"
		[ $((before - now - 1)) -le $((late_max + 1)) ] && [ $((after - now + 1)) -ge $((late_min - 1)) ] ||
			fail "$1: its clock says $now between $before and $after, and was $late_min to $late_max s late"
	done
}
# well MACHINE UPTIME ACK: it goes on from there
well() {
	look "$1"
	[ "$up" -ge "$2" ] || fail "$1: it was up for $2 s and is up for $up s"
	[ "$ack" -ge "$3" ] || fail "$1: it had synced $3 and says $ack"
}
# holds IMAGE FLOOR: so many entries are in its log
holds() {
	debugfs -R 'cat /w/log' "$1" 2>/dev/null >"$T/log"
	awk -v floor="$2" '$0 == "entry " NR " " NR * 7919 % 10007 { good++ } NR == floor { exit } END { exit good + 0 != floor }' "$T/log" ||
		fail "$1: not all of $2 entries are there: $(tail -n 2 "$T/log")"
}
# repaired IMAGE FLOOR: as after a power cut, it can be repaired
repaired() {
	local status=0
	e2fsck -fy "$1" >"$T/fsck.log" 2>&1 || status=$?
	[ $status -le 1 ] || fail "${1##*/}: e2fsck ends with $status: $(head -n 20 "$T/fsck.log")"
	e2fsck -fn "$1" >"$T/fsck.log" 2>&1 || fail "${1##*/}: not repaired: $(head -n 20 "$T/fsck.log")"
	holds "$1" "$2"
}
image_of() { # DIRECTORY NAME: a copy that is not the machine's
	cp --sparse=always "$1/disks/root/image" "$T/$2.copy"
	echo "$T/$2.copy"
}
# ends MACHINE ACK: it writes on from there, until its writer is to rest; its kernel has nothing to complain
# of; its disk is unmounted (and flushed, which ext2 leaves to fsync), and sound
ends() {
	local image
	sh_linux "$1" "$get_ack; while [ \$ack -le $2 ]; do read -t 1 x; $get_ack; done; echo > /tmp/rest; while [ ! -e /tmp/rests ]; do read -t 1 x; done; mount -o remount,ro / && sync /w/log && dmesg | grep -iE '$complaints'; read ack < /tmp/ack; echo has \$ack" >"$T/said"
	is "$(grep -v '^has ' "$T/said")" "$was_bad" "what the kernel of $1 complains of"
	ack=$(sed -n 's/^has //p' "$T/said" | tr -d '\r')
	do_ctl "$1" kill
	image=$(image_of "$M/$1" "$1")
	e2fsck -fn "$image" >"$T/fsck.log" 2>&1 || fail "$1: its disk is not sound: $(head -n 20 "$T/fsck.log")"
	holds "$image" "$ack"
}

boot_linux web cpus=2
# what its kernel has to say is in dmesg, not between two words of ours
sh_linux web "dmesg -n 1; dmesg | grep -iE '$complaints'; echo 0 > /tmp/ack; ($writer) & true" >"$T/said"
was_bad=$(cat "$T/said") # as it booted, where the host was loaded
sh_linux web "$get_ack; while [ \$ack -lt 1 ]; do read -t 1 x; $get_ack; done" >/dev/null
look web

note "live snapshots, one over the other"
for n in 1 2; do
	ups[n]=$up acks[n]=$ack
	mkdir "$S/s$n"
	well web "$up" "$ack"
done
is "$(cat "$S/s2/parent")" s1

note "a clone of the one that runs, which stands still then"
do_ctl web 'clone forked'
do_ctl web pause
well forked "$up" "$ack"
ends forked "$ack"

note "a clone of a snapshot, and one that is killed as it writes"
put "$S/s2/ctl" 'clone child 2'
well child1 "${ups[2]}" "${acks[2]}"
do_ctl child2 kill
repaired "$(image_of "$M/child2" child2)" "${acks[2]}"
ends child1 "$ack"

note "resumed, saved, and started"
do_ctl web resume
well web "${ups[2]}" "${acks[2]}"
do_ctl web save
do_ctl web start
well web "$up" "$ack"

note "back to the first"
put "$S/s1/ctl" restore
well web "${ups[1]}" "${acks[1]}"
ends web "$ack"

note "what the snapshots hold"
for n in 1 2; do
	repaired "$(image_of "$S/s$n" "s$n")" "${acks[n]}"
done
