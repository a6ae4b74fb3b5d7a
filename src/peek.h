/* SPDX-License-Identifier: ISC */
#ifndef FV_PEEK_H
#define FV_PEEK_H
/*
 * What a VMM has, as content: it is read from the VMM over a socket of its own (struct vmm_peek),
 * and is there until that is closed or the VMM has gone. The VMM is not believed.
 */
#include "content.h"
#include "vmm.h"

struct peek_params {
	enum vmm_msg_type type; /* the request */
	const void *data;
	size_t len;
	const int *fds; /* borrowed; the socket comes behind them */
	size_t n_fds;	/* at most PEEK_FDS */
	unsigned order_ms;
	struct cancel *cancel; /* of the request */
	unsigned answer_ms;    /* for each peek: once missed, for ever missed */
	unsigned seek_ms; /* a search for a hole ends then, and says that there is none; 0: never */
};

#define PEEK_FDS 2

/* -EBUSY with words: the machine has ended. */
int peek_open(struct vmm *vmm, const struct peek_params *params, struct content **content,
	      struct err *err);
/*
 * Of such content: what is asked from now on is answered within @ms all together, or gives
 * -ETIMEDOUT, which does no harm. 0: takes that back.
 */
void peek_hurry(struct content *content, unsigned ms);

#endif
