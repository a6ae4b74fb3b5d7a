/* SPDX-License-Identifier: ISC */
/*
 * /bin/vsock: AF_VSOCK for a shell, without libc.
 *
 *	vsock cid		prints the guest's address
 *	vsock echo PORT		listens, and gives each connection back what it sends, to its end
 *	vsock sink PORT FILE	takes one connection, and writes what it sends to FILE
 *	vsock connect CID PORT	sends its standard input, then prints what comes back
 */
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define O_WRONLY_CREAT_TRUNC (1 | 0100 | 01000)

static long call(long n, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

__attribute__((noreturn)) static void leave(long status)
{
	for (;;)
		call(SYS_exit_group, status, 0, 0);
}

__attribute__((noreturn)) static void die(const char *words)
{
	long n = 0;

	while (words[n])
		n++;
	call(SYS_write, 2, (long)words, n);
	leave(1);
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static unsigned number(const char *s)
{
	unsigned n = 0;

	while (*s >= '0' && *s <= '9')
		n = n * 10 + (unsigned)(*s++ - '0');
	return n;
}

static void print(unsigned n)
{
	char text[16];
	long at = sizeof(text);

	text[--at] = '\n';
	do
		text[--at] = (char)('0' + n % 10);
	while (n /= 10);
	call(SYS_write, 1, (long)(text + at), (long)sizeof(text) - at);
}

/* All that @from gives, to its end. */
static void copy(long from, long to)
{
	static char buf[65536];

	for (;;) {
		long n = call(SYS_read, from, (long)buf, sizeof(buf));

		if (n < 0)
			die("vsock: read failed\n");
		if (n == 0)
			return;
		for (long done = 0, part; done < n; done += part) {
			part = call(SYS_write, to, (long)(buf + done), n - done);
			if (part <= 0)
				die("vsock: write failed\n");
		}
	}
}

static struct sockaddr_vm address(unsigned cid, unsigned port)
{
	struct sockaddr_vm addr;

	for (unsigned i = 0; i < sizeof(addr); i++)
		((volatile char *)&addr)[i] = 0;
	addr.svm_family = AF_VSOCK;
	addr.svm_cid = cid;
	addr.svm_port = port;
	return addr;
}

static long listening(unsigned port)
{
	struct sockaddr_vm addr = address(VMADDR_CID_ANY, port);
	long fd = call(SYS_socket, AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || call(SYS_bind, fd, (long)&addr, sizeof(addr)) < 0 ||
	    call(SYS_listen, fd, 128, 0) < 0)
		die("vsock: cannot listen\n");
	return fd;
}

static void echo(unsigned port)
{
	long fd = listening(port);

	for (;;) {
		long conn = call(SYS_accept, fd, 0, 0);

		if (conn < 0)
			continue;
		if (call(SYS_fork, 0, 0, 0) == 0) {
			call(SYS_close, fd, 0, 0);
			copy(conn, conn);
			leave(0);
		}
		call(SYS_close, conn, 0, 0);
		while (call(SYS_wait4, -1, 0, 1 /* WNOHANG */) > 0)
			;
	}
}

static void sink(unsigned port, const char *path)
{
	long fd = listening(port), conn = call(SYS_accept, fd, 0, 0);
	long file = call(SYS_open, (long)path, O_WRONLY_CREAT_TRUNC, 0644);

	if (conn < 0 || file < 0)
		die("vsock: no connection, or no file\n");
	copy(conn, file);
}

static void connect_to(unsigned cid, unsigned port)
{
	struct sockaddr_vm addr = address(cid, port);
	long fd = call(SYS_socket, AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || call(SYS_connect, fd, (long)&addr, sizeof(addr)) < 0)
		die("vsock: refused\n");
	copy(0, fd);
	call(SYS_shutdown, fd, SHUT_WR, 0);
	copy(fd, 1);
}

static void show_cid(void)
{
	unsigned cid = 0;
	long fd = call(SYS_open, (long)"/dev/vsock", 0, 0);

	if (fd < 0 || call(SYS_ioctl, fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, (long)&cid) < 0)
		die("vsock: no device\n");
	print(cid);
}

__attribute__((noreturn, used)) void begin(long argc, char **argv)
{
	if (argc == 2 && same(argv[1], "cid"))
		show_cid();
	else if (argc == 3 && same(argv[1], "echo"))
		echo(number(argv[2]));
	else if (argc == 4 && same(argv[1], "sink"))
		sink(number(argv[2]), argv[3]);
	else if (argc == 4 && same(argv[1], "connect"))
		connect_to(number(argv[2]), number(argv[3]));
	else
		die("usage: vsock cid | echo PORT | sink PORT FILE | connect CID PORT\n");
	leave(0);
}

__asm__(".globl _start\n_start:\n\tmov (%rsp), %rdi\n\tlea 8(%rsp), %rsi\n\tand $-16, %rsp\n"
	"\tcall begin\n");
