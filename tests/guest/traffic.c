// SPDX-License-Identifier: ISC
/*
 * Traffic for tests of networks, in a guest and on the host: one program without libc, so small
 *that a guest has it over its console's network in a moment (tests/lib_net.sh, traffic_program()).
 *
 *	traffic send BYTES PORT [ADDRESS]	sends as much to who connects, or to whom it
 *connects traffic receive PORT [ADDRESS]		receives to the end traffic flood COUNT SIZE
 *PORT ADDRESS	datagrams of that size, as fast as they go traffic feature INTERFACE NAME on|off
 *an offload, by the name that ethtool has for it
 *
 * send and receive print what they have seen as "BYTES SUM". What is sent is a stream that looks
 *random, the same each time, and its sum depends on each byte's place: so the two ends agree or
 *something between them is wrong.
 */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define FEATURES_MAX 256
#define BUFFER	     (256 * 1024)

static unsigned long long buffer[BUFFER / 8];

static long call(long n, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static unsigned length(const char *s)
{
	unsigned n = 0;

	while (s[n])
		n++;
	return n;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void print(int fd, const char *words)
{
	call(SYS_write, fd, (long)words, length(words), 0, 0);
}

__attribute__((noreturn)) static void leave(long status)
{
	for (;;)
		call(SYS_exit_group, status, 0, 0, 0, 0);
}

static void print_number(int fd, unsigned long long n)
{
	char digits[24], *at = digits + sizeof(digits) - 1;

	*at = 0;
	do
		*--at = (char)('0' + n % 10);
	while (n /= 10);
	print(fd, at);
}

/* With the error's number, if @r is one. */
__attribute__((noreturn)) static void die(const char *words, long r)
{
	print(2, "traffic: ");
	print(2, words);
	if (r < 0) {
		print(2, ": error ");
		print_number(2, (unsigned long long)-r);
	}
	print(2, "\n");
	leave(1);
}

static unsigned long long number(const char *s)
{
	unsigned long long n = 0;

	while (*s >= '0' && *s <= '9')
		n = n * 10 + (unsigned)(*s++ - '0');
	return n;
}

/* An IPv4 address in network order. */
static unsigned address(const char *s)
{
	unsigned char bytes[4] = {0};
	unsigned addr;

	for (int i = 0; i < 4; i++) {
		bytes[i] = (unsigned char)number(s);
		while (*s && *s++ != '.')
			;
	}
	__builtin_memcpy(&addr, bytes, sizeof(addr));
	return addr;
}

/* --- a stream ------------------------------------------------------------------------------- */

struct sum {
	unsigned long long value, bytes;
};

static void add(struct sum *sum, const unsigned char *data, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		sum->value = (sum->value ^ data[i]) * 0x100000001b3ull; /* FNV-1a */
	sum->bytes += n;
}

static void tell(const struct sum *sum)
{
	print_number(1, sum->bytes);
	print(1, " ");
	print_number(1, sum->value);
	print(1, "\n");
}

/* A connection: taken at the port, or made to the address, which may need a while to be there. */
static int connection(const char *port, const char *to)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	struct timespec moment = {.tv_nsec = 50000000};
	int one = 1;
	long fd, r;

	addr.sin_port = __builtin_bswap16((unsigned short)number(port));
	for (int i = 0; to && i < 200; i++) {
		addr.sin_addr.s_addr = address(to);
		fd = call(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0);
		r = call(SYS_connect, fd, (long)&addr, sizeof(addr), 0, 0);
		if (r == 0)
			return (int)fd;
		call(SYS_close, fd, 0, 0, 0, 0);
		if (r != -ECONNREFUSED)
			die("connect", r);
		call(SYS_nanosleep, (long)&moment, 0, 0, 0, 0);
	}
	if (to)
		die("nobody listens there", 0);
	fd = call(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0);
	call(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, (long)&one, sizeof(one));
	r = call(SYS_bind, fd, (long)&addr, sizeof(addr), 0, 0);
	if (r == 0)
		r = call(SYS_listen, fd, 1, 0, 0, 0);
	if (r == 0)
		r = call(SYS_accept, fd, 0, 0, 0, 0);
	if (r < 0)
		die("listen", r);
	call(SYS_close, fd, 0, 0, 0, 0); /* who comes too early is refused */
	return (int)r;
}

static void make(unsigned long long *state)
{
	for (unsigned i = 0; i < BUFFER / 8; i++) {
		*state ^= *state << 13;
		*state ^= *state >> 7;
		*state ^= *state << 17;
		buffer[i] = *state;
	}
}

static void send_all(unsigned long long bytes, const char *port, const char *to)
{
	int fd = connection(port, to);
	unsigned long long state = 88172645463325252ull;
	struct sum sum = {0};

	while (bytes) {
		unsigned long n = bytes < BUFFER ? bytes : BUFFER;

		make(&state);
		add(&sum, (const unsigned char *)buffer, n);
		bytes -= n;
		for (unsigned long done = 0; done < n;) {
			long r =
			    call(SYS_write, fd, (long)buffer + (long)done, (long)(n - done), 0, 0);

			if (r <= 0)
				die("write", r);
			done += (unsigned long)r;
		}
	}
	call(SYS_shutdown, fd, 1, 0, 0, 0);
	/* the other end has all of it when it hangs up */
	if (call(SYS_read, fd, (long)buffer, 1, 0, 0) != 0)
		die("the other end did not take all", 0);
	tell(&sum);
}

static void receive_all(const char *port, const char *to)
{
	int fd = connection(port, to);
	struct sum sum = {0};
	long r;

	while ((r = call(SYS_read, fd, (long)buffer, BUFFER, 0, 0)) > 0)
		add(&sum, (const unsigned char *)buffer, (unsigned long)r);
	if (r < 0)
		die("read", r);
	tell(&sum);
}

static void flood(unsigned long long count, unsigned long long size, const char *port,
		  const char *to)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = address(to)};
	long fd = call(SYS_socket, AF_INET, SOCK_DGRAM, 0, 0, 0), r;
	int one = 1;

	addr.sin_port = __builtin_bswap16((unsigned short)number(port));
	call(SYS_setsockopt, fd, SOL_SOCKET, SO_BROADCAST, (long)&one, sizeof(one));
	r = call(SYS_connect, fd, (long)&addr, sizeof(addr), 0, 0);
	if (r < 0 || size > BUFFER)
		die("connect", r);
	while (count--) {
		r = call(SYS_write, fd, (long)buffer, (long)size, 0, 0);
		if (r < 0 && r != -ENOBUFS && r != -ECONNREFUSED)
			die("write", r);
	}
}

