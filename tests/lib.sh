# shellcheck shell=bash
# Sourced first by every integration test. A test is a bash script that reads
# from top to bottom; the first command that fails ends it, with the line. It
# runs in namespaces of its own (tests/tools/isolate.c): what is mounted,
# started or killed is the test's own, `pgrep` sees nobody else's, $T is a
# directory for it alone, and whatever is left at the end is a failure.
#
#	$T          temporary directory            $M      $MNT/machines
#	$MNT        where the tree is mounted      $BUILD  programs under test
#	$STATE      --state of the daemon          $RUN    --run of the daemon
#
# The comments `# time: SECONDS`, `# also: asan tsan` and `# alone` at a test's
# head tell check.sh its limit, in which further builds it runs, and that
# nothing may run beside it.
set -Eeuo pipefail
shopt -s inherit_errexit nullglob
export LC_ALL=C.UTF-8

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(realpath "${BUILD:-$ROOT/build}")
TOOLS=${TOOLS:-$BUILD} # of the plain build, where another is tested
TOOLS=${TOOLS%/tests/tools}/tests/tools
GUESTS=${GUESTS:-$BUILD/guest}
[ -n "${ISOLATED:-}" ] || exec "$TOOLS/isolate" -t 600 bash "$0" "$@"
unset ISOLATED

MNT=$T/mnt M=$T/mnt/machines STATE=$T/state RUN=$T/run
export T MNT M
DAEMON=            # pid
DAEMON_OPTIONS=()
CHECK_LEAKS=yes    # at the end
mkdir "$MNT"
cd "$T"
# (ASan trips over its own signal stack when a thread ends by cancellation)
export ASAN_OPTIONS=abort_on_error=1:use_sigaltstack=0:detect_leaks=${DETECT_LEAKS:-1}:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
export TSAN_OPTIONS=halt_on_error=0:die_after_fork=0:second_deadlock_stack=1:suppressions=$ROOT/tests/tsan.supp:${TSAN_OPTIONS:-}
SLOWNESS=${SLOW:-1}  # sanitized builds: all deadlines times this

# --- saying how it went -----------------------------------------------------------------

