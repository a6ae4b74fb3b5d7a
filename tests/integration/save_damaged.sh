#!/bin/bash
# A saved state that is damaged, short, of another machine, or used already is refused in words;
# what there is no room for leaves the guest running.
. "${0%/*}/../lib.sh"

need_kvm
vmm_forks
start_daemon
boot m count
wait_console m '^5'
do_ctl m save
saved=$STATE/machines/m/saved
memory=$(ls "$STATE"/layers/*.mem)
cp "$saved" "$T/good"
cp "$saved-memory" "$T/map"
cp --sparse=always "$memory" "$T/memory"
bytes=$(stat -c %s "$saved")
refused() {
	refuses "$1" write "$M/m/ctl" start
	says "$2" "$M/m/error"
	is "$(state_of m)" saved
	wait_for no_vmm
	cp "$T/good" "$saved"
	cp "$T/map" "$saved-memory"
	cp --sparse=always "$T/memory" "$memory"
}
again() { stop_daemon; start_daemon; }
for at in 0 20 30 57 64 100 $((bytes / 2)) $((bytes - 1)); do
	printf '\377' | dd of="$saved" bs=1 seek="$at" conv=notrunc status=none
	cmp -s "$saved" "$T/good" && printf '\0' | dd of="$saved" bs=1 seek="$at" conv=notrunc status=none
	refused EINVAL 'saved state'
done
for size in 0 10 63 64 200 $((bytes / 2)) $((bytes - 8)); do
	truncate -s "$size" "$saved"
	refused EINVAL 'saved state'
done
for size in 0 5 100 $(($(stat -c %s "$memory") / 2)); do
	truncate -s "$size" "$memory"
	refused EINVAL,EIO,ENODATA '[Mm]emory'
done
for text in 'memory 2 packed 67108864' 'memory 1 packed' 'memory 1 packed 67108864
file ../../../../etc/passwd' 'memory 1 other 67108864'; do
	echo "$text" >"$saved-memory"
	again
	refused EINVAL,EOPNOTSUPP 'saved memory'
	again
done
rm "$saved-memory"
again
refused ENOENT 'saved memory'
again
rm "$memory"
refused ENOENT 'saved memory'
again
do_ctl m start
wait_console m '^30'

note "used: gone at the next look"
do_ctl m kill
cp "$T/good" "$saved"
printf '\1' | dd of="$saved" bs=1 seek=60 conv=notrunc status=none
cp "$T/map" "$saved-memory"
cp --sparse=always "$T/memory" "$memory"
again
like "$(state_of m)" 'defined|stopped'
[ ! -e "$saved" ] || fail "used up, and still there"
[ ! -e "$saved-memory" ] || fail "its memory is still there"
is "$(ls "$STATE/layers")" "" "layers"

note "no room: the guest goes on"
stop_daemon
mkdir "$T/small"
mount -t tmpfs -o size=1m tmpfs "$T/small"
STATE=$T/small
start_daemon
boot k fill cmdline=mib=4
filled() { [ -s "$M/k/console" ]; }
wait_for filled
refuses ENOSPC,EDQUOT write "$M/k/ctl" save
is "$(state_of k)" running
[ -z "$(find "$T/small/machines/k" -name '*saved*')" ] || fail "halves are left"
is "$(ls "$T/small/layers")" "" "layers"
n=$(stat -c %s "$M/k/console")
goes_on() { [ "$(stat -c %s "$M/k/console")" -gt $((n + 20)) ]; }
wait_for goes_on
undefine k
stop_daemon
umount "$T/small"
