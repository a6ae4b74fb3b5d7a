#!/bin/bash
# mkdir defines a machine, mv renames it, rmdir undefines it; each is durable, true to ls and
# stat, and refused with the errno that mkdir(2), rename(2) and rmdir(2) would give.
# also: asan tsan
. "${0%/*}/../lib.sh"

start_daemon
is "$(ls "$M")" ""
mkdir "$M/web"
is "$(ls "$M")" web
is "$(cat "$M/web/state")" defined
is "$(cat "$M/web/error")" ""
for f in README ctl state error config cpus memory kernel initrd cmdline autostart on_crash \
	on_reboot on_poweroff console disks vcpu stats metrics memory.img core jobs; do
	ls -d "$M/web/$f" >/dev/null
done
like "$(cat "$M/web/cpus")" '^1$'

refuses EEXIST mkdir "$M/web"
accepts rename "$M/web" "$M/www"
is "$(ls "$M")" www
[ ! -e "$M/web" ]
put "$M/www/memory" 96M
mkdir "$M/other"
refuses EEXIST,ENOTEMPTY rename "$M/other" "$M/www"
is "$(cat "$M/www/memory")" $((96 << 20)) "memory after a refused mv"
refuses EPERM,EXDEV,EACCES,EINVAL rename "$M/other" "$MNT/other"
refuses ENOTEMPTY,EPERM,EBUSY rmdir "$M"
refuses EPERM,EACCES,EROFS mkdir "$MNT/new"
refuses EPERM,EACCES,EROFS mkdir "$M/www/new"
refuses ENOENT rmdir "$M/nobody"
refuses EPERM,EACCES unlink "$M/www/cpus"
refuses EPERM,EACCES rename "$M/www/cpus" "$M/www/memory"
refuses EPERM,EACCES link "$M/www/cpus" "$M/www/cpus2"
refuses EPERM,EACCES symlink x "$M/www/symlink"
refuses EPERM,EACCES fifo "$M/www/fifo"

note "all of it is there after a restart"
before=$(stat -c '%Y %i' "$M/www/memory" | cut -d' ' -f1)
stop_daemon
start_daemon
is "$(ls "$M" | paste -sd ' ')" "other www"
is "$(cat "$M/www/memory")" $((96 << 20))
is "$(stat -c %Y "$M/www/memory")" "$before" "mtime over a restart"

rmdir "$M/other" "$M/www"
is "$(ls "$M")" ""
stop_daemon
start_daemon
is "$(ls "$M")" ""
