#!/bin/bash
# A guest that dies leaves its reason and registers in `error` and the log: triple fault, emulation
# failure; and a VMM killed from outside is a crash, too, told at once.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
boot triple triple
wait_state triple crashed
says '^E[A-Z]+ guest: .*triple fault' "$M/triple/error"
like "$(cat "$M/triple/error")" 'rip[ =]+0?x?[0-9a-f]+'
like "$(cat "$MNT/events")" 'triple fault'

# no kernel of anybody: an instruction that KVM's emulator may not know, else an exception without IDT
boot emul emufail
wait_state emul crashed
says '^E[A-Z]+ guest: ' "$M/emul/error"
like "$(cat "$M/emul/error")" 'rip[ =]+0?x?[0-9a-f]+'

boot shot loop
wait_console shot .
kill -KILL "$(vmm_pids)"
wait_state shot crashed
says '^E[A-Z]+ guest: ' "$M/shot/error"
do_ctl shot start
is "$(state_of shot)" running
is "$(cat "$M/shot/error")" ""
do_ctl shot kill
rmdir "$M/triple" "$M/emul" "$M/shot"
