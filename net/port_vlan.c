// SPDX-License-Identifier: ISC
/*
 * A VLAN's port: an access port of a switch over another port, which carries the VLAN's tag
 * (IEEE 802.1Q). For hosts whose kernel tags nothing itself.
 *
 * What the guest sends gets the tag behind its two addresses; a frame that bears a tag already
 * is not sent, as no switch takes one on such a port (with two tags, it could get into another
 * VLAN where the outer one is taken off). What comes is the guest's if it bears the
 * tag, which is taken off; all else is of other VLANs, or of none.
 *
 * The header in front counts bytes of the frame from its start: where the checksum begins
 * and, of a segment to be cut, how long headers are. Both move by the tag.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/port.h"

#define TAG	 4
#define MACS	 12
#define HEAD	 (NET_HEADER + MACS)
#define VLAN_MAX 4094
/* In struct virtio_net_hdr_v1 (virtio 1.2 §5.1.6); little endian. */
#define FLAGS	   0
#define GSO_TYPE   1
#define HDR_LEN	   2
#define CSUM_START 6
#define NEEDS_CSUM 1

struct vlan_port {
	struct net_port port;
	struct net_port *inner;
	unsigned vlan;
};

static struct vlan_port *vlan_of(struct net_port *port)
{
	return (struct vlan_port *)port;
}

/* 802.1Q, 802.1ad, and what was used before that. */
static bool is_tag(const uint8_t *type)
{
	return (type[0] == 0x81 && type[1] == 0x00) || (type[0] == 0x88 && type[1] == 0xa8) ||
	       (type[0] == 0x91 && type[1] == 0x00);
}

/* False: it would not be a place in the frame any more. */
static bool move(uint8_t *field, int by)
{
	long at = (long)(field[0] | field[1] << 8) + by;

	if (at < 0 || at > 0xffff)
		return false;
	field[0] = (uint8_t)at;
	field[1] = (uint8_t)(at >> 8);
	return true;
}

/* Of a frame that grows by @by bytes behind its addresses. */
static bool move_header(uint8_t *header, int by)
{
	return (!(header[FLAGS] & NEEDS_CSUM) || move(header + CSUM_START, by)) &&
	       (!header[GSO_TYPE] || move(header + HDR_LEN, by));
}

/* Copies @n bytes from the start; what is left of the pieces behind them goes to @rest. */
static bool split(const struct iovec *iov, unsigned n, uint8_t *head, size_t bytes,
		  struct iovec *rest, unsigned *n_rest)
{
	unsigned i = 0;
	size_t at = 0;

	*n_rest = 0;
	for (; i < n && bytes; i++) {
		size_t part = iov[i].iov_len < bytes ? iov[i].iov_len : bytes;

		memcpy(head, iov[i].iov_base, part);
		head += part;
		bytes -= part;
		at = part;
	}
	if (bytes)
		return false;
	if (i && at < iov[i - 1].iov_len)
		rest[(*n_rest)++] =
		    (struct iovec){(uint8_t *)iov[i - 1].iov_base + at, iov[i - 1].iov_len - at};
	for (; i < n; i++)
		rest[(*n_rest)++] = iov[i];
	return true;
}

static int vlan_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	struct vlan_port *v = vlan_of(port);
	struct iovec pieces[NET_IOV_MAX + 2];
	uint8_t head[HEAD + TAG + 2];
	unsigned n_rest;

	/* the type too: it is looked at, and sent as it was then, whatever the guest does */
	if (n > NET_IOV_MAX - 1 || !split(iov, n, head, HEAD + 2, pieces + 1, &n_rest))
		return -EINVAL;
	if (is_tag(head + HEAD) || !move_header(head, TAG))
		return -EINVAL;
	memmove(head + HEAD + TAG, head + HEAD, 2);
	head[HEAD] = 0x81;
	head[HEAD + 1] = 0x00;
	head[HEAD + 2] = (uint8_t)(v->vlan >> 8);
	head[HEAD + 3] = (uint8_t)v->vlan;
	pieces[0] = (struct iovec){head, sizeof(head)};
	return net_port_send(v->inner, queue, pieces, n_rest + 1);
}

static ssize_t vlan_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	struct vlan_port *v = vlan_of(port);
	ssize_t len = net_port_receive(v->inner, queue, buf, size);
	uint8_t *frame = (uint8_t *)buf + NET_HEADER;

	if (len < 0)
		return len;
	if (len < NET_HEADER + NET_ETH_HEADER + TAG || frame[MACS] != 0x81 || frame[MACS + 1] ||
	    (unsigned)((frame[MACS + 2] & 15) << 8 | frame[MACS + 3]) != v->vlan ||
	    !move_header(buf, -TAG))
		return 0;
	memmove(frame + MACS, frame + MACS + TAG, (size_t)len - HEAD - TAG);
	return len - TAG;
}

static int vlan_set_offloads(struct net_port *port, unsigned offloads)
{
	return net_port_set_offloads(vlan_of(port)->inner, offloads);
}

static int vlan_set_active(struct net_port *port, unsigned n)
{
	struct net_port *inner = vlan_of(port)->inner;
	int r = net_port_set_active(inner, n);

	port->n_active = inner->n_active;
	return r;
}

static void vlan_close(struct net_port *port)
{
	net_port_close(vlan_of(port)->inner);
	free(port);
}

static const struct net_port_ops vlan_ops = {
    .name = "vlan",
    .send = vlan_send,
    .receive = vlan_receive,
    .set_offloads = vlan_set_offloads,
    .set_active = vlan_set_active,
    .close = vlan_close,
};

int net_port_vlan_open(struct net_port **out, struct net_port *inner, unsigned vlan,
		       struct err *err)
{
	struct vlan_port *v;

	if (vlan < 1 || vlan > VLAN_MAX) {
		net_port_close(inner);
		return err_set(err, -ERANGE, "there is no VLAN %u", vlan);
	}
	v = calloc(1, sizeof(*v));
	if (!v) {
		net_port_close(inner);
		return err_set(err, -ENOMEM, "out of memory");
	}
	v->port = *inner;
	v->port.ops = &vlan_ops;
	v->inner = inner;
	v->vlan = vlan;
	*out = &v->port;
	return 0;
}
