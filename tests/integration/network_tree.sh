#!/bin/bash
# Networks and cards by mkdir, echo and cat: a network starts with its first machine, shows who has which
# address, is refused its end while it is used; watchers hear of it; nothing stays on the host.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd ip ping dnsmasq nft inotifywait
[ -w /dev/net/tun ] || skip "/dev/net/tun is not accessible"
ip link set lo up
chmod 711 "$T" # dnsmasq reads its files as nobody
N=$MNT/networks
start_daemon
ip -o link >"$T/links"

note "defined, set, renamed"
mkdir "$N/lan"
is "$(cat "$N/lan/state")" stopped
is "$(cat "$N/lan/mode")" nat
put "$N/lan/subnet" 10.99.0.0/24
like "$(cat "$N/lan/config")" 'subnet = "10.99.0.0/24"'
refuses EINVAL write "$N/lan/subnet" 0.0.0.0/0
refuses EINVAL write "$N/lan/mode" token-ring
is "$(cat "$N/lan/subnet")" 10.99.0.0/24
refuses EEXIST mkdir "$N/lan"
refuses EINVAL mkdir "$N/-lan"
mv "$N/lan" "$N/net"
mv "$N/net" "$N/lan"
mkdir "$N/second"
refuses EEXIST,EINVAL write "$N/second/subnet" 10.99.0.0/16
rmdir "$N/second"
is "$(ls "$N")" lan

note "a machine's card"
define_guest web net
mkdir "$M/web/nics/first"
like "$(cat "$M/web/nics/first/mac")" '^52:54:00:'
is "$(cat "$M/web/nics/first/state")" detached
put "$M/web/nics/first/network" nowhere
refuses ENOENT write "$M/web/ctl" start
says 'nowhere' "$M/web/error"
put "$M/web/nics/first/network" lan
inotifywait -q -m -e modify -e create -e delete "$N/lan" "$M/web/nics" >"$T/heard" 2>/dev/null &
watcher=$!
watching() { [ "$(grep -cs '^inotify' "/proc/$watcher/fdinfo/3")" = 2 ]; }
wait_for watching
do_ctl web start
wait_console web 'link 1'
is "$(cat "$N/lan/state")" running
is "$(cat "$M/web/nics/first/state")" connected
ip link show "$(cat "$N/lan/bridge")" >"$T/bridge"
ping -q -c 2 -i 0.2 -W 20 10.99.0.2 >"$T/ping" || fail "no ping: $(cat "$T/ping")"
like "$(cat "$M/web/nics/first/stats")" 'rx_packets [1-9]'
like "$(cat "$N/lan/hosts")" '^10\.99\.0\.2 web'
refuses EBUSY rmdir "$N/lan"
says 'web' "$N/lan/error"

note "the cable, and what passes through it"
put "$M/web/nics/first/ctl" 'capture on'
ping -q -c 3 -i 0.3 -W 20 10.99.0.2 >"$T/ping"
captured() { tcpdump -r "$M/web/nics/first/pcap" 2>/dev/null | grep -q 'ICMP echo reply'; }
if command -v tcpdump >/dev/null; then wait_for captured; fi
put "$M/web/nics/first/ctl" 'capture off'
put "$M/web/nics/first/link" false
wait_console web 'link 0'
is "$(cat "$M/web/nics/first/state")" disconnected
put "$M/web/nics/first/link" true

note "who watches hears of it"
heard() { grep -q "$1" "$T/heard"; }
wait_for heard 'lan/ MODIFY state'
kill $watcher

note "its end"
do_ctl web kill
rmdir "$M/web/nics/first" "$M/web" "$N/lan"
same_links() { ip -o link | cmp -s - "$T/links"; }
wait_for same_links
is "$(nft list tables)" ""
[ -z "$(pgrep -x dnsmasq || true)" ] || fail "dnsmasq still runs"
