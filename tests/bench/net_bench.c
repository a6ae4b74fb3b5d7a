// SPDX-License-Identifier: ISC
/*
 * net_bench rx|tx SIZE COUNT COMMAND…: runs a VMM with guest_net_bench.c in it, whose card is the
 * tap fvbench of a network namespace made here and whose console is COMMAND's standard input and
 * output. For rx it sends it frames of SIZE bytes, as many as it takes: WINDOW at most wait in the
 * tap. Over 1514 bytes they are TCP segments to be cut. Measures from the guest's "begin" to its
 * "end": prints nanoseconds for a frame, and nanoseconds of processor time for one, of all threads
 * of the VMM but those that run vcpus. Sent frames must have arrived at the tap, all of them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "bench_vmm.h"

#define TAP	  "fvbench"
#define WINDOW	  512 /* of the 1000 that it has room for */
#define FRAME_MAX (65535 + 14)

struct generator {
	int socket;
	size_t size;
	volatile bool end;
};

static void die(const char *what)
{
	fprintf(stderr, "net_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Packets that the tap has taken from the guest; those that it has given to it, or lost. */
static void packets(uint64_t *from, uint64_t *to)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/thread-self/net/dev", "re");
	uint64_t lost = 0;
	char line[512];

	*from = *to = 0;
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, TAP ":");

		if (at)
			sscanf(at + strlen(TAP ":"),
			       "%*u %lu %*u %*u %*u %*u %*u %*u %*u %lu %*u %lu", from, to, &lost);
	}
	*to += lost;
}

/* A persistent tap, up, in a namespace of its own: its number. */
static int make_tap(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd, s;

	if (unshare(CLONE_NEWNET) < 0)
		die("a network namespace");
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	strcpy(ifr.ifr_name, TAP);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		die("/dev/net/tun");
	close(fd);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_flags = IFF_UP;
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		die("the tap cannot be up");
	close(s);
	return (int)if_nametoindex(TAP);
}

static int open_socket(int index)
{
	struct sockaddr_ll to = {
	    .sll_family = AF_PACKET, .sll_ifindex = index, .sll_protocol = htons(0)};
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

	if (s < 0 || bind(s, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    setsockopt(s, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
	    setsockopt(s, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0)
		die("a packet socket");
	return s;
}

/* A frame for everybody; one of over 1514 bytes is to be cut. */
static void make_frame(uint8_t *frame, size_t size, struct virtio_net_hdr *header)
{
	static const uint8_t ip[] = {0x45, 0, 0,  0, 0, 0, 0,  0, 64, 6,
				     0,	   0, 10, 9, 9, 9, 10, 9, 9,  2};

	memset(frame, 0xff, 6);
	frame[6] = 2;
	frame[12] = 0x88;
	frame[13] = 0xb5;
	if (size <= ETH_FRAME_LEN)
		return;
	frame[12] = 8;
	frame[13] = 0;
	memcpy(frame + 14, ip, sizeof(ip));
	frame[16] = (uint8_t)((size - 14) >> 8);
	frame[17] = (uint8_t)(size - 14);
	frame[34 + 12] = 5 << 4;
	frame[34 + 13] = 0x10;
	*header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					  .hdr_len = 54,
					  .gso_size = 1448,
					  .csum_start = 34,
					  .csum_offset = 16};
}

static void *generate(void *arg)
{
	static uint8_t frame[FRAME_MAX];
	struct generator *g = arg;
	struct virtio_net_hdr header = {0};
	struct iovec iov[] = {{&header, sizeof(header)}, {frame, g->size}};
	uint64_t sent = 0, from, taken;

	make_frame(frame, g->size, &header);
	packets(&from, &sent);
	while (!g->end) {
		packets(&from, &taken);
		if ((int64_t)(sent - taken) > WINDOW / 2) { /* others send, too */
			nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
			continue;
		}
		for (unsigned n = WINDOW / 2; n && writev(g->socket, iov, 2) > 0; n--)
			sent++;
	}
	return NULL;
}

/* Of the guest's life, what lies between its two words. */
static bool measure(char **argv, struct vmm_sample *begin, struct vmm_sample *end, uint64_t *sent)
{
	uint64_t before = 0, after = 0, to;
	char line[256];
	pid_t pid = -1;
	int in;
	FILE *out = vmm_start(argv, &pid, &in);

	while (out && !end->wall_ns && fgets(line, sizeof(line), out)) {
		if (strstr(line, "begin")) {
			packets(&before, &to);
			*begin = vmm_take(vmm_of(pid));
			if (write(in, "g\n", 2) != 2)
				return false;
		}
		if (strstr(line, "end")) {
			*end = vmm_take(vmm_of(pid));
			packets(&after, &to);
		}
	}
	while (out && fgets(line, sizeof(line), out))
		;
	waitpid(pid, NULL, 0);
	*sent = after - before;
	return begin->wall_ns && end->wall_ns;
}

int main(int argc, char **argv)
{
	struct vmm_sample begin = {0}, end = {0};
	double count = argc > 4 ? strtod(argv[3], NULL) : 0;
	struct generator g = {0};
	bool sends, fine;
	pthread_t thread;
	uint64_t sent = 0;

	if (count < 1) {
		fprintf(stderr, "usage: net_bench rx|tx SIZE COUNT COMMAND...\n");
		return 2;
	}
	sends = strcmp(argv[1], "tx") == 0;
	g.size = strtoul(argv[2], NULL, 10);
	if (g.size < 60 || g.size > FRAME_MAX)
		return 2;
	g.socket = open_socket(make_tap());
	if (!sends && pthread_create(&thread, NULL, generate, &g) != 0)
		die("a thread");
	fine = measure(argv + 4, &begin, &end, &sent);
	g.end = true;
	if (!sends)
		pthread_join(thread, NULL);
	/* those that were under way at "begin" are the guest's ring at most */
	if (!fine || (sends && (double)sent + 256 < count)) {
		fprintf(stderr, "net_bench: not measured; %lu frames\n", sent);
		return 1;
	}
	printf("%.0f %.0f\n", (double)(end.wall_ns - begin.wall_ns) / count,
	       (double)(end.cpu_ns - begin.cpu_ns) / count);
	return 0;
}
