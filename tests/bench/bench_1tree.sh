# The tree: defining, listing, reading. Sourced by run.sh.
# shellcheck shell=bash

# Where fsync costs nothing the rest of mkdir shows.
tree_define_tmpfs() {
	local mnt=$work/ram daemon

	mkdir -p "$mnt" "$work/fv2"
	mount -t tmpfs none "$mnt" 2> /dev/null || return 1
	"$build/filevisord" -f --state "$mnt/state" --run "$mnt/run" "$work/fv2" 2> /dev/null &
	daemon=$!
	for _ in $(seq 200); do
		[ -e "$work/fv2/version" ] && break
		sleep 0.05
	done
	for i in $(seq 200); do
		time_us mkdir "$work/fv2/machines/t$i"
	done | median
	kill $daemon
	wait $daemon 2> /dev/null
	umount "$mnt"
}

tree_virsh_define() {
	domain_xml "d$1" /dev/null /dev/null > "$work/d.xml"
	time_us virsh -q define "$work/d.xml"
}

bench_tree() {
	local ours peer virt='' floor

	bench_libvirt && virt=1
	title "Tree (µs)"
	ours=$(for i in $(seq 1000); do time_us mkdir "$fv/machines/m$i"; done | median)
	peer=-
	[ -n "$virt" ] && peer=$(for i in $(seq 1000); do tree_virsh_define "$i"; done | median)
	row "define a machine (process and fsync included)" "$ours" "$peer" "virsh define"
	row "the same, fsync free (tmpfs)" "$(tree_define_tmpfs)" "$(repeat 50 time_us mkdir -p /tmp | median)" \
		"mkdir that does nothing"
	ours=$(repeat 11 time_us ls -l "$fv/machines" | median)
	[ -n "$virt" ] && peer=$(repeat 11 time_us virsh -q list --all | median)
	row "list 1000 machines: ls -l" "$ours" "$peer" "virsh list --all"
	mkdir -p "$work/minimal"
	"$build/tests/bench/minimal_fs" "$work/minimal" || return
	floor=$("$build/tests/bench/read_loop" 5000 "$fv/machines/m1/state" "$work/minimal/state")
	umount "$work/minimal"
	ours=$(awk 'NR == 1 { print int($1 / 1000) }' <<< "$floor")
	peer=$(awk 'NR == 2 { print int($1 / 1000) }' <<< "$floor")
	row "open, read, close of state" "$ours" "$peer" "minimal libfuse file system"
	if [ -n "$virt" ]; then
		peer=$(repeat 21 time_us virsh -q domstate fvbench-d1 | median)
		row "state from the shell: cat" "$(repeat 21 time_us cat "$fv/machines/m1/state" | median)" "$peer" \
			"virsh domstate"
		for i in $(seq 1000); do virsh -q undefine "fvbench-d$i"; done > /dev/null
	fi
	rmdir "$fv"/machines/m*
}

bench_tree
