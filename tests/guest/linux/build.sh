#!/bin/sh
# build.sh [DIRECTORY]: builds the Linux guest of tests and demo (README.md) and
# prints, as its last line, the directory with vmlinux, bzImage, System.map,
# config, cmdline, root.img and initrd.cpio. What was built once from the same
# recipe is found again in milliseconds, in DIRECTORY (default: a cache, see
# README.md). Needs no root; ./packages lists what it needs.
set -eu
umask 022
recipe=$(cd "$(dirname "$0")" && pwd)
cache=${1:-${FILEVISOR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/filevisor}}
source=/usr/src/linux-source-6.1.tar.xz

say() { echo "guest/linux: $*" >&2; }
die() {
	say "$*"
	[ -z "${log:-}" ] || echo "guest/linux: $*" >>"$log"
	exit 1
}

command -v dpkg-query >/dev/null || die "needs Debian's packages: $(grep -v '^#' "$recipe/packages" | tr '\n' ' ')"
# One query for both: what is missing, and the versions that the result depends on.
versions=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' |
	awk 'NR == FNR { if (!/^#/) wanted[$1]; next }
		$1 == "installed" && $2 in wanted { print $2, $3; delete wanted[$2] }
		END { for (p in wanted) print "missing", p }' "$recipe/packages" - | sort)
missing=$(echo "$versions" | sed -n 's/^missing //p' | tr '\n' ' ')
[ -z "$missing" ] || die "missing packages; install them with: apt-get install --no-install-recommends $missing"
[ -r $source ] || die "$source of package linux-source-6.1 is not there"

# The recipe's identity: its files, and the versions of what goes into the result.
hash=$(cd "$recipe" && {
	echo "$versions" | grep -E '^(linux-source-6.1|busybox-static) '
	find build.sh cmdline config initrd.c initrd.list linux-6.1.patch root vsock.c -type f | LC_ALL=C sort | xargs sha256sum
} | sha256sum | cut -c1-16)
result=$cache/linux-$hash
if [ -d "$result" ]; then
	echo "$result"
	exit 0
fi

# --- one builder at a time ----------------------------------------------------------------

mkdir -p "$cache" || die "cannot make $cache; set FILEVISOR_CACHE to a directory that can be written"
exec 9>"$cache/linux-$hash.lock"
if ! flock -n 9; then
	say "another process builds this already; waiting for it"
	flock 9
fi
if [ -d "$result" ]; then
	echo "$result"
	exit 0
fi

work=$cache/linux-$hash.tmp # no other can be here: the lock is ours
log=$cache/linux-$hash.log
rm -rf "$work"
out=$work/out
src=$work/linux
mkdir -p "$out" "$src"

