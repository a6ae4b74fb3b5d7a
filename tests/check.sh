#!/bin/bash
# check.sh: builds everything and runs every test; what `make check` runs.
#
#	TEST=name    only what has that in its name      JOBS=2        at once
#	BUILD=dir    where to build                       FUZZ_TIME=10  seconds a fuzzer
#	V=1          logs of what passed, too             KEEP_GOING=1  tests although a build failed
#
# Each thing checked is a line, PASS, FAIL or SKIP; of what failed the end of
# its log follows, and all of it is in $BUILD/check/. The last line counts them;
# the status is 1 if anything failed. Tests are found by their path:
#
#	build/*, lint/*            compilers without a warning, layers, format, cppcheck
#	unit/*, unit-asan/*        tests/unit, plain and under ASan and UBSan
#	fuzz/*                     tests/fuzz, some seconds each on its corpus
#	integration/*              tests/integration
#	integration-asan|tsan/*    those that say `# also: asan tsan`, on those builds
set -u
cd "$(dirname "$0")/.." || exit 2
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS
BUILD=${BUILD:-build}
mkdir -p "$BUILD/check" && BUILD=$(realpath "$BUILD") || exit 2
TEST=${TEST:-} JOBS=${JOBS:-2} FUZZ_TIME=${FUZZ_TIME:-10}
LOGS=$BUILD/check
RESULTS=$LOGS/results
rm -rf "$LOGS" && mkdir -p "$LOGS" && : >"$RESULTS"
CORES=$(nproc)
exec </dev/null

wanted() { [[ -z $TEST || $1 = *"$TEST"* ]]; }
tag() { sed -n "1,20s/^# $1: *//p" "$2"; }
# variant_dir plain|asan|tsan|clang
variant_dir() {
	case $1 in
	plain) echo "$BUILD" ;;
	asan) echo "$BUILD/asan-ubsan" ;;
	*) echo "$BUILD/$1" ;;
	esac
}

# --- running one thing --------------------------------------------------------------------

# run NAME COMMAND…: its line, its log and a row in $RESULTS. Status 77 is a skip.
run() {
	local name=$1 log start=${EPOCHREALTIME/./} status took words
	shift
	log=$LOGS/${name//\//-}.log
	"$@" >"$log" 2>&1
	status=$?
	took=$((${EPOCHREALTIME/./} - start))
	took=$((took / 1000000)).$((took / 100000 % 10))
	case $status in
	0) words="PASS $name ($took s)" ;;
	77) words="SKIP $name ($took s): $(sed -n 's/^SKIP: //p' "$log" | tail -n 1)" ;;
	*) words="FAIL $name ($took s)" ;;
	esac
	echo "$words" >>"$RESULTS"
	{
		flock 9
		echo "$words"
		case $words in
		FAIL*)
			echo "  --- status $status, last lines of $log"
			tail -n 60 "$log" | sed 's/^/  | /'
			;;
		*) [ -z "${V:-}" ] || sed 's/^/  | /' "$log" ;;
		esac
	} 9>>"$LOGS/lock"
	[ "$status" = 0 ]
}
# spawn N NAME COMMAND…: the same beside others, when fewer than N run
spawn() {
	local n=$1
	shift
	while [ "$(jobs -rp | grep -cvx "${GUEST_BUILD:-none}")" -ge "$n" ]; do
		wait -n 2>/dev/null
	done
	run "$@" &
}
drain() {
	while [ "$(jobs -rp | grep -cvx "${GUEST_BUILD:-none}")" -gt 0 ]; do
		wait -n 2>/dev/null
	done
}
failed() { grep -q "^FAIL" "$RESULTS"; }
finish() {
	local passed failures skipped
	passed=$(grep -c '^PASS' "$RESULTS")
	failures=$(grep -c '^FAIL' "$RESULTS")
	skipped=$(grep -c '^SKIP' "$RESULTS")
	if [ "$failures" -gt 0 ]; then
		echo "failed:"
		sed -n 's/^FAIL /  /p' "$RESULTS"
	fi
	echo "$passed passed, $failures failed, $skipped skipped"
	[ "$failures" = 0 ] && [ $((passed + failures)) -gt 0 ]
	exit
}

# --- what there is to check -----------------------------------------------------------------

units=() asan_units=() fuzzers=() integration=() # "NAME SOURCE", "VARIANT NAME SCRIPT"
need_asan='' need_tsan=''
for f in tests/unit/*/test_*.c tests/unit/test_*.c; do
	[ -e "$f" ] || continue
	n=${f#tests/unit/} n=${n%.c} n=${n/test_/}
	wanted "unit/$n" && units+=("unit/$n $f")
	wanted "unit-asan/$n" && asan_units+=("unit-asan/$n $f") && need_asan=1
done
for f in tests/fuzz/fuzz_*.c; do
	[ -e "$f" ] || continue
	n=${f##*/fuzz_} n=${n%.c}
	wanted "fuzz/$n" && fuzzers+=("fuzz/$n $f")
done
for f in tests/integration/*.sh; do
	n=${f##*/} n=${n%.sh}
	wanted "integration/$n" && integration+=("plain integration/$n $f")
done
for v in asan tsan; do
	for f in $(grep -lE "^# also:.*\\b$v\\b" tests/integration/*.sh); do
		n=${f##*/} n=${n%.sh}
		wanted "integration-$v/$n" || continue
		integration+=("$v integration-$v/$n $f")
		declare "need_$v=1"
	done
done

# --- the Linux guest is built meanwhile -----------------------------------------------------

