// SPDX-License-Identifier: ISC
/*
 * A network disk's thread: receives replies, ends what they answer, goes on sending when a full
 * socket has room again, and ends everything when the other end is gone or misbehaves. Theory
 * of operation in block_nbd.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/block_nbd_int.h"
#include "util/cleanup.h"

/* The peer is gone or talks nonsense: all fails, but for what another thread is sending. */
static void die(struct nbd *n)
{
	struct block_req *req;

	LOCK_SCOPE(&n->lock);
	n->dead = true;
	while ((req = list_take(&n->waiting)))
		queue_post(req->queue, block_req_io(req), -EIO);
	n->to_send.first = NULL;
	n->to_send.last = &n->to_send.first;
	for (struct slot *s = n->slots; s < n->slots + NBD_SLOTS; s++)
		if (s->state != SLOT_FREE && !(s->req == n->current && n->sending && !n->blocked))
			nbd_finish(n, s, -EIO);
}

/* --- replies ---------------------------------------------------------------------------------- */

static int result_of(uint32_t error)
{
	static const struct {
		uint32_t wire;
		int result;
	} errors[] = {
	    {0, 0},
	    {NBD_EPERM, -EROFS},
	    {NBD_ENOMEM, -ENOMEM},
	    {NBD_ENOSPC, -ENOSPC},
	    {NBD_ENOTSUP, -EOPNOTSUPP},
	};

	for (unsigned i = 0; i < nitems(errors); i++)
		if (errors[i].wire == error)
			return errors[i].result;
	return -EIO;
}

/* The slot that a reply is for, checked; NULL: nonsense. */
static struct slot *slot_of(struct nbd *n, uint64_t cookie)
{
	struct slot *slot;

	if ((cookie & 0xffff) >= NBD_SLOTS)
		return NULL;
	slot = &n->slots[cookie & 0xffff];
	if (slot->state == SLOT_FREE || slot->use != cookie >> 16 || slot->replied)
		return NULL;
	/* Not sent yet is wrong, but what is being sent may be so without that being noted. */
	return slot->state == SLOT_SENT || slot->req == n->current ? slot : NULL;
}

static void complete(struct nbd *n, struct slot *slot, int result)
{
	LOCK_SCOPE(&n->lock);
	if (slot->state == SLOT_SENT) {
		nbd_finish(n, slot, result);
	} else {
		slot->replied = true;
		slot->result = result;
	}
}

/* Takes a reply's header; the payload of a READ follows. 0 or -EPROTO. */
static int take_reply(struct nbd *n, const struct nbd_reply *reply)
{
	int result = result_of(be32toh(reply->error));
	struct slot *slot;

	if (be32toh(reply->magic) != NBD_REPLY_MAGIC)
		return -EPROTO;
	pthread_mutex_lock(&n->lock);
	slot = slot_of(n, be64toh(reply->cookie));
	pthread_mutex_unlock(&n->lock);
	if (!slot)
		return -EPROTO;
	if (room_of(slot->req)->cmd == NBD_CMD_READ && !result) {
		n->into = slot->req;
		n->into_left = room_of(slot->req)->length;
	} else {
		complete(n, slot, result);
	}
	return 0;
}

static unsigned into_iov(const struct nbd *n, struct iovec *iov, unsigned max)
{
	const struct nbd_room *room = room_of(n->into);

	return nbd_iov_slice(n->into, room->moved + room->length - n->into_left, n->into_left, iov,
			     max);
}

/* So many bytes of the READ's payload have come. */
static void advance(struct nbd *n, uint64_t bytes)
{
	n->into_left -= bytes;
	if (!n->into_left)
		complete(n, &n->slots[room_of(take_ptr(n->into))->slot], 0);
}

/* Moves what the buffer has of the payload to where it belongs; returns how much that was. */
static size_t copy_payload(struct nbd *n, const uint8_t *from, size_t len)
{
	size_t moved = 0;

	while (n->into && moved < len) {
		struct iovec iov;
		size_t part;

		into_iov(n, &iov, 1);
		part = iov.iov_len < len - moved ? iov.iov_len : len - moved;
		memcpy(iov.iov_base, from + moved, part);
		moved += part;
		advance(n, part);
	}
	return moved;
}

/* Takes all that the buffer holds, but for a header that is not whole. 0 or -EPROTO. */
static int parse(struct nbd *n)
{
	size_t at = 0;
	int r = 0;

	while (!r && at < n->rx_n) {
		if (n->into) {
			at += copy_payload(n, n->rx + at, n->rx_n - at);
		} else if (n->rx_n - at >= sizeof(struct nbd_reply)) {
			struct nbd_reply reply;

			memcpy(&reply, n->rx + at, sizeof(reply));
			at += sizeof(reply);
			r = take_reply(n, &reply);
		} else {
			break;
		}
	}
	memmove(n->rx, n->rx + at, n->rx_n - at);
	n->rx_n -= at;
	return r;
}

/* One receive, and what follows from it. 0, or -errno when the connection is over. */
static int receive(struct nbd *n)
{
	struct iovec iov[NBD_IOVS];
	struct msghdr msg = {.msg_iov = iov};
	uint64_t direct = 0;
	unsigned k = 0;
	ssize_t got;

	if (n->into)
		k = into_iov(n, iov, NBD_IOVS - 1);
	for (unsigned i = 0; i < k; i++)
		direct += iov[i].iov_len;
	if (!n->into || direct == n->into_left) /* what comes behind the payload */
		iov[k++] = (struct iovec){n->rx + n->rx_n, NBD_RX_BYTES - n->rx_n};
	msg.msg_iovlen = k;
	got = recvmsg(n->fd, &msg, MSG_DONTWAIT);
	if (got < 0)
		return errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	if (got == 0)
		return -EPIPE;
	if (n->into) {
		uint64_t part = (uint64_t)got < direct ? (uint64_t)got : direct;

		got -= (ssize_t)part;
		advance(n, part);
	}
	n->rx_n += (size_t)got;
	return parse(n);
}

static bool go_on_sending(struct nbd *n)
{
	LOCK_SCOPE(&n->lock);
	if (!n->blocked)
		return false;
	n->blocked = false;
	return true;
}

/* A request that got a slot from another's end has nobody yet who sends it. */
static bool must_send(struct nbd *n)
{
	LOCK_SCOPE(&n->lock);
	if (n->sending || !n->to_send.first)
		return false;
	return n->sending = true;
}

/* What the thread is to wait for; 0: its end. */
static short events_wanted(struct nbd *n)
{
	LOCK_SCOPE(&n->lock);
	if (n->stop || n->failed)
		return 0;
	return n->blocked ? POLLIN | POLLOUT : POLLIN;
}

void *nbd_thread(void *arg)
{
	struct nbd *n = arg;
	struct pollfd p[2] = {{.fd = n->fd}, {.fd = n->wake_fd, .events = POLLIN}};
	uint64_t count;

	while ((p[0].events = events_wanted(n))) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents && read(n->wake_fd, &count, sizeof(count)) < 0)
			abort(); /* cannot fail: it was readable, and nobody else reads it */
		if ((p[0].revents & POLLOUT) && go_on_sending(n))
			nbd_send_all(n);
		if ((p[0].revents & ~POLLOUT) && receive(n) < 0)
			break;
		if (must_send(n))
			nbd_send_all(n);
	}
	die(n);
	return NULL;
}