child=
finish() {
	status=$?
	trap - EXIT HUP INT TERM
	if [ -n "$child" ]; then
		kill "$child" 2>/dev/null || :
		wait "$child" || :
	fi
	if [ $status != 0 ]; then
		[ ! -s "$log" ] || tail -n 20 "$log" >&2
		say "failed; the whole log is $log"
	fi
	rm -rf "$work"
	# Never removed after a failure: who waits holds this file, not its name.
	[ $status != 0 ] || rm -f "$cache/linux-$hash.lock"
	exit $status
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Callers are often make itself: none of its variables (CC, V, ARCH, SANITIZE …)
# may reach the kernel's. The names and date keep the result the same everywhere.
# KCFLAGS: in cold code GCC writes string functions as `rep stosb`, a byte a step, which
# costs a second of the boot where KVM interprets it.
# Run as a child to wait for, because a shell minds no signal while it runs a program.
jobs=$(($(nproc) + 1)) # one more than there are CPUs fills the waits for the disk
clean_make() {
	env -i PATH="$PATH" HOME="$work" TMPDIR="${TMPDIR:-/tmp}" LC_ALL=C \
		KBUILD_BUILD_USER=filevisor KBUILD_BUILD_HOST=filevisor \
		KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026' \
		make -C "$src" -s -j"$jobs" ARCH=x86_64 \
		KCFLAGS=-mstringop-strategy=libcall "$@" >>"$log" 2>&1 9>&- &
	child=$!
	wait "$child"
	child=
}

# --- kernel -------------------------------------------------------------------------------

say "building in $work (a few minutes, once)"
: >"$log"
say "unpacking $source"
# Not the code of drivers that are off anyway: 700 MB less to write. All Kconfig files stay.
tar -I 'xz -T0' -xf $source -C "$src" --strip-components=1 \
	--anchored --wildcards \
	--exclude='*/Documentation/*/*' --exclude='*/samples/*.[chS]' \
	--exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/media/*.[ch]' --exclude='*/sound/*.[ch]' \
	--exclude='*/drivers/net/ethernet/*.[ch]' --exclude='*/drivers/net/wireless/*.[ch]' \
	--exclude='*/drivers/staging/*.[ch]' --exclude='*/drivers/scsi/*.[ch]' \
	--exclude='*/drivers/infiniband/*.[ch]' --exclude='*/tools/testing/*' --exclude='*/tools/perf/*' \
	2>>"$log" 9>&-
patch -d "$src" -p1 --no-backup-if-mismatch <"$recipe/linux-6.1.patch" >>"$log"

cp "$recipe/config" "$work/config"
clean_make KCONFIG_ALLCONFIG="$work/config" allnoconfig
# Kconfig drops in silence what lacks a dependency.
grep '^CONFIG' "$recipe/config" | while read -r line; do
	grep -qxF -- "$line" "$src/.config" || die "config: '$line' did not take: a dependency is missing"
done

say "compiling Linux with $jobs jobs"
clean_make vmlinux bzImage
cp "$src/System.map" "$out/"
cp "$src/.config" "$out/config"
cp "$src/arch/x86/boot/bzImage" "$out/bzImage"
# The symbol table stays, for gdb and crash.
strip --strip-debug -o "$out/vmlinux" "$src/vmlinux"
cp "$recipe/cmdline" "$out/cmdline"

# --- initial RAM disk ---------------------------------------------------------------------

# PROGRAM SOURCE: without libc
small_program() {
	gcc -Os -Wall -Wextra -Werror -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie -no-pie \
		-fno-asynchronous-unwind-tables -Wl,-z,noseparate-code,-z,noexecstack,--build-id=none -s \
		-o "$1" "$2" >>"$log" 2>&1
}
small_program "$work/init" "$recipe/initrd.c"
touch -d @0 "$work/init"
sed "s|@INIT@|$work/init|" "$recipe/initrd.list" >"$work/initrd.list"
"$src/usr/gen_init_cpio" -t 0 "$work/initrd.list" >"$out/initrd.cpio"

# --- root file system ---------------------------------------------------------------------

root=$work/root
cp -r "$recipe/root" "$root"
(
	cd "$root"
	mkdir -p bin dev proc sys tmp mnt run usr
	cp -L /bin/busybox bin/busybox
	small_program bin/vsock "$recipe/vsock.c"
	for applet in $(bin/busybox --list); do
		[ -e "bin/$applet" ] || ln -s busybox "bin/$applet"
	done
	ln -s bin sbin
	ln -s ../bin usr/bin
	ln -s ../bin usr/sbin
	ln -s tmp var # for what must be written somewhere on a read-only root
	ln -s ../tmp/resolv.conf etc/resolv.conf
	chmod -R u=rwX,go=rX .
	chmod 755 etc/rc etc/shell etc/udhcpc.script bin/busybox bin/vsock
	find . -mindepth 1 ! -type l -printf 'set_inode_field %P uid 0\nset_inode_field %P gid 0\n'
) >"$work/owners"
mke2fs -q -F -t ext2 -b 4096 -N 768 -m 0 -O ^resize_inode -U 66696c65-7669-736f-7200-000000000000 \
	-L filevisor-root -E root_owner=0:0 -d "$root" "$out/root.img" 8M >>"$log" 2>&1
# mke2fs takes the owners of whoever builds; in the guest all is root's.
debugfs -w -f "$work/owners" "$out/root.img" >>"$log" 2>&1

cp "$log" "$out/build.log"
mv -T "$out" "$result"
rm -f "$log"
say "done"
echo "$result"
