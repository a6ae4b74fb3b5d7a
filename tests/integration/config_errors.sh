#!/bin/bash
# A config with an error is refused whole, with line and column in `error`, and the old one stays.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M cpus=2
m=$M/m
old=$(cat "$m/config")

# bad ERRNO WORDS TEXT: refused at close (or at write), with these words, nothing changed
bad() {
	local got
	got=$("$TOOLS/trycall" write-raw "$m/config" "$3")
	[[ ,$1, = *",${got##* },"* ]] || fail "config '$3' gave '$got', wanted $1"
	like "$(cat "$m/error")" "^${got##* } config: .*$2" "config '$3'"
	is "$(cat "$m/config")" "$old" "config after '$3'"
}
bad EINVAL 'line 2' 'cpus = 1;\nmemory = = "1G";\n'
bad EINVAL 'line 1.*column 1' '= 3;\n'
bad EINVAL 'line 2, column 1: colour' 'cpus = 1;\ncolour = "red";\n'
bad EINVAL 'line 3.*cpus' 'cpus = 1;\nmemory = "64M";\ncpus = 2;\n'
bad EINVAL,ERANGE 'line 1.*cpus' 'cpus = 0;\n'
bad EINVAL,ERANGE 'line 2.*cpus' '\ncpus = 1000000;\n'
bad EINVAL 'line 1.*cpus' 'cpus = "two";\n'
bad EINVAL 'line 1.*cpus' 'cpus = 1.5;\n'
bad EINVAL 'line 1.*on_crash' 'on_crash = "explode";\n'
bad EINVAL 'line 1.*memory' 'memory = "1.5G";\n'
bad EINVAL 'line 1.*kernel' 'kernel = 3;\n'
bad EINVAL 'line 1.*disks' 'disks = 3;\n'
bad EINVAL 'line 1.*already' 'disks = { a = { }; a = { }; };\n'
bad EINVAL 'line 2.*queue' 'disks = { a = {\nqueue = 3; }; };\n'
bad EINVAL,ERANGE 'line 1.*queues' 'disks = { a = { queues = 99; }; };\n'
bad EINVAL 'line 1' 'disks = { "a b" = { }; };\n'
bad EINVAL 'NUL' 'cpus = 1;\0memory = "64M";\n'
bad EINVAL 'line 1' 'cpus = 1'"$(printf '(%.0s' $(seq 2000))"
bad EINVAL 'line 1' '@include "/etc/passwd"\n'
bad EINVAL 'line 1' '\xff\xfe\xfd'
bad EINVAL 'line' 'cmdline = "unterminated\n'
head -c 4096 /dev/urandom >"$T/random"
refused_cat() { ! cat "$T/random" >"$m/config"; }
refused_cat 2>/dev/null
is "$(cat "$m/config")" "$old" "config after random bytes"

note "too long: refused early, and its memory is not the daemon's"
before=$(rss_of "$DAEMON")
is "$("$TOOLS/trycall" fill "$m/config" $((100 << 20)) x)" "write EFBIG"
says '^EFBIG config' "$m/error"
[ $(($(rss_of "$DAEMON") - before)) -lt 20000 ] || fail "100 MiB of config made the daemon grow"
# 1 MiB exactly is text like any other
{ echo 'cpus = 6;'; head -c $(((1 << 20) - 10)) /dev/zero | tr '\0' '#'; } >"$m/config"
is "$(cat "$m/cpus")" 6
# an empty one is nothing collected: `: > config` is no write and changes nothing
: >"$m/config"
is "$(cat "$m/cpus")" 6
