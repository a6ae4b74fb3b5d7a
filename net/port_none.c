// SPDX-License-Identifier: ISC
/* The port of a card whose cable leads nowhere: what is sent is lost, and nothing comes. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/port.h"

static int none_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	(void)port, (void)queue, (void)iov, (void)n;
	return 0;
}

static ssize_t none_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	(void)port, (void)queue, (void)buf, (void)size;
	return -EAGAIN;
}

static int none_set_offloads(struct net_port *port, unsigned offloads)
{
	(void)port, (void)offloads;
	return 0;
}

static int none_set_active(struct net_port *port, unsigned n)
{
	port->n_active = n;
	return 0;
}

static void none_close(struct net_port *port)
{
	for (unsigned i = 0; i < port->n_queues; i++)
		close(port->fds[i]);
	free(port);
}

static const struct net_port_ops none_ops = {
    .name = "none",
    .send = none_send,
    .receive = none_receive,
    .set_offloads = none_set_offloads,
    .set_active = none_set_active,
    .close = none_close,
};

int net_port_none_open(struct net_port **out, const struct net_port *like, struct err *err)
{
	struct net_port *port = calloc(1, sizeof(*port));

	if (!port)
		return err_set(err, -ENOMEM, "out of memory");
	port->ops = &none_ops;
	port->can_send = like->can_send;
	port->can_receive = like->can_receive;
	port->n_active = like->n_active;
	for (; port->n_queues < like->n_queues; port->n_queues++) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* never readable */

		if (fd < 0) {
			none_close(port);
			return err_set(err, -errno, "no descriptor");
		}
		port->fds[port->n_queues] = fd;
	}
	*out = port;
	return 0;
}
