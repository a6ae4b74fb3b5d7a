/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_H
#define FV_BLOCK_H
/*
 * Disks as the data path sees them. A struct block is a node of a graph (a
 * file, a format over a file, a filter over either) behind one interface; a
 * struct block_queue is one thread's place to submit requests and to collect
 * completions, over io_uring, or a thread pool where io_uring is refused.
 *
 * Requests are asynchronous: submit never waits, and done() is called later
 * from block_queue_run() on the queue's own thread (never from submit). A node
 * may be used by several queues at once; a queue belongs to one thread: the
 * one that first submits, kicks or runs, which need not be the one that made
 * it. Everything a queue will need (ring, threads) is made by block_queue_new(),
 * so that a process may lock itself in between; which system calls the data
 * path makes after that is listed at the top of block_uring.c and block_threads.c.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/err.h"

struct block;
struct block_queue;

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,	    /* all completed writes are on stable storage */
	BLOCK_DISCARD,	    /* contents of the range become undefined or zero; may do nothing */
	BLOCK_WRITE_ZEROES, /* the range reads as zeroes */
};

enum {
	BLOCK_FUA = 1 << 0,   /* WRITE, WRITE_ZEROES: on stable storage when done */
	BLOCK_UNMAP = 1 << 1, /* WRITE_ZEROES: deallocating is welcome */
};

struct block_req {
	enum block_op op;
	unsigned flags;
	uint64_t offset; /* bytes; any alignment: O_DIRECT's needs are met below */
	uint64_t bytes;	 /* 0 is fine and does nothing (but for FLUSH, which has no range) */
	const struct iovec *iov; /* READ, WRITE: sums up to bytes; the caller's until done */
	unsigned n_iov;
	/* @result: 0, or -EIO, -ENOSPC, -EROFS, -ERANGE (beyond the end), …; partial never but
	 * with -ECANCELED */
	void (*done)(struct block_req *req, int result);
	uint64_t user; /* the submitter's own */
	/* the block layer's own, until done */
	struct block *node;
	struct block_queue *queue;
	struct block_req *next;
	int result;
	/* of a node that wants to know when it ends, while it is below (block_fleece.c) */
	struct block *outer;
	void (*outer_done)(struct block_req *req, int result);
	uint32_t outer_state;
	bool cancelled;
	uint64_t priv[14];
};

/* What a node is; constant but for the size. */
struct block_info {
	uint64_t bytes;		/* size of the disk, exact: need not be whole sectors */
	uint32_t logical_block; /* 512 or 4096 */
	uint32_t physical_block;
	bool readonly;
	bool discard;	   /* DISCARD does something */
	bool write_zeroes; /* WRITE_ZEROES costs less than writing */
};

enum {
	BLOCK_OPEN_READONLY = 1 << 0,
	BLOCK_OPEN_DIRECT = 1 << 1,   /* no page cache; sets O_DIRECT on the description */
	BLOCK_OPEN_NO_FLUSH = 1 << 2, /* cache mode unsafe: FLUSH and FUA do nothing */
	/* A regular file grows by writes beyond its end, reads there give 0: for formats. */
	BLOCK_OPEN_GROW = 1 << 3,
};

/*
 * A raw node over an open regular file or block device. Takes @fd, also on
 * error. -EINVAL for anything else, or where O_DIRECT is refused; -ENOMEM.
 */
int block_file_open(struct block **block, int fd, unsigned flags, struct err *err);
/* Releases the node and those below; no request may be under way. NULL is fine. */
void block_close(struct block *block);
void block_info_get(struct block *block, struct block_info *info);

/* How a range is stored: what a sparse copy wants to know. */
struct block_extent {
	uint64_t bytes; /* from the offset asked for: this long it is alike; > 0 */
	bool data;	/* stored in this node itself or in one below */
	bool zero;	/* certainly reads as zeroes (then @data says whether space is held) */
	bool own;	/* decided by this node's top layer, not by its backing image */
};

/*
 * The first extent at @offset, within @bytes of it. Answers at once for files;
 * for formats it may read metadata: not for a queue's own thread. -ERANGE
 * beyond the end, -EIO. Where nothing is known, it is data.
 */
int block_status(struct block *block, uint64_t offset, uint64_t bytes, struct block_extent *extent);
/*
 * Changes the size of the disk while it is open; what is new reads as zeroes,
 * what is cut off is gone. Waits for storage: not for a queue's own thread.
 * -EROFS, -ENOTSUP (a block device), -EINVAL, -ENOSPC. A block device that grew
 * by itself is taken over by asking for its new size (or 0 for "as it is").
 */
int block_resize(struct block *block, uint64_t bytes, struct err *err);

/*
 * A queue for at most @depth requests at once (1 to 4096; more wait inside). Falls
 * back to threads where io_uring is not permitted; what it got is in
 * block_queue_kind() ("io_uring" or "threads").
 */
int block_queue_new(struct block_queue **queue, unsigned depth, struct err *err);
/*
 * A queue without ring or threads: requests to files are carried out as they are
 * submitted, in the calling thread. For tools, jobs and workers; submit may wait.
 */
int block_queue_new_sync(struct block_queue **queue, struct err *err);
void block_queue_free(struct block_queue *queue); /* nothing under way; NULL is fine */
const char *block_queue_kind(const struct block_queue *queue);
/* Readable (poll(2)) when block_queue_run() has something to do. Constant. */
int block_queue_fd(const struct block_queue *queue);
/* Hands a request over; done() follows in any case, bad requests included. */
void block_submit(struct block_queue *queue, struct block *block, struct block_req *req);
/*
 * Has @req, which was submitted, end soon: with -ECANCELED where it can still be stopped (a
 * write may have been carried out in part then), else as it would have. done() is called
 * either way, by block_queue_run(). Not to be stopped are what the kernel is at and
 * does not interrupt, and what a format's worker has begun. Queue's thread; a request that
 * has ended and whose done() is still to be called is left as it is.
 */
void block_cancel(struct block_req *req);
/* Submits what was gathered since the last kick to the kernel. */
void block_queue_kick(struct block_queue *queue);
/* Calls done() for all that completed; returns how many. Never waits. Kicks what done() submitted.
 */
unsigned block_queue_run(struct block_queue *queue);
/* Waits until nothing is under way (calls done() for each). */
void block_queue_drain(struct block_queue *queue);

/*
 * One request, waited for: @queue is the caller's own, with nothing else whose
 * done() may not be called here. 0 or -errno as done() would have it.
 */
int block_pread(struct block_queue *queue, struct block *block, void *buf, uint64_t bytes,
		uint64_t offset);
int block_pwrite(struct block_queue *queue, struct block *block, const void *buf, uint64_t bytes,
		 uint64_t offset);
int block_flush(struct block_queue *queue, struct block *block);
int block_zero(struct block_queue *queue, struct block *block, uint64_t offset, uint64_t bytes,
	       unsigned flags);
int block_discard(struct block_queue *queue, struct block *block, uint64_t offset, uint64_t bytes);

#endif
