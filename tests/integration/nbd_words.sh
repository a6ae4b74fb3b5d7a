#!/bin/bash
# Network disks: what can be said of a server is; names, sizes and rights are right; what
# cannot be had is refused with an errno and words; who waits can be cancelled; the process runs with
# the user's rights and no more.
# also: asan
. "${0%/*}/../lib.sh"

need_cmd nbdkit qemu-nbd psktool certtool
NBD=$BUILD/filevisor-nbd IO=$TOOLS/nbd_io
SOCK="nbd+unix:///?socket=$T/sock"
servers=()
serve() { "$@" >>"$T/server.log" 2>&1 & servers+=($!); }
end_servers() {
	kill -KILL "${servers[@]}"
	wait "${servers[@]}" 2>/dev/null || true
	servers=()
	rm -f "$T/sock"
}
nbd_processes() { pgrep -fc '^filevisor-nbd' || true; }
none_left() { [ "$(nbd_processes)" = 0 ]; }
listed() { "$IO" list "$NBD" "$1" >"$T/list.out" 2>"$T/list.log"; }
# refused PATTERN COMMAND…: nbd_io fails with such words
refused() {
	local pattern=$1 status=0
	shift
	"$IO" "$@" >"$T/io.out" 2>"$T/words" || status=$?
	is $status 1 "nbd_io $*"
	like "$(cat "$T/words")" "$pattern" "nbd_io $*"
}

note "URIs"
for u in nbd://host nbd://host:10809/name 'nbds://user@[::1]:1/x?tls-psk-file=/k' \
	"nbd+unix:///name?socket=/run/s" 'nbds+unix://?socket=/s'; do
	"$IO" check "$u" || fail "refused: $u"
done
for u in '' nbd nbd: nbd:// nbd:/// nbd://:10809 http://host file:///x nbd:unix:/x ssh://host \
	nbd+unix:// 'nbd+unix://host/?socket=/s' 'nbd+unix:///?socket=rel' 'nbd://a b' $'nbd://a\nb' \
	nbd+ssh://host nbd+vsock://1 "nbd://$(printf 'a%.0s' {1..1100})" 'nbd://hö'; do
	refused '^EINVAL: .' check "$u"
done

note "what there is"
truncate -s 3M "$T/a" "$T/b"
mkdir "$T/exports"
truncate -s 1M "$T/exports/one"
truncate -s 1000 "$T/exports/two words"
serve nbdkit -f -U "$T/sock" file dir="$T/exports"
wait_for listed "$SOCK"
like "$(sort "$T/list.out")" '^one 1048576 rw' # each with its size
like "$(cat "$T/list.out")" 'two words 1000 rw'
is "$("$IO" list "$NBD" "nbd+unix:///one?socket=$T/sock")" "one 1048576 rw" "one of its own"
like "$("$IO" info "$NBD" "$SOCK" one)" '^1048576 rw discard=1 write_zeroes=1'
like "$("$IO" info "$NBD" "$SOCK" one readonly)" '^1048576 ro discard=0'
like "$("$IO" info "$NBD" "$SOCK" "two words" readonly)" '^1000 ro'
refused '^ENOENT: .*"three"' info "$NBD" "$SOCK" three
refused '^ENOENT: ' list "$NBD" "nbd+unix:///three?socket=$T/sock"
end_servers
serve qemu-nbd -r -t -e 4 -f raw -x ro -k "$T/sock" "$T/a"
wait_for listed "$SOCK"
is "$(cat "$T/list.out")" "ro 3145728 ro"
refused '^EROFS: ' info "$NBD" "$SOCK" ro
like "$("$IO" info "$NBD" "$SOCK" ro readonly)" '^3145728 ro'
end_servers

note "who is not there, and who is no server"
refused '^ENOENT: ' info "$NBD" "$SOCK" x
refused '^ENOENT: ' list "$NBD" "$SOCK"
refused '^ECONNREFUSED: ' info "$NBD" nbd://127.0.0.1:9 x
refused '^ECONNREFUSED: ' list "$NBD" nbd://127.0.0.1:9
refused '^(EIO|EINVAL|ENOENT|EADDRNOTAVAIL): .*[a-z]' info "$NBD" nbd://no-such-host.invalid x
refused '^ENOENT: cannot run ' info "$T/nothing" "$SOCK" x
python3 - "$T" <<'END' &
import socket, sys, os, threading
def run(name, reply, wait):
    s = socket.socket(socket.AF_UNIX)
    s.bind(sys.argv[1] + "/" + name)
    s.listen()
    while True:
        c, _ = s.accept()
        if reply:
            c.sendall(reply)
        if wait:
            wait_for.append(c)
        else:
            c.close()
