#!/bin/bash
# host/interfaces: what the host has is shown as it changes; mkdir makes bridges and others, which
# outlive the daemon; others' are left alone; changes that nobody commits are put back, whoever is killed.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_cmd ip inotifywait
[ "$(id -u)" = 0 ] || skip "only root changes interfaces"
ip link add probe type bridge 2>/dev/null || skip "this kernel has no bridges"
ip link del probe
ip link set lo up
I=$MNT/host/interfaces
ip link add eth7 type veth peer name far7 # somebody else's
ip link set eth7 up
ip link set far7 up
ip addr add 192.0.2.7/24 dev eth7
ip route add 198.51.100.0/24 via 192.0.2.1 dev eth7 metric 5
start_daemon

value_is() { [ "$(cat "$I/$1")" = "$2" ]; }
there() { [ -d "$I/$1" ]; }
gone() { [ ! -e "$I/$1" ]; }
kernel_has() { ip -o "${@:2}" 2>/dev/null | grep -q "$1"; }

note "what there is"
is "$(cat "$I/lo/type")" loopback
is "$(cat "$I/lo/up")" true
like "$(cat "$I/lo/addresses")" '127\.0\.0\.1/8'
is "$(cat "$I/eth7/type")" veth
is "$(cat "$I/eth7/lower")" far7
is "$(cat "$I/eth7/mtu")" 1500
is "$(cat "$I/eth7/mac")" "$(ip -o link show eth7 | grep -o 'ether [0-9a-f:]*' | cut -d ' ' -f 2)"
like "$(cat "$I/eth7/flags")" 'up .*broadcast'
like "$(cat "$I/eth7/stats")" 'tx_packets [0-9]'
is "$(names "$I/eth7" | sort | tr '\n' ' ')" \
	"addresses alias flags lower mac manage master mtu speed_mbit state stats type up vlan "
like "$(cat "$I/README")" 'commit-within SECONDS'

note "what others change is seen, and told"
inotifywait -q -m -e modify -e create -e delete "$I" "$I/eth7" >"$T/heard" 2>/dev/null &
watcher=$!
sleep 0.5
heard() { grep -q "$1" "$T/heard"; }
ip link add other type bridge
wait_for there other
wait_for heard 'interfaces/ CREATE,ISDIR other'
ip link set eth7 mtu 1400
wait_for value_is eth7/mtu 1400
wait_for heard 'eth7/ MODIFY mtu'
ip link set other name another
wait_for there another
gone other
wait_for heard 'DELETE,ISDIR other'
ip link del another
wait_for gone another
wait_for heard 'DELETE,ISDIR another'
kill $watcher

note "others' are not changed"
refuses EPERM write "$I/eth7/mtu" 1300
says 'manage' "$I/error"
refuses EPERM write "$I/eth7/type" bridge
refuses EPERM rmdir "$I/eth7"
refuses EPERM rename "$I/eth7" "$I/eth8"
! { echo up >"$I/eth7/flags"; } 2>/dev/null || fail "flags were written"
is "$(cat "$I/eth7/mtu")" 1400
put "$I/eth7/manage" true
put "$I/eth7/mtu" 1300
is "$(cat "$I/eth7/mtu")" 1300
kernel_has 'mtu 1300' link show eth7
refuses EPERM rmdir "$I/eth7"
refuses EINVAL write "$I/eth7/manage" perhaps

note "a bridge"
mkdir "$I/br0"
is "$(cat "$I/br0/type")" bridge
is "$(cat "$I/br0/up")" false
is "$(cat "$I/br0/manage")" true
like "$(cat "$I/br0/alias")" '^filevisor interface '
refuses EEXIST mkdir "$I/br0"
refuses EINVAL mkdir "$I/a-name-too-long-for-one"
refuses EINVAL mkdir "$I/with:colon"
put "$I/br0/mac" 52:54:00:01:02:03
put "$I/br0/mtu" 1400
put "$I/br0/up" true
is "$(cat "$I/br0/mac") $(cat "$I/br0/mtu") $(cat "$I/br0/up")" "52:54:00:01:02:03 1400 true"
refuses EINVAL write "$I/br0/mac" 53:54:00:01:02:03
refuses ERANGE write "$I/br0/mtu" 12
refuses EINVAL write "$I/br0/mtu" many
refuses EINVAL write "$I/br0/up" perhaps
refuses EBUSY write "$I/br0/type" tap
says 'new' "$I/error"

