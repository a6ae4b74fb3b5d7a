/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_FILTER_H
#define FV_BLOCK_FILTER_H
/* Nodes that change how another node behaves, not what it holds. */
#include "storage/block.h"

enum { BLOCK_LIMIT_TOTAL, BLOCK_LIMIT_READ, BLOCK_LIMIT_WRITE, N_BLOCK_LIMITS };

/* A rate, and how much may come at once after a quiet time. */
struct block_limit {
	uint64_t per_s; /* 0: no limit */
	uint64_t burst; /* 0: a tenth of a second's worth */
};

struct block_limits {
	struct block_limit requests[N_BLOCK_LIMITS];
	struct block_limit bytes[N_BLOCK_LIMITS];
};

/*
 * A node that passes requests on to @child no faster than the limits allow, in
 * their order. Takes @child, also on error. Makes a thread. FLUSH is never held up.
 */
int block_throttle_open(struct block **block, struct block *child,
			const struct block_limits *limits, struct err *err);
/* New limits from now on, for waiting requests too. Any thread. */
void block_throttle_set(struct block *block, const struct block_limits *limits);

/*
 * A node that passes requests on to @child, and from which the disk can be read as it
 * was at a moment while it is written on. Takes @child, also on error. A write costs two
 * counts in a cache line of its queue's as long as there is no snapshot, others nothing. At most
 * one such node is on a request's way; @child is a disk (not one of BLOCK_OPEN_GROW).
 */
int block_fleece_open(struct block **block, struct block *child, struct err *err);
/*
 * The disk of @block (a fleece node) as it is now, for reading, in *@snapshot: what is
 * overwritten from now on is kept in @fd, an empty regular file, which is taken, also on
 * error. Queues other than those that write may read it, any number of them. Where @fd can
 * take no more, reads give -EIO from then on, and writes to the disk go on. Any thread; the
 * snapshot is closed (block_close()) before the node. -EBUSY: too many of them, or the disk is
 * being resized (which in turn waits until what is cut off is kept).
 *
 * It never waits: requests under way belong to the snapshot, and reads of it, and writes
 * submitted later, stand in line until those have ended; so every queue with writes under way
 * must be run. Each write then copies what is old in units of 64 KiB, once; a DISCARD of what would
 * have to be copied is not carried out. @fd grows to the size of the disk, sparse: its file system
 * must allow that. Memory: 4 MiB for each TiB of it as that is written, and up to 4 MiB for copies
 * under way, for all snapshots of a node.
 */
int block_fleece_snapshot(struct block **snapshot, struct block *block, int fd, struct err *err);

enum { BLOCK_FAULT_TEAR = 1 };

/*
 * What a test wants to happen. Called with each request before it goes down, on the
 * thread that submits it: 0 lets it pass, -errno fails it unseen by the child,
 * BLOCK_FAULT_TEAR carries out the first half of a write and fails it with -EIO.
 */
struct block_fault_plan {
	int (*decide)(void *arg, const struct block_req *req);
	void *arg;
};

/* Fault injection over @child, which it takes, also on error. */
int block_fault_open(struct block **block, struct block *child, const struct block_fault_plan *plan,
		     struct err *err);

#endif
