// SPDX-License-Identifier: ISC
/* Ports: a stream socket against a peer that sends what it likes; a tap against its own kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "net/pcapng.h"
#include "net/port.h"

struct pair {
	struct net_port *port;
	int peer;
	uint8_t buf[NET_BUFFER_MAX];
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct err err = ERR_INIT;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(net_port_stream_open(&p->port, fds[0], &err), 0);
	p->peer = fds[1];
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	net_port_close(p->port);
	if (p->peer >= 0)
		close(p->peer);
	free(p);
	return 0;
}

static ssize_t get(struct pair *p)
{
	return net_port_receive(p->port, 0, p->buf, sizeof(p->buf));
}

static void put_frame(int fd, uint8_t fill, uint32_t len)
{
	uint32_t length = htonl(len);
	uint8_t *frame = malloc(len + 1);

	memset(frame, fill, len);
	assert_int_equal(write(fd, &length, 4), 4);
	assert_int_equal(write(fd, frame, len), len);
	free(frame);
}

static void test_stream_sends_without_the_header(void **state)
{
	struct pair *p = *state;
	uint8_t bytes[NET_HEADER + 20], got[64];
	const struct iovec iov[] = {{bytes, 5}, {bytes + 5, NET_HEADER - 5 + 3}, {bytes + 15, 17}};

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(net_port_send(p->port, 0, iov, 3), 0);
	assert_int_equal(read(p->peer, got, sizeof(got)), 24);
	assert_memory_equal(got, "\0\0\0\x14", 4);
	assert_memory_equal(got + 4, bytes + NET_HEADER, 20);
}

static void test_stream_refuses_what_is_no_frame(void **state)
{
	struct pair *p = *state;
	uint8_t *much = calloc(1, NET_BUFFER_MAX + 1);
	struct iovec iov[NET_IOV_MAX + 1];

	iov[0] = (struct iovec){much, NET_HEADER + NET_ETH_HEADER - 1};
	assert_int_equal(net_port_send(p->port, 0, iov, 1), -EINVAL);
	iov[0].iov_len = NET_BUFFER_MAX + 1;
	assert_int_equal(net_port_send(p->port, 0, iov, 1), -EINVAL);
	for (unsigned i = 0; i <= NET_IOV_MAX; i++)
		iov[i] = (struct iovec){much, 1};
	assert_int_equal(net_port_send(p->port, 0, iov, NET_IOV_MAX + 1), -EINVAL);
	free(much);
}

static void test_stream_receives_frames_in_any_pieces(void **state)
{
	struct pair *p = *state;

	assert_int_equal(get(p), -EAGAIN);
	put_frame(p->peer, 7, 60);
	put_frame(p->peer, 8, NET_FRAME_MAX);
	assert_int_equal(get(p), 60 + NET_HEADER);
	assert_int_equal(p->buf[0], 0);
	assert_int_equal(p->buf[NET_HEADER], 7);
	assert_int_equal(get(p), NET_BUFFER_MAX);
	assert_int_equal(p->buf[NET_BUFFER_MAX - 1], 8);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(write(p->peer, &"\0\0\0\x0e"[i], 1), 1);
		assert_int_equal(get(p), -EAGAIN);
	}
	for (unsigned i = 0; i < 13; i++) {
		assert_int_equal(write(p->peer, "x", 1), 1);
		assert_int_equal(get(p), -EAGAIN);
	}
	assert_int_equal(write(p->peer, "x", 1), 1);
	assert_int_equal(get(p), 14 + NET_HEADER);
}

static void test_stream_hangs_up_on_nonsense(void **state)
{
	struct pair *p = *state;

	assert_int_equal(write(p->peer, "\xff\xff\xff\xff", 4), 4);
	assert_int_equal(get(p), -EPIPE);
	close(p->peer);
	p->peer = -1;
	assert_int_equal(get(p), -EPIPE);
}

static void test_stream_short_frames_end_it(void **state)
{
	struct pair *p = *state;

	put_frame(p->peer, 1, 13);
	assert_int_equal(get(p), -EPIPE);
}

/* What went in part is finished first; whole frames are lost meanwhile, never pieces. */
static void test_stream_full_socket_loses_whole_frames(void **state)
{
	struct pair *p = *state;
	uint8_t frame[NET_HEADER + 3000] = {0};
	const struct iovec iov = {frame, sizeof(frame)};
	unsigned sent = 0, got = 0;
	uint8_t *in = malloc(8 << 20);
	size_t len = 0, at = 0;
	int r = 0;

	memset(frame + NET_HEADER, 5, 3000);
	while ((r = net_port_send(p->port, 0, &iov, 1)) == 0)
		sent++;
	assert_int_equal(r, -EAGAIN);
	assert_int_equal(net_port_send(p->port, 0, &iov, 1), -EAGAIN);
	fcntl(p->peer, F_SETFL, O_NONBLOCK);
	for (ssize_t n; (n = read(p->peer, in + len, (8 << 20) - len)) > 0;)
		len += (size_t)n;
	assert_int_equal(net_port_send(p->port, 0, &iov, 1), 0);
	for (ssize_t n; (n = read(p->peer, in + len, (8 << 20) - len)) > 0;)
		len += (size_t)n;
	for (uint32_t length; at < len; at += 4 + length, got++) {
		memcpy(&length, in + at, 4);
		length = ntohl(length);
		assert_int_equal(length, 3000);
	}
	assert_int_equal(at, len);
	assert_int_equal(got, sent + 1);
	free(in);
}

