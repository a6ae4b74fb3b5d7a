# Start to the first byte on the serial port, and what a VMM costs in memory. Sourced by run.sh.
# shellcheck shell=bash

start_ours() {
	: > /dev/null
	"$build/tests/bench/first_byte" write "$fv/machines/hello/ctl" start "$fv/machines/hello/console"
	echo kill > "$fv/machines/hello/ctl"
	rmdir "$fv/machines/hello"
	start_define
}

start_define() {
	mkdir "$fv/machines/hello"
	echo 64M > "$fv/machines/hello/memory"
	echo "$build/guest/hello_pvh.elf" > "$fv/machines/hello/kernel"
}

start_microvm() {
	"$build/tests/bench/first_byte" pipe qemu-system-x86_64 -M microvm,x-option-roms=off,rtc=on,pic=on,pit=on \
		-accel kvm -cpu qemu64 -m 64 -nodefaults -no-user-config -display none -serial stdio \
		-kernel "$build/guest/hello_pvh.elf" 2>> "$work/qemu.log"
}

start_virsh() {
	rm -f "$work/serial"
	"$build/tests/bench/first_byte" run "$work/serial" virsh -q start fvbench-hello
	virsh -q destroy fvbench-hello
}

# Private bytes of a process outside the mapping of its guest's RAM (64 MiB, or named memfd), in KiB.
private_kib() {
	awk '/^[0-9a-f]+-/ { ram = /memfd:/ } /^Size:/ && $2 == 65536 { ram = 1 } /^Private_/ && !ram { sum += $2 } END { print sum }' "/proc/$1/smaps"
}

start_memory() {
	local ours peer pid qemu

	echo start > "$fv/machines/hello/ctl"
	sleep 0.5
	pid=$(pgrep -n -f '^filevisor-vmm hello')
	ours=$(private_kib "$pid")
	qemu-system-x86_64 -M microvm,x-option-roms=off,rtc=on,memory-backend=ram -accel kvm -cpu qemu64 -m 64 -nodefaults \
		-object memory-backend-memfd,id=ram,size=64M,share=on -no-user-config -display none -serial null \
		-kernel "$build/guest/hello_pvh.elf" 2>> "$work/qemu.log" &
	qemu=$!
	sleep 0.5
	peer=$(private_kib $qemu)
	kill $qemu
	wait $qemu 2> /dev/null
	echo kill > "$fv/machines/hello/ctl"
	row "private memory beyond guest RAM (KiB)" "$ours" "$peer" "QEMU microvm"
}

bench_start() {
	local ours

	start_define
	title "Start to the first byte on the serial port (µs)"
	ours=$(repeat 21 start_ours | median)
	row "KVM's own calls for such a VM (floor)" "$ours" "$(repeat 21 "$build/tests/bench/kvm_floor" | median)" "floor"
	if command -v qemu-system-x86_64 > /dev/null; then
		row "echo start > ctl" "$ours" "$(repeat 21 start_microvm | median)" "QEMU microvm"
	fi
	if bench_libvirt; then
		domain_xml hello "$build/guest/hello_pvh.elf" "$work/serial" > "$work/hello.xml"
		virsh -q define "$work/hello.xml"
		row "echo start > ctl" "$ours" "$(repeat 11 start_virsh | median)" "virsh start"
		virsh -q undefine fvbench-hello
	fi
	title "Memory"
	command -v qemu-system-x86_64 > /dev/null && start_memory
	rmdir "$fv/machines/hello"
}

bench_start
