# Snapshots, save and restore, clones, beside virsh and QEMU. A guest with 600 MiB of half-compressible data prints a
# byte every million ticks, so that its going on shows. Sourced by run.sh.
# shellcheck shell=bash

snap_m=$fv/machines
snap_mib=600

# snap_define NAME MIB WORDS: a guest of that memory, filled.
snap_define() {
	mkdir "$snap_m/$1"
	echo "$2M" > "$snap_m/$1/memory"
	echo "$build/guest/fill.elf" > "$snap_m/$1/kernel"
	echo "$3" > "$snap_m/$1/cmdline"
	truncate -s 1G "$work/$1.img"
	mkdir "$snap_m/$1/disks/root"
	echo "$work/$1.img" > "$snap_m/$1/disks/root/source"
	echo start > "$snap_m/$1/ctl"
	snap_wait "$snap_m/$1/console" 'filled MiB'
}

# snap_write FILE WORDS
snap_write() { echo "$2" > "$1"; }

# snap_wait FILE TEXT
snap_wait() {
	for _ in $(seq 6000); do
		grep -aqs "$2" "$1" && return
		sleep 0.05
	done
	return 1
}

# Microseconds of `mkdir snapshots/x`, after which it goes again.
snap_take() {
	time_us mkdir "$snap_m/$1/snapshots/x"
	rmdir "$snap_m/$1/snapshots/x"
}

# Microseconds that the guest stood still for it.
snap_pause() {
	mkdir "$snap_m/$1/snapshots/x"
	cat "$snap_m/$1/snapshots/x/pause_us"
	rmdir "$snap_m/$1/snapshots/x"
}

snap_forget() {
	echo kill > "$snap_m/$1/ctl"
	rmdir "$snap_m/$1"
}

# Microseconds to the first byte that a clone of a snapshot prints.
snap_clone() {
	"$build/tests/bench/first_byte" write "$snap_m/$1/snapshots/base/ctl" 'clone twin' "$snap_m/twin/console"
	snap_forget twin
}

snap_restore() {
	"$build/tests/bench/first_byte" grow "$snap_m/$1/snapshots/base/ctl" restore "$snap_m/$1/console"
	echo pause > "$snap_m/$1/ctl"
}

snap_sizes() {
	local mib

	for mib in 256 1024 4096; do
		snap_define "m$mib" $mib "mib=$((mib < 900 ? 200 : snap_mib))"
		mkdir "$snap_m/m$mib/snapshots/base"
		title "A guest of $mib MiB, $((mib < 900 ? 200 : snap_mib)) of them filled (µs)"
		row "clone of a snapshot to its first byte" "$(repeat 11 snap_clone "m$mib" | median)" \
			"$(repeat 11 "$build/tests/bench/kvm_floor" $mib | median)" "floor: KVM's own calls"
		echo pause > "$snap_m/m$mib/ctl" # else it has one of the processors, without a pause
		row "the same, while the machine itself is paused" "$(repeat 11 snap_clone "m$mib" | median)" \
			"$(repeat 11 "$build/tests/bench/kvm_floor" $mib | median)" "floor: KVM's own calls"
		echo resume > "$snap_m/m$mib/ctl"
		row "restore in place to its first byte" "$(repeat 11 snap_restore "m$mib" | median)" \
			"$(repeat 11 "$build/tests/bench/kvm_floor" $mib | median)" "floor: KVM's own calls"
		echo resume > "$snap_m/m$mib/ctl"
		row "pause of a live snapshot" "$(repeat 5 snap_pause "m$mib" | median)" 20000 "20 ms asked for"
		row "mkdir snapshots/x, incremental, until it is whole" "$(repeat 5 snap_take "m$mib" | median)" - -
		rmdir "$snap_m/m$mib/snapshots/base"
		snap_forget "m$mib"
	done
}

# Microseconds of `clone twin 100` written to CTL.
snap_many() { time_us snap_write "$1" 'clone twin 100'; }

snap_forget_many() {
	local m

	for m in "$snap_m"/twin*; do
		snap_forget "${m##*/}"
	done
}

snap_many_again() {
	snap_many "$1"
	snap_forget_many
}

# A field of /proc/PID/smaps_rollup, or several by a pattern, in KiB, of each of these processes.
snap_rollup() {
	local pid pattern=$1
	shift

	for pid; do
		awk -v p="^$pattern" '$1 ~ p { s += $2 } END { print s }' "/proc/$pid/smaps_rollup"
	done
}

# 100 clones at once, and what they cost in memory. Their guest halts and prints a byte ten times a second: a hundred
# that never halt would have the processors from the first on, and be all that is measured.
snap_hundred() {
	local base pids

	snap_define many 1024 "mib=$snap_mib idle"
	mkdir "$snap_m/many/snapshots/base"
	base=$snap_m/many/snapshots/base/ctl
	title "100 clones, 1 GiB with $snap_mib MiB filled, a disk, an idle guest"
	row "of a snapshot, until all of them run (ms)" $(($(repeat 3 snap_many_again "$base" | median) / 1000)) 1500 \
		"1500 ms asked for"
	snap_many "$base" > "$work/many.us"
	sleep 1
	# shellcheck disable=SC2207 # numbers
	pids=($(pgrep -f '^filevisor-vmm twin'))
	row "private memory of one (KiB)" "$(snap_rollup Private_ "${pids[@]}" | median)" 1024 "1 MiB asked for"
	row "proportional memory of all (MiB)" "$(snap_rollup Pss: "${pids[@]}" | awk '{ s += $1 } END { print int(s / 1024) }')" \
		$((100 * snap_mib)) "100 times its data"
	snap_forget_many
	row "of the running machine (ms)" $(($(repeat 3 snap_many_again "$snap_m/many/ctl" | median) / 1000)) 1500 \
		"1500 ms asked for"
	rmdir "$snap_m/many/snapshots/base"
	snap_forget many
}

