/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_NODE_H
#define FV_BLOCK_NODE_H
/*
 * The inside of the block layer, for those who write nodes and queue engines;
 * users of disks need block.h only.
 *
 * A request walks down the graph: block_submit() checks it and calls the
 * node's submit(); a filter hands the same request on to its child with
 * block_forward(), a format makes requests of its own for the nodes below, and
 * a file turns it into a struct queue_io, which the queue's engine carries out.
 * Whatever a node did, it ends a request with block_req_end() exactly once, on
 * the queue's thread. Another thread's work comes back to the queue's thread
 * by queue_post().
 */
#include <pthread.h>
#include <stddef.h>

#include "storage/block.h"

struct block_ops {
	const char *name;
	/* The request is within the node's size (unless ->grow) and not against readonly. */
	void (*submit)(struct block *block, struct block_req *req);
	/* @bytes > 0 and within the size; may be NULL: all data */
	int (*status)(struct block *block, uint64_t offset, uint64_t bytes,
		      struct block_extent *extent);
	int (*resize)(struct block *block, uint64_t bytes, struct err *err); /* NULL: -ENOTSUP */
	void (*close)(struct block *block); /* frees @block itself too */
	/*
	 * The node has @req, and somebody wants it to end: see block_cancel(). Queue's thread.
	 * May be NULL: requests end when they are done.
	 */
	void (*cancel)(struct block *block, struct block_req *req);
};

struct block {
	const struct block_ops *ops;
	struct block_info info; /* ->bytes by block_size() and block_set_size() once in use */
	bool grow;		/* writes beyond the end are the node's business */
};

static inline uint64_t block_size(const struct block *block)
{
	return __atomic_load_n(&block->info.bytes, __ATOMIC_ACQUIRE);
}

static inline void block_set_size(struct block *block, uint64_t bytes)
{
	__atomic_store_n(&block->info.bytes, bytes, __ATOMIC_RELEASE);
}

/* Ends @req: its done() is called from block_queue_run(). Queue's thread only. */
void block_req_end(struct block_req *req, int result);
/* Hands the same request to the node below, unchecked. Queue's thread only. */
void block_forward(struct block *child, struct block_req *req);

/* The descriptor of a raw node, which stays the node's; -1: another kind. */
int block_file_fd(const struct block *block);

/* --- block_iov.c: ranges of a request's buffers, from @skip on --- */
/* The pieces of @bytes, into @out (room for @n_iov); returns how many. */
unsigned block_iov_part(const struct iovec *iov, unsigned n_iov, uint64_t skip, uint64_t bytes,
			struct iovec *out);
void block_iov_zero(const struct iovec *iov, unsigned n_iov, uint64_t skip, uint64_t bytes);
void block_iov_fill(const struct iovec *iov, unsigned n_iov, uint64_t skip, const uint8_t *from,
		    uint64_t bytes);

enum queue_io_kind {
	QUEUE_READV,
	QUEUE_WRITEV,
	QUEUE_FSYNC,	 /* fdatasync */
	QUEUE_FALLOCATE, /* flags is the mode */
};

/* One operation on a descriptor; lives in its request (block_req_io()) or with its maker. */
struct queue_io {
	enum queue_io_kind kind;
	int fd;
	int flags; /* RWF_DSYNC for writes; the mode of FALLOCATE */
	unsigned n_iov;
	const struct iovec *iov;
	uint64_t offset;
	uint64_t bytes; /* FALLOCATE */
	/* On the queue's thread. @result: bytes moved, 0, or -errno as the kernel has it. */
	void (*done)(struct queue_io *io, int result);
	struct queue_io *next;
	int result;
	bool cached; /* READV, WRITEV: of a regular file, through the page cache, and not to be
			synced */
};

/* The io in a request's own room, and what is left of that room for the node. */
#define BLOCK_REQ_IO_WORDS (sizeof(struct queue_io) / sizeof(uint64_t))
_Static_assert(sizeof(struct queue_io) % sizeof(uint64_t) == 0, "queue_io is whole words");
_Static_assert(sizeof(struct queue_io) + 5 * sizeof(uint64_t) <=
		   sizeof(((struct block_req *)0)->priv),
	       "a request has room for an io and five words");

