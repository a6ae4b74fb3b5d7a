/* SPDX-License-Identifier: ISC */
#ifndef FV_FSAPI_CREW_H
#define FV_FSAPI_CREW_H
/* Threads for what may wait, so that no thread that serves FUSE ever does (crew.c). */
#include <stdbool.h>

#include "util/cancel.h"

struct crew;

enum work_class {
	WORK_SHORT,   /* a store with its fsync, a question to a VMM */
	WORK_COMMAND, /* may wait long: so many at once, beyond that -EBUSY */
	WORK_STORAGE, /* may wait for storage, for ever: so many at once, and of its lane; others
			 queue */
	WORK_CLASS_MAX,
};

/* Work on one thing that may hang, so that it does not take up the threads of all. crew.lock. */
struct lane {
	unsigned busy;	 /* threads that work on it */
	unsigned called; /* work in the queue for which a thread was called */
};

/* A piece of work, part of what it works on. */
struct work {
	void (*run)(struct work *w); /* calls crew_done() before it frees @w */
	struct cancel *cancel;	     /* requested when the crew stops; may be NULL */
	enum work_class class;
	struct lane *lane; /* STORAGE: it stays until crew_done() */

	/* crew's own */
	struct work *next;
	bool called;
	struct work *running_next, **running_prev;
};

int crew_open(struct crew **crew);
/* Cancels what is under way and waits until all threads have ended. */
void crew_stop(struct crew *crew);
void crew_close(struct crew *crew);
/* -EBUSY where too many commands are under way, -ENODEV when stopping, -ENOMEM. */
int crew_submit(struct crew *crew, struct work *w);
/* The work is done: it can no longer be cancelled, and others may begin. */
void crew_done(struct crew *crew, struct work *w);

#endif
