#!/bin/bash
# A value that is none is refused at write(2) with an errno that fits and words in `error`, and
# changes nothing; what is a value is taken in every spelling that is promised.
# also: asan
. "${0%/*}/../lib.sh"

start_daemon
define m memory=64M cpus=2
m=$M/m

for v in "" -1 1.5G garbage 64X "64 M" 0x40 $'64M\n64M' "64M;" 1e9 K; do
	refuses EINVAL write "$m/memory" "$v"
	is "$(cat "$m/memory")" $((64 << 20)) "memory after '$v'"
done
for v in 0 16E 99999999999999999999 1; do
	refuses ERANGE,EINVAL write "$m/memory" "$v"
	is "$(cat "$m/memory")" $((64 << 20)) "memory after '$v'"
done
refuses ERANGE write "$m/memory" 16E
says '^ERANGE memory' "$m/error"
for v in 0 1000000 241; do refuses ERANGE write "$m/cpus" $v; done
for v in "" -1 1.5 two "1 2" +1; do refuses EINVAL write "$m/cpus" "$v"; done
is "$(cat "$m/cpus")" 2
for v in yes please 2 "" TRUEISH; do
	[ "$v" = yes ] || refuses EINVAL write "$m/autostart" "$v"
done
for k in on_crash on_reboot on_poweroff; do
	old=$(cat "$m/$k")
	refuses EINVAL write "$m/$k" explode
	refuses EINVAL write "$m/$k" ""
	is "$(cat "$m/$k")" "$old"
	says "^EINVAL $k" "$m/error"
done
refuses EINVAL,ERANGE,E2BIG,ENAMETOOLONG,EFBIG line "$m/cmdline" 5000 x
refuses EINVAL write-raw "$m/cmdline" 'a\0b'
refuses EINVAL write-raw "$m/cmdline" 'a\nb\n'
refuses EINVAL write-raw "$m/cmdline" 'a\x01b'
is "$(cat "$m/cmdline")" ""

note "what is taken"
while read -r text bytes; do
	put "$m/memory" "$text"
	is "$(cat "$m/memory")" "$bytes" "memory written as $text"
done <<-END
	128M 134217728
	128MiB 134217728
	67108864 67108864
	1g 1073741824
	65536K 67108864
END
printf 3 >"$m/cpus" # no newline is needed
is "$(cat "$m/cpus")" 3
is "$(stat -c %s "$m/cpus")" 2 "size is the true one"
put "$m/autostart" true
is "$(cat "$m/autostart")" true
put "$m/autostart" false
is "$(cat "$m/error")" "" "error after success"
