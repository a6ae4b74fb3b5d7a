# Frames between a micro guest and a tap of the host, beside QEMU's virtio-net on the same tap, one lane each; how soon
# a network gives leases; 100 cards on one. The guest's loop runs natively even where KVM emulates kernels, and polls; so what
# is measured is the VMM. Sourced by run.sh.
# shellcheck shell=bash

net_ours() { # rx|tx SIZE COUNT [tso]
	"$build/tests/bench/net_bench" "$1" "$2" "$3" "$build/tests/tools/vmm_run" --vmm "$build/filevisor-vmm" --timeout 120 \
		--tap fvbench --cmdline "$1 size=$2 count=$3 ${4:-}" "$build/guest/net_bench.elf" 2> "$work/vmm_run.log"
}

net_qemu() {
	"$build/tests/bench/net_bench" "$1" "$2" "$3" qemu-system-x86_64 -name net,debug-threads=on -M q35 -accel kvm \
		-cpu qemu64 -m 64 -nodefaults -no-user-config -display none -serial stdio -no-reboot \
		-netdev tap,id=n,ifname=fvbench,script=no,downscript=no,vhost=off \
		-device virtio-net-pci,netdev=n,disable-legacy=on,romfile= -append "$1 size=$2 count=$3 ${4:-} halt" \
		-kernel "$build/guest/net_bench.elf" 2>> "$work/qemu.log"
}

net_column() { awk -v n="$1" '{ print $n }' | median; }

# net_row WHAT rx|tx SIZE COUNT [tso]: both take turns.
net_row() {
	local what=$1 ours=() peer=() ns
	shift

	for _ in $(seq 11); do
		ours+=("$(net_ours "$@")")
		peer+=("$(net_qemu "$@")")
	done
	ns=$(printf '%s\n' "${ours[@]}" | net_column 1)
	row "$what (ns)" "$ns" "$(printf '%s\n' "${peer[@]}" | net_column 1)" QEMU
	row "  processor time beside the vcpu's (ns)" "$(printf '%s\n' "${ours[@]}" | net_column 2)" \
		"$(printf '%s\n' "${peer[@]}" | net_column 2)" QEMU
	[ "$ns" = - ] || note "$(awk "BEGIN { printf \"  %d frames/s, %.2f Gbit/s\", 1e9 / $ns, 8 * $2 / $ns }")"
}

bench_frames() {
	local way

	title 'a frame between guest and tap'
	for way in tx rx; do
		net_row "$way, 64 bytes" $way 64 300000
		net_row "$way, 1500 bytes" $way 1500 200000
		net_row "$way, 64 KiB to be cut (TSO)" $way 65000 50000 tso
	done
}

# Of the network itself: there is nobody to compare with.
bench_networks() {
	local times card=(- - -)

	title 'a network of mode nat'
	mkdir -p "$work/net_start" "$work/net_cards"
	times=$(bash $here/network_times.sh "$build" "$work/net_start" start 2> "$work/network.log" | median)
	row 'from start to the first lease possible (us)' "${times:--}" - -
	read -r -a card < <(bash $here/network_times.sh "$build" "$work/net_cards" cards 2>> "$work/network.log") ||
		note "not measured: $(tail -n 1 "$work/network.log")"
	row 'a card of 100, plugged into running machines (us)' "${card[0]:--}" - -
	row "  private memory of its VMM (KiB)" "${card[1]:--}" - -
	row "  private memory of the daemon (KiB)" "${card[2]:--}" - -
}

if [ ! -w /dev/net/tun ]; then
	note 'networks: /dev/net/tun is not accessible'
elif ! command -v nft > /dev/null || ! command -v dnsmasq > /dev/null; then
	note 'networks: no nft, or no dnsmasq'
else
	bench_networks
fi
if [ ! -w /dev/net/tun ]; then
	:
elif ! command -v qemu-system-x86_64 > /dev/null; then
	note 'networks: no qemu-system-x86_64 to compare with'
else
	bench_frames
fi
