// SPDX-License-Identifier: ISC
/*
 * Images that are being closed.
 *
 * The kernel does not wait for the answer to a release: close(2) has returned while the
 * image is still open here, and locked. Whoever then starts a machine with it, or writes to it,
 * has waited for the close and means the image as closed. So what may meet that lock
 * waits until the releases which came before it are done: not for long, as one that takes long
 * waits for storage that hangs, and is rightly still in use.
 */
#include <errno.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define LONG_NS 1000000000u

void closings_init(struct closings *cs)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&cs->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&cs->ended, &attr);
	pthread_condattr_destroy(&attr);
}

void closings_destroy(struct closings *cs)
{
	pthread_cond_destroy(&cs->ended);
	pthread_mutex_destroy(&cs->lock);
}

void closing_begin(struct closings *cs, struct closing *c)
{
	LOCK_SCOPE(&cs->lock);
	c->number = ++cs->begun;
	c->since_ns = now_ns();
	c->next = cs->first;
	cs->first = c;
}

void closing_end(struct closings *cs, struct closing *c)
{
	struct closing **p = &cs->first;

	LOCK_SCOPE(&cs->lock);
	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	pthread_cond_broadcast(&cs->ended);
}

/* Until when to wait for those up to @number; 0: none is left that is worth it. */
static uint64_t worth_until(const struct closings *cs, uint64_t number)
{
	uint64_t now = now_ns(), until = 0;

	for (const struct closing *c = cs->first; c; c = c->next)
		if (c->number <= number && c->since_ns + LONG_NS > now &&
		    c->since_ns + LONG_NS > until)
			until = c->since_ns + LONG_NS;
	return until;
}

void closings_wait(struct closings *cs)
{
	uint64_t number, until;

	LOCK_SCOPE(&cs->lock);
	number = cs->begun;
	while ((until = worth_until(cs, number)) != 0) {
		struct timespec ts = {.tv_sec = (time_t)(until / 1000000000u),
				      .tv_nsec = (long)(until % 1000000000u)};

		pthread_cond_timedwait(&cs->ended, &cs->lock, &ts);
	}
}