exec {SAY}>&2 # stderr, also where that is silenced
note() { echo "# $*"; }
fail() {
	local i=0
	while [ $i -lt $((${#BASH_SOURCE[@]} - 1)) ] && [ "${BASH_SOURCE[i + 1]}" != "$0" ]; do i=$((i + 1)); done
	echo "FAILED: ${0##*/}:${BASH_LINENO[i]}: $*" >&$SAY
	trap - ERR
	exit 1
}
# Ends the test as skipped; the reason shows in the summary.
skip() {
	echo "SKIP: $*"
	CHECK_LEAKS=
	exit 77
}
trap 'fail "$BASH_COMMAND"' ERR
trap 'exit 143' TERM
trap finish EXIT

need_cmd() {
	local c
	for c; do command -v "$c" >/dev/null || skip "$c is not installed"; done
}
need_kvm() { [ -w /dev/kvm ] || skip "/dev/kvm is not accessible"; }

# names DIRECTORY [PATTERN]: those in it, hidden ones too, that match an extended regular expression
names() {
	local f
	for f in "$1"/.[!.]* "$1"/*; do
		[[ ! ${f##*/} =~ ${2:-.} ]] || echo "${f##*/}"
	done
}

# is GOT WANTED [WHAT]: two strings are the same.
is() { [ "$1" = "$2" ] || fail "${3:+$3: }got '$1', wanted '$2'"; }
# like GOT PATTERN [WHAT]: an extended regular expression matches.
like() { [[ $1 =~ $2 ]] || fail "${3:+$3: }'$1' does not match '$2'"; }

# wait_for [-t SECONDS] COMMAND…: until it succeeds; fails the test after a generous while.
wait_for() {
	local limit=60 end
	if [ "$1" = -t ]; then limit=$2; shift 2; fi
	end=$((SECONDS + limit * SLOWNESS))
	until "$@" 2>/dev/null; do
		[ $SECONDS -lt $end ] || fail "still not so after $limit s: $*" || return
		sleep 0.02
	done
}

# whole_lines FILE: but not the last one while it is still being written
whole_lines() { { cat "$1" && echo; } | sed '$d'; }

# --- the daemon ---------------------------------------------------------------------------

mounts_here() { grep -c " $MNT .* - fuse" /proc/self/mountinfo || true; }
mounted() { [ "$(mounts_here)" != 0 ]; }
daemon_up() {
	kill -0 "$DAEMON" 2>/dev/null || fail "the daemon ended: $(tail -n 5 "$T/daemon.log")"
	mounted && cat "$MNT/stats" >"$T/up" # not stat: a dead mount still knows what it cached
}
# vmm_forks: of a test in which VMMs are snapshot or cloned, before the daemon is started.
# ThreadSanitizer follows no fork of a process with threads, so under it they are the plain build's.
vmm_forks() {
	! grep -q __tsan_init "$BUILD/filevisor-vmm" ||
		DAEMON_OPTIONS=(--vmm "${TOOLS%/tests/tools}/filevisor-vmm")
}
# start_daemon [OPTION…]: in the foreground of this test, logging to $T/daemon.log.
start_daemon() {
	"$BUILD/filevisord" -f --state "$STATE" --run "$RUN" "${DAEMON_OPTIONS[@]}" "$@" "$MNT" >>"$T/daemon.log" 2>&1 &
	DAEMON=$!
	wait_for daemon_up
}
# stop_daemon: SIGTERM; it must end with 0 and unmount. Guests run on.
stop_daemon() {
	local pid=$DAEMON status=0
	DAEMON=
	kill "$pid"
	wait "$pid" || status=$?
	is $status 0 "exit status of the daemon"
	! mounted || fail "the daemon ended and left its mount"
}
# kill_daemon: SIGKILL, as bad as it gets; the dead mount stays.
kill_daemon() {
	kill -KILL "$DAEMON"
	wait "$DAEMON" 2>/dev/null || true
	DAEMON=
}
# number of open descriptors, and anonymous memory in KiB, of process $1
fds_of() { ls "/proc/$1/fd" | wc -l; }
rss_of() { awk '/^RssAnon/ { print $2 }' "/proc/$1/status"; }
vmm_pids() { pgrep -f '^([^ ]*/)?filevisor-vmm' || true; }
vmms() { vmm_pids | wc -l; }
no_vmm() { [ "$(vmms)" = 0 ]; }
# the process at the ready, which is no machine's yet: there are none while one was just taken
spare_pids() { pgrep -f '^filevisor-spare' || true; }
# a daemon has settled: before its descriptors and files are counted
spare_ready() { [ -s "$RUN/spare/pid" ] && kill -0 "$(cat "$RUN/spare/pid")"; }
no_spare() { [ -z "$(spare_pids)" ]; }

# --- machines -------------------------------------------------------------------------------

# put FILE TEXT: echo into it; must succeed.
put() { echo "$2" >"$1" || fail "echo '$2' > ${1#"$T"/}: $(cat "${1%/*}/error" 2>/dev/null)"; }
# do_ctl MACHINE COMMAND
do_ctl() { put "$M/$1/ctl" "$2"; }
state_of() { cat "$M/$1/state"; }
state_is() { [ "$(state_of "$1")" = "$2" ]; }
wait_state() { wait_for state_is "$1" "$2"; }
# define NAME [KEY=VALUE]…
define() {
	local name=$1 kv
	shift
	mkdir "$M/$name"
	for kv; do put "$M/$name/${kv%%=*}" "${kv#*=}"; done
}
# define_guest NAME GUEST [KEY=VALUE]…: with a micro guest of tests/guest/micro as kernel
define_guest() {
	local name=$1 guest=$2
	shift 2
	[ -e "$GUESTS/$guest.elf" ] || fail "no such guest: $GUESTS/$guest.elf"
	define "$name" kernel="$GUESTS/$guest.elf" memory=64M "$@"
}
# boot NAME GUEST [KEY=VALUE]…: the same, and started
boot() { define_guest "$@"; do_ctl "$1" start; }
console_has() { grep -aqE -- "$2" "$M/$1/console"; }
# wait_console NAME PATTERN
wait_console() {
	wait_for console_has "$1" "$2" || fail "console of $1: $(tail -n 5 "$M/$1/console")"
}
# undefine NAME…: whatever state they are in
undefine() {
	local name
	for name; do
		echo kill 2>/dev/null >"$M/$name/ctl" || true
		wait_for gone_vmm_of "$name"
		rmdir "$M/$name"
	done
}
gone_vmm_of() { [[ $(state_of "$1") =~ ^(defined|stopped|crashed)$ ]]; }

# refuses ERRNO CALL ARGUMENT…: see tests/tools/trycall.c; that errno is the answer (or one
# of several: EINVAL,ERANGE), and the words are in the machine's `error` where there is one.
refuses() {
	local wanted=$1 got error dir
	shift
	got=$("$TOOLS/trycall" "$@") || fail "trycall $*"
	[[ ",$wanted," = *",${got##* },"* ]] || fail "$* gave '$got', wanted $wanted"
	for dir in "${2%/*}" "${2%/*/*}" "${2%/*/*/*}"; do
		error=$dir/error
		[ ! -e "$error" ] || [ "$1" = read ] || break
	done
	[[ ! -s $error || $dir = "$MNT" || ! $1 =~ ^(write|append|bytewise|twice|line|pwrite)$ ]] ||
		like "$(cat "$error")" "^${got##* } " "words in $error"
}
# accepts CALL ARGUMENT…: all calls succeed
accepts() { is "$("$TOOLS/trycall" "$@")" ok "$*"; }
# says PATTERN FILE: an `error` file matches
says() { like "$(cat "$2")" "$1" "${2#"$T"/}"; }

# --- a host to reach over ssh ---------------------------------------------------------------------

# start_sshd: on 127.0.0.1 port 2222 of this test's own network, with keys of its own; $SSH_OPTS and
# the `ssh_config` in $T let ssh, sftp, rsync and sshfs reach it as the host "fv".
start_sshd() {
	need_cmd sshfs ssh sftp ssh-keygen
	local sshd
	sshd=$(command -v sshd || echo /usr/sbin/sshd)
	[ -x "$sshd" ] || skip "sshd is not installed"
	mkdir -p "$T/ssh" /run/sshd 2>/dev/null
	ssh-keygen -q -t ed25519 -N '' -f "$T/ssh/host"
	ssh-keygen -q -t ed25519 -N '' -f "$T/ssh/key"
	cp "$T/ssh/key.pub" "$T/ssh/authorized_keys"
	cat >"$T/ssh/sshd_config" <<-END
		Port 2222
		ListenAddress 127.0.0.1
		HostKey $T/ssh/host
		AuthorizedKeysFile $T/ssh/authorized_keys
		PidFile $T/ssh/pid
		StrictModes no
		UsePAM no
		PermitRootLogin yes
		PasswordAuthentication no
		MaxStartups 100
		MaxSessions 100
		Subsystem sftp internal-sftp
	END
	cat >"$T/ssh/config" <<-END
		Host fv
		HostName 127.0.0.1
		Port 2222
		User $(id -un)
		IdentityFile $T/ssh/key
		IdentitiesOnly yes
		UserKnownHostsFile $T/ssh/known_hosts
		StrictHostKeyChecking accept-new
		LogLevel ERROR
	END
	"$sshd" -D -e -f "$T/ssh/sshd_config" >"$T/sshd.log" 2>&1 &
	SSHD=$!
	wait_for sshd_up
}
sshd_up() { ssh -F "$T/ssh/config" fv true 2>>"$T/sshd.log"; }
# mount_sshfs DIRECTORY [OPTION…]: the tree, over ssh, with sshfs's default options
mount_sshfs() {
	mkdir -p "$1"
	sshfs -F "$T/ssh/config" "fv:$MNT" "$@" >>"$T/sshd.log" 2>&1
}
# end_ssh MOUNTPOINT…
end_ssh() {
	local m
	for m; do fusermount3 -u "$m" || umount -l "$m"; done
	kill "$SSHD"
	wait "$SSHD" 2>/dev/null || true
	pkill -f 'sshd: ' 2>/dev/null || true
}

# --- the Linux guest --------------------------------------------------------------------------------

# need_linux: $LINUX (another may be given) has vmlinux, root.img and cmdline (tests/guest/linux/build.sh, cached)
need_linux() {
	need_kvm
	[ -n "${LINUX:-}" ] || LINUX=$("$ROOT/tests/guest/linux/build.sh" 2>"$T/linux-build.log" | tail -n 1)
	[ -s "$LINUX/vmlinux" ] || fail "no Linux guest: $(tail -n 5 "$T/linux-build.log")"
}
# define_linux NAME [KEY=VALUE]…: with a root disk of its own
define_linux() {
	local name=$1
	shift
	cp --sparse=always "$LINUX/root.img" "$T/$name.img"
	define "$name" kernel="$LINUX/vmlinux" memory=64M cmdline="$(cat "$LINUX/cmdline")" "$@"
	mkdir "$M/$name/disks/root"
	put "$M/$name/disks/root/source" "$T/$name.img"
}
# boot_linux NAME [KEY=VALUE]…: until its shell is there; its root disk is disks/root
boot_linux() {
	local booted=${LINUX_BOOTED:-}/booted-1
	[ "${2:-}" != cpus=2 ] || booted=${LINUX_BOOTED:-}/booted-2
	if [ -s "$booted" ] && [[ ${2:-cpus=1} =~ ^cpus=[12]$ ]] && [ $# -le 2 ]; then
		# It goes on from where another one had booted.
		mkdir "$M/$1"
		cp "$booted" "$M/$1/archive" || fail "archive: $(cat "$M/$1/error")"
		do_ctl "$1" start
		sh_linux "$1" true
		return
	fi
	define_linux "$@"
	do_ctl "$1" start
	wait_linux "$1"
}
wait_linux() { wait_for -t 180 linux_ready "$1"; }
linux_ready() {
	[ "$(state_of "$1")" = running ] || fail "$1 is $(state_of "$1"): $(cat "$M/$1/error"; tail -n 5 "$M/$1/console")"
	console_has "$1" 'filevisor-guest ready'
}
# sh_linux NAME COMMAND: typed into its shell; what it printed until it was done, and it must end well
sh_linux() {
	local mark="mark$RANDOM$RANDOM"
	# the echoed line has the mark in two pieces
	put "$M/$1/console" "$2; echo ${mark:0:4}''${mark:4} \$?"
	wait_for -t 120 console_has "$1" "$mark [0-9]+"
	tr -d '\r' <"$M/$1/console" | sed -n "/${mark:0:4}''${mark:4}/,/$mark [0-9]/p" | sed '1d;$d; s|^\(/[^ ]* # \)*||'
	console_has "$1" "$mark 0" || fail "in $1: $2: $(tail -n 10 "$M/$1/console")"
}

# number_linux NAME COMMAND: the number that is all it prints, in a line that no kernel's message runs into
number_linux() {
	local n
	for _ in 1 2 3 4 5; do
		n=$(sh_linux "$1" "$2" | grep -aoxE '[0-9]+' | tail -n 1) || true
		[ -z "$n" ] || break
	done
	[ -n "$n" ] || fail "in $1: $2: no number"
	echo "$n"
}

# entries NAME: how many lines of its ledger a guest has printed (their numbers go back with a restore)
entries() { whole_lines "$M/$1/console" | grep -acE '^(entry|begin) [0-9]+$' || true; }

# --- the end of every test --------------------------------------------------------------------

# Ends machines and daemon as a user would, and sees that nothing stays.
take_down() {
	local m
	if mounted && [ -n "$DAEMON" ]; then
		for m in "$M"/*/; do
			echo kill 2>/dev/null >"$m/ctl" || true
		done
		wait_for no_vmm
		stop_daemon
	fi
	wait_for -t 10 no_vmm
	[ -z "$(awk -v t="$T/" 'index($5, t) == 1' /proc/self/mountinfo)" ] || fail "mounts left behind"
}

finish() {
	local status=$?
	trap - EXIT
	exec 2>&$SAY
	set +e
	if [ $status = 0 ] && [ -n "$CHECK_LEAKS" ]; then
		# from here on a failure is counted and does not end
		fail() {
			echo "FAILED: ${0##*/}: at its end: $*" >&$SAY
			status=1
			return 1
		}
		take_down || status=1
	fi
	if grep -aEq 'ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' ./*.log; then
		echo "FAILED: a sanitizer spoke" >&2
		grep -aE -A 40 'ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' ./*.log | head -n 120
		status=1
	fi
	if [ $status != 0 ] && [ $status != 77 ]; then
		[ -z "$DAEMON" ] || tell_state
		for f in "$T"/*.log; do
			echo "--- ${f##*/}"
			tail -n 30 "$f"
		done
		# leave no daemon for isolate to wait for
		[ -z "$DAEMON" ] || kill -KILL "$DAEMON" 2>/dev/null || true
	fi >&2
	exit $status
}
# What the machines look like, bounded in time: the daemon may be what hangs.
tell_state() {
	timeout -s KILL 10 bash -c 'for m in "$M"/*/; do
		echo "--- ${m%/}: $(cat "$m/state")"; cat "$m/error"; tail -n 5 "$m/console"; done
		tail -n 15 "$MNT/events"' 2>/dev/null || echo "(the tree does not answer)"
}
