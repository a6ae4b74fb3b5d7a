// SPDX-License-Identifier: ISC
/* The access port of a VLAN: tags put on and taken off, and all that comes to nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "net/port.h"
#include "util/cleanup.h"

#define MAX 4096

/* What it is over: keeps what is sent, and gives what is put there. */
struct inner {
	struct net_port port;
	uint8_t frame[MAX];
	size_t len; /* of a frame; 0: none */
	unsigned offloads;
	bool *closed;
};

static int inner_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	struct inner *in = (struct inner *)port;

	assert_int_equal(queue, 1);
	in->len = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(in->frame + in->len, iov[i].iov_base, iov[i].iov_len);
		in->len += iov[i].iov_len;
	}
	return 0;
}

static ssize_t inner_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	struct inner *in = (struct inner *)port;
	size_t len = in->len;

	(void)queue;
	assert_true(size >= len);
	if (!len)
		return -EAGAIN;
	memcpy(buf, in->frame, len);
	in->len = 0;
	return (ssize_t)len;
}

static int inner_offloads(struct net_port *port, unsigned offloads)
{
	((struct inner *)port)->offloads = offloads;
	return 0;
}

static int inner_active(struct net_port *port, unsigned n)
{
	port->n_active = n;
	return 0;
}

static void inner_close(struct net_port *port)
{
	*((struct inner *)port)->closed = true;
	free(port);
}

static const struct net_port_ops inner_ops = {.name = "inner",
					      .send = inner_send,
					      .receive = inner_receive,
					      .set_offloads = inner_offloads,
					      .set_active = inner_active,
					      .close = inner_close};

struct world {
	struct inner *in;
	struct net_port *port;
	bool closed;
	uint8_t frame[MAX];
};

static struct inner *make_inner(bool *closed)
{
	struct inner *in = calloc(1, sizeof(*in));

	in->port = (struct net_port){
	    .ops = &inner_ops, .n_queues = 2, .can_send = 31, .can_receive = 15, .n_active = 2};
	in->closed = closed;
	return in;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err = ERR_INIT;

	w->in = make_inner(&w->closed);
	assert_int_equal(net_port_vlan_open(&w->port, &w->in->port, 0x123, &err), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	net_port_close(w->port);
	assert_true(w->closed);
	free(w);
	return 0;
}

/* A header with a checksum to fill in at 34 and segments to cut, and a frame of @len bytes. */
static size_t make(uint8_t *f, size_t len)
{
	for (size_t i = 0; i < NET_HEADER + len; i++)
		f[i] = (uint8_t)i;
	memset(f, 0, NET_HEADER);
	f[0] = 1;
	f[1] = 1;
	f[2] = 54;
	f[4] = 0xb4;
	f[5] = 5;
	f[6] = 34;
	f[8] = 16;
	f[NET_HEADER + 12] = 8;
	f[NET_HEADER + 13] = 0;
	return NET_HEADER + len;
}

static int send_split(struct world *w, size_t len, size_t at)
{
	struct iovec iov[] = {{w->frame, at}, {w->frame + at, len - at}};

	return net_port_send(w->port, 1, iov, 2);
}

static void tagged_when_sent(void **state)
{
	struct world *w = *state;
	size_t len = make(w->frame, 100);
	const uint8_t *f = w->in->frame;

	/* however the guest cuts it */
	for (size_t at = 0; at <= len; at++) {
		assert_int_equal(send_split(w, len, at), 0);
		assert_int_equal(w->in->len, len + 4);
		assert_int_equal(f[2], 58); /* headers are longer */
		assert_int_equal(f[4] | f[5] << 8, 1460);
		assert_int_equal(f[6], 38); /* and what is summed begins later */
		assert_int_equal(f[8], 16);
		assert_memory_equal(f + NET_HEADER, w->frame + NET_HEADER, 12);
		assert_memory_equal(f + NET_HEADER + 12, "\x81\x00\x01\x23\x08", 5);
		assert_memory_equal(f + NET_HEADER + 16, w->frame + NET_HEADER + 12, 88);
	}
}

static void nothing_to_move(void **state)
{
	struct world *w = *state;
	size_t len = make(w->frame, 60);

	memset(w->frame, 0, NET_HEADER);
	assert_int_equal(send_split(w, len, len), 0);
	for (unsigned i = 0; i < NET_HEADER; i++)
		assert_int_equal(w->in->frame[i], 0);
	/* a place that no frame has */
	w->frame[0] = 1;
	w->frame[6] = w->frame[7] = 0xff;
	assert_int_equal(send_split(w, len, len), -EINVAL);
}

static void tags_of_the_guest(void **state)
{
	static const uint8_t types[][2] = {{0x81, 0}, {0x88, 0xa8}, {0x91, 0}};
	struct world *w = *state;
	size_t len = make(w->frame, 60);

	for (size_t i = 0; i < nitems(types); i++) {
		memcpy(w->frame + NET_HEADER + 12, types[i], 2);
		assert_int_equal(send_split(w, len, 20), -EINVAL);
	}
	assert_int_equal(w->in->len, 0);
	assert_int_equal(send_split(w, NET_HEADER + 13, 3), -EINVAL);
}

static void untagged_when_received(void **state)
{
	struct world *w = *state;
	size_t len = make(w->frame, 100);
	uint8_t buf[MAX];

	assert_int_equal(send_split(w, len, 12), 0);
	w->in->frame[NET_HEADER + 14] |= 0xe0; /* of some priority */
	assert_int_equal(net_port_receive(w->port, 1, buf, sizeof(buf)), len);
	assert_memory_equal(buf, w->frame, len);
	assert_int_equal(net_port_receive(w->port, 1, buf, sizeof(buf)), -EAGAIN);
}

static void of_other_vlans(void **state)
{
	struct world *w = *state;
	size_t len = make(w->frame, 60) + 4;
	uint8_t buf[MAX];

	for (unsigned which = 0; which < 5; which++) {
		uint8_t *f = w->in->frame;

		assert_int_equal(send_split(w, len - 4, 12), 0);
		if (which == 0)
			f[NET_HEADER + 15]++; /* another VLAN */
		if (which == 1)
			f[NET_HEADER + 14] = f[NET_HEADER + 15] = 0; /* a priority alone */
		if (which == 2)
			f[NET_HEADER + 12] = 8; /* no tag */
		if (which == 3)
			w->in->len = NET_HEADER + 17; /* cut short */
		if (which == 4)
			f[6] = 3; /* a checksum within the addresses */
		assert_int_equal(net_port_receive(w->port, 1, buf, sizeof(buf)), 0);
	}
}

static void the_rest_is_the_inner_ones(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	struct net_port *port;
	bool closed = false;

	assert_int_equal(w->port->can_send, 31);
	assert_int_equal(net_port_set_offloads(w->port, 31), 0);
	assert_int_equal(w->in->offloads, 15);
	assert_int_equal(net_port_set_active(w->port, 1), 0);
	assert_int_equal(w->port->n_active, 1);
	assert_int_equal(net_port_vlan_open(&port, &make_inner(&closed)->port, 4095, &err),
			 -ERANGE);
	assert_true(closed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(tagged_when_sent, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_to_move, setup, teardown),
	    cmocka_unit_test_setup_teardown(tags_of_the_guest, setup, teardown),
	    cmocka_unit_test_setup_teardown(untagged_when_received, setup, teardown),
	    cmocka_unit_test_setup_teardown(of_other_vlans, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_rest_is_the_inner_ones, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
