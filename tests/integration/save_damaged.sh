#!/bin/bash
# A saved state that is damaged, short, of another machine, or used already is refused in words;
# what there is no room for leaves the guest running.
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
boot m count
wait_console m '^5'
do_ctl m save
saved=$STATE/machines/m/saved
cp "$saved" "$T/good"
cp --sparse=always "$saved-memory" "$T/memory"
bytes=$(stat -c %s "$saved")
refused() {
	refuses "$1" write "$M/m/ctl" start
	says "$2" "$M/m/error"
	is "$(state_of m)" saved
	wait_for no_vmm
	cp "$T/good" "$saved"
}
for at in 0 20 30 57 64 100 $((bytes / 2)) $((bytes - 1)); do
	printf '\377' | dd of="$saved" bs=1 seek="$at" conv=notrunc status=none
	cmp -s "$saved" "$T/good" && printf '\0' | dd of="$saved" bs=1 seek="$at" conv=notrunc status=none
	refused EINVAL 'saved state'
done
for size in 0 10 63 64 200 $((bytes / 2)) $((bytes - 8)); do
	truncate -s "$size" "$saved"
	refused EINVAL 'saved state'
done
truncate -s 32M "$saved-memory"
refused EINVAL 'saved memory: it has'
rm "$saved-memory"
refused ENOENT 'saved memory'
cp --sparse=always "$T/memory" "$saved-memory"
do_ctl m start
wait_console m '^30'

note "used: gone at the next look"
do_ctl m kill
cp "$T/good" "$saved"
printf '\1' | dd of="$saved" bs=1 seek=60 conv=notrunc status=none
cp --sparse=always "$T/memory" "$saved-memory"
stop_daemon
start_daemon
like "$(state_of m)" 'defined|stopped'
[ ! -e "$saved" ] || fail "used up, and still there"
[ ! -e "$saved-memory" ] || fail "its memory is still there"

note "no room: the guest goes on"
stop_daemon
mkdir "$T/small"
mount -t tmpfs -o size=256k tmpfs "$T/small"
STATE=$T/small
start_daemon
boot k count
wait_console k '^10'
head -c 200k /dev/zero >"$T/small/ballast"
refuses ENOSPC,EDQUOT write "$M/k/ctl" save
is "$(state_of k)" running
[ -z "$(find "$T/small/machines/k" -name '*saved*')" ] || fail "halves are left"
rm "$T/small/ballast"
n=$(wc -l <"$M/k/console")
goes_on() { [ "$(wc -l <"$M/k/console")" -gt $((n + 20)) ]; }
wait_for goes_on
undefine k
stop_daemon
umount "$T/small"
