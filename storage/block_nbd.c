// SPDX-License-Identifier: ISC
/*
 * The client of NBD's transmission phase.
 *
 * Requests are sent by the thread that submits them, at once, as long as the socket takes
 * them; where it does not, the node's own thread goes on when there is room. It also
 * receives all replies, straight into the requests' buffers, and brings each completion
 * home by queue_post(). So no queue depends on another's thread being awake, and submit
 * never waits. ->sending says that somebody sends; at most one does.
 *
 * A request has one command under way at a time: what is too large for one goes in
 * chunks, one after the other, and FUA where the server knows none is a flush behind. Each
 * command has a slot; its cookie is the slot and a count of its uses, so that a reply
 * to anything but a command under way is noticed. The other end is not trusted: the first
 * thing that is wrong ends the connection, and everything under way with -EIO.
 *
 * A request may be ended only when its buffers are used no more: by the thread (which alone
 * receives), and by a sendmsg() of it (->current), whose caller looks afterwards
 * whether the reply was there first.
 *
 * System calls: eventfd2 mmap mprotect clone3 rt_sigprocmask (open); sendmsg write (use); poll
 * recvmsg sendmsg read write futex (thread); futex munmap close (end).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/block_nbd_int.h"
#include "util/cleanup.h"

#define THREAD_STACK (128 << 10)
#define ZERO_BYTES   (64 << 10)

static const uint8_t zeroes[ZERO_BYTES];

static struct nbd *nbd_of(struct block_req *req)
{
	return (struct nbd *)req->node;
}

void nbd_wake(struct nbd *n)
{
	uint64_t one = 1;

	if (write(n->wake_fd, &one, sizeof(one)) < 0)
		abort(); /* cannot fail: the count is far from its limit */
}

unsigned nbd_iov_slice(const struct block_req *req, uint64_t skip, uint64_t len, struct iovec *iov,
		       unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < req->n_iov && n < max && len; i++) {
		size_t here = req->iov[i].iov_len;

		if (skip >= here) {
			skip -= here;
			continue;
		}
		iov[n].iov_base = (char *)req->iov[i].iov_base + skip;
		iov[n].iov_len = here - skip < len ? here - skip : len;
		len -= iov[n++].iov_len;
		skip = 0;
	}
	return n;
}

/* --- completion ----------------------------------------------------------------------------- */

static void command_done(struct queue_io *io, int result);

/* A slot for @req, which is to be sent. Under the lock, where one is free. */
static void take_slot(struct nbd *n, struct block_req *req)
{
	struct slot *slot = &n->slots[n->free_slots[--n->n_free]];

	*slot = (struct slot){.req = req, .use = slot->use + 1, .state = SLOT_QUEUED};
	room_of(req)->slot = (uint16_t)(slot - n->slots);
	list_add(&n->to_send, req);
}

void nbd_finish(struct nbd *n, struct slot *slot, int result)
{
	struct block_req *req = slot->req, *next = list_take(&n->waiting);

	slot->req = NULL;
	slot->state = SLOT_FREE;
	n->free_slots[n->n_free++] = (uint16_t)(slot - n->slots);
	if (next)
		take_slot(n, next);
	queue_post(req->queue, block_req_io(req), result);
}

/* --- sending -------------------------------------------------------------------------------- */

static unsigned payload_iov(struct block_req *req, uint64_t skip, struct iovec *iov, unsigned max)
{
	struct nbd_room *room = room_of(req);
	uint64_t left = room->length - skip;
	unsigned k;

	if (!room->plain_zeroes)
		return nbd_iov_slice(req, room->moved + skip, left, iov, max);
	for (k = 0; k < max && left; k++) {
		iov[k].iov_base = (void *)zeroes;
		iov[k].iov_len = left < ZERO_BYTES ? left : ZERO_BYTES;
		left -= iov[k].iov_len;
	}
	return k;
}

static void make_header(struct nbd *n, struct block_req *req)
{
	struct nbd_room *room = room_of(req);
	bool fua = (req->flags & BLOCK_FUA) && (n->flags & NBD_FLAG_SEND_FUA);
	uint16_t flags = 0;

	if (fua && (room->cmd == NBD_CMD_WRITE || room->cmd == NBD_CMD_WRITE_ZEROES))
		flags |= NBD_CMD_FLAG_FUA;
	if (room->cmd == NBD_CMD_WRITE_ZEROES && !(req->flags & BLOCK_UNMAP))
		flags |= NBD_CMD_FLAG_NO_HOLE;
	n->header = (struct nbd_request){
	    .magic = htobe32(NBD_REQUEST_MAGIC),
	    .flags = htobe16(flags),
	    .type = htobe16(room->cmd),
	    .cookie = htobe64(n->slots[room->slot].use << 16 | room->slot),
	    .offset = htobe64(room->cmd == NBD_CMD_FLUSH ? 0 : req->offset + room->moved),
	    .length = htobe32(room->length),
	};
	n->sent = 0;
}

