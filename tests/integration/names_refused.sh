#!/bin/bash
# A machine's or disk's name is [A-Za-z0-9][A-Za-z0-9._-]{0,62}; anything else is refused,
# leaves nothing, and the words say so in the root's `error`.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
long=$(printf 'n%.0s' $(seq 64))
for name in -x .hidden "a b" $'a\nb' $'a\x01' 'a$b' "ü" "$long" 'a:b' '~' "a~" $'\xff'; do
	refuses EINVAL,ENAMETOOLONG,EPERM mkdir "$M/$name"
done
refuses EINVAL mkdir "$M/a b"
says '^EINVAL .*a b' "$MNT/error"
refuses ENAMETOOLONG,EINVAL mkdir "$M/$(printf 'n%.0s' $(seq 300))"
refuses EEXIST mkdir "$M/.."
refuses EEXIST mkdir "$M/."
refuses ENOENT mkdir "$M/a/b"
is "$(ls -A "$M")" "" "after refused names"
is "$(ls "$STATE/machines" 2>/dev/null | wc -l)" 0 "in the state directory"

accepts mkdir "$M/${long:1}"
accepts mkdir "$M/0.a_B-9"
for name in -x .hidden "a b" "$long"; do
	refuses EINVAL,EPERM rename "$M/0.a_B-9" "$M/$name"
	refuses EINVAL,EPERM,ENAMETOOLONG mkdir "$M/0.a_B-9/disks/$name"
done
is "$(ls "$M" | wc -l)" 2
is "$(ls "$M/0.a_B-9/disks")" ""
