// SPDX-License-Identifier: ISC
/*
 * virtio-vsock: packets to the guest. Each buffer takes one: a RST that waits, or what the
 * connection whose turn it is has to say, or bytes read straight from its socket into the buffer.
 * Connections take turns, a packet each.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/virtio_vsock_int.h"

#define HEADER sizeof(struct virtio_vsock_hdr)

/* --- RST ------------------------------------------------------------------------------------ */

static void add_rst(struct vsock *v, const struct vsock_rst *rst)
{
	if (v->n_rsts == VSOCK_RSTS_MAX)
		return;
	v->rsts[(v->first_rst + v->n_rsts++) % VSOCK_RSTS_MAX] = *rst;
}

void vsock_refuse(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	struct vsock_rst rst = {.src_cid = le64toh(hdr->dst_cid),
				.src_port = le32toh(hdr->dst_port),
				.dst_port = le32toh(hdr->src_port),
				.type = le16toh(hdr->type)};

	if (le16toh(hdr->op) == VIRTIO_VSOCK_OP_RST)
		return;
	stats_add(v->refused, 1);
	add_rst(v, &rst);
}

void vsock_rst(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	add_rst(v, &(struct vsock_rst){.src_cid = VSOCK_HOST_CID,
				       .src_port = host_port,
				       .dst_port = guest_port,
				       .type = VIRTIO_VSOCK_TYPE_STREAM});
}

/* --- packets -------------------------------------------------------------------------------- */

static uint32_t put_header(struct vsock *v, struct virtqueue_chain *chain, struct vsock_rst *ends,
			   uint16_t op, uint32_t len, uint32_t flags, const struct vsock_conn *c)
{
	struct virtio_vsock_hdr hdr = {.src_cid = htole64(ends->src_cid),
				       .dst_cid = htole64(v->boot->cid),
				       .src_port = htole32(ends->src_port),
				       .dst_port = htole32(ends->dst_port),
				       .len = htole32(len),
				       .type = htole16(ends->type),
				       .op = htole16(op),
				       .flags = htole32(flags),
				       .buf_alloc = htole32(c ? VSOCK_BUFFER : 0),
				       .fwd_cnt = htole32(c ? c->forwarded : 0)};

	virtqueue_chain_write(chain, &hdr, HEADER);
	return HEADER + len;
}

static uint32_t say(struct vsock *v, struct virtqueue_chain *chain, struct vsock_conn *c,
		    uint16_t op, uint32_t len, uint32_t flags)
{
	struct vsock_rst ends = {.src_cid = VSOCK_HOST_CID,
				 .src_port = c->host_port,
				 .dst_port = c->guest_port,
				 .type = VIRTIO_VSOCK_TYPE_STREAM};

	/* Each packet tells of credit. */
	c->forwarded_said = c->forwarded;
	c->pending &= ~(unsigned)SAY_CREDIT;
	return put_header(v, chain, &ends, op, len, flags, c);
}

/* The socket has no more to read. */
static void host_is_dumb(struct vsock_conn *c, bool closed)
{
	c->host_shut |= VIRTIO_VSOCK_SHUTDOWN_SEND;
	if (closed || c->host_closed)
		c->host_shut = SHUT_ALL;
	c->pending |= SAY_SHUTDOWN;
}

/* Bytes of the socket into the chain, behind the place of the header. 0: there are none now. */
static uint32_t read_socket(struct vsock *v, struct vsock_conn *c,
			    const struct virtqueue_chain *chain)
{
	uint32_t max = vsock_conn_credit(c), skip = HEADER;
	struct iovec body[VSOCK_CHAIN_MAX];
	struct msghdr msg = {.msg_iov = body};
	ssize_t n;

	max = max < VSOCK_PACKET_MAX ? max : VSOCK_PACKET_MAX;
	for (unsigned i = 0; i < chain->n_in && max; i++) {
		size_t gone = skip < chain->in[i].iov_len ? skip : chain->in[i].iov_len;
		size_t part = chain->in[i].iov_len - gone;

		skip -= (uint32_t)gone;
		part = part < max ? part : max;
		max -= (uint32_t)part;
		if (part)
			body[msg.msg_iovlen++] =
			    (struct iovec){(char *)chain->in[i].iov_base + gone, part};
	}
	do {
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		c->readable = false;
	if (n == 0)
		host_is_dumb(c, false);
	else if (n < 0 && errno != EAGAIN)
		host_is_dumb(c, true);
	if (n <= 0)
		return 0;
	c->sent += (uint32_t)n;
	stats_add(v->bytes_in, (uint64_t)n);
	return (uint32_t)n;
}

static uint32_t say_shutdown(struct vsock *v, struct virtqueue_chain *chain, struct vsock_conn *c)
{
	c->pending &= ~(unsigned)SAY_SHUTDOWN;
	c->said_shut = c->host_shut;
	if (c->said_shut == SHUT_ALL) {
		c->seconds_left = VSOCK_GOODBYE_S;
		vsock_time(v);
	}
	return say(v, chain, c, VIRTIO_VSOCK_OP_SHUTDOWN, 0, c->said_shut);
}

/* One packet of the connection's; its length, 0: it has nothing to say. */
static uint32_t speak(struct vsock *v, struct virtqueue_chain *chain, struct vsock_conn *c)
{
	static const struct {
		unsigned what;
		uint16_t op;
	} words[] = {
	    {SAY_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
	    {SAY_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
	    {SAY_NEED, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
	};
	uint32_t len = 0;

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!(c->pending & words[i].what))
			continue;
		c->pending &= ~words[i].what;
		return say(v, chain, c, words[i].op, 0, 0);
	}
	if (vsock_conn_may_read(c) && vsock_conn_credit(c))
		len = read_socket(v, c, chain);
	if (len)
		return say(v, chain, c, VIRTIO_VSOCK_OP_RW, len, 0);
	if (c->pending & SAY_SHUTDOWN)
		return say_shutdown(v, chain, c);
	if (c->pending & SAY_CREDIT)
		return say(v, chain, c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
	return 0;
}

/* The next packet there is, 0: none. */
static uint32_t fill(struct vsock *v, struct virtqueue_chain *chain)
{
	struct vsock_conn *c;
	uint32_t len = 0;

	if (v->n_rsts) {
		struct vsock_rst rst = v->rsts[v->first_rst];

		v->first_rst = (v->first_rst + 1) % VSOCK_RSTS_MAX;
		v->n_rsts--;
		return put_header(v, chain, &rst, VIRTIO_VSOCK_OP_RST, 0, 0, NULL);
	}
	while (!len && (c = vsock_conn_turn(v))) {
		len = speak(v, chain, c);
		vsock_conn_ready(v, c);
	}
	return len;
}

bool vsock_has_work(const struct vsock *v)
{
	return v->n_rsts || v->ready;
}

void vsock_receive(struct vsock *v, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;
	uint32_t len;

	virtqueue_notify_off(&queue->ring);
	while (vsock_has_work(v)) {
		if (virtio_pop(queue, v->iov, &chain) < 0) {
			if (!virtio_notify_on(queue))
				break;
			continue;
		}
		if (chain.n_out || chain.in_bytes <= HEADER) {
			virtio_queue_fail(queue, "a buffer that holds no packet");
			virtqueue_unpop(&queue->ring);
			break;
		}
		len = fill(v, &chain);
		if (len)
			virtqueue_push(&queue->ring, chain.head, len);
		else
			virtqueue_unpop(&queue->ring);
	}
}
