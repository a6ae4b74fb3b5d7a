/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_PORT_H
#define FV_NET_PORT_H
/*
 * Where a guest's frames go to and come from, behind one interface: queues of a tap
 * of the host (a bridge's, a macvtap), or a stream socket to a program that is the other end
 * of the cable (passt).
 *
 * A frame is an Ethernet frame without its checksum, preceded by a struct
 * virtio_net_hdr_v1 of NET_HEADER bytes (virtio 1.2 §5.1.6), which says what
 * is left to be done for it. A port never waits. A queue of it belongs to one
 * thread at a time; sending and receiving on one may be different threads.
 *
 * System calls of the data path: readv writev; recvmsg sendmsg (stream); ioctl
 * TUNSETOFFLOAD and TUNSETQUEUE (tap).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "util/err.h"

#define NET_HEADER     12
#define NET_ETH_HEADER 14
#define NET_FRAME_MAX  (65535 + NET_ETH_HEADER + 4) /* of a segment to be cut, with a VLAN tag */
#define NET_BUFFER_MAX (NET_HEADER + NET_FRAME_MAX)
#define NET_QUEUES_MAX 8
#define NET_MTU_MIN    68
#define NET_MTU_MAX    65521
#define NET_IOV_MAX    (128 + 2)

/* What a side need not have done for it. */
enum {
	NET_CSUM = 1 << 0, /* checksums are filled in by who needs them */
	NET_TSO4 = 1 << 1, /* TCP segments up to 64 KiB */
	NET_TSO6 = 1 << 2,
	NET_ECN = 1 << 3, /* and such with ECN */
	NET_USO = 1 << 4, /* UDP segments up to 64 KiB */
};

struct net_port;

struct net_port_ops {
	const char *name;
	int (*send)(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n);
	ssize_t (*receive)(struct net_port *port, unsigned queue, void *buf, size_t size);
	/* NULL: a frame is received into one piece only */
	ssize_t (*receive_into)(struct net_port *port, unsigned queue, const struct iovec *iov,
				unsigned n);
	int (*set_offloads)(struct net_port *port, unsigned offloads); /* NULL: there are none */
	int (*set_active)(struct net_port *port, unsigned n); /* NULL: there is one queue */
	void (*close)(struct net_port *port);
};

struct net_port {
	const struct net_port_ops *ops;
	unsigned n_queues;
	unsigned can_send;    /* NET_…: what frames that are sent may need */
	unsigned can_receive; /* what those that are received may be made to need */
	unsigned n_active;    /* the control queue's thread, or while nothing runs */
	int fds[NET_QUEUES_MAX];
};

/*
 * Queues of one tap, each descriptor attached already, with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
 * takes the descriptors, also on error. Sets the header's size. -EINVAL: no such tap.
 */
int net_port_tap_open(struct net_port **port, const int *fds, unsigned n, struct err *err);
/*
 * A stream socket that carries frames, each after its length (32 bits, big endian), as QEMU's
 * `-netdev stream` and passt have it; takes @fd, also on error. No offloads.
 */
int net_port_stream_open(struct net_port **port, int fd, struct err *err);
/*
 * The access port of VLAN @vlan (1 to 4094) on @inner, which is taken, also on error: frames that
 * are sent get its tag, and only those with it are received, without it. -ERANGE, -ENOMEM.
 */
int net_port_vlan_open(struct net_port **port, struct net_port *inner, unsigned vlan,
		       struct err *err);
/* A cable that leads nowhere, with queues and offloads as @like has them. */
int net_port_none_open(struct net_port **port, const struct net_port *like, struct err *err);
/* NULL is fine. */
void net_port_close(struct net_port *port);

/* Readable (poll(2)) when a frame may be received on the queue; edges are enough. Constant. */
static inline int net_port_fd(const struct net_port *port, unsigned queue)
{
	return port->fds[queue];
}

/*
 * Sends a frame with its header in front, in up to NET_IOV_MAX pieces. 0; -EAGAIN: there is no
 * room: it is not sent; -EINVAL: a frame that cannot be; -EPIPE: nobody is there; -EIO.
 */
int net_port_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n);
/*
 * The next frame with its header into @buf of NET_BUFFER_MAX bytes: its length; 0: one has come
 * that is not for this port; -EAGAIN: none; -EPIPE: there will be none.
 */
ssize_t net_port_receive(struct net_port *port, unsigned queue, void *buf, size_t size);
/*
 * The same into up to NET_IOV_MAX pieces of NET_BUFFER_MAX bytes in all: more than one only where
 * net_port_scatters().
 */
ssize_t net_port_receive_into(struct net_port *port, unsigned queue, const struct iovec *iov,
			      unsigned n);
static inline bool net_port_scatters(const struct net_port *port)
{
	return port->ops->receive_into;
}
/* What frames may need from now on that are received: a part of ->can_receive. */
int net_port_set_offloads(struct net_port *port, unsigned offloads);
/* The first @n queues (1 … n_queues) get frames from now on, the others none. */
int net_port_set_active(struct net_port *port, unsigned n);

#endif
