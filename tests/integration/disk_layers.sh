#!/bin/bash
# A guest writes without pause while its disk goes over to one new layer after the other, and what is
# below is frozen and merged: what a frozen layer reads as stays so, every image passes qemu-img check,
# nothing that the guest was told to be stable is lost, also where its VMM is killed.
# also: asan
# time: 240
. "${0%/*}/../lib.sh"

need_kvm
need_cmd qemu-img

vmm='' merges=0
printed() { grep -aqE "$1" "$T/out.log"; }
times() { [ "$(grep -aEc "$1" "$T/err.log")" -ge "$2" ]; }
last() { printf '%d' "$(whole_lines "$T/out.log" | grep -ao '^entry [0-9a-fx]*$' | tail -n 1 | cut -d' ' -f2)"; }
past() { [ "$(last)" -gt "$1" ]; }
goes_on() { wait_for past "$(last)"; }
# begin DISK: the guest on it; commands go to descriptor 9
begin() {
	rm -f commands
	mkfifo commands
	"$TOOLS/vmm_run" --vmm "$BUILD/filevisor-vmm" --disk "$1" --timeout 200 "$GUESTS/ledger.elf" <commands >out.log 2>err.log &
	vmm=$!
	exec 9>commands
	wait_for printed '^begin '
	wait_for printed '^entry '
}
# say COMMAND WORDS N: and waits for its answer, the Nth that begins so
say() {
	echo "!$1" >&9
	wait_for times "^$2" "$3"
}
# quit: the VMM ends; all is well with the guest
quit() {
	echo '!quit' >&9
	exec 9>&-
	wait $vmm || fail "vmm_run: $(cat err.log)"
	! grep -aE 'DISAGREE|failed|merge:|error' out.log err.log || fail "$(cat out.log err.log)"
}
# stands PATH: the guest on it finds at least what it had been told to be stable
stands() {
	local had
	had=$(last)
	begin "qcow2:$1"
	[ "$(printf '%d' "$(awk '/^begin/ { print $2; exit }' out.log)")" -ge "$had" ] ||
		fail "it had $had entries: $(head -n 3 out.log)"
	quit
}
format_of() { if [ "$1" = "${chain[0]}" ]; then echo "$format"; else echo qcow2; fi; }
check() { [ "$(format_of "$1")" = raw ] || qemu-img check -q -U -f qcow2 "$1" || fail "qemu-img check $1"; }
# repairs IMAGE: of who was killed counts may be late, and space lost; nothing worse
repairs() {
	qemu-img check -r all -f qcow2 "$1" >repair.txt 2>&1 || fail "$(cat repair.txt)"
	check "$1"
}
same() { qemu-img compare -q -U -f "$(format_of "$1")" -F raw "$1" frozen.raw || fail "$1 reads otherwise"; }

# go_over N: to a new layer; what was the top is frozen, and read
go_over() {
	local below=${chain[-1]} top=$T/$format.$1.qcow2
	qemu-img create -q -u -f qcow2 -F "$(format_of "$below")" -b "$below" -o "$options" "$top" "$size"
	say "stage disk0 $top" staged "$1"
	say "instant $T/instant nomemory" instant: "$1"
	goes_on
	say 'freeze disk0' frozen "$1"
	if [ "$moved" = "$below" ]; then
		"$TOOLS/fvimg" rebase "$below" backing="${chain[-2]}" backing_format="$format" unsafe=1
		moved=
	fi
	# as any reader does: its locks let them in
	[ "$(format_of "$below")" = raw ] || qemu-img check -q -f qcow2 "$below" || fail "qemu-img check $below"
	qemu-img convert -f "$(format_of "$below")" -O raw "$below" frozen.raw
	chain+=("$top")
	goes_on
	same "$below"
}

