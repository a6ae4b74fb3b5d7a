# Converting disk images beside qemu-img. Sourced by run.sh.
# shellcheck shell=bash

# A disk of 512 MiB, half of it holes; of what is data half can be compressed.
image_source() {
	python3 - "$1" <<'END'
import random, sys
random.seed(1)
size = 512 << 20
with open(sys.argv[1], "wb") as f:
    f.truncate(size)
    for i in range(0, size, 4 << 20):
        f.seek(i)
        if i >> 22 & 1:
            f.write(random.randbytes(2 << 20) + (random.randbytes(1024) + bytes(1024)) * 1024)
END
}

image_ours() { "$build/tests/tools/fvimg" convert "$@"; }
image_qemu() { qemu-img convert "$@"; }

# image_row WHAT "OUR ARGUMENTS" "ITS ARGUMENTS": taking turns, ten times each.
image_row() {
	local dir=$work/image ours=() peer=() i

	for ((i = 0; i < 10; i++)); do
		# shellcheck disable=SC2086
		ours+=("$(time_us image_ours $2)") peer+=("$(time_us image_qemu $3)")
		rm -f "$dir"/out.*
	done
	row "$1 (us)" "$(printf '%s\n' "${ours[@]}" | median)" "$(printf '%s\n' "${peer[@]}" | median)" qemu-img
}

# The largest resident set of a command, in KiB.
peak_kib() { "$build/tests/tools/fvimg" peak "$@" | tail -n 1; }

# Opening 1 TiB with seven images below it, all with tables.
image_chain() {
	local dir=$work/chain below='' i

	mkdir -p "$dir"
	for i in 1 2 3 4 5 6 7 8; do
		"$build/tests/tools/fvimg" create qcow2 "$dir/$i" 1T ${below:+backing=$below backing_format=qcow2}
		"$build/tests/tools/fvimg" write qcow2 "$dir/$i" $i 20
		below=$i
	done
	row "opens a chain of 8 of 1 TiB, and closes it (us)" \
		"$(repeat 20 time_us "$build/tests/tools/fvimg" open qcow2 "$dir/8" | median)" \
		"$(repeat 20 time_us qemu-io -r -f qcow2 -c 'sleep 0' "$dir/8" | median)" qemu-io
	row "the most memory that takes, program included (KiB)" \
		"$(repeat 10 peak_kib "$build/tests/tools/fvimg" open qcow2 "$dir/8" | median)" \
		"$(repeat 10 peak_kib qemu-io -r -f qcow2 -c 'sleep 0' "$dir/8" | median)" qemu-io
	rm -rf "$dir"
}

if command -v qemu-img > /dev/null; then
	title 'disk images'
	mkdir -p "$work/image"
	image_source "$work/image/src.raw"
	s=$work/image/src o=$work/image/out
	qemu-img convert -O qcow2 "$s.raw" "$s.qcow2"
	qemu-img convert -c -O qcow2 -o compression_type=zstd "$s.raw" "$s.zstd"
	image_row 'raw to qcow2' "raw $s.raw qcow2 $o.1" "-f raw -O qcow2 $s.raw $o.2"
	image_row 'qcow2 to raw' "qcow2 $s.qcow2 raw $o.1" "-f qcow2 -O raw $s.qcow2 $o.2"
	image_row 'raw to qcow2, zstd' "raw $s.raw qcow2 $o.1 compress=1 zstd=1" \
		"-c -f raw -O qcow2 -o compression_type=zstd $s.raw $o.2"
	image_row 'zstd qcow2 to raw' "qcow2 $s.zstd raw $o.1" "-f qcow2 -O raw $s.zstd $o.2"
	image_chain
	rm -rf "$work/image"
fi
