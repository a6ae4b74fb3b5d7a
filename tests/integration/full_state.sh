#!/bin/bash
# A state directory without room: ENOSPC with words, the old definition stays whole, nothing that
# was acknowledged is lost, and all works again when there is room.
. "${0%/*}/../lib.sh"

mkdir "$STATE"
mount -t tmpfs -o size=256k,mode=700 state "$STATE" || skip "cannot mount a tmpfs"
start_daemon
mkdir "$M/m"
put "$M/m/cpus" 3
head -c 250k /dev/zero >"$STATE/ballast" 2>/dev/null || true
while echo x >>"$STATE/ballast2" 2>/dev/null; do :; done
text=$(printf 'cmdline = "%s";' "$(printf 'x%.0s' $(seq 1500))")
made=0
for i in $(seq 200); do
	got=$("$TOOLS/trycall" mkdir "$M/n$i")
	[ "$got" = ok ] || break
	made=$i
	"$TOOLS/trycall" write "$M/n$i/config" "$text" >"$T/last"
	! grep -q ENOSPC "$T/last" || break
done
note "full after $made more: mkdir says '$got'"
got=$("$TOOLS/trycall" write "$M/m/config" "cpus = 5; $text")
like "$got" 'ENOSPC' "config on a full disk"
says '^ENOSPC config: ' "$M/m/error"
is "$(cat "$M/m/cpus")" 3 "the old definition"
kill_daemon
umount -l "$MNT"
start_daemon
is "$(cat "$M/m/cpus")" 3 "the old definition after a restart"
rm "$STATE/ballast" "$STATE/ballast2"
put "$M/m/cpus" 6
mkdir "$M/more"
is "$(cat "$M/m/cpus")" 6
stop_daemon
umount "$STATE"
