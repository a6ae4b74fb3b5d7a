#!/bin/bash
# Linux boots to a shell, answers what is typed, sees its cpus, reads and writes its disk, has random
# numbers; `stop` presses its power button; it reboots itself and switches itself off.
# time: 400
. "${0%/*}/../lib.sh"

need_linux
start_daemon
define_linux web cpus=2
do_ctl web start
wait_linux web
like "$(sh_linux web 'uname -s')" Linux
is "$(sh_linux web nproc)" 2
like "$(sh_linux web 'cat /proc/cmdline')" "$(cut -d' ' -f1 "$LINUX/cmdline")"
sh_linux web 'grep -q vda /proc/partitions'
note "its disk"
sh_linux web 'echo written by the guest > /file && sync'
grep -aq 'written by the guest' "$T/web.img" || fail "not on the disk"
is "$(sh_linux web 'cat /file')" 'written by the guest'
like "$(cat "$M/web/stats")" 'disk.root.write[a-z_]* [1-9]'
note "random numbers"
is "$(sh_linux web 'head -c 16 /dev/hwrng | wc -c')" 16
note "paused, it stands still"
do_ctl web pause
a=$(cat "$M/web/vcpu/0/registers")
is "$(cat "$M/web/vcpu/0/registers")" "$a"
do_ctl web resume
is "$(sh_linux web 'echo here')" here

note "stop: the power button"
put "$M/web/stop_timeout_s" 120
do_ctl web stop
is "$(state_of web)" stopped
like "$(tail -n 3 "$M/web/console")" '[Pp]ower.?[Dd]own|[Pp]ower.?[Oo]ff'
is "$(cat "$M/web/error")" ""
wait_for no_vmm

note "a second boot, with what the first one wrote; it switches itself off"
: >"$T/seen"
do_ctl web start
twice() { [ "$(grep -ac 'filevisor-guest ready' "$M/web/console")" -ge "$1" ]; }
wait_for -t 180 twice 2
is "$(sh_linux web 'cat /file')" 'written by the guest'
put "$M/web/console" 'reboot -f'
wait_for -t 180 twice 3
is "$(state_of web)" running "after a reboot"
put "$M/web/console" 'poweroff -f'
wait_for -t 120 state_is web stopped
is "$(cat "$M/web/error")" ""
