#!/bin/bash
# States that earlier versions of the program saved go on: tests/guest/saved/VERSION has each one's,
# of the guest `count` with a vcpu and 64 MiB, at some number. (A host whose processors have not
# what those had is told so, and can prove no more.)
. "${0%/*}/../lib.sh"

need_kvm
need_cmd zstd
# Its second line is there: the first may be the end of one that it was within.
counts() { whole_lines "$M/$1/console" | sed -n 2p | grep -q .; }
tried=0
for version in "$ROOT"/tests/guest/saved/*/; do
	name=v$(basename "$version")
	start_daemon
	define_guest "$name" count
	stop_daemon
	zstd -dq "$version/state.zst" -o "$STATE/machines/$name/saved"
	zstd -dq --long=27 --sparse "$version/memory.zst" -o "$STATE/machines/$name/saved-memory"
	start_daemon
	is "$(state_of "$name")" saved "$name"
	if ! echo start 2>/dev/null >"$M/$name/ctl"; then
		says "features that this host has not|KVM refuses MSR" "$M/$name/error"
		note "$name: $(cat "$M/$name/error")"
		do_ctl "$name" discard
	else
		# it goes on from a number of hundreds
		wait_for counts "$name"
		sed -n 2p "$M/$name/console" | grep -qE '^[1-9][0-9]{2,}' || fail "began anew: $(head -n 3 "$M/$name/console")"
		tried=$((tried + 1))
		do_ctl "$name" kill
	fi
	rmdir "$M/$name"
	stop_daemon
done
[ $tried -gt 0 ] || skip "this host's processors are others than those of all that was saved"