GUEST_BUILD=
if [ -x tests/guest/linux/build.sh ] &&
	printf '%s\n' "${integration[@]##* }" | xargs -r grep -lq '^need_linux'; then
	{
		nice -n 10 tests/guest/linux/build.sh >"$LOGS/guest-linux.log" 2>&1
		echo $? >"$LOGS/guest-linux.status"
	} &
	GUEST_BUILD=$!
fi
guest_built() {
	while kill -0 "$GUEST_BUILD" 2>/dev/null; do sleep 0.2; done
	cat "$LOGS/guest-linux.log"
	return "$(cat "$LOGS/guest-linux.status")"
}
# Booted once; the tests that need it go on from there.
guest_booted() {
	mkdir -p "$LINUX_BOOTED"
	export BUILD TOOLS=$BUILD GUESTS=$BUILD/guest
	"$BUILD/tests/tools/isolate" -t 400 bash tests/linux_booted.sh "$LINUX_BOOTED"
}

# --- builds and looks at the source ---------------------------------------------------------

build() { # VARIANT TARGETS…
	local v=$1 dir
	dir=$(variant_dir "$v")
	shift
	case $v in
	asan) set -- SANITIZE=address,undefined "$@" ;;
	tsan) set -- SANITIZE=thread "$@" ;;
	clang) set -- CC=clang "$@" ;;
	esac
	timeout -k 10 1500 make --no-print-directory -j"$CORES" BUILD="$dir" "$@"
}
lint_format() {
	find src fsapi vmm storage net tests \( -name '*.c' -o -name '*.h' \) -print0 2>/dev/null |
		xargs -0 clang-format --dry-run --Werror
}
lint_shell() {
	local f
	for f in tests/*.sh tests/*/*.sh tests/guest/*/*.sh examples/*.sh .ci/run; do
		[ ! -e "$f" ] || bash -n "$f" || return 1
	done
	! command -v shellcheck >/dev/null || shellcheck -S warning -x tests/*.sh tests/integration/*.sh
}
lint_leftovers() { ! grep -rnE '\b(TODO|FIXME|XXX)\b' src fsapi vmm storage net examples README.md Makefile; }

run build/gcc build plain all units guests tools || [ -n "${KEEP_GOING:-}" ] || finish
wanted build/clang && run build/clang build clang all units tools
wanted lint/layers && spawn 2 lint/layers tests/layers.sh
wanted lint/format && spawn 2 lint/format lint_format
wanted lint/shell && spawn 2 lint/shell lint_shell
wanted lint/leftovers && spawn 2 lint/leftovers lint_leftovers
wanted lint/cppcheck && spawn 2 lint/cppcheck timeout 600 make --no-print-directory tidy
drain
[ -z "$need_asan" ] || run build/asan build asan all units
[ -z "$need_tsan" ] || run build/tsan build tsan all
[ ${#fuzzers[@]} = 0 ] || run build/fuzzers build plain fuzzers

# --- unit tests, fuzzers ----------------------------------------------------------------------

for row in "${units[@]}" "${asan_units[@]}"; do
	read -r name src <<<"$row"
	v=plain
	[[ $name != unit-asan/* ]] || v=asan
	program=$(variant_dir $v)/${src%.c}
	[ -x "$program" ] || continue # the build's failure is counted already
	spawn "$JOBS" "$name" "$BUILD/tests/tools/isolate" -t 300 "$program"
done
fuzz() { # NAME SOURCE: from the kept corpus, what it finds goes to the build directory
	local corpus=tests/fuzz/corpus/${1#fuzz/} found=$LOGS/found-${1#fuzz/} more=()
	mkdir -p "$found"
	[ ! -e "$corpus.dict" ] || more+=("-dict=$corpus.dict")
	[ ! -d "$corpus" ] || more+=("$corpus")
	timeout -k 10 $((FUZZ_TIME + 120)) "$BUILD/${2%.c}" -max_total_time="$FUZZ_TIME" -timeout=20 \
		-rss_limit_mb=2048 -artifact_prefix="$found/bad-" -print_final_stats=1 \
		"$found" "${more[@]}"
}
for row in "${fuzzers[@]}"; do
	read -r name src <<<"$row"
	[ -x "$BUILD/${src%.c}" ] && spawn "$JOBS" "$name" fuzz "$name" "$src"
done

# --- integration tests: those that need the Linux guest, and those that run alone, at the end --

integration_test() { # VARIANT SCRIPT
	local limit
	limit=$(tag time "$2")
	limit=${limit:-120}
	export BUILD TOOLS GUESTS SLOW=1
	TOOLS=$BUILD GUESTS=$BUILD/guest
	if [ "$1" != plain ]; then
		BUILD=$(variant_dir "$1") SLOW=4 limit=$((limit * 3))
	fi
	[ -x "$BUILD/filevisord" ] || { echo "not built"; return 1; }
	"$TOOLS/tests/tools/isolate" -t "$limit" bash "$2"
}
class() { # how a test is run: early, linux, alone
	grep -q '^# alone' "$1" && echo alone && return
	grep -q '^need_linux' "$1" && echo linux && return
	echo early
}
for phase in early linux alone; do
	n=$JOBS
	[ $phase != alone ] || n=1
	if [ $phase = linux ] && [ -n "$GUEST_BUILD" ]; then
		drain
		run build/linux-guest guest_built
		GUEST_BUILD=
		LINUX_BOOTED=$LOGS/linux-booted
		run build/linux-booted guest_booted && export LINUX_BOOTED
	fi
	[ $phase != alone ] || drain
	for row in "${integration[@]}"; do
		read -r v name script <<<"$row"
		[ "$(class "$script")" = $phase ] || continue
		spawn "$n" "$name" integration_test "$v" "$script"
	done
done
drain
finish
