#!/bin/sh
# Takes a snapshot of a machine and keeps the last N that it took so; others it leaves alone.
#
#   snapshots-keep.sh MACHINE-DIRECTORY N [PREFIX]
#
#   snapshots-keep.sh /filevisor/machines/web 24 hourly
#
# Snapshots are named PREFIX-YYYYMMDD-HHMMSS.mmm (UTC), so that sorted names are in order of time.
# Run it from cron (examples/filevisor-snapshots.cron) or a systemd timer
# (examples/filevisor-snapshots@.timer), as whoever owns the machine.
set -eu

if [ $# -lt 2 ]; then
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
machine=$1 keep=$2 prefix=${3:-auto}
snapshots=$machine/snapshots

name=$prefix-$(date -u +%Y%m%d-%H%M%S.%3N)
mkdir "$snapshots/$name" || {
	echo "$machine: $(cat "$machine/error")" >&2
	exit 1
}

# All but the last N; one that is in use (by a clone that is being made, say) goes next time.
ls "$snapshots" | grep -E "^$prefix-[0-9]{8}-[0-9]{6}\.[0-9]{3}\$" | sort | head -n "-$keep" |
	while read -r old; do
		rmdir "$snapshots/$old" || echo "$snapshots/$old: $(cat "$snapshots/$old/error")" >&2
	done
