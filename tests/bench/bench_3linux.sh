# Linux from start to its shell. Sourced by run.sh.
# shellcheck shell=bash

# Milliseconds until FILE shows that the guest's shell is up.
linux_wait() {
	local t0=${EPOCHREALTIME/./} t1

	until grep -qs 'filevisor-guest ready' "$1"; do
		sleep 0.02
		t1=${EPOCHREALTIME/./}
		[ $((t1 - t0)) -lt 180000000 ] || return 1
	done
	t1=${EPOCHREALTIME/./}
	echo $(((t1 - t0) / 1000))
}

linux_ours() {
	mkdir "$fv/machines/linux"
	echo 64M > "$fv/machines/linux/memory"
	echo "$linux/vmlinux" > "$fv/machines/linux/kernel"
	cat "$linux/cmdline" > "$fv/machines/linux/cmdline"
	mkdir "$fv/machines/linux/disks/root"
	echo "$work/root.img" > "$fv/machines/linux/disks/root/source"
	echo start > "$fv/machines/linux/ctl"
	linux_wait "$fv/machines/linux/console"
	echo kill > "$fv/machines/linux/ctl"
	rmdir "$fv/machines/linux"
}

linux_qemu() {
	local pid

	rm -f "$work/serial"
	# shellcheck disable=SC2046
	qemu-system-x86_64 -M q35 -accel kvm -cpu qemu64 -m 64 -nodefaults -no-user-config -display none \
		-serial "file:$work/serial" -kernel "$linux/vmlinux" -append "$(cat "$linux/cmdline")" \
		-drive "if=none,id=root,format=raw,file=$work/root.img" -device virtio-blk-pci,drive=root 2>> "$work/qemu.log" &
	pid=$!
	linux_wait "$work/serial"
	kill $pid
	wait $pid 2> /dev/null
}

bench_linux() {
	local ours=() peer=()

	linux=$(tests/guest/linux/build.sh | tail -n 1)
	cp --sparse=always "$linux/root.img" "$work/root.img"
	title "Linux 6.1 to its shell, 64 MiB, 1 vcpu (ms)"
	for _ in $(seq 10); do
		ours+=("$(linux_ours)")
		command -v qemu-system-x86_64 > /dev/null && peer+=("$(linux_qemu)")
	done
	row "boot to shell" "$(printf '%s\n' "${ours[@]}" | median)" "$(printf '%s\n' "${peer[@]:--}" | median)" "QEMU q35"
}

bench_linux
