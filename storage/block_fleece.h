/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_FLEECE_H
#define FV_BLOCK_FLEECE_H
/*
 * What the files of the fleece node share; nobody else's business (users: block_filter.h).
 *
 * Theory of operation
 *
 * The instant. A snapshot shows the disk between requests: all that had completed when
 * it was asked for, nothing that was submitted after, and of those under way at that time
 * all or nothing. So from that time on no write goes down until those under way (of
 * any queue) have ended; then is the instant. Nobody waits for it in a call: writes, and reads
 * of that snapshot, stand in a line meanwhile (->parked). A snapshot asked for
 * while such a wait is on shares the instant: none of those parked has ended.
 *
 * Counting. Which writes are under way is counted all the time, in two generations and in
 * shards, one for each queue (but for collisions), so that nobody's processor takes a
 * cache line from another's. ->gate is read by all and written only when a snapshot begins
 * or the last one ends: its lowest bit tells whether anything is to be done but counting, the
 * others number the generation. A writer counts itself, then looks at the gate again; who begins a
 * snapshot changes the gate, then looks at the counts: one of the two sees the
 * other, whatever happens. A writer that sees a changed gate takes itself out again and
 * goes the slow way, under the lock. The one that brings the old generation down to 0
 * ends the wait.
 *
 * Copy before write. The disk is cut into chunks. Before a write (or WRITE_ZEROES, or a
 * resize that cuts off) goes down, each chunk that it touches is copied into
 * the file of each snapshot that has not got it, at its own place there: the file is sparse.
 * Copies are made on the writer's queue, a few at a time for a node, a short run
 * of chunks each; others who need the same chunk wait for it. Chunks of zeroes are only noted.
 * A DISCARD is a hint: where a copy would be needed it is not carried out.
 *
 * Reading. A chunk that is not copied is read from the child. If it has been copied when that
 * read ends, a write may have gone before it: then it is read again, from the file. So
 * writers never wait for readers.
 */
#include "storage/block_filter.h"
#include "storage/block_node.h"

#define FLEECE_CHUNK	     (64u << 10)
#define FLEECE_SNAPSHOTS_MAX 16
#define FLEECE_COPIES_MAX    16 /* under way at once, of one node */
#define FLEECE_RUN	     4	/* chunks that one copy holds: together 4 MiB at most */
#define FLEECE_SHARDS	     64

#define FLEECE_ACTIVE 1u /* in ->gate: there are snapshots, or somebody waits for an instant */

enum chunk_state {
	CHUNK_THERE, /* as it was, in the child */
	CHUNK_KEPT,  /* in the snapshot's file */
	CHUNK_ZERO,  /* was all zeroes */
	CHUNK_LOST,  /* could not be read when it had to be copied */
};

struct req_list {
	struct block_req *first, **last;
};

struct fleece_shard {
	uint32_t writes[2]; /* under way, by generation; atomic */
} __attribute__((aligned(64)));

struct fleece_snapshot {
	struct block block;
	struct fleece *fleece;
	struct block *keep;
	/* under the fleece's lock */
	struct fleece_snapshot *next;
	unsigned refs;	  /* whoever opened it, and copies under way */
	bool ready;	  /* the instant has been */
	bool lost;	  /* its file could take no more */
	uint64_t *states; /* an enum chunk_state in two bits for each chunk */
	uint64_t n_chunks;
};

/* Chunks on their way from the child to the files of snapshots, one read or write at a time. */
struct fleece_copy {
	struct block_req req;
	struct iovec iov;
	struct fleece *fleece;
	struct block_queue *queue;
	uint64_t first; /* chunk */
	unsigned n;
	unsigned zero; /* bit i: chunk first + i holds zeroes */
	bool unread;   /* the child gave an error */
	struct fleece_snapshot *targets[FLEECE_SNAPSHOTS_MAX];
	unsigned n_targets;
	unsigned at_target, at_chunk; /* what is to be written next */
	uint8_t *data;
	struct req_list waiting;  /* under the lock */
	struct fleece_copy *next; /* under the lock */
};

