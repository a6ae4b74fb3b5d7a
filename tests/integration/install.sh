#!/bin/bash
# `make install` with DESTDIR and PREFIX brings programs, manual pages and the unit; the installed
# daemon runs; `make uninstall` takes all of it away.
. "${0%/*}/../lib.sh"

need_cmd make
d=$T/dest
mk() { make -s -C "$ROOT" BUILD="$BUILD" DESTDIR="$d" PREFIX=/opt/fv "$@" >"$T/make.log" 2>&1 || fail "make $*: $(cat "$T/make.log")"; }
mk install
for f in sbin/filevisord libexec/filevisor/filevisor-vmm libexec/filevisor/filevisor-nbd \
	share/man/man8/filevisord.8 share/man/man7/filevisor.7 lib/systemd/system/filevisord.service; do
	[ -s "$d/opt/fv/$f" ] || fail "$f is not installed"
done
like "$(cat "$d/opt/fv/lib/systemd/system/filevisord.service")" '/opt/fv/sbin/filevisord'
! grep -q '@[A-Z]*@' "$d/opt/fv/lib/systemd/system/filevisord.service" || fail "a placeholder is left in the unit"
for page in man8/filevisord.8 man7/filevisor.7; do
	command -v man >/dev/null || continue
	LC_ALL=C man --warnings -l -E UTF-8 -Tutf8 -Z "$d/opt/fv/share/man/$page" 2>"$T/man.txt" >/dev/null || true
	[ ! -s "$T/man.txt" ] || fail "$page: $(cat "$T/man.txt")"
done
like "$(ldd "$d/opt/fv/sbin/filevisord")" fuse3
like "$(ldd "$d/opt/fv/libexec/filevisor/filevisor-nbd")" libnbd
for f in sbin/filevisord libexec/filevisor/filevisor-vmm; do
	! [[ $(ldd "$d/opt/fv/$f") =~ libnbd ]] || fail "$f brings libnbd into its process"
done
mk uninstall
is "$(find "$d" -type f)" "" "files left by uninstall"
