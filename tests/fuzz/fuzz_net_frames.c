// SPDX-License-Identifier: ISC
/*
 * Frames as a guest or the wire has them, through what looks into them: own addresses
 * (net/sender.c), and the tags of a VLAN's port (net/port_vlan.c). What is sent through such a
 * port and comes back is what was sent.
 *
 * Input: what to do, where the frame is cut into two, and the frame with its header.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/port.h"
#include "net/sender.h"

#define VLAN 100

/* Gives back what was sent. */
struct echo {
	struct net_port port;
	uint8_t frame[NET_BUFFER_MAX];
	size_t len;
};

static int echo_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	struct echo *e = (struct echo *)port;

	(void)queue;
	e->len = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(e->frame + e->len, iov[i].iov_base, iov[i].iov_len);
		e->len += iov[i].iov_len;
	}
	return 0;
}

static ssize_t echo_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	const struct echo *e = (struct echo *)port;

	(void)queue;
	if (!e->len || e->len > size)
		return -EAGAIN;
	memcpy(buf, e->frame, e->len);
	return (ssize_t)e->len;
}

static void echo_close(struct net_port *port)
{
	free(port);
}

static const struct net_port_ops echo_ops = {
    .name = "echo", .send = echo_send, .receive = echo_receive, .close = echo_close};

static void sender(const uint8_t *frame, size_t len)
{
	struct net_sender s;

	if (len < NET_ETH_HEADER || !net_sender_find(frame, len, frame + 6, &s))
		return;
	if ((s.len != 4 && s.len != 16) || !net_sender_address_good(s.addr, s.len))
		abort();
}

static void there_and_back(struct net_port *port, uint8_t *frame, size_t len, size_t cut)
{
	struct iovec iov[] = {{frame, cut}, {frame + cut, len - cut}};
	static uint8_t got[NET_BUFFER_MAX];

	if (net_port_send(port, 0, iov, 2) < 0)
		return;
	if (net_port_receive(port, 0, got, sizeof(got)) != (ssize_t)len ||
	    memcmp(got, frame, len) != 0)
		abort();
}

/* From the wire, where anything may be. */
static void receive(struct echo *e, struct net_port *port, const uint8_t *frame, size_t len)
{
	static uint8_t got[NET_BUFFER_MAX];

	if (len < NET_HEADER + NET_ETH_HEADER)
		return; /* no port gives less */
	memcpy(e->frame, frame, len);
	e->len = len;
	if (net_port_receive(port, 0, got, sizeof(got)) > (ssize_t)len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	struct net_port *port;
	struct echo *e;
	uint8_t *frame;
	size_t cut;

	if (len < 2 || len > 4096)
		return 0;
	e = calloc(1, sizeof(*e));
	frame = malloc(len - 2 ? len - 2 : 1); /* its end is guarded */
	if (!e || !frame)
		abort();
	e->port = (struct net_port){.ops = &echo_ops, .n_queues = 1, .n_active = 1};
	if (net_port_vlan_open(&port, &e->port, VLAN, &err) < 0)
		abort();
	cut = data[1] < len - 2 ? data[1] : len - 2;
	memcpy(frame, data + 2, len - 2);
	if (data[0] % 3 == 0)
		sender(frame, len - 2);
	else if (data[0] % 3 == 1)
		there_and_back(port, frame, len - 2, cut);
	else
		receive(e, port, frame, len - 2);
	free(frame);
	net_port_close(port);
	return 0;
}
