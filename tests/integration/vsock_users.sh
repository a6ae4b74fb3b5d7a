#!/bin/bash
# Who may write to a machine's files may connect to its guest, and nobody else; that follows chown and
# chmod at once. What the guest connects to is opened with the rights of the machine's owner.
# also: asan
. "${0%/*}/../lib.sh"
need_kvm
need_cmd setpriv
[ "$(id -u)" = 0 ] || skip "needs root to be several users"

as() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups "$@"; }
io=$TOOLS/unix_io
# says ID PATH: what comes back, or nothing
says_to() { printf hello | as "$1" timeout 60 "$io" connect "$2" 2>/dev/null || true; }
start_daemon -o allow_other
chmod 1777 "$M"
mkdir -m 711 "$T/guests" "$T/shut" "$T/open"
cp "$GUESTS/vsock.elf" "$T/guests/"
chmod 644 "$T/guests/vsock.elf"
chmod 700 "$T/shut"

as 1001 mkdir "$M/a"
as 1001 sh -c "echo $T/guests/vsock.elf >'$M/a/kernel' && echo 64M >'$M/a/memory' &&
	echo true >'$M/a/vsock/enabled' && echo '77=$T/shut/s 78=$T/open/s' >'$M/a/vsock/listen' &&
	echo port=77 >'$M/a/cmdline' && echo start >'$M/a/ctl'"
wait_console a 'vsock: ready'
answered() { [ "$(says_to 1001 "$M/a/vsock/22")" = hello ]; }
wait_for answered
socket=$(readlink "$M/a/vsock/22")
for way in "$M/a/vsock/22" "$socket"; do
	is "$(says_to 1001 "$way")" hello "the owner"
	is "$(says_to 1002 "$way")" '' "another"
	is "$(says_to 0 "$way")" hello root
done
! as 1001 ln -s /etc "${socket%/*}/33" 2>/dev/null || fail "he wrote beside his sockets"
! as 1001 rm -f "$socket" 2>/dev/null || fail "he removed one"

note "handed over, opened to a group, shut"
chown 1002:1003 "$M/a"
is "$(says_to 1002 "$socket")" hello
is "$(says_to 1001 "$socket")" ''
is "$(says_to 1003 "$socket")" ''
chmod 770 "$M/a"
is "$(says_to 1003 "$socket")" hello "its group"
is "$(says_to 1001 "$socket")" ''
chmod 500 "$M/a"
is "$(says_to 1002 "$socket")" ''
chmod 750 "$M/a"
chown 1001:1001 "$M/a"
answered || fail "the first owner"
is "$(as 1001 sh -c "printf x | '$io' connect '$M/a/vsock/23'")" x "a port made after that"
is "$(stat -c %u:%a "${socket%/*}/23")" 1001:640

note "from the guest: a socket that root could open, and the owner not"
"$io" echo "$T/shut/s" &
root=$!
wait_for [ -S "$T/shut/s" ]
chmod 666 "$T/shut/s"
as 1001 sh -c "echo reset >'$M/a/ctl'"
two_refusals() { [ "$(grep -c refused "$M/a/console")" -ge 2 ]; }
wait_for two_refusals
"$io" echo "$T/open/s" &
open=$!
wait_for [ -S "$T/open/s" ]
chmod 666 "$T/open/s"
as 1001 sh -c "echo kill >'$M/a/ctl'; echo port=78 >'$M/a/cmdline'; echo start >'$M/a/ctl'"
wait_console a connected
kill "$root" "$open"
[ ! -e "$socket" ] || fail "left from the run before"
