#!/bin/bash
# `ctl` takes lines: several in a write stop at the first that fails, blank ones and comments do
# nothing, what `cat ctl` printed does nothing when written back; junk of every kind is refused.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M
m=$M/m
commands() { grep -c '"command"' "$MNT/events" || true; }

note "what does nothing"
before=$(commands)
for text in '' '#start' '# start	x' '   '; do accepts write "$m/ctl" "$text"; done
cat "$m/ctl" >"$T/printed"
[ -s "$T/printed" ]
cp "$T/printed" "$m/ctl"
cat "$T/printed" >>"$m/ctl"
is "$(state_of m)" defined
is "$(cat "$m/error")" ""
is "$(commands)" "$before" "commands in events"

note "several lines"
refuses EINVAL write-raw "$m/ctl" '# fine\n\nfly\nswim\n'
says '^EINVAL fly' "$m/error"
! grep -q swim "$MNT/events" || fail "a line after the failed one ran"
is "$("$TOOLS/trycall" twice "$m/ctl" '#a\n' 'fly\n')" "write EINVAL"
refuses EINVAL append "$m/ctl" fly
refuses EINVAL pwrite "$m/ctl" fly 7
refuses EINVAL pwrite "$m/ctl" fly 123456

note "junk"
refuses EINVAL,E2BIG,EFBIG line "$m/ctl" $((1 << 20)) x
refuses EINVAL,E2BIG,EFBIG fill "$m/ctl" $((1 << 20)) x
refuses EINVAL write-raw "$m/ctl" 'start\0\n'
refuses EINVAL write-raw "$m/ctl" '\0\0\0'
refuses EINVAL write-raw "$m/ctl" 'st\x01art\n'
refuses EINVAL write-raw "$m/ctl" '\xff\xff\n'
head -c 100000 /dev/urandom >"$T/random"
for _ in 1 2 3; do
	! cat "$T/random" >"$m/ctl" || fail "random bytes were taken"
done 2>/dev/null
is "$(state_of m)" defined
python3 -c 'import json, sys; [json.loads(l) for l in open(sys.argv[1], encoding="utf-8")]' "$MNT/events"

note "a command in pieces: a write is a line, also without its newline"
"$TOOLS/trycall" bytewise "$m/ctl" start >"$T/pieces"
like "$(cat "$T/pieces")" 'EINVAL'
is "$(state_of m)" defined
