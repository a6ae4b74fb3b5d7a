# Shared by the benchmarks: medians, the table, a daemon of their own. Sourced by run.sh.
# shellcheck shell=bash

# Median of the numbers on standard input.
median() {
	sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)]; else print "-" }'
}

# repeat N CMD...: the outputs of N runs.
repeat() {
	local n=$1
	shift
	for ((i = 0; i < n; i++)); do
		"$@"
	done
}

# The microseconds that CMD takes; its output goes away.
time_us() {
	local t0=${EPOCHREALTIME/./} t1

	"$@" > /dev/null
	t1=${EPOCHREALTIME/./}
	echo $((t1 - t0))
}

title() {
	printf '\n%s\n' "$1"
	printf '  %-46s %12s %12s %8s  %s\n' what filevisor peer ratio peer
}

# row WHAT OURS PEER-VALUE PEER-NAME [DIGITS]: the ratio is peer / ours, so above 1 we are ahead.
row() {
	local ratio=-

	[ "$3" = - ] || [ "$2" = - ] || ratio=$(awk "BEGIN { printf \"%.2f\", $3 / $2 }")
	printf '  %-46s %12s %12s %8s  %s\n' "$1" "$2" "$3" "$ratio" "$4"
}

note() {
	printf '  %s\n' "$*"
}

# Mounts a tree of the benchmark's own at $fv.
bench_daemon() {
	fv=$work/fv
	mkdir -p "$fv"
	"$build/filevisord" -f --state "$work/state" --run "$work/run" "$fv" 2> "$work/filevisord.log" &
	daemon_pid=$!
	for _ in $(seq 200); do
		[ -e "$fv/version" ] && return
		sleep 0.05
	done
	cat "$work/filevisord.log" >&2
	return 1
}

bench_daemon_stop() {
	[ -n "${daemon_pid:-}" ] || return 0
	kill "$daemon_pid" 2> /dev/null
	wait "$daemon_pid" 2> /dev/null
	daemon_pid=
}

# The host's libvirt: started if it does not run yet, and then stopped again. Its guests here are called fvbench-*.
# QEMU runs as root then, in a mount namespace of libvirt's own: where its usual user may not use /dev/kvm, libvirt
# examines QEMU anew at each call, for seconds.
bench_libvirt() {
	export LIBVIRT_DEFAULT_URI=qemu:///system
	command -v virsh > /dev/null && command -v libvirtd > /dev/null || return 1
	virsh list > /dev/null 2>&1 && return
	mkdir -p /var/log/libvirt/qemu
	printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\n' > "$work/qemu.conf"
	for daemon in virtlogd libvirtd; do
		unshare -m sh -c 'mount --bind "$1/qemu.conf" /etc/libvirt/qemu.conf && "$2" -d -p "$1/$2.pid"' sh \
			"$work" $daemon 2>> "$work/libvirt.log" || return 1
	done
	for _ in $(seq 100); do
		virsh list > /dev/null 2>&1 && return
		sleep 0.1
	done
	return 1
}

bench_libvirt_stop() {
	for daemon in libvirtd virtlogd; do
		[ -f "$work/$daemon.pid" ] && kill "$(cat "$work/$daemon.pid")"
	done
	true
}

# domain_xml NAME KERNEL SERIAL-FILE: the smallest libvirt guest that boots an ELF.
domain_xml() {
	cat <<- XML
		<domain type='kvm'><name>fvbench-$1</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type><kernel>$2</kernel></os>
		<features><acpi/></features><cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>
		<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
		<serial type='file'><source path='$3'/><target port='0'/></serial>
		<memballoon model='none'/><controller type='usb' model='none'/></devices>
		<seclabel type='static' model='dac' relabel='no'><label>+0:+0</label></seclabel></domain>
	XML
}
