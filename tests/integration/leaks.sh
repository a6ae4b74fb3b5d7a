#!/bin/bash
# Nothing leaks: descriptors, memory and threads of the daemon are after many lives of machines,
# refused commands, waits cut short and walks what they were before; so are files in the state.
# time: 400
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
cycle() {
	mkdir "$M/l"
	put "$M/l/memory" 64M
	put "$M/l/cpus" 2
	cat "$M/l/config" >"$T/config"
	cat "$T/config" >"$M/l/config"
	"$TOOLS/trycall" write "$M/l/ctl" fly >/dev/null
	"$TOOLS/trycall" write "$M/l/config" 'cpus = = 2' >/dev/null
	"$TOOLS/trycall" write "$M/l/ctl" 'wait running 0' >/dev/null
	echo 'wait running 100 &' >"$M/l/ctl"
	echo 1 >"$M/l/.cpus.swp" && mv "$M/l/.cpus.swp" "$M/l/cpus"
	find "$MNT" >/dev/null
	if [ -w /dev/kvm ]; then
		put "$M/l/kernel" "$GUESTS/hello.elf"
		do_ctl l start
		cat "$M/l/stats" "$M/l/metrics" "$M/l/vcpu/0/registers" >/dev/null
		head -c 5000 "$M/l/core" >/dev/null
		head -c 5000 "$M/l/memory.img" >/dev/null
		do_ctl l kill
		put "$M/l/kernel" "$T/config"
		"$TOOLS/trycall" write "$M/l/ctl" start >/dev/null
	fi
	mv "$M/l" "$M/l2"
	rmdir "$M/l2"
}
threads() { ls "/proc/$DAEMON/task" | wc -l; }
for _ in $(seq 10); do cycle; done
wait_for spare_ready
fds=$(fds_of "$DAEMON") rss=$(rss_of "$DAEMON") tasks=$(threads)
files=$(find "$STATE" "$RUN" | grep -vc '/events' || true)
n=60
for _ in $(seq $n); do cycle; done
wait_for spare_ready
settled() { [ "$(fds_of "$DAEMON")" -le "$((fds + 2))" ]; }
wait_for settled
grown=$(($(rss_of "$DAEMON") - rss))
note "after $n more lives: $(fds_of "$DAEMON") descriptors (were $fds), $(threads) threads (were $tasks), $grown KiB more"
[ "$(threads)" -le $((tasks + 12)) ] || fail "threads"
[ "${SLOWNESS}" != 1 ] || [ $grown -lt $((n * 30)) ] || fail "the daemon grew by $grown KiB in $n lives"
is "$(find "$STATE" "$RUN" | grep -vc '/events' || true)" "$files" "files of the state"
no_vmm
