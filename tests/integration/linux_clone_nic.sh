#!/bin/bash
# Clones of a running Linux with a card: each finds a card of its own, as by hot plug, gets an address
# of its own by DHCP, and all are reached at once; the original notices nothing.
# time: 600
. "${0%/*}/../lib.sh"

need_linux
need_cmd ip ping dnsmasq nft
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T"
vmm_forks
mkdir -p "$STATE/networks/lan"
printf 'id %s\nuid 0\ngid 0\nmode 0755\n' "$(cat /proc/sys/kernel/random/uuid)" >"$STATE/networks/lan/access"
echo 'subnet = "10.77.0.1/24";' >"$STATE/networks/lan/config"
start_daemon
card() { echo "$M/$1/nics/lan"; }
define_linux one
mkdir "$(card one)"
put "$(card one)/network" lan
do_ctl one start
wait_linux one
dhcp() { # as a system does by itself when a card comes
	# shellcheck disable=SC2016 # the guest is to expand it
	sh_linux "$1" 'udhcpc -q -n -i $(ls /sys/class/net | grep eth) -s /etc/udhcpc.script'
}
known() { [ -s "$(card "$1")/address" ]; }
answers() { ping -q -c 2 -i 0.2 -W 20 "$(cat "$(card "$1")/address")" >"$T/ping" || fail "$1: $(cat "$T/ping")"; }
dhcp one
wait_for known one
answers one

note "two clones: each has its own card before long"
do_ctl one 'clone two'
do_ctl one 'clone three'
own_mac() { [ "$(sh_linux "$1" 'cat /sys/class/net/eth*/address' | tr -dc 0-9a-f:)" = "$(cat "$(card "$1")/mac")" ]; }
connected() { [ "$(cat "$(card "$1")/state")" = connected ]; }
for m in two three; do
	wait_for -t 120 connected $m
	wait_for -t 120 own_mac $m
	dhcp $m
	wait_for known $m
done
like "$(grep nic-renewed "$MNT/events")" '"machine":"two"'
is "$(cat "$M"/{one,two,three}/nics/lan/address | sort -u | wc -l)" 3 "addresses"

note "all are reached at once"
for m in one two three; do answers $m; done
sh_linux two "ping -q -c 3 -i 0.3 -W 20 $(cat "$(card one)/address")"
like "$(sh_linux one 'cat /sys/class/net/eth0/address')" "$(cat "$(card one)/mac")"
undefine one two three
