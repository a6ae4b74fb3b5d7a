// SPDX-License-Identifier: ISC
/*
 * The cable's other end: opened as the daemon asked for it, and changed for another one while the
 * guest runs. The card stays what it is to its driver, so the new port must have as many queues as
 * the old one and must do for frames what that did.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "vmm/virtio_net_int.h"

/* Descriptors of our own. */
static int dup_all(const struct nic_cable *cable, int fds[NET_QUEUES_MAX], struct err *err)
{
	for (unsigned i = 0; i < cable->n_fds; i++) {
		fds[i] = fcntl(cable->fds[i], F_DUPFD_CLOEXEC, 0);
		if (fds[i] >= 0)
			continue;
		while (i--)
			close(fds[i]);
		return err_set(err, -errno, "no descriptor");
	}
	return 0;
}

int nic_port_open(const struct nic_cable *cable, const struct net_port *like,
		  struct net_port **port, struct err *err)
{
	int fds[NET_QUEUES_MAX], r;

	if (cable->kind == NIC_NONE && like)
		return net_port_none_open(port, like, err);
	if (!cable->n_fds || cable->n_fds > NET_QUEUES_MAX ||
	    (cable->kind != NIC_TAP && cable->n_fds != 1))
		return err_set(err, -EINVAL, "a port of %u queues cannot be", cable->n_fds);
	r = dup_all(cable, fds, err);
	if (r == 0)
		r = cable->kind == NIC_TAP ? net_port_tap_open(port, fds, cable->n_fds, err)
					   : net_port_stream_open(port, fds[0], err);
	if (r < 0 || !cable->vlan)
		return r;
	return net_port_vlan_open(port, take_ptr(*port), cable->vlan, err);
}

static int must_fit(const struct nic *nic, const struct net_port *port, struct err *err)
{
	const struct net_port *old = nic->port;

	if (port->n_queues != nic->n_pairs)
		return err_set(err, -EOPNOTSUPP, "its guest has %u pairs of queues, not %u",
			       nic->n_pairs, port->n_queues);
	if ((old->can_send & ~port->can_send) || (old->can_receive & ~port->can_receive))
		return err_set(err, -EOPNOTSUPP,
			       "its guest counts on offloads that the other network has not");
	return 0;
}

/* On the lane's thread. */
static void unwatch_ports(void *arg)
{
	struct virtio_lane *lane = arg;
	struct nic *nic = (struct nic *)lane->dev;

	for (unsigned i = lane->first; i < lane->first + lane->n; i++)
		if (i % 2 == 0 && i < 2 * nic->n_pairs)
			iothread_remove(lane->thread, &nic->rx[i / 2].port);
}

static int watch_ports(struct nic *nic)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < nic->n_pairs; i++) {
		struct nic_rx *rx = &nic->rx[i];

		rx->port.fd = net_port_fd(nic->port, i);
		r = iothread_add(rx->queue->lane->thread, &rx->port, true);
	}
	return r;
}

/* While all lanes stand still: -errno: nothing has changed but what is seen again by edges. */
static int exchange(struct nic *nic, struct net_port **port, struct err *err)
{
	struct net_port *old = nic->port;
	int r;

	for (unsigned i = 0; i < nic->virtio.n_lanes; i++)
		iothread_call(nic->virtio.lanes[i].thread, unwatch_ports, &nic->virtio.lanes[i]);
	pthread_mutex_lock(&nic->virtio.lock);
	r = net_port_set_active(*port, old->n_active);
	if (r == 0)
		r = net_port_set_offloads(*port, nic->offloads);
	if (r == 0)
		nic->port = *port;
	pthread_mutex_unlock(&nic->virtio.lock);
	if (r == 0)
		r = watch_ports(nic);
	if (r < 0) {
		pthread_mutex_lock(&nic->virtio.lock);
		nic->port = old;
		pthread_mutex_unlock(&nic->virtio.lock);
		watch_ports(nic); /* has been possible before */
		return err_set(err, r, "its queues cannot be moved to the other port");
	}
	*port = old;
	return 0;
}

int virtio_net_set_cable(struct device *dev, const struct nic_cable *cable, bool paused,
			 struct err *err)
{
	struct nic *nic = (struct nic *)dev;
	struct net_port *port = NULL;
	int r = nic_port_open(cable, nic->port, &port, err);

	if (r == 0)
		r = must_fit(nic, port, err);
	if (r == 0) {
		if (!paused)
			virtio_pause(dev);
		r = exchange(nic, &port, err);
		if (!paused)
			virtio_resume(dev);
	}
	/* the one that nobody has now; what came to the other by now is looked for */
	net_port_close(port);
	for (unsigned i = 0; r == 0 && i < nic->n_pairs; i++)
		virtio_kick(nic->rx[i].queue);
	return r;
}
