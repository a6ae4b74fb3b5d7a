#!/bin/bash
# console: what is typed arrives, in order and whole; tty is the same console as a terminal; the
# log is bounded, what is too old moves to console.old; typing to nobody is refused.
# time: 240
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd python3
start_daemon
define_guest m echo
m=$M/m
refuses EBUSY,ENODEV write "$m/console" X
says '^E[A-Z]+ console: ' "$m/error"
do_ctl m start
wait_console m '.'
put "$m/console" 'FIRST LINE'
wait_console m 'FIRST LINE'
for i in $(seq 20); do put "$m/console" "L$i."; done
wait_console m 'L20\.'
tr -d '\r' <"$m/console" | grep -ao 'L[0-9]*\.' | uniq >"$T/got"
seq -f 'L%g.' 20 | cmp - "$T/got"

note "the tty"
python3 - "$m/tty" "$m/console" <<'END'
import os, select, sys, termios, time, tty
fd = os.open(os.path.realpath(sys.argv[1]), os.O_RDWR | os.O_NOCTTY)
tty.setraw(fd)
os.write(fd, b"TYPED ON THE TTY\n")
got = b""
end = time.time() + 60
while b"TYPED ON THE TTY" not in got and time.time() < end:
    if select.select([fd], [], [], 1)[0]:
        got += os.read(fd, 4096)
assert b"TYPED ON THE TTY" in got, got
END
wait_console m 'TYPED ON THE TTY'
note "nobody reads the tty, and nothing stands still"
put "$m/console" "AFTER THE TTY"
wait_console m 'AFTER THE TTY'

note "bounded"
[ "$(stat -c %s "$m/console")" -le $((8 << 20)) ]
do_ctl m kill
