#!/bin/bash
# What the guest does to itself is followed as on_poweroff, on_reboot and on_crash say.
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
define_guest off hello cmdline=poweroff
define_guest again reboot
define_guest dies triple

# ends NAME STATE: it comes to that by itself
ends() {
	do_ctl "$1" start
	wait_state "$1" "$2"
	wait_for -t 30 "${3:-no_vmm}"
}
# restarts NAME: resets are counted in stats
resets() { sed -n 's/^vm.resets //p; s/^resets //p' "$M/$1/stats"; }
restarted() { [ "$(resets "$1")" -ge 2 ]; }

is "$(cat "$M/off/on_poweroff") $(cat "$M/off/on_reboot")" "stop restart"
ends off stopped
is "$(cat "$M/off/error")" ""
put "$M/off/on_poweroff" restart
do_ctl off start
wait_for restarted off
is "$(state_of off)" running
do_ctl off kill

put "$M/again/on_reboot" stop
ends again stopped
put "$M/again/on_reboot" restart
do_ctl again start
wait_for restarted again
is "$(state_of again)" running
do_ctl again kill

put "$M/dies/on_crash" stop
ends dies crashed
says 'triple fault' "$M/dies/error"
put "$M/dies/on_crash" restart
do_ctl dies start
wait_for restarted dies
do_ctl dies kill
put "$M/dies/on_crash" preserve
ends dies crashed true
is "$(vmms)" 1 "the preserved machine"
is "$(stat -c %s "$M/dies/memory.img")" $((64 << 20))
like "$(cat "$M/dies/vcpu/0/registers")" 'rip'
refuses EBUSY rmdir "$M/dies"
do_ctl dies kill
wait_for no_vmm
rmdir "$M/dies"
