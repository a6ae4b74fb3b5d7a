#!/bin/bash
# A command that the state does not permit is refused with EBUSY, an unknown one with EINVAL, both
# with words, and changes nothing. What `cat ctl` lists is exactly what is permitted.
# also: asan tsan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M
m=$M/m
# lists COMMAND: cat ctl shows it
lists() { grep -qE "^# *$1( |$)" "$m/ctl"; }

for c in stop kill reset pause resume; do
	refuses EBUSY,EINVAL write "$m/ctl" $c
	says "^E[A-Z]+ $c: .*(defined|not running|no )" "$m/error"
	! lists $c || fail "cat ctl lists $c in state defined"
	is "$(state_of m)" defined
done
lists start
lists wait
for c in fly START "start now" "start start" "wait" "wait flying 3" "wait running" "wait running x" \
	"wait running -1" "stop;start" "/bin/sh" "pause now"; do
	refuses EINVAL,EBUSY write "$m/ctl" "$c"
	is "$(state_of m)" defined "after '$c'"
done
refuses EINVAL write "$m/ctl" fly
says '^EINVAL fly: ' "$m/error"
note "start without a kernel"
refuses EINVAL,ENOENT write "$m/ctl" start
says '^E[A-Z]+ start: .*kernel' "$m/error"
gone_vmm_of m

[ -w /dev/kvm ] || exit 0
put "$m/kernel" "$GUESTS/hello.elf"
do_ctl m start
wait_state m running
refuses EBUSY write "$m/ctl" start
says '^EBUSY start: already running' "$m/error"
refuses EBUSY,EINVAL write "$m/ctl" resume
refuses EBUSY rmdir "$m"
! lists start || fail "cat ctl lists start while running"
for c in stop kill reset pause; do lists $c; done
do_ctl m pause
is "$(state_of m)" paused
refuses EBUSY write "$m/ctl" pause
refuses EBUSY write "$m/ctl" start
refuses EBUSY rmdir "$m"
lists resume
do_ctl m kill
is "$(state_of m)" stopped
refuses EBUSY,EINVAL write "$m/ctl" kill
is "$(grep -cv '^#' "$m/ctl" || true)" 0 "lines of ctl that are no comments"