/* --- offloads ------------------------------------------------------------------------------- */

static long ethtool(const char *interface, void *data)
{
	static int fd = -1;
	struct ifreq ifr = {0};

	if (fd < 0)
		fd = (int)call(SYS_socket, AF_INET, SOCK_DGRAM, 0, 0, 0);
	for (unsigned i = 0; i < IFNAMSIZ - 1 && interface[i]; i++)
		ifr.ifr_name[i] = interface[i];
	ifr.ifr_data = data;
	return call(SYS_ioctl, fd, SIOCETHTOOL, (long)&ifr, 0, 0);
}

static unsigned find_feature(const char *interface, const char *name)
{
	static struct {
		struct ethtool_gstrings head;
		char names[FEATURES_MAX][ETH_GSTRING_LEN];
	} strings;
	static struct {
		struct ethtool_sset_info head;
		unsigned n;
	} sets;
	long r;

	sets.head.cmd = ETHTOOL_GSSET_INFO;
	sets.head.sset_mask = 1ull << ETH_SS_FEATURES;
	r = ethtool(interface, &sets);
	if (r < 0 || sets.n > FEATURES_MAX)
		die("features", r);
	strings.head.cmd = ETHTOOL_GSTRINGS;
	strings.head.string_set = ETH_SS_FEATURES;
	strings.head.len = sets.n;
	r = ethtool(interface, &strings);
	if (r < 0)
		die("features", r);
	for (unsigned i = 0; i < strings.head.len; i++)
		if (same(strings.names[i], name))
			return i;
	die("no such feature", 0);
}

static void set_feature(const char *interface, const char *name, int on)
{
	static struct {
		struct ethtool_sfeatures head;
		struct ethtool_set_features_block blocks[FEATURES_MAX / 32];
	} set;
	static struct {
		struct ethtool_gfeatures head;
		struct ethtool_get_features_block blocks[FEATURES_MAX / 32];
	} get;
	unsigned bit = find_feature(interface, name);
	long r;

	set.head.cmd = ETHTOOL_SFEATURES;
	get.head.cmd = ETHTOOL_GFEATURES;
	set.head.size = get.head.size = bit / 32 + 1;
	/* The kernel knows how many there are; with fewer it takes no answer. */
	do {
		set.blocks[bit / 32].valid = 1u << bit % 32;
		set.blocks[bit / 32].requested = on ? 1u << bit % 32 : 0;
		r = ethtool(interface, &set);
	} while (r == -EINVAL && ++set.head.size <= FEATURES_MAX / 32);
	get.head.size = FEATURES_MAX / 32;
	if (r < 0 || (r = ethtool(interface, &get)) < 0)
		die("feature", r);
	if (!!(get.blocks[bit / 32].active & 1u << bit % 32) != on)
		die("it stays as it is", 0);
}

/* --- words ---------------------------------------------------------------------------------- */

__attribute__((noreturn, used)) static void run(long argc, char **argv)
{
	if (argc >= 4 && same(argv[1], "send"))
		send_all(number(argv[2]), argv[3], argc > 4 ? argv[4] : 0);
	else if (argc >= 3 && same(argv[1], "receive"))
		receive_all(argv[2], argc > 3 ? argv[3] : 0);
	else if (argc == 6 && same(argv[1], "flood"))
		flood(number(argv[2]), number(argv[3]), argv[4], argv[5]);
	else if (argc == 5 && same(argv[1], "feature"))
		set_feature(argv[2], argv[3], same(argv[4], "on"));
	else
		die("send | receive | flood | feature", 0);
	leave(0);
}

/* The kernel leaves argc, and behind it argv, where the stack begins. */
__asm__(".globl _start\n"
	"_start:\n"
	"	mov (%rsp), %rdi\n"
	"	lea 8(%rsp), %rsi\n"
	"	and $-16, %rsp\n"
	"	call run\n");
