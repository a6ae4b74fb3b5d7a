#!/bin/bash
# `events` is bounded: what is too old moves to events.old, nothing is rewritten in place, numbers go
# on without a hole, and who follows by name misses nothing.
# time: 240
. "${0%/*}/../lib.sh"

need_cmd python3
start_daemon
mkdir "$M/m"
# (It looks ten times a second: who looks once does not see that the file became short and long again.)
tail -s 0.1 -n +1 -F "$MNT/events" >"$T/followed" 2>/dev/null &
follower=$!
python3 - "$MNT" <<'END'
import json, os, sys
mnt = sys.argv[1]
fd = os.open(f"{mnt}/machines/m/ctl", os.O_WRONLY)
last = 0
def both():
    rows = []
    for name in ("events.old", "events"):
        try:
            with open(f"{mnt}/{name}", encoding="utf-8") as f:
                rows += [json.loads(line)["seq"] for line in f]
        except FileNotFoundError:
            pass
    return rows
word = b"nonsense-" + b"x" * 400 + b"\n"
turned = False
for i in range(60000):
    try:
        os.write(fd, word)
        raise SystemExit("nonsense was taken")
    except OSError:
        pass
    if i % 1000 == 0:
        size = os.stat(f"{mnt}/events").st_size
        assert size <= 8 << 20, size
        if turned and size < last:              # the second turn: the first part is gone now
            break
        turned = turned or size < last
        last = size
else:
    assert turned, "events never turned over"
rows = both()
assert rows == list(range(rows[0], rows[0] + len(rows))), "a hole"
assert os.stat(f"{mnt}/events.old").st_size <= 8 << 20
END
caught_up() { [ "$(tail -n 1 "$T/followed")" = "$(tail -n 1 "$MNT/events")" ]; }
wait_for caught_up
kill $follower
used=$(du -sk "$STATE" "$RUN" | awk '{ n += $1 } END { print n }')
[ "$used" -lt 30000 ] || fail "$used KiB of state"
