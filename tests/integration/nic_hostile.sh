#!/bin/bash
# A guest attacks its network card: rings, descriptors, frames' headers and commands that cannot be, while frames come
# for it. The VMM survives all of it, and after each the card works for an honest driver.
# also: asan tsan
# time: 300
. "${0%/*}/../lib.sh"

need_kvm
need_cmd ping ip
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
ip tuntap add fvtap0 mode tap vnet_hdr
ip addr add 10.99.0.1/24 broadcast 10.99.0.255 dev fvtap0
ip link set fvtap0 up
# two sizes: one buffer's, and several's
ping -q -b -i 0.01 -s 56 10.99.0.255 >/dev/null 2>&1 &
small=$!
ping -q -b -i 0.02 -s 9000 10.99.0.255 >/dev/null 2>&1 &
big=$!
"$TOOLS/vmm_run" --vmm "$BUILD/filevisor-vmm" --tap fvtap0 --timeout 280 --cmdline "ram=64 rounds=20 seed=$RANDOM" \
	"$GUESTS/badnet.elf" >"$T/out" 2>"$T/err" || fail "vmm_run: $(tail -n 5 "$T/out" "$T/err")"
kill $small $big
wait $small $big || true
grep -q '^badnet: survived' "$T/out" || fail "$(tail -n 5 "$T/out")"
is "$(grep -c 'then fine' "$T/out")" "$(grep -c '^case' "$T/out")" "cases"
grep -q '^frames come' "$T/out" || fail "the receiving half was no test"
