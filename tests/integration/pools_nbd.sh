#!/bin/bash
# A server as a pool: its export is a volume whose content is read, written and copied; a server that
# went is said in words, and is back by itself; what only its keeper can do is refused.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_cmd qemu-nbd qemu-img cmp
start_daemon
P=$MNT/pools/net V=$MNT/pools/net/volumes
mkdir "$T/store" "$MNT/pools/dir"
put "$MNT/pools/dir/source" "$T/store"
head -c 8M /dev/urandom >"$T/disk"
cp "$T/disk" "$T/want"

start_server() {
	qemu-nbd -t -e 8 -f raw -x root -k "$T/sock" "$T/disk" >>"$T/server.log" 2>&1 &
	SERVER=$!
	wait_for test -S "$T/sock"
}
stop_server() {
	kill $SERVER
	wait $SERVER || true
	rm -f "$T/sock"
}

note "one that is not there"
mkdir "$P"
put "$P/type" nbd
refuses EINVAL write "$P/source" "$T/sock"
put "$P/source" "nbd+unix:///?socket=$T/sock"
is "$(cat "$P/state")" failed
[ -s "$P/error" ]

note "there"
start_server
wait_for test -d "$V/root"
is "$(cat "$P/state")" active
is "$(cat "$V/root/size") $(cat "$V/root/format")" "8388608 raw"
cmp "$V/root/image" "$T/want"
printf changed | dd of="$V/root/image" bs=1 seek=4096 conv=notrunc status=none
printf changed | dd of="$T/want" bs=1 seek=4096 conv=notrunc status=none
cmp "$V/root/image" "$T/want"
refuses EOPNOTSUPP mkdir "$V/more"
refuses EOPNOTSUPP rmdir "$V/root"
refuses EOPNOTSUPP write "$V/root/ctl" "convert qcow2"
refuses EOPNOTSUPP write "$V/root/ctl" "resize 16M"
mkdir "$MNT/pools/dir/volumes/copy"
put "$MNT/pools/dir/volumes/copy/format" qcow2
put "$V/root/ctl" "copy dir/copy"
qemu-img compare -q -f raw -F qcow2 "$T/want" "$T/store/copy"

note "gone, and back"
stop_server
refuses ENOENT,ECONNREFUSED write "$P/ctl" refresh
is "$(cat "$P/state")" failed
is "$(ls "$V")" ""
start_server
wait_for test -d "$V/root"
cmp "$V/root/image" "$T/want"
rmdir "$P"
stop_server
