#!/bin/bash
# A thousand defined machines: listed, walked, and each reached at the same cost; they need no
# process, no descriptor and little memory of the daemon's, and come back after a restart.
# time: 240
. "${0%/*}/../lib.sh"

start_daemon
mkdir "$M/first"
wait_for spare_ready
fds=$(fds_of "$DAEMON")
rss=$(rss_of "$DAEMON")
(cd "$M" && seq -f 'vm%g' 999 | xargs mkdir)
is "$(ls "$M" | wc -l)" 1000
is "$(find "$M" -mindepth 1 -type d -name "vm*" -prune -ls | wc -l)" 999
is "$(find "$M" -maxdepth 2 -name state | wc -l)" 1000
is "$(cat "$M"/vm*/state | sort -u)" defined
[ $(($(fds_of "$DAEMON") - fds)) -le 5 ] || fail "descriptors: $fds before, $(fds_of "$DAEMON") now"
grown=$(($(rss_of "$DAEMON") - rss))
note "1000 machines: $grown KiB of the daemon's memory"
[ $grown -lt 60000 ] || fail "1000 machines cost $grown KiB"
no_vmm
kill_daemon
start_daemon
is "$(ls "$M" | wc -l)" 1000
(cd "$M" && rmdir -- *)
is "$(ls "$M" | wc -l)" 0