note "addresses"
printf '10.9.0.1/24\n2001:db8::1/64\n' >"$I/br0/addresses"
is "$(grep -v ^fe80 "$I/br0/addresses" | tr '\n' ' ')" "10.9.0.1/24 2001:db8::1/64 "
! echo 10.9.0.1/33 2>/dev/null >"$I/br0/addresses" || fail "the shell heard nothing of what was refused"
! echo nonsense 2>/dev/null >>"$I/br0/addresses" || fail "the shell heard nothing of what was refused"
is "$(grep -v ^fe80 "$I/br0/addresses" | tr '\n' ' ')" "10.9.0.1/24 2001:db8::1/64 "
put "$I/br0/addresses" 10.9.0.2/24
is "$(grep -v ^fe80 "$I/br0/addresses")" 10.9.0.2/24
refuses EINVAL write "$I/br0/addresses" '10.9.0.3/24 10.9.0.300/24'
refuses EINVAL write "$I/br0/addresses" 10.9.0.3
refuses EINVAL write "$I/br0/addresses" 10.9.0.3/33
is "$(grep -v ^fe80 "$I/br0/addresses")" 10.9.0.2/24
put "$I/br0/addresses" ''
is "$(grep -v ^fe80 "$I/br0/addresses" || true)" ''

note "ports"
put "$I/eth7/master" br0
is "$(cat "$I/eth7/master")" br0
kernel_has 'master br0' link show eth7
refuses EBUSY rmdir "$I/br0"
says 'eth7' "$I/error"
ip link add foreign type bridge
wait_for there foreign
refuses EPERM write "$I/eth7/master" foreign
refuses ENODEV write "$I/eth7/master" nowhere
refuses EINVAL write "$I/eth7/master" lo
put "$I/eth7/master" ''
is "$(cat "$I/eth7/master")" ''
ip link del foreign

note "other types"
mkdir "$I/t0"
refuses EINVAL write "$I/t0/type" submarine
refuses EINVAL write "$I/t0/type" veth
is "$(cat "$I/t0/type")" bridge
if [ -w /dev/net/tun ]; then
	put "$I/t0/type" tap
	is "$(cat "$I/t0/type")" tap
	kernel_has t0 link show t0
fi
put "$I/t0/type" 'veth t0far'
is "$(cat "$I/t0/type") $(cat "$I/t0/lower")" 'veth t0far'
like "$(cat "$I/t0far/alias")" '^filevisor interface '
refuses EEXIST write "$I/t0/type" 'veth eth7'
if ! "$TOOLS/trycall" write "$I/t0/type" 'vlan eth7 100' >"$T/vlan" || ! grep -q ok "$T/vlan"; then
	is "$(cat "$I/t0/type")" veth # where the kernel has no VLANs nothing has changed
	there t0far
fi
if "$TOOLS/trycall" write "$I/t0/type" 'macvtap eth7' >"$T/macvtap" && grep -q ok "$T/macvtap"; then
	is "$(cat "$I/t0/type") $(cat "$I/t0/lower")" 'macvtap eth7'
	gone t0far
fi
refuses EINVAL write "$I/t0/type" 'vlan eth7 5000'
refuses ENODEV write "$I/t0/type" 'macvtap nowhere'
[ -z "$(names "$I" fvnew)" ] || fail "an interface was left: $(names "$I" fvnew)"
mv "$I/t0" "$I/t1"
gone t0
kernel_has t1 link show t1
rmdir "$I/t1"
gone t1
refuses EPERM create "$I/file"

