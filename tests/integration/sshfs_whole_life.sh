#!/bin/bash
# The whole life of a machine through sshfs with default options: mkdir, echo, cat state, the log's
# tail, errors read in `error`, several sessions at once, find and grep -r end, rmdir.
# time: 300
. "${0%/*}/../lib.sh"

start_daemon
start_sshd
R=$T/remote R2=$T/remote2
mount_sshfs "$R"
mount_sshfs "$R2"
m=$R/machines/web
# sshfs does not wait for the close of what it wrote, so neither can who writes a document
has_cpus() { [ "$(cat "$M/web/cpus")" = "$1" ]; }

mkdir "$m"
is "$(cat "$m/state")" defined
[ -d "$M/web" ] || fail "mkdir over sshfs made nothing"
echo 64M >"$m/memory"
is "$(cat "$M/web/memory")" $((64 << 20))
echo 2 >"$m/cpus"
sed -i 's/cpus = 2/cpus = 3/' "$m/config"
wait_for has_cpus 3
echo 'cpus = 4;' >"$T/c" && cp "$T/c" "$m/config"
wait_for has_cpus 4

note "errors: sshfs swallows them, error has them"
echo 0 >"$m/cpus" 2>/dev/null || true
says '^ERANGE cpus' "$m/error"
is "$(cat "$M/web/cpus")" 4
echo fly >"$m/ctl" 2>/dev/null || true
says '^EINVAL fly' "$m/error"
is "$(grep -c fly "$MNT/events")" 1 "the failed command ran once"
cp "$m/ctl" "$T/ctl" && cp "$T/ctl" "$m/ctl"

note "walks end"
timeout -s KILL 100 find "$R" -ls >"$T/find"
grep -q 'machines/web/config' "$T/find"
timeout -s KILL 100 grep -r . "$R" --exclude=core --exclude=memory.img >"$T/grep" 2>/dev/null || [ $? != 137 ]
grep -q 'machines/web/state:defined' "$T/grep"

if [ -w /dev/kvm ]; then
	echo 64M >"$m/memory"
	echo "$GUESTS/echo.elf" >"$m/kernel"
	echo start >"$m/ctl"
	is "$(cat "$m/state")" running
	is "$(cat "$R2/machines/web/state")" running "the other session"
	wait_console web .
	echo 'TYPED AFAR' >"$m/console"
	heard() { grep -aq 'TYPED AFAR' "$m/console"; }
	wait_for heard
	tail -n 5 "$m/console" >/dev/null
	like "$(tail -n 5 "$R/events")" web
	timeout -s KILL 100 grep -ra 'TYPED AFAR' "$m" --exclude=core --exclude=memory.img >/dev/null
	timeout -s KILL 100 find "$R" -type f >/dev/null
	# through the session that has no older size in its cache
	is "$(head -c 4 "$R2/machines/web/core" | od -An -c | tr -d ' ')" '177ELF'
	echo 'wait stopped 100 &' >"$m/ctl"
	[ -n "$(ls "$R2/machines/web/jobs")" ]

	note "sessions at once"
	pids=()
	for i in 1 2 3 4; do
		(
			d=$R
			[ $((i % 2)) = 0 ] || d=$R2
			for j in 1 2 3 4 5; do
				mkdir "$d/machines/s$i-$j"
				echo $j >"$d/machines/s$i-$j/cpus"
				[ "$(cat "$d/machines/s$i-$j/cpus")" = $j ]
				rmdir "$d/machines/s$i-$j"
			done
		) &
		pids+=($!)
	done
	for p in "${pids[@]}"; do wait "$p"; done
	echo kill >"$m/ctl"
	is "$(cat "$m/state")" stopped
	is "$(cat "$R2/machines/web/state")" stopped "the other session"
fi
rmdir "$m"
[ ! -e "$M/web" ] || fail "rmdir over sshfs removed nothing"
end_ssh "$R" "$R2"
