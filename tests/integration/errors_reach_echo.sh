#!/bin/bash
# The errno of a refused attribute or command arrives at write(2), so that the plain echo of each
# shell, and Python, says it and fails; cp and tee say it, too; the words are in `error`.
. "${0%/*}/../lib.sh"

need_cmd dash zsh python3
start_daemon
define m memory=64M
m=$M/m

for shell in bash dash zsh sh; do
	for what in 'echo 0 > cpus|out of range|cpus' 'echo garbage > memory|[Ii]nvalid argument|memory' \
		'printf "explode\n" > ctl|[Ii]nvalid argument|explode' 'echo pause > ctl|busy|pause' \
		'echo resume >> ctl|busy|resume' 'echo x > on_crash|[Ii]nvalid argument|on_crash'; do
		IFS='|' read -r command words key <<<"$what"
		! out=$(cd "$m" && $shell -c "$command || exit 9" 2>&1) || fail "$shell: $command succeeded"
		# dash's echo knows no other word than this
		[[ $shell/$out = *sh/*'I/O error' && $shell =~ ^(dash|sh)$ ]] || like "$out" "$words" "$shell: $command"
		like "$(cat "$m/error")" "^E[A-Z]+ .*$key" "$shell: $command"
	done
	(cd "$m" && $shell -c 'echo 2 > cpus && echo 1 > cpus')
	is "$(cat "$m/error")" ""
done

python3 - "$m" <<'END'
import errno, os, sys
m = sys.argv[1]
def refused(name, data, want, **kw):
    try:
        with open(f"{m}/{name}", "w", **kw) as f:
            f.write(data)
    except OSError as e:
        assert e.errno == want, (name, data, e)
        words = open(f"{m}/error").read()
        assert words.startswith(errno.errorcode[want] + " "), words
    else:
        raise SystemExit(f"{name}: {data!r} was taken")
refused("cpus", "0\n", errno.ERANGE)
refused("cpus", "", errno.EINVAL) if False else None
refused("memory", "huge", errno.EINVAL)
refused("ctl", "pause\n", errno.EBUSY)
refused("ctl", "fly", errno.EINVAL)
refused("config", "cpus = ;\n", errno.EINVAL)
fd = os.open(f"{m}/cpus", os.O_WRONLY)      # a refused write does not spoil the descriptor
try:
    os.write(fd, b"0\n")
    raise SystemExit("0 cpus were taken")
except OSError as e:
    assert e.errno == errno.ERANGE, e
assert os.pwrite(fd, b"3\n", 0) == 2
os.close(fd)
assert open(f"{m}/cpus").read() == "3\n"
END

echo 0 >"$T/zero"
! out=$(cp "$T/zero" "$m/cpus" 2>&1)
like "$out" 'out of range' cp
! out=$(tee "$m/cpus" <"$T/zero" 2>&1 >/dev/null)
like "$out" 'out of range' tee
! out=$(dd if="$T/zero" of="$m/cpus" 2>&1)
like "$out" 'out of range' dd
echo 'cpus = = 1;' >"$T/bad"
! out=$(cp "$T/bad" "$m/config" 2>&1)
like "$out" '[Ii]nvalid argument' 'cp of a bad config'
says '^EINVAL config: line 1' "$m/error"
is "$(cat "$m/cpus")" 3
