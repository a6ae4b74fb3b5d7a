#!/bin/bash
# Instants of a VMM alone: who holds the memory writes it as it was, all or what differs, and forks
# clones; the guest goes on; whoever of them is killed, the others go on.
# also: asan
. "${0%/*}/../lib.sh"

need_kvm
need_cmd python3
mib=16

# vmm NAME OPTION… GUEST: takes commands from the descriptor in $say; its pid in $run
vmm() {
	local name=$1
	shift
	mkfifo "$T/$name.in"
	"$TOOLS/vmm_run" --vmm "$BUILD/filevisor-vmm" --memory 64 --timeout $((200 * SLOWNESS)) --log "$T/$name.log" \
		"${@:1:$#-1}" "$GUESTS/${*: -1}.elf" <"$T/$name.in" >"$T/$name.out" 2>"$T/$name.err" &
	run=$!
	exec {say}>"$T/$name.in"
}
tell() { echo "$1" >&"$say"; }
logged() { grep -aq -- "$2" "$T/$1.log"; }
told() { [ "$(grep -ac -- "$2" "$T/$1.err")" -ge "${3:-1}" ]; }
wait_told() { wait_for told "$@" || fail "$1: $(tail -n 5 "$T/$1.err")"; }
children() { pgrep -P "$1" || true; }

# Memory that a map names, as one file; rounds FILE: what the pages of guest_memtouch say, checked.
flat() {
	python3 - "$1" "$2" <<'END'
import sys
files, out = [], open(sys.argv[2], "wb")
for line in open(sys.argv[1]):
    w = line.split()
    if w[0] == "file":
        files.append(open(w[1], "rb"))
    else:
        gpa, size, n, offset = map(int, w[1:])
        files[n].seek(offset)
        out.seek(gpa)
        out.write(files[n].read(size))
out.truncate(64 << 20)
END
}
# The guest writes its round into page after page: of one instant, all have the same round, but
# those behind the one it was at, which have the one before.
rounds() {
	python3 - "$1" $mib <<'END'
import struct, sys
f, first, pages = open(sys.argv[1], "rb"), 16 << 20, int(sys.argv[2]) << 8
was = None
top = None
for i in range(pages):
    at = first + i * 4096
    f.seek(at)
    n = struct.unpack("<Q", f.read(8))[0] - at
    top = n if top is None else top
    assert n in (top, top - 1) and (was is None or n <= was), (i, n, was, top)
    was = n
print(top)
END
}

note "the guest goes on; what is held is of one instant, however late it is written"
vmm a --cmdline "mib=$mib forever" memtouch
a=$say
wait_for logged a 'touched MiB'
mkdir "$T/1" "$T/2"
tell "!instant $T/1"
tell '!sleep 300'
tell "!write raw $T/1/map $T/1/memory"
wait_told a '^written'
flat "$T/1/map" "$T/1/flat"
one=$(rounds "$T/1/flat") n=1
went_on() {
	n=$((n + 1))
	tell "!instant $T/2"
	tell "!write raw $T/2/map $T/2/memory $T/1/map"
	wait_told a '^written' $n
	flat "$T/2/map" "$T/2/flat"
	two=$(rounds "$T/2/flat")
	[ "$two" -gt "$one" ]
}
wait_for went_on
tell "!write raw $T/2/whole.map $T/2/whole"
wait_told a '^written' $((n + 1))
is "$(grep -c 'running=1' "$T/a.err")" $n
flat "$T/2/whole.map" "$T/2/whole.flat"
cmp "$T/2/flat" "$T/2/whole.flat" || fail "what differs, over what was, is not the whole"
[ "$(stat -c %b "$T/1/memory")" -lt $((48 << 11)) ] || fail "zeroes were written"
is "$(stat -c %s "$T/1/memory")" $((64 << 20))

note "a holder is killed: its guest goes on, and it says so who asked it"
tell "!instant $T/1"
wait_told a '^instant' $((n + 1))
vmm=$(children "$run")
holder=$(children "$vmm")
[ -n "$holder" ] || fail "nobody holds the memory"
kill -KILL "$holder"
tell "!write raw $T/1/map2 $T/1/memory2"
wait_told a '^holder: '
tell "!instant $T/1"
wait_told a '^instant' $((n + 2))

note "the VMM is killed: who holds the memory writes it, and it ends with its socket"
held=$(children "$vmm")
tell '!kill'
tell "!write raw $T/1/map2 $T/1/memory2"
wait_told a '^written' $((n + 2))
flat "$T/1/map2" "$T/1/flat"
three=$(rounds "$T/1/flat")
[ "$three" -ge "$two" ] || fail "round $three after $two"
kill -0 "$held"
tell '!end'
wait "$run" || fail "vmm_run: $(cat "$T/a.err")"
gone() { ! kill -0 "$1" 2>/dev/null; }
wait_for gone "$held"
exec {a}>&-

# (the guest knows q, r and t as commands)
note "clones go on where it stood still, beside it and beside each other, with and without it"
vmm e echo
e=$say
wait_for logged e 'echo ready'
mkdir "$T/3"
tell hello
wait_for logged e hello
tell "!instant $T/3"
for i in 1 2; do tell "!clone $T/clone$i.sock"; done
wait_told e '^cloned' 2
for i in 1 2; do
	vmm clone$i --connect "$T/clone$i.sock" --load "$T/3/state" --clone echo
	eval "c$i=$say r$i=$run"
	tell "I am clone $i"
	wait_for logged clone$i "I am clone $i"
	logged clone$i ready && fail "clone $i booted"
done
say=$e
tell "i go on"
wait_for logged e 'i go on'
tell "!write raw $T/3/map $T/3/memory"
wait_told e '^written'
tell '!kill'
tell "!clone $T/clone3.sock"
wait_told e '^cloned' 3
vmm clone3 --connect "$T/clone3.sock" --load "$T/3/state" --clone echo
# shellcheck disable=SC2034 # by eval
c3=$say r3=$run
say=$e
tell '!end' # who held the memory ends with it
for i in 1 2 3; do
	eval "say=\$c$i run=\$r$i"
	tell 'alive'
	wait_for logged clone$i 'alive'
	tell q
	wait "$run" || fail "clone $i: $(cat "$T/clone$i.err")"
done

note "from files: once as a clone, once for good; what stays is paused, and may be resumed"
vmm files --map "$T/3/map" --load "$T/3/state" --clone echo
tell 'on files'
wait_for logged files 'on files'
mkdir "$T/4"
tell "!instant $T/4 stay"
wait_told files '^state paused'
tell "!write raw $T/4/map $T/4/memory $T/3/map"
wait_told files '^written'
tell '!resume'
tell 'goes on'
wait_for logged files 'goes on'
tell q
wait "$run" || fail "from files: $(cat "$T/files.err")"
[ "$(stat -c %b "$T/4/memory")" -lt 2048 ] || fail "what did not change was written again"
vmm once --map "$T/4/map" --load "$T/4/state" --once echo
tell 'only once'
wait_for logged once 'only once'
tell q
wait "$run" || fail "once: $(cat "$T/once.err")"
vmm twice --map "$T/4/map" --load "$T/4/state" --once echo
wait "$run" && fail "a state that was used was loaded"
told twice 'request' || fail "no words: $(cat "$T/twice.err")"
