#!/bin/bash
# poll(2): files of the tree are always readable; who asks for POLLPRI is woken when the value
# changes, as on a sysfs file: POLLERR|POLLPRI, and again only after the next change.
# also: asan tsan
. "${0%/*}/../lib.sh"

need_cmd python3
start_daemon
define m memory=64M cpus=1
python3 - "$M/m" "$MNT" <<'END'
import os, select, sys, threading, time
m, mnt = sys.argv[1:]

def write(name, text):
    with open(f"{m}/{name}", "w") as f:
        f.write(text)

for name in ("state", "cpus", "config", "ctl", "console", "stats"):
    fd = os.open(f"{m}/{name}", os.O_RDONLY)
    p = select.poll()
    p.register(fd, select.POLLIN)
    assert p.poll(10000) == [(fd, select.POLLIN)], name
    os.close(fd)

fd = os.open(f"{m}/cpus", os.O_RDONLY)
p = select.poll()
p.register(fd, select.POLLPRI | select.POLLERR)
for turn in range(2, 12):
    os.pread(fd, 64, 0)
    while p.poll(0):            # settle: what was before the read
        os.pread(fd, 64, 0)
    if turn % 2:
        write("cpus", f"{turn}\n")                      # before the wait begins
    else:
        threading.Timer(0.1, write, ("config", f"cpus = {turn};\n")).start()
    got = p.poll(60000)
    assert got and got[0][1] & select.POLLPRI, (turn, got)
    text = os.pread(fd, 64, 0)
    assert text == b"%d\n" % turn, (turn, text)

# several waiters, each woken
fds = [os.open(f"{m}/state", os.O_RDONLY) for _ in range(20)]
ps = []
for f in fds:
    os.pread(f, 64, 0)
    q = select.poll()
    q.register(f, select.POLLPRI | select.POLLERR)
    ps.append(q)
assert not any(q.poll(0) for q in ps), "woken without a change"
END
[ -w /dev/kvm ] || exit 0
put "$M/m/kernel" "$GUESTS/hello.elf"
put "$M/m/cmdline" poweroff
python3 - "$M/m" <<'END'
import os, select, sys
m = sys.argv[1]
fd = os.open(f"{m}/state", os.O_RDONLY)
p = select.poll()
p.register(fd, select.POLLPRI | select.POLLERR)
os.pread(fd, 64, 0)
with open(f"{m}/ctl", "w") as f:
    f.write("start\n")
while os.pread(fd, 64, 0) != b"stopped\n":      # the guest switches itself off
    assert p.poll(60000), "never woken"
END
