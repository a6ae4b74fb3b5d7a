#!/bin/bash
# host/ tells what this host offers; README, version and the root's ctl explain the tree.
. "${0%/*}/../lib.sh"

start_daemon
is "$(cat "$MNT/host/cpus")" "$(getconf _NPROCESSORS_ONLN)"
like "$(cat "$MNT/host/memory")" '^[0-9]+$'
mem=$(($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) * 1024))
is "$(cat "$MNT/host/memory")" $mem
if [ -w /dev/kvm ]; then is "$(cat "$MNT/host/kvm/api_version")" 12; fi
[ -n "$(find "$MNT/host/kvm" -type f)" ]
[ -n "$(find "$MNT/host/capabilities" -type f)" ]
find "$MNT/host" -type f -exec cat {} + >/dev/null
like "$("$TOOLS/trycall" write "$MNT/host/cpus" 64)" 'E(ACCES|PERM|ROFS)'
like "$(cat "$MNT/version")" '[0-9]+\.[0-9]+'
like "$(cat "$MNT/README")" 'mkdir'
mkdir "$M/m"
like "$(cat "$M/m/README")" 'memory'
for f in "$M/m"/*; do
	f=${f##*/}
	[ "$f" = README ] || grep -q "\\b$f\\b" "$M/m/README" || fail "README does not tell of $f"
done
is "$(grep -cv '^#' "$MNT/ctl" || true)" 0 "lines of ctl that are no comments"
refuses EINVAL write "$MNT/ctl" fly
says '^EINVAL fly' "$MNT/error"
stat -f "$MNT" >/dev/null