# --- saving, beside the peers ---------------------------------------------------------------------

# All of the memory is there before, as it is in QEMU when `virsh restore` returns, and in large pages.
snap_save_ours() {
	time_us snap_write "$snap_m/saver/ctl" save
	echo start > "$snap_m/saver/ctl"
	snap_wait "$snap_m/saver/stats" '^memory.to_load_bytes 0$'
	sleep 3
}

snap_start_ours() {
	echo save > "$snap_m/saver/ctl"
	"$build/tests/bench/first_byte" grow "$snap_m/saver/ctl" start "$snap_m/saver/console"
}

snap_xml() {
	qemu-img create -q -f qcow2 "$work/virsh.qcow2" 1G
	cat <<- XML
		<domain type='kvm'><name>fvbench-saver</name><memory unit='MiB'>1024</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type><kernel>$build/guest/fill.elf</kernel>
		<cmdline>mib=$snap_mib</cmdline></os>
		<features><acpi/></features><cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>
		<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
		<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$work/virsh.qcow2'/>
		<target dev='vda' bus='virtio'/></disk>
		<serial type='file'><source path='$work/virsh.serial'/><target port='0'/></serial>
		<memballoon model='none'/><controller type='usb' model='none'/></devices>
		<seclabel type='static' model='dac' relabel='no'><label>+0:+0</label></seclabel></domain>
	XML
}

snap_save_virsh() {
	rm -f "$work/virsh.save"
	time_us virsh -q save fvbench-saver "$work/virsh.save"
	snap_virsh_bytes=$(du -k "$work/virsh.save" | cut -f1)
	echo "$snap_virsh_bytes" > "$work/virsh.bytes"
	virsh -q restore "$work/virsh.save"
}

snap_restore_virsh() {
	virsh -q save fvbench-saver "$work/virsh.save"
	: > "$work/virsh.serial"
	"$build/tests/bench/first_byte" run "$work/virsh.serial" virsh -q restore "$work/virsh.save"
}

snap_create_virsh() {
	time_us virsh -q snapshot-create-as fvbench-saver x
	virsh -q snapshot-delete fvbench-saver x > /dev/null
}

# QEMU alone: migrate to a file, through its monitor.
snap_save_qemu() {
	local pid

	rm -f "$work/qemu.mon" "$work/qemu.save" "$work/qemu.serial"
	qemu-system-x86_64 -M q35 -accel kvm -cpu qemu64 -m 1024 -nodefaults -no-user-config -display none \
		-serial "file:$work/qemu.serial" -kernel "$build/guest/fill.elf" -append "mib=$snap_mib" \
		-qmp "unix:$work/qemu.mon,server=on,wait=off" 2>> "$work/qemu.log" &
	pid=$!
	snap_wait "$work/qemu.serial" 'filled MiB'
	"$build/tests/bench/qmp_save" "$work/qemu.mon" "$work/qemu.save"
	du -k "$work/qemu.save" | cut -f1 > "$work/qemu.bytes"
	kill $pid
	wait $pid 2> /dev/null
}

snap_saving() {
	local save create start bytes

	title "1 GiB with $snap_mib MiB of half-compressible data: save, restore, snapshot (ms)"
	snap_define saver 1024 "mib=$snap_mib"
	save=$(repeat 5 snap_save_ours | median)
	start=$(repeat 5 snap_start_ours | median)
	create=$(repeat 5 snap_take saver | median)
	echo save > "$snap_m/saver/ctl"
	bytes=$(du -kc "$work"/state/machines/saver/saved* "$work"/state/layers/*.mem 2> /dev/null | awk 'END { print $1 }')
	echo discard > "$snap_m/saver/ctl"
	rmdir "$snap_m/saver"
	if bench_libvirt; then
		snap_xml > "$work/saver.xml"
		virsh -q define "$work/saver.xml"
		virsh -q start fvbench-saver
		snap_wait "$work/virsh.serial" 'filled MiB'
		row save $((save / 1000)) $(($(repeat 3 snap_save_virsh | median) / 1000)) 'virsh save'
		row "  its size on disk (KiB)" "$bytes" "$(cat "$work/virsh.bytes")" 'virsh save'
		row "restore to the first byte" $((start / 1000)) $(($(repeat 3 snap_restore_virsh | median) / 1000)) 'virsh restore'
		row "live snapshot" $((create / 1000)) $(($(repeat 3 snap_create_virsh | median) / 1000)) 'virsh snapshot-create-as'
		virsh -q destroy fvbench-saver
		virsh -q undefine fvbench-saver
	fi
	command -v qemu-system-x86_64 > /dev/null || return
	row save $((save / 1000)) $(($(repeat 3 snap_save_qemu | median) / 1000)) 'QEMU migrate to a file'
	row "  its size on disk (KiB)" "$bytes" "$(cat "$work/qemu.bytes")" 'QEMU migrate to a file'
}

snap_sizes
snap_hundred
snap_saving
