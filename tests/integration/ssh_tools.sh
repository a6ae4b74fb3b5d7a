#!/bin/bash
# sftp get and put, rsync -r over ssh and scp work on the tree; a plain ssh command sees errnos.
# time: 200
. "${0%/*}/../lib.sh"

need_cmd rsync scp
start_daemon
start_sshd
define m memory=64M cpus=2
[ ! -w /dev/kvm ] || { put "$M/m/kernel" "$GUESTS/hello.elf"; do_ctl m start; wait_console m hello; }
ssh="ssh -F $T/ssh/config"

note "sftp"
echo 'cpus = 5;' >"$T/config"
printf '%s\n' "cd $M/m" "get config $T/got" "put $T/config config" "mkdir $M/n" "ls $M" "get state $T/state.got" \
	"rename $M/n $M/o" "rmdir $M/o" >"$T/batch"
sftp -q -F "$T/ssh/config" -b "$T/batch" fv >"$T/sftp.log" 2>&1 || fail "sftp: $(cat "$T/sftp.log")"
grep -q 'cpus = 2' "$T/got"
is "$(cat "$M/m/cpus")" 5
is "$(cat "$T/state.got")" "$(state_of m)"
echo 'cpus = = 5;' >"$T/config"
printf 'put %s %s\n' "$T/config" "$M/m/config" >"$T/batch"
! sftp -q -F "$T/ssh/config" -b "$T/batch" fv >"$T/sftp.log" 2>&1 || fail "sftp took a bad config"
says '^EINVAL config: line 1' "$M/m/error"
is "$(cat "$M/m/cpus")" 5

note "rsync -r of the tree, out and in"
timeout -s KILL 150 rsync -r -e "$ssh" "fv:$MNT/" "$T/out/" --exclude=core --exclude=memory.img 2>"$T/rsync.log" ||
	fail "rsync: $(cat "$T/rsync.log")"
cmp "$T/out/machines/m/config" "$M/m/config"
mkdir "$T/in"
sed 's/cpus = 5/cpus = 6/' "$T/out/machines/m/config" >"$T/in/config"
rsync -r -I -e "$ssh" "$T/in/" "fv:$M/m/" || fail "rsync in"
is "$(cat "$M/m/cpus")" 6

note "scp and ssh"
sed 's/cpus = 6/cpus = 7/' "$M/m/config" >"$T/in/config"
scp -q -F "$T/ssh/config" "$T/in/config" "fv:$M/m/config"
is "$(cat "$M/m/cpus")" 7
! out=$($ssh fv "echo 0 > $M/m/cpus" 2>&1)
like "$out" 'range'
end_ssh
