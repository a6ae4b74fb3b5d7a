// SPDX-License-Identifier: ISC
/* A token that ends long work early. See cancel.h. */
#include <stddef.h>

#include "util/cancel.h"
#include "util/cleanup.h"

void cancel_init(struct cancel *c)
{
	pthread_mutex_init(&c->lock, NULL);
	atomic_init(&c->requested, false);
	c->wake = NULL;
	c->arg = NULL;
}

void cancel_destroy(struct cancel *c)
{
	pthread_mutex_destroy(&c->lock);
}

/* The wake-up runs under the token's lock: that is what makes forgetting it safe. */
void cancel_request(struct cancel *c)
{
	LOCK_SCOPE(&c->lock);
	if (atomic_exchange(&c->requested, true))
		return;
	if (c->wake)
		c->wake(c->arg);
}

bool cancel_requested(struct cancel *c)
{
	return c && atomic_load(&c->requested);
}

void cancel_set_wake(struct cancel *c, void (*wake)(void *arg), void *arg)
{
	if (!c)
		return;
	LOCK_SCOPE(&c->lock);
	c->wake = wake;
	c->arg = arg;
	if (wake && atomic_load(&c->requested))
		wake(arg);
}
