#!/bin/bash
# `config` and the one-value files are two views of one definition: what is written in one shows
# at once in the other, also to who holds it open, and after a restart.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
touch "$T/kernel" "$T/disk.img"
define m memory=64M cpus=2 cmdline='console=ttyS0 "quoted" back\slash' kernel="$T/kernel"
m=$M/m
like "$(cat "$m/config")" 'cpus = 2'
like "$(cat "$m/config")" 'memory = "?(64M|67108864)'
like "$(cat "$m/config")" "kernel = \"$T/kernel\""

note "values show in config"
put "$m/cpus" 3
like "$(cat "$m/config")" 'cpus = 3'
mkdir "$m/disks/root"
truncate -s 1M "$T/disk.img"
put "$m/disks/root/source" "$T/disk.img"
put "$m/disks/root/readonly" true
like "$(cat "$m/config")" "$T/disk.img"

note "config shows in values"
sed -e 's/cpus = 3/cpus = 4/' -e 's/readonly = true/readonly = false/' "$m/config" >"$T/new"
cat "$T/new" >"$m/config"
is "$(cat "$m/cpus")" 4
is "$(cat "$m/disks/root/readonly")" false
is "$(cat "$m/cmdline")" 'console=ttyS0 "quoted" back\slash'

note "what config prints is what it takes"
cp "$m/config" "$T/a"
cat "$T/a" >"$m/config"
cmp "$T/a" "$m/config"
is "$(stat -c %s "$m/config")" "$(wc -c <"$T/a")" "size of config"

note "a part gives the defaults for the rest"
echo 'cpus = 7;' >"$m/config"
is "$(cat "$m/cpus")" 7
is "$(ls "$m/disks")" "" "disks after a config without"
is "$(cat "$m/kernel")" ""
cat "$T/a" >"$m/config"
is "$(ls "$m/disks")" root
is "$(cat "$m/cpus")" 4

note "a reader holds what was as of open"
exec 3<"$m/cpus"
put "$m/cpus" 5
read -r old <&3
exec 3<&-
is "$old" 4 "opened before the change"
is "$(cat "$m/cpus")" 5

kill_daemon
start_daemon
is "$(cat "$m/cpus")" 5
sed 's/cpus = 5/cpus = 4/' "$m/config" | cmp - "$T/a"