static void test_not_a_stream(void **state)
{
	struct net_port *port;
	struct err err = ERR_INIT;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(net_port_stream_open(&port, fds[0], &err), -EINVAL);
	assert_int_equal(net_port_tap_open(&port, &fds[1], 1, &err), -EINVAL);
	assert_int_equal(net_port_tap_open(&port, NULL, 0, &err), -EINVAL);
}

/* --- tap ---------------------------------------------------------------------------------- */

static int tap_queue(const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -1;
	strcpy(ifr.ifr_name, name);
	if (ioctl(fd, TUNSETIFF, &ifr) == 0)
		return fd;
	close(fd);
	return -1;
}

static void interface_up(const char *name)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_flags = 0};

	strcpy(ifr.ifr_name, name);
	assert_int_equal(ioctl(s, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags |= IFF_UP;
	assert_int_equal(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
}

/* The kernel, once up, speaks by itself (IPv6 solicitations), and takes what is sent. */
static void test_tap_carries_frames_with_headers(void **state)
{
	const char *name = "fvtest0";
	int fds[2] = {tap_queue(name), tap_queue(name)};
	uint8_t *buf = calloc(1, NET_BUFFER_MAX);
	struct net_port *port;
	struct err err = ERR_INIT;
	struct pollfd p;
	uint8_t frame[NET_HEADER + 60] = {0};

	(void)state;
	if (fds[0] < 0 || fds[1] < 0) {
		free(buf);
		skip(); /* not root, or no tun */
	}
	assert_int_equal(net_port_tap_open(&port, fds, 2, &err), 0);
	assert_int_equal(port->can_send & (NET_CSUM | NET_TSO4), NET_CSUM | NET_TSO4);
	assert_int_equal(net_port_set_active(port, 1), 0);
	assert_int_equal(net_port_set_active(port, 2), 0);
	assert_int_equal(net_port_set_active(port, 1), 0);
	assert_int_equal(net_port_set_offloads(port, NET_CSUM | NET_TSO4 | NET_TSO6), 0);
	memset(frame + NET_HEADER, 0xff, 6);
	assert_int_equal(net_port_send(port, 0, &(struct iovec){frame, sizeof(frame)}, 1), -EIO);
	interface_up(name);
	assert_int_equal(net_port_send(port, 0, &(struct iovec){frame, sizeof(frame)}, 1), 0);
	p = (struct pollfd){.fd = net_port_fd(port, 0), .events = POLLIN};
	if (poll(&p, 1, 10000) == 1) /* where IPv6 is off nobody speaks */
		assert_true(net_port_receive(port, 0, buf, NET_BUFFER_MAX) >=
			    NET_HEADER + NET_ETH_HEADER);
	net_port_close(port);
	free(buf);
}

/* --- pcapng ------------------------------------------------------------------------------- */

static uint32_t get32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Every block's length stands at both ends, and is whole words. */
static void test_pcapng_blocks_are_whole(void **state)
{
	(void)state;
	for (size_t len = 0; len < 70; len++) {
		uint8_t file[1024] = {0}, before[PCAPNG_PACKET_MAX], behind[PCAPNG_PACKET_MAX];
		size_t at = pcapng_begin(file, "lan"), n_before, n_behind, blocks = 0, pos;

		assert_true(at <= PCAPNG_BEGIN_MAX);
		pcapng_packet(before, &n_before, behind, &n_behind, len, len, 1700000000123456789,
			      PCAPNG_OUT);
		assert_true(n_before <= sizeof(before) && n_behind <= sizeof(behind));
		memcpy(file + at, before, n_before);
		memcpy(file + at + n_before + len, behind, n_behind);
		at += n_before + len + n_behind;
		for (pos = 0; pos < at; pos += get32(file + pos + 4), blocks++) {
			uint32_t length = get32(file + pos + 4);

			assert_true(length >= 12 && length % 4 == 0 && pos + length <= at);
			assert_int_equal(get32(file + pos + length - 4), length);
		}
		assert_int_equal(pos, at);
		assert_int_equal(blocks, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_stream_sends_without_the_header, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stream_refuses_what_is_no_frame, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stream_receives_frames_in_any_pieces, setup,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_stream_hangs_up_on_nonsense, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stream_short_frames_end_it, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stream_full_socket_loses_whole_frames, setup,
					    teardown),
	    cmocka_unit_test(test_not_a_stream),
	    cmocka_unit_test(test_tap_carries_frames_with_headers),
	    cmocka_unit_test(test_pcapng_blocks_are_whole),
	};

	return cmocka_run_group_tests_name("net: ports", tests, NULL, NULL);
}
