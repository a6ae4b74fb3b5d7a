/* SPDX-License-Identifier: ISC */
#ifndef FV_NBD_OPS_H
#define FV_NBD_OPS_H
/*
 * The requests that a filevisor-nbd has taken: which may go to the server now, what must
 * be kept although it was answered, and what goes again after the server was lost. Logic
 * only: knows neither sockets nor libnbd. See ops.c for how it works.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/nbd_proto.h"

#define OPS_KEEP_MAX  (64u << 20) /* bytes of answered writes that are kept at most */
#define OP_COST	      256u	  /* what a request is counted as, beyond its data */
#define OPS_AGAIN_MAX 64	  /* kept ones that fly at once */

struct op;
struct op_list {
	struct op *first, *last;
};

struct op {
	struct op *prev, *next;
	struct op_list *on;
	uint64_t seq; /* order in which they came */
	uint64_t cookie;
	uint16_t cmd, flags;
	uint64_t offset;
	uint32_t length;
	uint8_t *data;	/* READ, WRITE: of length */
	int error;	/* the server's answer: an errno */
	bool internal;	/* a flush of our own: nobody is to be told */
	bool kept;	/* answered, and at the server to be done again */
	uint64_t stamp; /* kept: when it was done; FLUSH: what was done before it started */
	/* serve.c's */
	struct serve *serve;
	struct conn *conn; /* which it flies on */
	int answer;
	struct op *next_done;
	/* client.c's */
	bool replying; /* the reply is not sent wholly yet */
	struct nbd_reply reply;
	struct op *next_reply;
};

struct ops {
	struct op_list waiting; /* from the client, in order; not started */
	struct op_list flying;	/* at the server */
	struct op_list kept;	/* answered writes that no flush has covered, in order of stamp */
	struct op *again;	/* lost: the next of ->kept to be done again */
	struct op *again_flying[OPS_AGAIN_MAX];
	unsigned n_again_flying;
	size_t kept_bytes;
	uint64_t seq, clock;
	bool keeps;	   /* the server can flush: keeping has an end */
	bool want_flush;   /* a flush of our own is due */
	bool flush_flying; /* such a one is at the server */
	bool flush_failed; /* to be told with the client's next flush */
};

/* Frees @op, which is on no list. NULL is fine. */
void op_free(struct op *op);

void ops_init(struct ops *ops, bool keeps);
void ops_free(struct ops *ops);
/* Takes a request that was received wholly. */
void ops_add(struct ops *ops, struct op *op);
/* What is to go to the server now, or NULL. It flies from then on. */
struct op *ops_start(struct ops *ops);

enum ops_outcome {
	OPS_REPLY, /* the client is to be told; ->kept ones stay owned here, others are the caller's
		    */
	OPS_SILENT,	  /* nothing to be told, and taken care of */
	OPS_AGAIN_FAILED, /* a write that was answered could not be done again: the server is lost
			   */
};
/* The server has answered @op, which flew, with @error (an errno, 0 for success). */
enum ops_outcome ops_done(struct ops *ops, struct op *op, int error);
/* The server is lost: all that flies has to go again, and what is kept before it. */
void ops_lost(struct ops *ops);
/* The client is gone: what has not started never will, what was written is to be flushed. */
void ops_abandon(struct ops *ops);
/* Whether all that was kept has been done again (always, while the server is not lost). */
bool ops_caught_up(const struct ops *ops);
/* Whether there is nothing to be started, and nothing flies or is kept. */
bool ops_idle(const struct ops *ops);

#endif
