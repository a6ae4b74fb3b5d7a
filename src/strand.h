/* SPDX-License-Identifier: ISC */
#ifndef FV_STRAND_H
#define FV_STRAND_H
/*
 * Work that may hang for ever: a system call on storage that went away. It runs on a
 * thread of its own, and who waits for it can give it up; the thread then ends by
 * itself, if ever. What the work needs is its own (@arg), never anybody else's.
 */
#include "util/cancel.h"
#include "util/err.h"

struct strand;

/*
 * Starts run(arg, cancel) on a detached thread. release(arg) is called once the work is done and
 * nobody waits any more. -ENOMEM, -EAGAIN (then @arg stays the caller's).
 */
int strand_start(struct strand **strand,
		 int (*run)(void *arg, struct cancel *cancel, struct err *err),
		 void (*release)(void *arg), void *arg);
/*
 * Waits until it is done, for @ms at most, or until @cancel (NULL: none) is requested. 1: done,
 * what run() returned is in *@result with its words; 0: not yet; -ECANCELED. May be repeated.
 */
int strand_wait(struct strand *s, unsigned ms, struct cancel *cancel, int *result, struct err *err);
/* The waiter is through with it. Work still under way is asked to end, and left to itself. */
void strand_put(struct strand *s);
/* The same, and release(arg) from now on. For work that is given up. */
void strand_leave(struct strand *s, void (*release)(void *arg));

/* All in one: run()'s result with @arg untouched (then the caller calls release() himself), or
 * -ETIMEDOUT or -ECANCELED and *@left = true: @arg is not the caller's any more. */
int strand_run(int (*run)(void *arg, struct cancel *cancel, struct err *err),
	       void (*release)(void *arg), void *arg, unsigned ms, struct cancel *cancel,
	       bool *left, struct err *err);

#endif
