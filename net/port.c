// SPDX-License-Identifier: ISC
/* What all ports have in common. */
#include <errno.h>
#include <unistd.h>

#include "net/port.h"

void net_port_close(struct net_port *port)
{
	if (port)
		port->ops->close(port);
}

int net_port_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	if (n > NET_IOV_MAX || bytes < NET_HEADER + NET_ETH_HEADER || bytes > NET_BUFFER_MAX)
		return -EINVAL;
	return port->ops->send(port, queue, iov, n);
}

ssize_t net_port_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	return port->ops->receive(port, queue, buf, size);
}

ssize_t net_port_receive_into(struct net_port *port, unsigned queue, const struct iovec *iov,
			      unsigned n)
{
	if (port->ops->receive_into)
		return port->ops->receive_into(port, queue, iov, n);
	return n == 1 ? port->ops->receive(port, queue, iov->iov_base, iov->iov_len) : -EINVAL;
}

int net_port_set_offloads(struct net_port *port, unsigned offloads)
{
	return port->ops->set_offloads ? port->ops->set_offloads(port, offloads & port->can_receive)
				       : 0;
}

int net_port_set_active(struct net_port *port, unsigned n)
{
	return port->ops->set_active ? port->ops->set_active(port, n) : 0;
}
