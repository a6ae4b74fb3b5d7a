#!/bin/sh
# Backs up a machine of another host while it runs: over sshfs it is snapshot there, the snapshot
# is copied by rsync, and deleted. What is copied is sparse, is of one instant, and can be read by
# qemu-img and gdb; a later backup into the same directory writes what differs.
#
#   backup-rsync.sh HOST:TREE MACHINE DIRECTORY
#
#   backup-rsync.sh root@host:/filevisor web /backup/web
#
# To be run as who may log in there as the machine's owner. SSHFS_OPTIONS: more for sshfs.
set -eu

if [ $# != 3 ]; then
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
tree=$(mktemp -d) name=backup-$(date -u +%Y%m%d-%H%M%S)-$$
machine=$tree/machines/$2

clean_up() {
	status=$?
	trap - EXIT
	[ ! -d "$machine/snapshots/$name" ] || rmdir "$machine/snapshots/$name" || status=1
	fusermount3 -u "$tree" 2>/dev/null || true
	rmdir "$tree" || status=1
	exit $status
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# What the other host says counts, not what was so a moment ago.
# shellcheck disable=SC2086
sshfs ${SSHFS_OPTIONS:-} -o dir_cache=no,attr_timeout=0,entry_timeout=0 "$1" "$tree"

# As a job: a mkdir would hold up all else that goes through this sshfs until it is done. What
# became of it is in jobs/, and why not in there, too.
echo "snapshot $name &" >"$machine/ctl" || { cat "$machine/error" >&2; exit 1; }
job=$(grep -lx "snapshot $name" "$machine"/jobs/*/command)
job=${job%/command}
while [ "$(cat "$job/state")" = running ]; do sleep 0.2; done
if [ "$(cat "$job/state")" != "done" ]; then
	cat "$job/error" >&2
	exit 1
fi

# Without what is made of the rest when it is read (core) or is for commands.
mkdir -p "$3"
rsync --recursive --times --sparse --inplace --delete --exclude=/core --exclude=/archive --exclude=/ctl \
	"$machine/snapshots/$name/" "$3/"
