// SPDX-License-Identifier: ISC
/*
 * virtio-vsock: packets from the guest. All of a header is the guest's word. A packet that is none
 * of a connection's, or that its connection may not have now, is answered by RST; so is the end of
 * a connection whose guest sends more than it was given credit for. Nothing here ever waits for the
 * guest to take something: this queue is always served to its end (§5.10.6.1.1).
 */
#include <endian.h>

#include "vmm/virtio_vsock_int.h"

#define HEADER	  sizeof(struct virtio_vsock_hdr)
#define PORT_ANY  UINT32_MAX
#define IN(state) (1u << (state))

struct packet {
	const struct virtio_vsock_hdr *hdr;
	const struct iovec *iov; /* its payload */
	unsigned n;
	uint32_t len;
};

/* --- of a connection that there is; each may free it ---------------------------------------- */

static void on_response(struct vsock *v, struct vsock_conn *c, const struct packet *p)
{
	(void)p;
	c->state = VSOCK_OPEN;
	c->seconds_left = 0;
	vsock_conn_ready(v, c);
}

static void on_rst(struct vsock *v, struct vsock_conn *c, const struct packet *p)
{
	(void)p;
	if (c->state != VSOCK_OPEN)
		stats_add(v->refused, 1);
	vsock_conn_finish(v, c);
}

static void on_shutdown(struct vsock *v, struct vsock_conn *c, const struct packet *p)
{
	c->guest_shut |= le32toh(p->hdr->flags) & SHUT_ALL;
	if (c->guest_shut != SHUT_ALL) {
		vsock_conn_follow_shut(v, c);
		return;
	}
	vsock_rst(v, c->guest_port, c->host_port);
	vsock_conn_finish(v, c);
}

static void on_data(struct vsock *v, struct vsock_conn *c, const struct packet *p)
{
	/* Never more on its way than we have room for: received - forwarded ≤ VSOCK_BUFFER. */
	uint32_t room = VSOCK_BUFFER - (c->received - c->forwarded);

	if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND || p->len > room)
		vsock_conn_abort(v, c);
	else
		vsock_conn_take(v, c, p->iov, p->n, p->len);
}

/* What it says of credit was taken from its header. */
static void on_credit(struct vsock *v, struct vsock_conn *c, const struct packet *p)
{
	(void)v, (void)c, (void)p;
}

static void on_credit_request(struct vsock *v, struct vsock_conn *c, const struct packet *p)
{
	(void)p;
	vsock_conn_say(v, c, SAY_CREDIT);
}

static const struct {
	unsigned states; /* in which it may come */
	void (*run)(struct vsock *v, struct vsock_conn *c, const struct packet *p);
} ops[] = {
    [VIRTIO_VSOCK_OP_RESPONSE] = {IN(VSOCK_CALLING), on_response},
    [VIRTIO_VSOCK_OP_RST] = {IN(VSOCK_ASKED) | IN(VSOCK_CALLING) | IN(VSOCK_OPEN), on_rst},
    [VIRTIO_VSOCK_OP_SHUTDOWN] = {IN(VSOCK_OPEN), on_shutdown},
    [VIRTIO_VSOCK_OP_RW] = {IN(VSOCK_OPEN), on_data},
    [VIRTIO_VSOCK_OP_CREDIT_UPDATE] = {IN(VSOCK_OPEN), on_credit},
    [VIRTIO_VSOCK_OP_CREDIT_REQUEST] = {IN(VSOCK_OPEN), on_credit_request},
};

/* --- packets -------------------------------------------------------------------------------- */

static void hear_credit(struct vsock *v, struct vsock_conn *c, const struct virtio_vsock_hdr *hdr)
{
	c->peer_alloc = le32toh(hdr->buf_alloc);
	c->peer_fwd = le32toh(hdr->fwd_cnt);
	if (vsock_conn_credit(c))
		c->need_said = false;
	if (c->state == VSOCK_OPEN)
		vsock_conn_ready(v, c);
}

static void request(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	uint32_t guest_port = le32toh(hdr->src_port), host_port = le32toh(hdr->dst_port);
	struct vsock_conn *c = NULL;

	if (host_port != PORT_ANY)
		c = vsock_conn_new(v, VSOCK_ASKED, guest_port, host_port, -1);
	if (!c) {
		vsock_refuse(v, hdr);
		return;
	}
	stats_add(v->asked, 1);
	hear_credit(v, c, hdr);
	if (!vsock_ask(v, c)) {
		stats_add(v->refused, 1);
		vsock_conn_abort(v, c);
	}
}

static void take(struct vsock *v, const struct packet *p)
{
	const struct virtio_vsock_hdr *hdr = p->hdr;
	uint16_t op = le16toh(hdr->op);
	struct vsock_conn *c;

	if (le64toh(hdr->src_cid) != v->boot->cid)
		return; /* from nobody */
	if (le64toh(hdr->dst_cid) != VSOCK_HOST_CID ||
	    le16toh(hdr->type) != VIRTIO_VSOCK_TYPE_STREAM) {
		vsock_refuse(v, hdr);
		return;
	}
	c = vsock_conn_find(v, le32toh(hdr->src_port), le32toh(hdr->dst_port));
	if (!c && op == VIRTIO_VSOCK_OP_REQUEST) {
		request(v, hdr);
	} else if (!c) {
		vsock_refuse(v, hdr);
	} else if (op >= sizeof(ops) / sizeof(ops[0]) || !(ops[op].states & IN(c->state))) {
		vsock_conn_abort(v, c);
	} else {
		hear_credit(v, c, hdr);
		ops[op].run(v, c, p);
	}
}

/* The first @len bytes of the chain, as a packet's payload; false: it has fewer. */
static bool trim(struct virtqueue_chain *chain, uint32_t len, struct packet *p)
{
	size_t left = len;

	if (chain->out_bytes < len)
		return false;
	p->iov = chain->out;
	p->len = len;
	for (p->n = 0; left && p->n < chain->n_out; p->n++) {
		if (chain->out[p->n].iov_len > left)
			chain->out[p->n].iov_len = left;
		left -= chain->out[p->n].iov_len;
	}
	return true;
}

/* False: the driver broke the rules. */
static bool take_chain(struct vsock *v, struct virtio_queue *queue, struct virtqueue_chain *chain)
{
	struct virtio_vsock_hdr hdr;
	struct packet p = {.hdr = &hdr};
	uint16_t head = chain->head;

	if (chain->n_in || virtqueue_chain_read(chain, &hdr, HEADER) != HEADER ||
	    !trim(chain, le32toh(hdr.len), &p)) {
		virtio_queue_fail(queue, "a packet that is not whole");
		virtqueue_unpop(&queue->ring);
		return false;
	}
	take(v, &p);
	virtqueue_push(&queue->ring, head, 0);
	return true;
}

void vsock_transmit(struct vsock *v, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;

	virtqueue_notify_off(&queue->ring);
	do {
		while (virtio_pop(queue, v->iov, &chain) == 0)
			if (!take_chain(v, queue, &chain))
				return;
	} while (virtio_notify_on(queue));
}
