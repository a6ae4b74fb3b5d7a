// SPDX-License-Identifier: ISC
/*
 * Frames over a stream socket, each after its length in 32 bits. What the socket takes
 * in part is kept, and goes first at the next chance: until then nothing else
 * is sent, as a full queue of a card would have it. What comes is
 * gathered until a frame is whole.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/port.h"

#define LENGTH 4
#define ROOM   (LENGTH + NET_FRAME_MAX)

struct stream {
	struct net_port port; /* first */
	/* the sender's: what has not gone yet of a frame */
	uint8_t out[ROOM];
	size_t out_at, out_len;
	/* the receiver's: frames, the last perhaps not whole */
	uint8_t in[2 * ROOM];
	size_t in_at, in_len;
};

/* --- sending ------------------------------------------------------------------------------ */

static ssize_t put(struct stream *s, struct iovec *iov, size_t n)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t r;

	do
		r = sendmsg(s->port.fds[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? -EAGAIN : -EPIPE;
	return r;
}

static int put_kept(struct stream *s)
{
	while (s->out_at < s->out_len) {
		struct iovec iov = {s->out + s->out_at, s->out_len - s->out_at};
		ssize_t r = put(s, &iov, 1);

		if (r < 0)
			return (int)r;
		s->out_at += (size_t)r;
	}
	s->out_at = s->out_len = 0;
	return 0;
}

/* Copies what is behind the first @skip bytes. */
static size_t gather(uint8_t *to, const struct iovec *iov, size_t n, size_t skip)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		size_t part = iov[i].iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		memcpy(to + len, (const uint8_t *)iov[i].iov_base + skip, part - skip);
		len += part - skip;
		skip = 0;
	}
	return len;
}

/* The first bytes of the pieces taken off: the header, which this port does not send. */
static unsigned without_header(struct iovec *to, const struct iovec *iov, unsigned n)
{
	size_t skip = NET_HEADER;
	unsigned used = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t part = iov[i].iov_len, cut = skip < part ? skip : part;

		skip -= cut;
		if (part > cut)
			to[used++] = (struct iovec){(uint8_t *)iov[i].iov_base + cut, part - cut};
	}
	return used;
}

static int stream_send(struct net_port *port, unsigned queue, const struct iovec *iov, unsigned n)
{
	struct stream *s = (struct stream *)port;
	struct iovec all[NET_IOV_MAX + 1];
	uint32_t length;
	size_t bytes = 0;
	ssize_t sent;
	int r = put_kept(s);

	(void)queue;
	if (r < 0)
		return r;
	n = without_header(all + 1, iov, n) + 1;
	for (unsigned i = 1; i < n; i++)
		bytes += all[i].iov_len;
	length = htonl((uint32_t)bytes);
	all[0] = (struct iovec){&length, LENGTH};
	sent = put(s, all, n);
	if (sent < 0)
		return (int)sent;
	if ((size_t)sent < LENGTH + bytes)
		s->out_len = gather(s->out, all, n, (size_t)sent);
	return 0;
}

/* --- receiving ---------------------------------------------------------------------------- */

/* More of what the other end sent: -EAGAIN, -EPIPE. */
static int get_more(struct stream *s)
{
	struct iovec room;
	struct msghdr msg = {.msg_iov = &room, .msg_iovlen = 1};
	ssize_t r;

	if (s->in_at) {
		memmove(s->in, s->in + s->in_at, s->in_len - s->in_at);
		s->in_len -= s->in_at;
		s->in_at = 0;
	}
	room = (struct iovec){s->in + s->in_len, sizeof(s->in) - s->in_len};
	do
		r = recvmsg(s->port.fds[0], &msg, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (r <= 0)
		return -EPIPE;
	s->in_len += (size_t)r;
	return 0;
}

/* Whether a frame is whole: its length; -EAGAIN; -EPIPE: no frame is of such a length. */
static ssize_t whole(const struct stream *s)
{
	uint32_t length;

	if (s->in_len - s->in_at < LENGTH)
		return -EAGAIN;
	memcpy(&length, s->in + s->in_at, LENGTH);
	length = ntohl(length);
	if (length < NET_ETH_HEADER || length > NET_FRAME_MAX)
		return -EPIPE;
	return s->in_len - s->in_at < LENGTH + length ? -EAGAIN : (ssize_t)length;
}

static ssize_t stream_receive(struct net_port *port, unsigned queue, void *buf, size_t size)
{
	const struct virtio_net_hdr_v1 header = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
	struct stream *s = (struct stream *)port;
	ssize_t length;
	int r;

	(void)queue;
	_Static_assert(sizeof(header) == NET_HEADER, "the header's size");
	if (size < NET_BUFFER_MAX)
		return -EINVAL;
	while ((length = whole(s)) == -EAGAIN) {
		r = get_more(s);
		if (r < 0)
			return r;
	}
	if (length < 0)
		return length;
	s->in_at += LENGTH + (size_t)length;
	memcpy(buf, &header, NET_HEADER);
	memcpy((uint8_t *)buf + NET_HEADER, s->in + s->in_at - length, (size_t)length);
	return length + NET_HEADER;
}

static void stream_close(struct net_port *port)
{
	close(port->fds[0]);
	free(port);
}

static const struct net_port_ops stream_ops = {
    .name = "stream",
    .send = stream_send,
    .receive = stream_receive,
    .close = stream_close,
};

int net_port_stream_open(struct net_port **out, int fd, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	int type = 0, r;
	socklen_t len = sizeof(type);

	if (!s || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		close(fd);
		r = s ? err_set(err, -EINVAL, "it is no stream socket")
		      : err_set(err, -ENOMEM, "out of memory");
		free(s);
		return r;
	}
	s->port = (struct net_port){.ops = &stream_ops, .n_queues = 1, .n_active = 1, .fds = {fd}};
	*out = &s->port;
	return 0;
}