# merge_all: but the top and the bottom
merge_all() {
	local layer into
	while [ ${#chain[@]} -gt 2 ]; do
		layer=${chain[-2]} into=${chain[-3]}
		say "merge disk0 1 $layer" merged $((++merges))
		same "$into"
		check "$into"
		chain=("${chain[@]:0:${#chain[@]}-2}" "${chain[-1]}")
		rm "$layer"
		goes_on
	done
	moved=${chain[-1]}
}

mkdir instant
size=8M
for kind in raw:: qcow2:lazy_refcounts=on:none qcow2:extended_l2=on: qcow2:cluster_size=2M:; do
	IFS=: read -r format options cache <<<"$kind"
	note "over $kind"
	base=$T/base.$format chain=("$T/base.$format") moved='' merges=0
	rm -f "$T"/*.qcow2
	qemu-img create -q -f "$format" ${options:+-o "$options"} "$base" $size
	options=cluster_size=64k
	begin "${cache:+$cache:}$([ "$format" = raw ] || echo qcow2:)$base"
	for round in 1 2 3 4 5 6; do
		go_over $round
		[ $((round % 3)) != 0 ] || merge_all
	done
	quit
	top=${chain[-1]}
	"$TOOLS/fvimg" rebase "$top" backing="$base" backing_format="$format" unsafe=1
	check "$top"
	check "$base"
	stands "$top"
	check "$top"
done

note "what is not a new image of the disk is refused; what was staged goes with who sent it"
rm -f "$T"/*.qcow2
truncate -s $size base.raw
qemu-img create -q -f qcow2 -F raw -b "$T/base.raw" other.qcow2 4M
qemu-img create -q -f qcow2 alone.qcow2 $size
qemu-img create -q -f qcow2 -F raw -b "$T/base.raw" used.qcow2 $size
qemu-io -f qcow2 -c 'write -P 1 0 64k' used.qcow2 >io.txt
qemu-img create -q -f qcow2 -F raw -b "$T/base.raw" inside.qcow2 $size
qemu-img snapshot -c one inside.qcow2
qemu-img create -q -f qcow2 -F raw -b "$T/base.raw" new.qcow2 $size
qemu-img create -q -f qcow2 -F raw -b "$T/base.raw" newer.qcow2 $size
truncate -s $size plain.qcow2
begin "$T/base.raw"
for bad in other:'bytes, the disk' alone:'nothing below' used:'not empty' inside:snapshots plain:'not a qcow2'; do
	say "stage disk0 $T/${bad%%:*}.qcow2" ".*${bad#*:}" 1
done
say "instant $T/instant nomemory" instant: 1
say "stage disk0 $T/new.qcow2" staged 1
say 'resize disk0 16777216' '.*part of a snapshot' 1
say reconnect 'state .* after reconnecting' 1
say 'stage disk1 /dev/null' '.*no disk disk1' 1
say "stage disk0 $T/newer.qcow2" staged 2
say "instant $T/instant nomemory" instant: 2
goes_on
say 'resize disk0 16777216' 'disk disk0 has 16777216' 1
say 'freeze disk0' frozen 1
goes_on
quit
is "$(stat -c %s base.raw)" $((8 << 20)) "the size of what is below"
like "$(qemu-img map --output=json -f qcow2 new.qcow2)" '"depth": 1'
like "$(qemu-img info newer.qcow2)" '16777216 bytes'
qemu-img check -q -f qcow2 newer.qcow2
stands newer.qcow2

note "killed at any moment between"
format=qcow2 options=
for round in $(seq 8); do
	rm -f "$T"/*.qcow2
	base=$T/base.qcow2 chain=("$T/base.qcow2") moved=
	qemu-img create -q -f qcow2 -o lazy_refcounts=on "$base" $size
	begin "qcow2:$base"
	qemu-img create -q -f qcow2 -F qcow2 -b "$base" "$T/top.qcow2" $size
	say "stage disk0 $T/top.qcow2" staged 1
	goes_on
	echo "!instant $T/instant nomemory" >&9
	[ $((round % 2)) = 0 ] || echo '!freeze disk0' >&9
	sleep "0.0$((RANDOM % 10))"
	kill -KILL "$(pgrep -P $vmm)"
	exec 9>&-
	wait $vmm || true
	stands "$T/top.qcow2"
	repairs "$T/top.qcow2"
	repairs "$base"
done
