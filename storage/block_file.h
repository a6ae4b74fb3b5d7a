/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_FILE_H
#define FV_BLOCK_FILE_H
/* What block_file.c and block_bounce.c share; nobody else's business. */
#include "storage/block_node.h"

struct block_file {
	struct block block;
	int fd;
	bool device; /* block device, not a regular file */
	bool direct;
	bool no_flush;
	uint32_t align_offset; /* with ->direct: of offsets and lengths, and of memory */
	uint32_t align_memory;
	unsigned unsupported; /* atomic; zero_ways that this file system refused */
	int sync_error;	      /* atomic; first failure of a sync, 0 if none */
	/*
	 * The gate of writers, with ->direct only. An unaligned write reads, changes
	 * and writes back whole blocks, so it has the file alone.
	 */
	pthread_mutex_t gate_lock;
	unsigned gate_inside; /* writers past the gate */
	bool gate_alone;      /* one of them is an unaligned one */
	struct block_req *gate_first, **gate_last;
};

/* A request's state between its ios; lives in block_req_room(). */
struct file_room {
	uint64_t moved; /* bytes of the request done */
	void *buffer;	/* owned: an iovec array, or a bounce buffer */
	unsigned way;	/* index in zero_ways */
	uint64_t bounce_from, bounce_bytes;
};

_Static_assert((BLOCK_REQ_IO_WORDS + (sizeof(struct file_room) + 7) / 8) * 8 <=
		   sizeof(((struct block_req *)0)->priv),
	       "a request has room for a file's state");

/* Starts the next io of @req, unless it has been cancelled: then the io ends with -ECANCELED. */
static inline void file_io_submit(struct block_req *req, struct queue_io *io)
{
	if (req->cancelled)
		queue_refuse(req->queue, io, -ECANCELED);
	else
		queue_submit(req->queue, io);
}

/* Past the gate (where there is one): the request may touch the file. */
void file_start(struct block_req *req);
/* Ends @req and lets those go on that wait for it. */
void file_req_end(struct block_req *req, int result);
/* The file now reaches to @end at least. */
void file_grown(struct block_file *file, uint64_t end);

bool bounce_aligned(const struct block_file *file, const struct block_req *req);
/* Carries out a READ, WRITE or WRITE_ZEROES through an aligned buffer. */
void bounce_submit(struct block_file *file, struct block_req *req);
void bounce_gate_init(struct block_file *file);
void bounce_gate_destroy(struct block_file *file);
/* Calls file_start(@req), at once or when those before it have left. */
void bounce_gate_enter(struct block_file *file, struct block_req *req);
void bounce_gate_leave(struct block_file *file, struct block_req *req);

#endif
