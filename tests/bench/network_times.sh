#!/bin/bash
# network_times.sh BUILD DIRECTORY start|cards: in namespaces of its own, with a daemon of its own. Prints for `start` the
# microseconds from `echo start > networks/lan/ctl` until leases are given (dnsmasq has bound its port), 11 times; for
# `cards`, of 100 that are plugged into running machines of one network: microseconds for one, KiB of the VMMs' private
# memory for one, KiB of the daemon's for one.
set -eu
if [ -z "${NETWORK_TIMES:-}" ]; then
	NETWORK_TIMES=1 exec unshare -n -m -p -f --mount-proc bash "$0" "$@"
fi
build=$1 work=$2
fv=$work/fv M=$work/fv/machines
mkdir -p "$fv"
chmod 711 "$work" # dnsmasq reads its files as nobody
ip link set lo up
"$build/filevisord" -f --state "$work/state" --run "$work/run" "$fv" 2> "$work/daemon.log" &
daemon=$!
end() {
	local ctl
	for ctl in "$M"/*/ctl; do
		[ ! -e "$ctl" ] || echo kill > "$ctl"
	done 2> /dev/null
	kill $daemon
	wait
}
trap end EXIT
until [ -e "$fv/version" ]; do
	kill -0 $daemon
	sleep 0.02
done
mkdir "$fv/networks/lan"
echo 10.213.0.0/24 > "$fv/networks/lan/subnet"

now_us() { echo "${EPOCHREALTIME/./}"; }
leases() { grep -q ':0043 ' /proc/net/udp; }
# private memory of the processes, in KiB
private() { cat "${@/%//status}" | awk '/^RssAnon/ { n += $2 } END { print n + 0 }'; }
vmms() { pgrep -f '^([^ ]*/)?filevisor-vmm c' | sed 's|^|/proc/|'; }

start_times() {
	local t0
	for _ in $(seq 11); do
		t0=$(now_us)
		echo start > "$fv/networks/lan/ctl"
		until leases; do :; done
		echo $(($(now_us) - t0))
		echo stop > "$fv/networks/lan/ctl"
		while leases; do sleep 0.02; done
	done
}

cards() {
	local t0 t1 before daemon_before i k
	for i in $(seq 13); do
		mkdir "$M/c$i"
		echo 64M > "$M/c$i/memory"
		echo "$build/guest/idle.elf" > "$M/c$i/kernel"
		echo start > "$M/c$i/ctl"
	done
	echo start > "$fv/networks/lan/ctl"
	mapfile -t pids < <(vmms)
	before=$(private "${pids[@]}") daemon_before=$(private "/proc/$daemon")
	t0=$(now_us)
	for k in $(seq 0 99); do
		i=$((k / 8 + 1))
		mkdir "$M/c$i/nics/n$k"
		echo lan > "$M/c$i/nics/n$k/network"
	done
	t1=$(now_us)
	[ "$(cat "$M"/c*/nics/*/state | grep -c connected)" = 100 ]
	echo $(((t1 - t0) / 100)) $((($(private "${pids[@]}") - before) / 100)) $((($(private "/proc/$daemon") - daemon_before) / 100))
}

case $3 in
	start) start_times ;;
	cards) cards ;;
esac
