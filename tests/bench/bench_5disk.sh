# Random 4 KiB to virtio disks beside QEMU's virtio-blk over io_uring, on a thread of its own. The micro guest's
# loop runs natively even where KVM emulates kernels, and polls; so what is measured is the VMM. Sourced by run.sh.
# shellcheck shell=bash

disk_ours() { # FORMAT CACHE CMDLINE
	local words=$2:

	[ "$1" = qcow2 ] && words+=qcow2:
	"$build/tests/bench/blk_bench" "$disk_count" "$build/tests/tools/vmm_run" --timeout 120 \
		--disk "${words#writeback:}$work/disk/$1" --cmdline "$3" "$build/guest/blk_bench.elf" 2> "$work/vmm_run.log"
}

disk_qemu() {
	"$build/tests/bench/blk_bench" "$disk_count" qemu-system-x86_64 -name disk,debug-threads=on -M q35 -accel kvm \
		-cpu qemu64 -m 64 -nodefaults -no-user-config -display none -serial stdio -no-reboot -object iothread,id=io0 \
		-drive "if=none,id=d,file=$work/disk/$1,format=$1,aio=io_uring,cache=$2" \
		-device virtio-blk-pci,drive=d,disable-legacy=on,iothread=io0 -append "$3" \
		-kernel "$build/guest/blk_bench.elf" 2>> "$work/qemu.log"
}

# column N: that column of standard input, its median.
column() { awk -v n="$1" '{ print $n }' | median; }

# disk_row FORMAT CACHE read|write DEPTH COUNT: both take turns.
disk_row() {
	local ours=() peer=() cmdline what i
	disk_count=$5
	cmdline="depth=$4 count=$5 $3 halt"
	what="$3, $1, cache=$2, $4 at once"

	# What the page cache holds would get into the way of direct requests.
	sync -d "$work/disk/$1"
	[ "$2" = none ] && dd "if=$work/disk/$1" iflag=nocache count=0 status=none
	for ((i = 0; i < 11; i++)); do
		ours+=("$(disk_ours "$1" "$2" "${cmdline% halt}")")
		peer+=("$(disk_qemu "$1" "$2" "$cmdline")")
	done
	row "$what (ns)" "$(printf '%s\n' "${ours[@]}" | column 1)" "$(printf '%s\n' "${peer[@]}" | column 1)" QEMU
	row "  processor time beside the vcpu's (ns)" "$(printf '%s\n' "${ours[@]}" | column 2)" \
		"$(printf '%s\n' "${peer[@]}" | column 2)" QEMU
}

bench_disk() {
	local format

	mkdir -p "$work/disk"
	head -c 256M /dev/urandom > "$work/disk/raw"
	qemu-img convert -O qcow2 "$work/disk/raw" "$work/disk/qcow2"
	title 'random 4 KiB, an operation'
	for format in raw qcow2; do
		disk_row $format writeback read 1 10000
		disk_row $format writeback read 32 50000
		disk_row $format writeback write 1 10000
		disk_row $format writeback write 32 50000
		disk_row $format none read 1 1000
		disk_row $format none read 32 10000
	done
	rm -rf "$work/disk"
}

if command -v qemu-system-x86_64 > /dev/null; then
	bench_disk
else
	note 'disks: no qemu-system-x86_64 to compare with'
fi
