// SPDX-License-Identifier: ISC
/*
 * Tagged frames through taps and a bridge of this kernel: segments that are yet to be cut and
 * checksums that are yet to be filled in keep their places, whoever does it in the end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "net/host_link.h"
#include "net/port.h"

#define PAYLOAD 20000
#define MSS	1448
#define HEADERS (14 + 20 + 20)
#define LEN	(NET_HEADER + HEADERS + PAYLOAD)
#define WAIT_MS 20000
#define A_WHILE 50

struct world {
	struct net_port *a, *b, *other, *plain; /* VLANs 100, 100, 200, none */
	uint8_t sent[LEN], got[NET_BUFFER_MAX];
};

static struct net_port *port_on(int bridge, const char *name, unsigned vlan)
{
	struct host_link_set up = {.up = 1, .master = bridge};
	struct err err = ERR_INIT;
	struct net_port *port;
	struct host_link l;
	int fd;

	assert_int_equal(host_tap_make(name, 1, &fd, &err), 0);
	assert_int_equal(host_link_find(name, 0, &l), 0);
	assert_int_equal(host_link_set(l.index, &up, &err), 0);
	assert_int_equal(net_port_tap_open(&port, &fd, 1, &err), 0);
	if (vlan)
		assert_int_equal(net_port_vlan_open(&port, port, vlan, &err), 0);
	return port;
}

static int setup(void **state)
{
	struct host_link_new br = {.kind = HOST_BRIDGE, .name = "brv"};
	struct host_link_set up = {.up = 1, .master = -1};
	struct err err = ERR_INIT;
	struct world *w = NULL;
	int bridge;

	*state = NULL;
	if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0)
		return 0;
	bridge = host_link_make(&br, &err);
	if (bridge < 0 || host_link_set(bridge, &up, &err) < 0)
		return 0;
	*state = w = calloc(1, sizeof(*w));
	w->a = port_on(bridge, "v0", 100);
	w->b = port_on(bridge, "v1", 100);
	w->other = port_on(bridge, "v2", 200);
	w->plain = port_on(bridge, "v3", 0);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	if (!w)
		return 0;
	net_port_close(w->a);
	net_port_close(w->b);
	net_port_close(w->other);
	net_port_close(w->plain);
	free(w);
	return 0;
}

static uint32_t sum(uint32_t s, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s += (uint32_t)p[i] << (i % 2 ? 0 : 8);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* Of TCP over IPv4 at @ip, whose TCP part has @n bytes. */
static uint32_t pseudo(const uint8_t *ip, size_t n)
{
	uint8_t tail[4] = {0, 6, (uint8_t)(n >> 8), (uint8_t)n};

	return sum(sum(0, ip + 12, 8), tail, 4);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A TCP segment to all of many times the MTU, its checksum begun. */
static void make(struct world *w)
{
	uint8_t *h = w->sent, *f = h + NET_HEADER, *ip = f + 14, *tcp = ip + 20;

	memset(w->sent, 0, sizeof(w->sent));
	h[0] = h[1] = 1; /* NEEDS_CSUM; TCPV4 */
	h[2] = HEADERS;
	h[4] = MSS & 255;
	h[5] = MSS >> 8;
	h[6] = 34;
	h[8] = 16;
	memset(f, 0xff, 6);
	memcpy(f + 6, "\x52\x54\0\0\0\1\x08\0", 8);
	ip[0] = 0x45;
	put16(ip + 2, 20 + 20 + PAYLOAD);
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
	put16(ip + 10, ~sum(0, ip, 20));
	put16(tcp, 1000);
	put16(tcp + 2, 2000);
	tcp[12] = 0x50;
	tcp[13] = 0x10;
	put16(tcp + 14, 0xffff);
	for (size_t i = 0; i < PAYLOAD; i++)
		tcp[20 + i] = (uint8_t)(i * 7 + (i >> 8));
	put16(tcp + 16, pseudo(ip, 20 + PAYLOAD));
}

/* The next TCP frame; 0: none in that time. Others (the bridge's own) are passed over. */
static size_t next(struct world *w, struct net_port *port, size_t type_at, int ms)
{
	struct pollfd p = {.fd = net_port_fd(port, 0), .events = POLLIN};
	ssize_t n;

	while (poll(&p, 1, ms) > 0) {
		n = net_port_receive(port, 0, w->got, sizeof(w->got));
		if (n > (ssize_t)(NET_HEADER + HEADERS) &&
		    memcmp(w->got + NET_HEADER + type_at, "\x08\0\x45", 3) == 0)
			return (size_t)n;
	}
	return 0;
}

#define NEED(w, state)                                                                             \
	struct world *w = *(state);                                                                \
	if (!w)                                                                                    \
	skip()

static void whole_to_who_takes_it_whole(void **state)
{
	NEED(w, state);
	assert_int_equal(net_port_set_offloads(w->b, NET_CSUM | NET_TSO4), 0);
	make(w);
	assert_int_equal(net_port_send(w->a, 0, &(struct iovec){w->sent, LEN}, 1), 0);
	assert_int_equal(next(w, w->b, 12, WAIT_MS), LEN);
	assert_memory_equal(w->got + NET_HEADER, w->sent + NET_HEADER, LEN - NET_HEADER);
	assert_int_equal(w->got[0] & 1, 1);
	assert_int_equal(w->got[1], 1);
	assert_int_equal(w->got[4] | w->got[5] << 8, MSS);
	assert_int_equal(w->got[6] | w->got[7] << 8, 34);
	assert_int_equal(w->got[8], 16);
	assert_int_equal(next(w, w->other, 12, A_WHILE), 0);
}

static void cut_for_who_does_not(void **state)
{
	uint8_t payload[PAYLOAD];
	size_t have = 0, len;

	NEED(w, state);
	assert_int_equal(net_port_set_offloads(w->b, 0), 0);
	make(w);
	assert_int_equal(net_port_send(w->a, 0, &(struct iovec){w->sent, LEN}, 1), 0);
	while (have < PAYLOAD && (len = next(w, w->b, 12, WAIT_MS))) {
		const uint8_t *ip = w->got + NET_HEADER + 14;
		size_t n = len - NET_HEADER - HEADERS;

		assert_true(n <= MSS && have + n <= PAYLOAD);
		assert_int_equal(w->got[0], 0);
		assert_int_equal(sum(0, ip, 20), 0xffff);
		assert_int_equal(sum(pseudo(ip, 20 + n), ip + 20, 20 + n), 0xffff);
		memcpy(payload + have, ip + 40, n);
		have += n;
	}
	assert_int_equal(have, PAYLOAD);
	assert_memory_equal(payload, w->sent + NET_HEADER + HEADERS, PAYLOAD);
	assert_int_equal(next(w, w->other, 12, A_WHILE), 0);
	/* who has no VLAN sees the tag */
	assert_true(next(w, w->plain, 16, WAIT_MS) > 0);
	assert_memory_equal(w->got + NET_HEADER + 12, "\x81\0\0\x64", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(whole_to_who_takes_it_whole, setup, teardown),
	    cmocka_unit_test_setup_teardown(cut_for_who_does_not, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
