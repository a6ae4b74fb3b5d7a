#!/bin/bash
# vsock: each port of the guest is a socket of the tree, and sockets of the host are ports for the
# guest. 64 MiB there and back, ends of either half, many at once; and what becomes of connections
# when the daemon, the machine or the VMM goes.
# also: asan tsan
. "${0%/*}/../lib.sh"
need_kvm

io=$TOOLS/unix_io
talk() { printf '%s' "$2" | timeout 60 "$io" connect "$1"; }
talks() { [ "$(talk "$1" "$2")" = "$2" ]; }
stat_is() { grep -qx "$2 $3" "$M/$1/vsock/stats"; }

vmm_forks
start_daemon
define_guest a vsock
mkdir "$T/host"

# --- without it -----------------------------------------------------------------------------
is "$(cat "$M/a/vsock/enabled")" false
is "$(ls "$M/a/vsock")" "$(printf '%s\n' cid enabled listen stats)"
[ ! -e "$M/a/vsock/22" ] || fail "a port of a machine that does not run"
like "$(cat "$M/a/vsock/cid")" '^[0-9]+$'
put "$M/a/vsock/enabled" true
like "$(cat "$M/a/config")" 'vsock = true'
refuses EINVAL write "$M/a/vsock/listen" '1234'
refuses EINVAL write "$M/a/vsock/listen" '1234=relative'
refuses EINVAL write "$M/a/vsock/listen" '4294967295=/x'
refuses EINVAL write "$M/a/vsock/listen" '1=/x 1=/y'
put "$M/a/vsock/listen" "  01234=$T/host/a.sock   77=$T/host/none.sock"
is "$(cat "$M/a/vsock/listen")" "1234=$T/host/a.sock 77=$T/host/none.sock"

for name in 22 4913; do
	refuses EPERM symlink /dev/null "$M/a/vsock/$name"
	! : 2>/dev/null >"$M/a/vsock/$name" || fail "a file in the place of a port"
done
cp "$M/a/vsock/listen" "$T/listen"
sed -i 's/77=/78=/' "$M/a/vsock/listen"
like "$(cat "$M/a/vsock/listen")" ' 78='
cat "$T/listen" >"$M/a/vsock/listen"

# --- to the guest ---------------------------------------------------------------------------
"$io" echo "$T/host/a.sock" &
echo_pid=$!
put "$M/a/cmdline" port=77
do_ctl a start
wait_console a 'vsock: ready'
is "$(sed -n 's/^cid //p' "$M/a/console" | tr -d '\r')" "$(cat "$M/a/vsock/cid")"
wait_console a refused # there is no such socket
wait_for talks "$M/a/vsock/22" 'first words'
is "$(ls "$M/a/vsock")" "$(printf '%s\n' 22 cid enabled listen stats)"
[ -S "$(readlink "$M/a/vsock/22")" ] || fail "no socket: $(readlink "$M/a/vsock/22")"
is "$(talk "$M/a/vsock/4294967294" high)" high
is "$(talk "$M/a/vsock/9" nobody)" '' # the guest refuses
for name in 022 4294967295 -1 x 22x; do
	[ ! -e "$M/a/vsock/$name" ] || fail "a port $name"
done
is "$(stat -L -c %a "$M/a/vsock/22")" 644 # as the machine's directory: its owner alone may connect
chmod 700 "$M/a"
is "$(stat -L -c %a "$M/a/vsock/22")" 600
head -c 64M /dev/urandom >"$T/data"
timeout 300 "$io" connect "$M/a/vsock/22" <"$T/data" | cmp - "$T/data"
wait_for stat_is a connections 0

# --- many at once ---------------------------------------------------------------------------
mkfifo "$T/hold"
exec {HOLD}<>"$T/hold"
"$io" many "$M/a/vsock/30" 200 <&"$HOLD" >"$T/many.txt" &
many=$!
has_200() { [ "$(cat "$T/many.txt")" = 200 ]; }
wait_for has_200
stat_is a connections 200 || fail "$(cat "$M/a/vsock/stats")"
talks "$M/a/vsock/31" another

# --- the daemon goes, and comes again; they stay --------------------------------------------
path=$(readlink "$M/a/vsock/22")
kill_daemon
talks "$path" 'without a daemon'
umount -l "$MNT"
start_daemon
wait_for talks "$M/a/vsock/22" 'with another'
stat_is a connections 200 || fail "$(cat "$M/a/vsock/stats")"
is "$(names "$M/a/vsock" '^[0-9]+$' | wc -l)" 5
wait_for talks "$M/a/vsock/32" 'a new port'
kill "$many"
wait_for stat_is a connections 0

# --- while it is paused they wait -----------------------------------------------------------
do_ctl a pause
talk "$M/a/vsock/22" patience >"$T/patience.txt" &
pid=$!
do_ctl a resume
wait $pid
is "$(cat "$T/patience.txt")" patience

# --- a clone is told that it has none of them, and has an address of its own -----------------
"$io" many "$M/a/vsock/30" 3 <&"$HOLD" >"$T/cloned.txt" &
many=$!
wait_for [ -s "$T/cloned.txt" ]
mkdir "$M/a/snapshots/now"
put "$M/a/snapshots/now/ctl" 'clone b'
wait_console b '^reset'
wait_console b "^cid $(cat "$M/b/vsock/cid")"
[ "$(cat "$M/a/vsock/cid")" != "$(cat "$M/b/vsock/cid")" ] || fail "two of one address"
talks "$M/b/vsock/22" 'in the clone'
stat_is a connections 3 || fail "$(cat "$M/a/vsock/stats")"
undefine b
do_ctl a save
[ ! -e "$M/a/vsock/22" ] || fail "the link of a machine that is saved"
do_ctl a start
kill "$many" 2>/dev/null || true # it may have ended with its connections
wait_for stat_is a connections 0
wait_for talks "$M/a/vsock/22" 'after a save'

# --- the guest's reset, its end, its VMM's end ----------------------------------------------
"$io" many "$M/a/vsock/30" 3 <&"$HOLD" >"$T/reset.txt" &
many=$!
wait_for [ -s "$T/reset.txt" ]
put "$M/a/cmdline" port=1234
do_ctl a reset
wait_for stat_is a connections 0
wait_for talks "$M/a/vsock/22" 'after its reset'
kill "$many"
link=$(readlink "$M/a/vsock/22")
do_ctl a kill
wait_state a stopped
[ ! -e "$link" ] || fail "the socket of a machine that ended"
[ ! -e "$M/a/vsock/22" ] || fail "the link of a machine that ended"
[ ! -e "${link%/*}" ] || fail "its directory"

# --- from the guest -------------------------------------------------------------------------
do_ctl a start
wait_console a connected # its port 1234: what it says comes back, and back …
lines_pass() { [ "$(sed -n 's/^rx_bytes //p' "$M/a/vsock/stats")" -gt 100 ]; }
wait_for lines_pass
kill "$echo_pid"
stat_is a from_guest 1 || fail "$(cat "$M/a/vsock/stats")"
wait_for talks "$M/a/vsock/22" again
kill -KILL "$(vmm_pids)"
wait_state a crashed
[ ! -e "$link" ] || fail "the socket of a VMM that was killed"
