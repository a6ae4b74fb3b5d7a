#!/bin/bash
# `stats` is flat-keyed counters, `metrics` the same for Prometheus; they count, and reading them
# asks nobody, so that they answer while the guest is paused, too.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd python3
start_daemon
boot m count cpus=2
mkdir "$M/idle"
wait_console m '^20$'
m=$M/m
cat "$m/stats" >"$T/a"
wait_console m '^100$'
cat "$m/stats" >"$T/b"
do_ctl m pause
cat "$m/metrics" >"$T/metrics"
python3 - "$T/a" "$T/b" "$T/metrics" <<'END'
import re, sys
def stats(path):
    out = {}
    for line in open(path):
        key, value = line.split()
        assert re.fullmatch(r"[a-z0-9._-]+", key), line
        assert key not in out, line
        out[key] = int(value)
    return out
a, b = stats(sys.argv[1]), stats(sys.argv[2])
assert len(a) > 5, a
assert set(a) <= set(b)
exits = [k for k in b if "exit" in k]
assert exits and any(b[k] > a[k] for k in exits), (exits, a, b)
names = set()
typed = set()
for line in open(sys.argv[3]):
    if line.startswith("#"):
        if line.startswith("# TYPE"):
            typed.add(line.split()[2])
        continue
    m = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\} (-?[0-9.eE+]+)\n', line)
    assert m, line
    assert 'machine="m"' in m[2], line
    assert (m[1], m[2]) not in names, line
    names.add((m[1], m[2]))
assert len(names) > 5
assert {n for n, _ in names} <= typed, "samples without a TYPE"
END
cat "$M/idle/stats" "$M/idle/metrics" >/dev/null
like "$(cat "$MNT/stats")" '[a-z_.]+ [0-9]+'
