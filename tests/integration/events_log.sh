#!/bin/bash
# `events` has every command with its outcome and every change of state as a line of JSON, in
# order, numbered without a hole; a restart of the daemon goes on counting.
# also: asan
. "${0%/*}/../lib.sh"

need_cmd python3
start_daemon
mkdir "$M/m"
refuses EINVAL write "$M/m/ctl" 'fly "high"'
put "$M/m/cpus" 2
mv "$M/m" "$M/n"
if [ -w /dev/kvm ]; then
	put "$M/n/kernel" "$GUESTS/hello.elf"
	put "$M/n/memory" 64M
	do_ctl n start
	do_ctl n pause
	do_ctl n resume
	do_ctl n kill
fi
kill_daemon
start_daemon
rmdir "$M/n"

like "$(stat -c '%s' "$MNT/events")" "^$(wc -c <"$MNT/events")$"
python3 - "$MNT/events" "$([ -w /dev/kvm ] && echo kvm || echo none)" <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
seqs = [r["seq"] for r in rows]
assert seqs == list(range(seqs[0], seqs[0] + len(rows))), seqs
assert all(r.get("time") for r in rows), rows
text = [json.dumps(r) for r in rows]
def find(*words):
    hits = [i for i, t in enumerate(text) if all(w in t for w in words)]
    assert hits, ("no event with", words, text)
    return hits[0]
made = find('"m"')
failed = find("fly", "EINVAL")
assert made < failed
if sys.argv[2] == "kvm":
    order = [find('"n"', "start"), find("running"), find("pause"), find("paused"),
             find("resume"), find("kill"), find("stopped")]
    assert order == sorted(order), (order, text)
    states = [(r["from"], r["to"]) for r in rows if "from" in r and "to" in r]
    assert all(a[1] == b[0] for a, b in zip(states, states[1:])), states
    assert states[-1][1] == "stopped", states
END
like "$("$TOOLS/trycall" write "$MNT/events" x)" '(EACCES|EPERM|EROFS|EINVAL)'
