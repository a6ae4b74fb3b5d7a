#!/bin/bash
# States that earlier versions of the program saved go on: tests/guest/saved/VERSION has each one's. The
# first is a state of the guest `count` with a vcpu and 64 MiB, at some number; later ones are archives of
# the guest `ledger` with two vcpus, whose books in memory and on its disk agree. (A host whose
# processors have not what those had is told so, and can prove no more.)
. "${0%/*}/../lib.sh"

need_kvm
need_cmd zstd
# Its second line is there: the first may be the end of one that it was within.
counts() { whole_lines "$M/$1/console" | sed -n 2p | grep -q .; }
# place_count NAME DIRECTORY: as a daemon of that version left it
place_count() {
	define_guest "$1" count
	stop_daemon
	zstd -dq "$2/state.zst" -o "$STATE/machines/$1/saved"
	zstd -dq --long=27 --sparse "$2/memory.zst" -o "$STATE/machines/$1/saved-memory"
	start_daemon
}
# what was is known: it goes on from a number of hundreds, and does not begin anew
counted_on() {
	wait_for counts "$1"
	sed -n 2p "$M/$1/console" | grep -qE '^[1-9][0-9]{2,}' || fail "began anew: $(head -n 3 "$M/$1/console")"
}
place_ledger() {
	mkdir "$M/$1"
	cp "$2/archive" "$M/$1/archive" || fail "archive: $(cat "$M/$1/error")"
}
# 64 entries on, each was compared with one from before
wrote_on() {
	past_archive() { [ "$(entries "$1")" -gt 70 ]; }
	wait_for past_archive "$1"
	! grep -aE -A2 'DISAGREE|disk error|begin' "$M/$1/console" || fail "memory and disk disagree, or it began anew"
	[ "$(grep -aoE '^entry [0-9]+$' "$M/$1/console" | sed -n 2p | cut -d' ' -f2)" -gt 150 ] || fail "older books"
}

tried=0
start_daemon
for version in "$ROOT"/tests/guest/saved/*/; do
	name=v$(basename "$version") place=place_ledger goes_on=wrote_on
	[ -e "$version/archive" ] || place=place_count goes_on=counted_on
	$place "$name" "$version"
	is "$(state_of "$name")" saved "$name"
	if ! echo start 2>/dev/null >"$M/$name/ctl"; then
		says "features that this host has not|KVM refuses MSR" "$M/$name/error"
		note "$name: $(cat "$M/$name/error")"
		do_ctl "$name" discard
	else
		$goes_on "$name"
		tried=$((tried + 1))
		do_ctl "$name" kill
	fi
	rmdir "$M/$name"
done
[ $tried -gt 0 ] || skip "this host's processors are others than those of all that was saved"
