/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_NBD_INT_H
#define FV_BLOCK_NBD_INT_H
/* What the halves of a network disk's node share: block_nbd.c sends, block_nbd_rx.c receives. */
#include <pthread.h>

#include "storage/block_nbd.h"
#include "storage/block_node.h"
#include "storage/nbd_proto.h"

#define NBD_SLOTS    256
#define NBD_IOVS     64
#define NBD_RX_BYTES (32 << 10)

enum slot_state { SLOT_FREE, SLOT_QUEUED, SLOT_SENT };

struct slot {
	struct block_req *req;
	uint64_t use; /* how often it was taken */
	enum slot_state state;
	bool replied; /* before its sender had noted that it was sent */
	int result;
};

/* What a request needs of us, in its own room. */
struct nbd_room {
	uint64_t moved;	 /* of the request: done by earlier commands */
	uint32_t length; /* of the command under way */
	uint16_t slot;
	uint16_t cmd;
	bool plain_zeroes; /* a WRITE of zeroes, without buffers */
};

struct req_list {
	struct block_req *first, **last;
};

struct nbd {
	struct block block;
	int fd, wake_fd;
	uint32_t flags, payload_max;
	pthread_t thread;
	/* who sends (->sending), whoever it is */
	struct nbd_request header;
	uint64_t sent; /* of ->current, header and payload */
	/* the thread's: replies */
	uint8_t *rx;		/* NBD_RX_BYTES */
	size_t rx_n;		/* bytes in it */
	struct block_req *into; /* a READ whose payload is being received */
	uint64_t into_left;
	pthread_mutex_t lock; /* guards what follows */
	struct slot slots[NBD_SLOTS];
	uint16_t free_slots[NBD_SLOTS];
	unsigned n_free;
	struct req_list to_send, waiting; /* with a slot, without one */
	struct block_req *current;	  /* out of to_send, not sent wholly */
	bool sending, blocked;		  /* blocked: the sender is to be the thread, at POLLOUT */
	bool failed, dead, stop;
};

static inline void list_add(struct req_list *list, struct block_req *req)
{
	req->next = NULL;
	*list->last = req;
	list->last = &req->next;
}

static inline struct block_req *list_take(struct req_list *list)
{
	struct block_req *req = list->first;

	if (!req)
		return NULL;
	list->first = req->next;
	if (!list->first)
		list->last = &list->first;
	return req;
}

static inline struct nbd_room *room_of(struct block_req *req)
{
	_Static_assert(sizeof(struct nbd_room) <= 5 * sizeof(uint64_t), "fits a request's room");
	return block_req_room(req);
}

/* Wakes the node's thread. */
void nbd_wake(struct nbd *n);
/* The part of @req's buffers from @skip on, at most @len bytes of it and @max entries. */
unsigned nbd_iov_slice(const struct block_req *req, uint64_t skip, uint64_t len, struct iovec *iov,
		       unsigned max);
/* The command of @slot is over. Under the lock; the request may be gone when this returns. */
void nbd_finish(struct nbd *n, struct slot *slot, int result);
/* Sends until all is sent or the socket is full. Whoever set ->sending calls this. */
void nbd_send_all(struct nbd *n);
/* The node's thread. */
void *nbd_thread(void *node);

#endif
