#!/bin/bash
# A network card on a tap: the host pings a guest, big and small; the link goes down and up; frames are captured.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd ping tcpdump ip
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
mkfifo "$T/commands"
"$TOOLS/vmm_run" --vmm "$BUILD/filevisor-vmm" --tap fvtap0 --timeout 100 "$GUESTS/net.elf" <"$T/commands" >"$T/out" 2>"$T/err" &
vmm=$!
exec 3>"$T/commands"
printed() { grep -q "$1" "$T/out"; }
wait_for printed 'link 1'
ip addr add 10.99.0.1/24 dev fvtap0
ip link set fvtap0 up

note "pings of several sizes, with what passes captured"
echo "!capture $T/frames.pcapng" >&3
begun() { [ -s "$T/frames.pcapng" ]; }
wait_for begun
for size in 56 18 1000 1472; do
	ping -q -c 3 -i 0.2 -W 10 -s $size 10.99.0.2 >"$T/ping" || fail "ping of $size bytes: $(cat "$T/ping")"
	wait_for printed "^echo $size"
done
# a frame is written when it has been sent
captured() { [ "$(tcpdump -nr "$T/frames.pcapng" icmp 2>/dev/null | grep -c 'echo reply')" = 12 ]; }
wait_for captured
echo '!capture' >&3
echo '!stats' >&3
counted() { grep -q '^nic.nic0.rx_packets' "$T/out" "$T/err"; }
wait_for counted
tcpdump -nr "$T/frames.pcapng" icmp >"$T/frames" 2>"$T/tcpdump" || fail "tcpdump: $(cat "$T/tcpdump")"
is "$(grep -c 'echo request' "$T/frames")" 12
is "$(grep -c 'echo reply' "$T/frames")" 12

note "the cable is pulled out and put in again"
echo '!link 0' >&3
wait_for printed 'link 0'
ping -q -c 1 -W 1 10.99.0.2 >"$T/ping" && fail "a ping passed without a link"
echo '!link 1' >&3
back() { [ "$(grep -c 'link 1' "$T/out")" = 2 ]; }
wait_for back
ping -q -c 3 -i 0.3 -W 10 -s 3 10.99.0.2 >"$T/ping" || fail "no ping after the link came back"
wait $vmm || fail "vmm_run: $(cat "$T/err")"
printed 'net: done'
