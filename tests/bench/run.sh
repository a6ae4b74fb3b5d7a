#!/bin/bash
# Measures filevisor beside its peers in one run and prints tables with ratios.
#
#   make bench [TEST=tree|start|linux|image|disk|snapshot|network]
#
# Medians of at least 10 runs each; both sides take turns or follow directly on
# one another. QEMU and libvirt are needed by nothing else in this repository.
set -u
cd "$(dirname "$0")/../.."
build=$(readlink -f "${1:-build}")
here=tests/bench
work=$(mktemp -d "${TMPDIR:-/tmp}/filevisor-bench.XXXXXX")
. $here/lib.sh

clean_up() {
	for ctl in "$work"/fv/machines/*/ctl; do
		[ -e "$ctl" ] && echo kill > "$ctl" 2> /dev/null
	done
	bench_daemon_stop
	bench_libvirt_stop
	mountpoint -q "$work/minimal" && umount -l "$work/minimal"
	mountpoint -q "$work/fv" && umount -l "$work/fv"
	rm -rf "$work"
} 2> /dev/null
trap clean_up EXIT

printf 'filevisor bench: %s, %s CPUs, Linux %s\n' \
	"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)"
printf 'ratio = peer / filevisor: above 1 filevisor is ahead\n'
bench_daemon || exit 1
for script in $here/bench_*.sh; do
	name=${script##*/bench_}
	name=${name%.sh}
	name=${name#[0-9]}
	[ -n "${TEST:-}" ] && [ "$TEST" != "$name" ] && continue
	. "$script"
done
