#!/bin/bash
# What Linux writes to its memory is in memory.img; Linux with the command line changed in `config`
# sees the new one at its next start only; a compressed kernel and an initrd boot, too.
# time: 400
. "${0%/*}/../lib.sh"

need_linux
need_cmd zstd
start_daemon
zstd -q -1 -c "$LINUX/vmlinux" >"$T/vmlinux.zst"
boot_linux m kernel="$T/vmlinux.zst"
sh_linux m 'x=pattern; y=in-guest-ram; dd if=/dev/zero of=/dev/null bs=1 count=1 2>/dev/null; echo $x-$y > /dev/null'
found() { grep -aq 'pattern' "$M/m/memory.img"; }
found || fail "the guest's memory is not in memory.img"
cp --sparse=always "$M/m/memory.img" "$T/ram"
[ "$(stat -c %b "$T/ram")" -lt $((64 << 11)) ] || note "all of RAM is in use"
old=$(sh_linux m 'cat /proc/cmdline')
put "$M/m/cmdline" "$(cat "$LINUX/cmdline") fv.word=new"
is "$(sh_linux m 'cat /proc/cmdline')" "$old" "while it runs"
do_ctl m kill
do_ctl m start
again() { [ "$(grep -ac 'filevisor-guest ready' "$M/m/console")" -ge 2 ]; }
wait_for -t 180 again
like "$(sh_linux m 'cat /proc/cmdline')" 'fv.word=new'
do_ctl m kill