note "commit in time"
refuses EINVAL,ERANGE write "$I/ctl" 'commit-within forever'
refuses EBUSY write "$I/ctl" commit
put "$I/ctl" 'commit-within 300'
like "$(cat "$I/trial")" '^ends=[0-9]+ changes=0$'
refuses EBUSY write "$I/ctl" 'commit-within 5'
put "$I/br0/mtu" 1280
like "$(cat "$I/trial")" 'changes=1$'
put "$I/ctl" commit
is "$(cat "$I/br0/mtu")" 1280
is "$(cat "$I/trial")" ''

note "undone"
put "$I/br0/addresses" 10.9.0.1/24
put "$I/ctl" 'commit-within 300'
mkdir "$I/br1"
put "$I/br1/up" true
put "$I/br1/addresses" 10.10.0.1/24
mv "$I/br0" "$I/br9" 2>/dev/null || { put "$I/br0/up" false; mv "$I/br0" "$I/br9"; }
put "$I/br9/addresses" 10.11.0.1/24
put "$I/eth7/master" br1
put "$I/eth7/addresses" ''
put "$I/eth7/up" false
kernel_has 198.51.100.0/24 route show && fail "the route is still there"
put "$I/ctl" undo
gone br1
gone br9
is "$(grep -v ^fe80 "$I/br0/addresses")" 10.9.0.1/24
is "$(cat "$I/br0/up")" true
is "$(cat "$I/eth7/up") $(cat "$I/eth7/master")" 'true '
is "$(grep -v ^fe80 "$I/eth7/addresses")" 192.0.2.7/24
kernel_has '198.51.100.0/24 via 192.0.2.1 dev eth7 metric 5' route show ||
	fail "routes: $(ip route show)"

note "what was removed comes back"
put "$I/ctl" 'commit-within 300'
rmdir "$I/br0"
mkdir "$I/br0"
put "$I/br0/type" 'veth br0far'
put "$I/ctl" undo
gone br0far
is "$(cat "$I/br0/type") $(cat "$I/br0/mac") $(cat "$I/br0/mtu")" "bridge 52:54:00:01:02:03 1280"
is "$(grep -v ^fe80 "$I/br0/addresses")" 10.9.0.1/24

# try_down SECONDS COMMAND…: eth7 is switched off in a trial that has not ended before; the command is part of it
try_down() {
	until
		put "$I/ctl" "commit-within $1"
		"${@:2}"
		put "$I/eth7/up" false
		[ -s "$I/trial" ]
	do
		put "$I/eth7/up" true
	done
}

note "nobody commits"
try_down 2 true
wait_for value_is eth7/up true
says '^ETIMEDOUT' "$I/error"
kernel_has 198.51.100.0/24 route show
is "$(cat "$I/trial")" ''

note "the daemon is killed: the next one puts it back; what was made stays"
try_down 3 mkdir -p "$I/br2"
kill_daemon
umount -l "$MNT"
start_daemon
wait_for gone br2
wait_for value_is eth7/up true
kernel_has 198.51.100.0/24 route show
is "$(cat "$I/br0/manage") $(cat "$I/eth7/manage")" 'true false'
is "$(cat "$I/br0/mtu")" 1280

note "it ends while something is tried: put back, too"
put "$I/ctl" 'commit-within 300'
put "$I/br0/mtu" 1300
stop_daemon
kernel_has 'mtu 1280' link show br0
start_daemon
rmdir "$I/br0"
[ "$(ip -o link | wc -l)" = 3 ] || fail "left: $(ip -o link)"

note "another's mess in the notes is not taken"
stop_daemon
head -c 5000 /dev/urandom >"$RUN/interfaces.trial"
start_daemon
is "$(cat "$I/trial")" ''
is "$(cat "$I/eth7/up")" true