/* What to send next, if anything: else sending is over. */
static struct block_req *next_to_send(struct nbd *n)
{
	LOCK_SCOPE(&n->lock);
	if (n->current)
		return n->current;
	if (!n->dead && !n->failed)
		n->current = list_take(&n->to_send);
	if (n->current)
		make_header(n, n->current);
	else
		n->sending = false;
	return n->current;
}

/* 1 once @req is sent wholly, -EAGAIN when there is no more room, -errno. */
static int send_some(struct nbd *n, struct block_req *req)
{
	struct nbd_room *room = room_of(req);
	uint64_t payload = room->cmd == NBD_CMD_WRITE ? room->length : 0;
	uint64_t head = sizeof(n->header);

	while (n->sent < head + payload) {
		struct iovec iov[NBD_IOVS];
		struct msghdr msg = {.msg_iov = iov};
		unsigned k = 0;
		ssize_t got;

		if (n->sent < head)
			iov[k++] = (struct iovec){(char *)&n->header + n->sent, head - n->sent};
		if (payload)
			k += payload_iov(req, n->sent < head ? 0 : n->sent - head, iov + k,
					 NBD_IOVS - k);
		msg.msg_iovlen = k;
		got = sendmsg(n->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (got < 0 && errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		n->sent += got < 0 ? 0 : (uint64_t)got;
	}
	return 1;
}

/* ->current is sent, or cannot be (then the thread ends everything, if it has not yet). */
static void after_send(struct nbd *n, struct block_req *req, int r)
{
	struct slot *slot;

	LOCK_SCOPE(&n->lock);
	slot = &n->slots[room_of(req)->slot];
	n->current = NULL;
	slot->state = SLOT_SENT;
	if (r < 0 && !n->failed) {
		n->failed = true;
		nbd_wake(n);
	}
	if (n->dead)
		nbd_finish(n, slot, -EIO);
	else if (slot->replied && r == 1)
		nbd_finish(n, slot, slot->result);
}

void nbd_send_all(struct nbd *n)
{
	struct block_req *req;

	while ((req = next_to_send(n))) {
		int r = send_some(n, req);

		if (r == -EAGAIN) {
			LOCK_SCOPE(&n->lock);
			if (!n->dead) {
				n->blocked = true;
				nbd_wake(n);
				return;
			}
			r = -EPIPE;
		}
		after_send(n, req, r);
	}
}

/* Hands the command of @req over; false: the connection is dead. */
static bool submit_command(struct nbd *n, struct block_req *req)
{
	bool ours = false;

	pthread_mutex_lock(&n->lock);
	if (n->dead) {
		pthread_mutex_unlock(&n->lock);
		return false;
	}
	block_req_io(req)->done = command_done;
	if (!n->n_free) {
		list_add(&n->waiting, req);
	} else {
		take_slot(n, req);
		ours = !n->sending;
		n->sending = true;
	}
	pthread_mutex_unlock(&n->lock);
	if (ours)
		nbd_send_all(n);
	return true;
}

/* --- requests --------------------------------------------------------------------------------- */

/* A command for what is left of @req; the queue's thread. */
static void start(struct nbd *n, struct block_req *req)
{
	struct nbd_room *room = room_of(req);
	uint64_t left = req->bytes - room->moved;

	room->length = room->cmd == NBD_CMD_FLUSH ? 0
		       : left < n->payload_max	  ? (uint32_t)left
						  : n->payload_max;
	if (!submit_command(n, req))
		block_req_end(req, -EIO);
}

static bool needs_flush_for_fua(const struct nbd *n, const struct block_req *req)
{
	return (req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES) &&
	       (req->flags & BLOCK_FUA) && !(n->flags & NBD_FLAG_SEND_FUA) &&
	       (n->flags & NBD_FLAG_SEND_FLUSH);
}

static void command_done(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);
	struct nbd *n = nbd_of(req);
	struct nbd_room *room = room_of(req);

	room->moved += room->length;
	if (result < 0 || room->cmd == NBD_CMD_FLUSH) {
		block_req_end(req, result);
	} else if (room->moved < req->bytes) {
		start(n, req);
	} else if (needs_flush_for_fua(n, req)) {
		room->cmd = NBD_CMD_FLUSH;
		start(n, req);
	} else {
		block_req_end(req, 0);
	}
}

static void nbd_submit(struct block *block, struct block_req *req)
{
	static const struct {
		uint16_t cmd;
		uint32_t needs;
	} ways[] = {
	    [BLOCK_READ] = {NBD_CMD_READ, 0},
	    [BLOCK_WRITE] = {NBD_CMD_WRITE, 0},
	    [BLOCK_FLUSH] = {NBD_CMD_FLUSH, NBD_FLAG_SEND_FLUSH},
	    [BLOCK_DISCARD] = {NBD_CMD_TRIM, NBD_FLAG_SEND_TRIM},
	    [BLOCK_WRITE_ZEROES] = {NBD_CMD_WRITE_ZEROES, NBD_FLAG_SEND_WRITE_ZEROES},
	};
	struct nbd *n = (struct nbd *)block;
	struct nbd_room *room = room_of(req);

	*room = (struct nbd_room){.cmd = ways[req->op].cmd};
	if ((n->flags & ways[req->op].needs) != ways[req->op].needs) {
		if (req->op != BLOCK_WRITE_ZEROES) {
			block_req_end(req, 0); /* nothing to flush, a hint that is not taken */
			return;
		}
		room->cmd = NBD_CMD_WRITE;
		room->plain_zeroes = true;
	}
	start(n, req);
}

/* --- the node -----------------------------------------------------------------------------------
 */

static void nbd_free(struct nbd *n)
{
	if (n->wake_fd >= 0)
		close(n->wake_fd);
	close(n->fd);
	pthread_mutex_destroy(&n->lock);
	free(n->rx);
	free(n);
}

static void nbd_close(struct block *block)
{
	struct nbd *n = (struct nbd *)block;

	pthread_mutex_lock(&n->lock);
	n->stop = true;
	nbd_wake(n);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	nbd_free(n);
}

static const struct block_ops nbd_ops = {
    .name = "nbd",
    .submit = nbd_submit,
    .close = nbd_close,
};

static int start_thread(struct nbd *n)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = -pthread_create(&n->thread, &attr, nbd_thread, n);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static int check_params(const struct block_nbd_params *p, struct err *err)
{
	if (p->bytes > INT64_MAX)
		return err_set(err, -EINVAL, "a network disk of an impossible size");
	if (!p->readonly && (p->flags & NBD_FLAG_READ_ONLY))
		return err_set(err, -EROFS, "the server lets this network disk be read only");
	return 0;
}

static void learn(struct nbd *n, const struct block_nbd_params *p)
{
	unsigned block = nbd_link_block(p->flags);

	n->flags = p->flags;
	n->payload_max = nbd_link_payload(p->flags);
	n->block.info = (struct block_info){
	    .bytes = p->bytes,
	    .logical_block = block > 512 ? 4096 : 512,
	    .physical_block = 4096,
	    .readonly = p->readonly,
	    .discard = !p->readonly && (p->flags & NBD_FLAG_SEND_TRIM),
	    .write_zeroes = !p->readonly && (p->flags & NBD_FLAG_SEND_WRITE_ZEROES),
	};
}

int block_nbd_open(struct block **block, int fd, const struct block_nbd_params *params,
		   struct err *err)
{
	_cleanup_close_ int sock = fd;
	struct nbd *n;
	int r = check_params(params, err);

	if (r < 0)
		return r;
	n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	n->block.ops = &nbd_ops;
	n->fd = take_fd(&sock);
	learn(n, params);
	pthread_mutex_init(&n->lock, NULL);
	n->to_send.last = &n->to_send.first;
	n->waiting.last = &n->waiting.first;
	for (n->n_free = 0; n->n_free < NBD_SLOTS; n->n_free++)
		n->free_slots[n->n_free] = (uint16_t)(NBD_SLOTS - 1 - n->n_free);
	n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	n->rx = malloc(NBD_RX_BYTES);
	r = n->wake_fd < 0 ? -errno : !n->rx ? -ENOMEM : start_thread(n);
	if (r < 0) {
		nbd_free(n);
		return err_set(err, r, "cannot open a network disk: %s", err_name(r));
	}
	*block = &n->block;
	return 0;
}
