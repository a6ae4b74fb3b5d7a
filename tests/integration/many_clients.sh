#!/bin/bash
# 64 clients at once start and stop the same machine: each gets success or EBUSY, never anything
# else, and one machine at most runs at any time.
# time: 240
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
start_daemon
define_guest m hello
client() {
	local i
	for i in 1 2 3 4; do
		"$TOOLS/trycall" write "$M/m/ctl" start
		"$TOOLS/trycall" write "$M/m/ctl" kill
		cat "$M/m/state" >/dev/null
	done
}
pids=()
for i in $(seq 64); do
	client >"$T/client.$i" 2>&1 &
	pids+=($!)
done
alive() { for p in "${pids[@]}"; do kill -0 "$p" 2>/dev/null && return; done; return 1; }
while alive; do
	n=$(vmms)
	[ "$n" -le 2 ] || fail "$n machines of one definition" # one may be on its way out
	sleep 0.05
done
for p in "${pids[@]}"; do wait "$p"; done
sort "$T"/client.* | uniq -c >"$T/answers"
note "$(tr -s '\n ' ' ' <"$T/answers")"
! grep -vE ' (ok|write EBUSY)$' "$T/answers" || fail "other answers"
is "$(cat "$T"/client.* | wc -l)" 512
[ "$(state_of m)" != running ] || do_ctl m kill
wait_for no_vmm
do_ctl m start
is "$(vmms)" 1
do_ctl m kill