struct fleece {
	struct block block;
	struct block *child;
	uint32_t gate;	      /* atomic; written under the lock */
	pthread_mutex_t lock; /* guards what follows; never held over I/O */
	bool draining;	      /* an instant is waited for */
	bool resizing;
	struct fleece_snapshot *snapshots;
	unsigned n_snapshots;
	struct fleece_copy *copies;
	unsigned n_copies;
	struct req_list parked;			   /* until the instant has been */
	struct req_list starved;		   /* until a copy has ended */
	struct fleece_shard shards[FLEECE_SHARDS]; /* atomic */
};

/* What a request keeps with it (block_req_room()) while it does not go down. */
struct fleece_room {
	uint64_t at;	/* WRITE, …: chunks before this one need no copy */
	uint32_t gate;	/* as of which ->at is true */
	bool keep_only; /* copies, but does not go down */
	void *read;	/* READ of a snapshot: its struct snapshot_read */
};

_Static_assert((BLOCK_REQ_IO_WORDS + (sizeof(struct fleece_room) + 7) / 8) * 8 <=
		   sizeof(((struct block_req *)0)->priv),
	       "a request has room for what a fleece node keeps");

static inline void req_list_init(struct req_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static inline uint32_t fleece_generation(uint32_t gate)
{
	return gate >> 1 & 1;
}

/* --- block_fleece.c --- */
bool fleece_is(const struct block *block);
/* Has @resume called on @req's own queue once the list is woken. Under the lock. */
void fleece_park(struct req_list *list, struct block_req *req,
		 void (*resume)(struct queue_io *io, int result));
void fleece_wake(struct req_list *list);
/* Takes @req out: false if it is not in. Under the lock. */
bool fleece_unpark(struct req_list *list, const struct block_req *req);
/* Changes the gate: from now on writes are asked about snapshots. Under the lock. */
void fleece_begin_drain(struct fleece *f);
/* With the last snapshot gone, opens the gate again. Under the lock. */
void fleece_relax(struct fleece *f);
/* Goes down if nothing has to be copied first; else sees to that. Queue's thread. */
void fleece_admit(struct fleece *f, struct block_req *req);
void fleece_resume_write(struct queue_io *io, int result);

/* --- block_fleece_copy.c --- */
/*
 * The first chunk from @from on, before @to, that a snapshot needs and has not got; @to if there
 * is none. Under the lock.
 */
uint64_t fleece_first_needed(const struct fleece *f, uint64_t from, uint64_t to);
/*
 * Has @chunk (needed by somebody, as found above) copied, and more up to @to where it fits; @req
 * is resumed when that is over. Called under the lock, and releases it. Queue's thread.
 */
void fleece_copy_for(struct fleece *f, struct block_req *req, uint64_t chunk, uint64_t to);

/* Takes a write out of the lines of those who wait for copies. Under the lock. */
bool fleece_unwait(struct fleece *f, const struct block_req *req);
/* Has one of those go on who wait for a copy to end, if there is room. Under the lock. */
void fleece_feed(struct fleece *f);

/* --- block_fleece_snapshot.c --- */
/* The first chunk from @from on, before @to, that is as it was in the child; or @to. */
uint64_t fleece_first_there(const struct fleece_snapshot *s, uint64_t from, uint64_t to);
enum chunk_state fleece_chunk_get(const struct fleece_snapshot *s, uint64_t chunk);
void fleece_chunk_set(struct fleece_snapshot *s, uint64_t chunk, enum chunk_state state);
/* Drops a reference: true if it was the last, then fleece_snapshot_free(). Under the lock. */
bool fleece_snapshot_unref(struct fleece_snapshot *s);
void fleece_snapshot_free(struct fleece_snapshot *s);

#endif
