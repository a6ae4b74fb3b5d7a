#!/bin/bash
# vim, sed -i, cp, mv, install, tee, dd, rsync and Python's write-and-rename change a definition as
# if it were text on a disk; their scratch files work, are never on the disk, and go with the daemon.
# also: asan
. "${0%/*}/../lib.sh"

need_cmd vim rsync install python3
start_daemon
define m memory=64M cpus=1
m=$M/m
n=1
# changed HOW: config and cpus show the next number, and nothing else stays in the directory
listing=$(ls -A "$m")
expect_cpus() {
	n=$((n + 1))
	is "$(cat "$m/cpus")" $n "$1"
	is "$(grep -c "^cpus = $n;" "$m/config")" 1 "$1"
	is "$(ls -A "$m")" "$listing" "files after $1"
}
next() { sed "s/cpus = [0-9]*/cpus = $((n + 1))/" "$m/config"; }

sed -i 's/cpus = 1/cpus = 2/' "$m/config"
expect_cpus 'sed -i'
vim -Nu NONE -es +'%s/cpus = 2/cpus = 3/' +wq "$m/config" </dev/null
expect_cpus vim
vim -Nu NONE -es --cmd 'set backup writebackup swapfile backupcopy=no directory=. backupdir=.' \
	+'%s/cpus = 3/cpus = 4/' +wq "$m/config" </dev/null
rm -f "$m"/config~
expect_cpus 'vim with swap and backup by rename'
next >"$T/c" && cp "$T/c" "$m/config"
expect_cpus cp
next >"$T/c" && mv "$T/c" "$m/config"
expect_cpus mv
next >"$T/c" && install -m 644 "$T/c" "$m/config"
expect_cpus install
next >"$T/c" && tee "$m/config" <"$T/c" >/dev/null
expect_cpus tee
next >"$T/c" && dd if="$T/c" of="$m/config" bs=7 status=none
expect_cpus dd
next >"$T/config" && rsync -r --inplace "$T/config" "$m/"
expect_cpus 'rsync --inplace'
next >"$T/config" && touch -d '1 hour ago' "$T/config" && rsync -r --ignore-times "$T/config" "$m/"
expect_cpus rsync
next >"$T/c" && python3 - "$T/c" "$m" <<'END'
import os, sys, tempfile
text = open(sys.argv[1]).read()
fd, name = tempfile.mkstemp(dir=sys.argv[2], prefix=".config.")
with os.fdopen(fd, "w") as f:
    f.write(text)
    f.flush()
    os.fsync(f.fileno())
os.rename(name, sys.argv[2] + "/config")
END
expect_cpus 'mkstemp and rename'
echo $((n + 1)) >"$m/.cpus.swp" && mv "$m/.cpus.swp" "$m/cpus"
expect_cpus 'a rename onto an attribute'
sed -i "s/$n/$((n + 1))/" "$m/cpus"
expect_cpus 'sed -i of an attribute'
vim -Nu NONE -es +"s/$n/$((n + 1))/" +wq "$m/cpus" </dev/null
expect_cpus 'vim of an attribute'

note "what an editor writes wrongly is refused, the old one stays"
! sed -i 's/cpus = .*/cpus = = ;/' "$m/config" 2>/dev/null || fail "sed wrote a bad config"
says '^EINVAL config: line' "$m/error"
is "$(cat "$m/cpus")" $n
rm -f "$m"/sed??????
is "$(ls -A "$m")" "$listing"

note "scratch files: read back, few and small, never on the disk"
echo text >"$m/.config.swp"
is "$(cat "$m/.config.swp")" text
is "$(stat -c %s "$m/.config.swp")" 5
mkdir -p "$T/none"
echo x >"$m/4913"
rm "$m/4913" "$m/.config.swp"
! grep -rq text "$STATE" || fail "a scratch file is on the disk"
refuses EPERM,EACCES create "$m/notes.txt"
made=0
for i in $(seq 2000); do
	[ "$("$TOOLS/trycall" create "$m/.config.x$i")" = ok ] || break
	made=$i
done
[ "$made" -lt 2000 ] || fail "2000 scratch files were made"
rm -f "$m"/.config.x*
got=$("$TOOLS/trycall" create "$m/.config.swp"; "$TOOLS/trycall" fill "$m/.config.swp" $((64 << 20)) x)
like "$got" '(ENOSPC|EFBIG|EDQUOT)'
rm -f "$m/.config.swp"
echo x >"$m/.config.swp"
rmdir "$m"
[ ! -e "$m" ]
