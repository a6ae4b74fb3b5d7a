// SPDX-License-Identifier: ISC
/* A tap: the kernel takes and gives frames with the very header that virtio has. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net/port.h"

#ifndef TUN_F_USO4 /* Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#define TUN_F_USO (TUN_F_USO4 | TUN_F_USO6)

static int tap_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	ssize_t r;

	do
		r = writev(port->fds[queue], iov, (int)n);
	while (r < 0 && errno == EINTR);
	if (r >= 0)
		return 0;
	switch (errno) {
	case EAGAIN:
	case EINVAL:
		return -errno;
	case EBADFD: /* the device is gone, or has been detached from this queue */
		return -EPIPE;
	default:
		return -EIO; /* the interface is down: what a cable does that is pulled out */
	}
}

static ssize_t tap_receive_into(struct net_port *port, unsigned queue, const struct iovec *iov,
				unsigned n)
{
	ssize_t r;

	do
		r = readv(port->fds[queue], iov, (int)n);
	while (r < 0 && errno == EINTR);
	if (r >= NET_HEADER + NET_ETH_HEADER)
		return r;
	if (r >= 0 ||
	    errno == EFAULT) /* no frame, or memory that cannot be written to: it is lost */
		return 0;
	return errno == EAGAIN || errno == EIO ? -EAGAIN : -EPIPE;
}

static ssize_t tap_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	return tap_receive_into(port, queue, &(struct iovec){buf, size}, 1);
}

static int tap_set_offloads(struct net_port *port, unsigned offloads)
{
	static const struct {
		unsigned net, tun;
	} flags[] = {{NET_CSUM, TUN_F_CSUM},
		     {NET_TSO4, TUN_F_TSO4},
		     {NET_TSO6, TUN_F_TSO6},
		     {NET_ECN, TUN_F_TSO_ECN},
		     {NET_USO, TUN_F_USO}};
	unsigned long tun = 0;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		tun |= offloads & flags[i].net ? flags[i].tun : 0;
	return ioctl(port->fds[0], TUNSETOFFLOAD, tun) < 0 ? -errno : 0;
}

/* A queue that nobody reads must be detached: the kernel would give it frames. */
static int tap_set_active(struct net_port *port, unsigned n)
{
	while (port->n_active != n) {
		bool more = port->n_active < n;
		unsigned queue = more ? port->n_active : port->n_active - 1;
		struct ifreq ifr = {.ifr_flags =
					(short)(more ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)};

		if (ioctl(port->fds[queue], TUNSETQUEUE, &ifr) < 0)
			return -errno;
		port->n_active = more ? port->n_active + 1 : port->n_active - 1;
	}
	return 0;
}

static void tap_close(struct net_port *port)
{
	for (unsigned i = 0; i < port->n_queues; i++)
		close(port->fds[i]);
	free(port);
}

static const struct net_port_ops tap_ops = {
    .name = "tap",
    .send = tap_send,
    .receive = tap_receive,
    .receive_into = tap_receive_into,
    .set_offloads = tap_set_offloads,
    .set_active = tap_set_active,
    .close = tap_close,
};

static int check(int fd)
{
	int header = NET_HEADER, little = 1;
	unsigned features;

	/* The first is one of taps' alone. */
	if (ioctl(fd, TUNGETFEATURES, &features) < 0 || !(features & IFF_VNET_HDR))
		return -EINVAL;
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return -EINVAL;
	ioctl(fd, TUNSETVNETLE, &little); /* on a little-endian host so it is */
	return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int net_port_tap_open(struct net_port **out, const int *fds, unsigned n, struct err *err)
{
	struct net_port *port = calloc(1, sizeof(*port));
	int r = 0;

	if (!port || !n || n > NET_QUEUES_MAX) {
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		free(port);
		return err_set(err, n && n <= NET_QUEUES_MAX ? -ENOMEM : -EINVAL,
			       "a tap of %u queues cannot be", n);
	}
	port->ops = &tap_ops;
	port->n_queues = port->n_active = n;
	memcpy(port->fds, fds, n * sizeof(*fds));
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = check(fds[i]);
	port->can_send = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN;
	port->can_receive = port->can_send;
	if (r == 0 && ioctl(fds[0], TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_USO)) == 0) {
		port->can_send |= NET_USO;
		port->can_receive |= NET_USO;
	}
	if (r == 0)
		r = tap_set_offloads(port, 0);
	if (r < 0) {
		tap_close(port);
		return err_set(err, r, "it is no tap with headers of virtio");
	}
	*out = port;
	return 0;
}
