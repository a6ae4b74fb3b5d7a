#!/bin/sh
# deps.sh {build|check|demo|bench}: installs the Debian packages which that
# purpose needs and this system lacks. Costs milliseconds when nothing is
# missing; without root it says what to install.
set -eu
cd "$(dirname "$0")/.."

build='gcc make pkg-config libc6-dev libfuse3-dev fuse3 libconfig-dev libzstd-dev liblzma-dev
	liblz4-dev zlib1g-dev liburing-dev libnbd-dev libmnl-dev'
check='libcmocka-dev clang libclang-rt-14-dev llvm cppcheck clang-format gdb python3 zsh vim-tiny
	inotify-tools sshfs openssh-server openssh-client rsync acpica-tools attr acl xz-utils zstd lz4
	procps psmisc strace util-linux iproute2 iputils-ping tcpdump nftables dnsmasq-base passt qemu-utils e2fsprogs binutils nbdkit libnbd-bin gnutls-bin'
bench="$check qemu-system-x86 libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients bc"
# What the Linux guest of the tests is built with.
guest=$(sed 's/#.*//' tests/guest/linux/packages 2>/dev/null || true)

case ${1:-build} in
build) wanted=$build ;;
check) wanted="$build $check $guest" ;;
demo) wanted="$build $guest" ;;
bench) wanted="$build $guest $bench" ;;
*)
	echo "usage: tests/deps.sh build|check|demo|bench" >&2
	exit 2
	;;
esac

# The names of the given packages that are not installed. A name that another
# version or package stands in for (vim for vim-tiny) counts as there.
missing() {
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n${db:Status-Status} ${Provides}\n' |
		sed -n 's/^installed //p' | tr -d , | sed 's/([^)]*)//g' | tr ' ' '\n')
	for p in "$@"; do
		case $p in
		vim-tiny) command -v vim >/dev/null && continue ;;
		python3) command -v python3 >/dev/null && continue ;;
		esac
		printf '%s\n' "$installed" | grep -qxF -- "$p" || printf '%s ' "$p"
	done
}

command -v dpkg-query >/dev/null || {
	echo "deps: no dpkg here; see tests/deps.sh for what Debian calls the packages" >&2
	exit 0
}
# shellcheck disable=SC2086
todo=$(missing $wanted)
[ -n "$todo" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "deps: these packages are missing: $todo" >&2
	echo "deps: as root, run: apt-get install --no-install-recommends $todo" >&2
	exit 1
fi
echo "deps: installing $todo"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $todo; } \
	</dev/null >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "deps: could not install all of: $todo" >&2
	exit 1
fi
