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
 * may be used by several queues at once; a queue belongs to one thread.
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
	uint64_t bytes;
	const struct iovec *iov; /* READ, WRITE: sums up to bytes; the caller's until done */
	unsigned n_iov;
	/* @result: 0, or -EIO, -ENOSPC, -EROFS, -ERANGE (beyond the end), …; partial never */
	void (*done)(struct block_req *req, int result);
	/* the block layer's own, until done */
	struct block *node;
	struct block_queue *queue;
	struct block_req *next;
	int result;
	uint64_t priv[6];
};

/* What a node is; constant but for the size. */
struct block_info {
	uint64_t bytes;		/* size of the disk */
	uint32_t logical_block; /* 512 or 4096 */
	uint32_t physical_block;
	bool readonly;
	bool discard;	   /* DISCARD does something */
	bool write_zeroes; /* WRITE_ZEROES costs less than writing */
};

enum {
	BLOCK_OPEN_READONLY = 1 << 0,
	BLOCK_OPEN_DIRECT = 1 << 1,   /* no page cache of the host */
	BLOCK_OPEN_NO_FLUSH = 1 << 2, /* cache mode unsafe: FLUSH does nothing */
};

/*
 * A raw node over an open regular file or block device. Takes @fd, also on
 * error. -EINVAL for anything else, -ENOMEM.
 */
int block_file_open(struct block **block, int fd, unsigned flags, struct err *err);
/* Releases the node and those below; no request may be under way. NULL is fine. */
void block_close(struct block *block);
void block_info_get(struct block *block, struct block_info *info);

/*
 * A queue for at most @depth requests at once (more wait inside). Falls back
 * to threads where io_uring is not permitted; what it got is in
 * block_queue_kind() ("io_uring" or "threads").
 */
int block_queue_new(struct block_queue **queue, unsigned depth, struct err *err);
void block_queue_free(struct block_queue *queue); /* nothing under way */
const char *block_queue_kind(const struct block_queue *queue);
/* Readable (poll(2)) when block_queue_run() has something to do. */
int block_queue_fd(const struct block_queue *queue);
/* Hands a request over; done() follows in any case, bad requests included. */
void block_submit(struct block_queue *queue, struct block *block, struct block_req *req);
/* Submits what was gathered since the last kick to the kernel. */
void block_queue_kick(struct block_queue *queue);
/* Calls done() for all that completed; returns how many. Never waits. */
unsigned block_queue_run(struct block_queue *queue);
/* Waits until nothing is under way (calls done() for each). */
void block_queue_drain(struct block_queue *queue);

#endif