static inline struct queue_io *block_req_io(struct block_req *req)
{
	return (struct queue_io *)req->priv;
}

static inline struct block_req *block_io_req(struct queue_io *io)
{
	return (struct block_req *)((char *)io - offsetof(struct block_req, priv));
}

static inline void *block_req_room(struct block_req *req)
{
	return &req->priv[BLOCK_REQ_IO_WORDS];
}

/* Has io->done(io, result) called from block_queue_run(), without doing anything. Queue's thread.
 */
void queue_refuse(struct block_queue *queue, struct queue_io *io, int result);
/* Ends @io early (-ECANCELED, or -EINTR) if it is under way and can be ended. Queue's thread. */
void queue_cancel(struct block_queue *queue, struct queue_io *io);
/* Starts @io; io->done follows from block_queue_run(). Queue's thread only. */
void queue_submit(struct block_queue *queue, struct queue_io *io);
/* Has io->done(io, result) called on the queue's thread. Any thread. */
void queue_post(struct block_queue *queue, struct queue_io *io, int result);
/* True for queues of block_queue_new_sync(): there a submit may wait. */
bool block_queue_may_wait(const struct block_queue *queue);
/*
 * For queues that may wait: completes the ios that are carried out, calling no done() of
 * requests. Whoever is about to wait on another queue of the same thread calls it, lest that
 * waits for one of these (at the gate of a direct file).
 */
void queue_settle(struct block_queue *queue);
/* Carries @io out in the calling thread: bytes moved, 0, or -errno. */
int queue_io_perform(const struct queue_io *io);

struct queue_engine {
	const char *name;
	void (*submit)(struct block_queue *queue, struct queue_io *io);
	void (*kick)(struct block_queue *queue);
	void (*reap)(struct block_queue *queue); /* calls io->done of all that completed */
	void (*wait)(struct block_queue *queue); /* until the descriptor may be readable */
	/* As queue_cancel(); true: it had not begun and is not the engine's any more. */
	bool (*cancel)(struct block_queue *queue, struct queue_io *io);
	void (*free)(struct block_queue *queue);
};

struct io_list {
	struct queue_io *first, **last;
};

struct block_queue {
	const struct queue_engine *engine;
	void *engine_state;
	unsigned depth;
	int fd;	      /* what block_queue_fd() shows */
	int event_fd; /* written by whoever has something for the queue's thread */
	/* the queue's thread only */
	unsigned under_way;
	struct block_req *finished, **finished_last;
	struct io_list ready; /* carried out as they were submitted, to be completed */
	uint64_t patient_ns;  /* until when nothing is tried at once: block_queue.c */
	/* any thread, under the lock */
	pthread_mutex_t lock;
	struct io_list posted;
	bool signalled;		/* event_fd holds a count that was not consumed */
	bool ring_reads_events; /* constant: the ring consumes event_fd, not block_queue_run() */
};

static inline void io_list_init(struct io_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static inline void io_list_add(struct io_list *list, struct queue_io *io)
{
	io->next = NULL;
	*list->last = io;
	list->last = &io->next;
}

static inline struct queue_io *io_list_take(struct io_list *list)
{
	struct queue_io *io = list->first;

	if (!io)
		return NULL;
	list->first = io->next;
	if (!list->first)
		list->last = &list->first;
	return io;
}

/* Takes @io out: false if it is not in. */
static inline bool io_list_remove(struct io_list *list, const struct queue_io *io)
{
	struct queue_io **at;

	for (at = &list->first; *at; at = &(*at)->next) {
		if (*at != io)
			continue;
		*at = io->next;
		if (!*at)
			list->last = at;
		return true;
	}
	return false;
}

/* Engines: 0, or -errno where this host refuses (then the next is tried). */
int queue_uring_init(struct block_queue *queue);
int queue_threads_init(struct block_queue *queue);
/* A queue over a certain engine; as block_queue_new(). */
int queue_new_with(struct block_queue **queue, unsigned depth,
		   int (*init)(struct block_queue *queue), struct err *err);

#endif