wait_for = []
for args in (("http", b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 200, False), ("silent", b"", True), ("gone", b"", False)):
    threading.Thread(target=run, args=args).start()
END
servers+=($!)
for s in http silent gone; do wait_for test -S "$T/$s"; done
refused '^E[A-Z]+: .*magic' info "$NBD" "nbd+unix:///?socket=$T/http" x
refused '^E[A-Z]+: .*magic' list "$NBD" "nbd+unix:///?socket=$T/http"
refused '^E[A-Z]+: .*[a-z]' info "$NBD" "nbd+unix:///?socket=$T/gone" x
refused '^ECANCELED: ' cancel "$NBD" "nbd+unix:///?socket=$T/silent" x
wait_for none_left
end_servers

note "TLS"
psktool -u guest -p "$T/psk" >/dev/null
psktool -u guest -p "$T/otherpsk" >/dev/null
serve nbdkit -f -i 127.0.0.1 -p 10811 --tls=require --tls-psk="$T/psk" memory 1M
tls=nbds://guest@127.0.0.1:10811/
wait_for listed "$tls?tls-psk-file=$T/psk"
like "$("$IO" info "$NBD" "$tls?tls-psk-file=$T/psk" "")" '^1048576 rw'
refused '^EPROTO: TLS: ' info "$NBD" "$tls?tls-psk-file=$T/otherpsk" ""
refused '^ENOENT: ' info "$NBD" "$tls?tls-psk-file=$T/nopsk" ""
refused '^E[A-Z]+: .*nbds://' info "$NBD" nbd://127.0.0.1:10811/ ""
refused '^E[A-Z]+: .*nbds://' list "$NBD" nbd://127.0.0.1:10811/
end_servers
make_certificates() { # DIRECTORY: an authority and its server
	mkdir "$1"
	certtool --generate-privkey --bits 2048 --outfile "$1/ca-key.pem"
	printf 'cn = authority\nca\ncert_signing_key\n' >"$1/ca.info"
	certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template "$1/ca.info" --outfile "$1/ca-cert.pem"
	certtool --generate-privkey --bits 2048 --outfile "$1/server-key.pem"
	printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nencryption_key\nsigning_key\n' >"$1/server.info"
	certtool --generate-certificate --load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
		--load-privkey "$1/server-key.pem" --template "$1/server.info" --outfile "$1/server-cert.pem"
} 2>>"$T/certtool.log"
make_certificates "$T/pki"
make_certificates "$T/strangers"
serve nbdkit -f -i 127.0.0.1 -p 10812 --tls=require --tls-certificates="$T/pki" memory 1M
tls=nbds://127.0.0.1:10812/
wait_for listed "$tls?tls-certificates=$T/pki"
like "$("$IO" info "$NBD" "$tls?tls-certificates=$T/pki" "")" '^1048576 rw'
refused '^E[A-Z]+: .*([Cc]ertificate|TLS)' info "$NBD" "$tls?tls-certificates=$T/strangers" ""
end_servers

note "whose rights"
chmod 711 "$T"
cat >"$T/rights.py" <<'END'
import os, socket, struct, subprocess, sys
program, t = sys.argv[1:]
server = socket.socket(socket.AF_UNIX)
server.bind(t + "/sock")
os.chmod(t + "/sock", 0o777)
server.listen()
ours, theirs = socket.socketpair()
other = os.open("/etc/passwd", os.O_RDONLY)
def in_child():
    os.dup2(theirs.fileno(), 3, True)
    os.dup2(other, 9, True)
subprocess.run(["filevisor-nbd", "--uid", "65534", "--gid", "65533", "--groups", "65532,65533", "--attach",
                f"nbd+unix:///?socket={t}/sock"], executable=program, close_fds=False, preexec_fn=in_child, check=True)
theirs.close()
peer, _ = server.accept()
pid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
status = dict(l.split(":", 1) for l in open(f"/proc/{pid}/status").read().splitlines())
def ids(key): return sorted(set(map(int, status[key].split())))
assert ids("Uid") == [65534] and ids("Gid") == [65533], status
assert ids("Groups") == [65532, 65533], status["Groups"]
assert int(status["NoNewPrivs"]) == 1
assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0, status["CapPrm"]
assert os.getsid(pid) == pid
fds = set(os.listdir(f"/proc/{pid}/fd"))
assert "9" not in fds and len(fds) == 5, fds          # 0 1 2, ours, the server's
END
python3 "$T/rights.py" "$NBD" "$T"
wait_for none_left
