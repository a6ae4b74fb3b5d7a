// SPDX-License-Identifier: ISC
/*
 * The pool's thread. It asks the storage when told to (the storage itself says that
 * something changed, a command did, or a while has gone by), on a strand, because an answer may
 * never come; until it does, the pool is failed, and nobody waits. What came is compared
 * with what is shown, under the lock, unless we ourselves changed something meanwhile: then it
 * is asked again.
 */
#define LOG_MODULE "pool"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pool_ask.h"
#include "strand.h"
#include "util/cleanup.h"
#include "util/log.h"

#define SETTLE_MS 50 /* changes come in flocks */

/* What the thread has between two rounds. */
struct round {
	struct strand *strand;	  /* under way, or NULL */
	struct refresh *refresh;  /* what it works on */
	uint64_t wanted, changes; /* when it began */
	struct storage *watched;  /* whose watch_fd is */
	uint64_t place;		  /* the directory that it watches */
	int watch_fd;
};

static void unwatch(struct round *round)
{
	if (round->watch_fd >= 0)
		close(take_fd(&round->watch_fd));
	storage_put(take_ptr(round->watched));
}

static bool begin(struct pool *pool, struct round *round)
{
	LOCK_SCOPE(&pool->lock);
	if (round->watched && round->watched != pool->storage)
		unwatch(round);
	round->wanted = pool->wanted;
	round->changes = pool->changes;
	round->refresh = refresh_new(pool, round->watch_fd < 0);
	if (!round->refresh ||
	    strand_start(&round->strand, refresh_ask, NULL, round->refresh) < 0) {
		if (round->refresh)
			refresh_free(take_ptr(round->refresh));
		pool->done = round->wanted; /* there is nothing to wait for */
		pthread_cond_broadcast(&pool->cond);
		return false;
	}
	return true;
}

/* The strand is done: shows what came. False where it does not count and is to be repeated. */
static bool show(struct pool *pool, struct round *round, int result, const struct err *err)
{
	struct refresh *f = round->refresh;
	bool counts, store = false;

	pthread_mutex_lock(&pool->lock);
	counts = pool->changes == round->changes && pool->storage == f->storage && pool->alive;
	if (counts && result == 0)
		store = pool->unstored |= refresh_merge(pool, f);
	else if (counts && result != -ECANCELED)
		refresh_failed(pool, err);
	if (counts) {
		pool->done = round->wanted;
		pthread_cond_broadcast(&pool->cond);
	}
	pthread_mutex_unlock(&pool->lock);
	if (f->watch_fd >= 0 && counts && result == 0) {
		unwatch(round);
		round->watched = storage_get(f->storage);
		round->watch_fd = take_fd(&f->watch_fd);
		round->place = f->list.place;
	} else if (result < 0 || (counts && f->list.place != round->place)) {
		/* what was watched is no longer what is there: the next time again */
		unwatch(round);
	}
	if (store) {
		struct err words = ERR_INIT;

		LOCK_SCOPE(&pool->edit);
		if (pool_alive(pool) && pool_store_volumes(pool, &words) < 0)
			log_error("pool %s: %s", pool->name, words.text);
	}
	return counts;
}

/* Under way for too long. */
static void no_answer(struct pool *pool, struct round *round)
{
	struct err err = ERR_INIT;

	LOCK_SCOPE(&pool->lock);
	if (pool->done >= round->wanted && pool->state == POOL_FAILED)
		return;
	if (pool->storage != round->refresh->storage)
		return;
	round->wanted = pool->wanted; /* who asks now waits for the same answer */
	err_set(&err, -ETIMEDOUT, "its storage does not answer (%s)", pool->source);
	refresh_failed(pool, &err);
	pool->done = round->wanted;
	pthread_cond_broadcast(&pool->cond);
}

/* Carries out a refresh. Meanwhile another storage may be set: then this one is left alone. */
static void refresh_once(struct pool *pool, struct round *round)
{
	struct err err = ERR_INIT;
	int result = 0, r;
	bool again;

	if (!begin(pool, round))
		return;
	for (;;) {
		r = strand_wait(round->strand, STORAGE_WAIT_MS, &pool->cancel, &result, &err);
		if (r == 1)
			break;
		pthread_mutex_lock(&pool->lock);
		again = !pool->stopping && pool->storage == round->refresh->storage;
		pthread_mutex_unlock(&pool->lock);
		if (r < 0 || !again) {
			strand_leave(take_ptr(round->strand), refresh_free);
			round->refresh = NULL;
			return;
		}
		no_answer(pool, round);
	}
	err.code = result;
	if (!show(pool, round, result, &err)) {
		LOCK_SCOPE(&pool->lock);
		pool->wanted++;
	}
	strand_put(take_ptr(round->strand));
	refresh_free(take_ptr(round->refresh));
}

/* Waits for a reason to ask. False at the end. */
static bool await_reason(struct pool *pool, struct round *round)
{
	struct pollfd p[] = {{pool->wake, POLLIN, 0}, {round->watch_fd, POLLIN, 0}};
	uint64_t count;
	bool stop, wanted;
	int n, ms;

	pthread_mutex_lock(&pool->lock);
	wanted = pool->wanted > pool->done;
	stop = pool->stopping;
	ms = !pool->storage ? -1 : pool->state == POOL_FAILED ? RETRY_MS : REFRESH_PERIOD_MS;
	pthread_mutex_unlock(&pool->lock);
	if (stop || wanted)
		return !stop;
	n = poll(p, 2, ms);
	if (n > 0 && p[0].revents && read(pool->wake, &count, sizeof(count)) < 0)
		log_debug("woken in vain");
	if (n > 0 && p[1].revents && !p[0].revents)
		poll(p, 1, SETTLE_MS);
	if (n > 0 && p[1].revents && !round->watched->type->watched(round->watch_fd))
		unwatch(round);
	pthread_mutex_lock(&pool->lock);
	stop = pool->stopping;
	if (pool->wanted <= pool->done && !(n > 0 && p[0].revents && !p[1].revents))
		pool->wanted = pool->done + 1;
	pthread_mutex_unlock(&pool->lock);
	return !stop;
}

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;
	struct round round = {.watch_fd = -1};

	pthread_setname_np(pthread_self(), "pool");
	while (await_reason(pool, &round))
		refresh_once(pool, &round);
	unwatch(&round);
	return NULL;
}

int pool_thread_start(struct pool *pool)
{
	int r;

	pool->wanted = 1;
	r = -pthread_create(&pool->thread, NULL, pool_thread, pool);
	pool->running = r == 0;
	return r;
}

static void wake(struct pool *pool)
{
	uint64_t one = 1;

	if (write(pool->wake, &one, sizeof(one)) < 0)
		log_debug("it is awake");
}

void pool_thread_stop(struct pool *pool)
{
	if (!pool->running)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->cond);
	pthread_mutex_unlock(&pool->lock);
	cancel_request(&pool->cancel);
	wake(pool);
	pthread_join(pool->thread, NULL);
	pool->running = false;
}

static void wake_waiter(void *arg)
{
	struct pool *pool = arg;

	LOCK_SCOPE(&pool->lock);
	pthread_cond_broadcast(&pool->cond);
}

int pool_refresh(struct pool *pool, bool wait, struct cancel *cancel, struct err *err)
{
	struct timespec deadline = deadline_in_ms(2 * STORAGE_WAIT_MS);
	uint64_t wanted;
	int r = 0;

	pthread_mutex_lock(&pool->lock);
	wanted = ++pool->wanted;
	pthread_mutex_unlock(&pool->lock);
	wake(pool);
	if (!wait)
		return 0;
	cancel_set_wake(cancel, wake_waiter, pool);
	pthread_mutex_lock(&pool->lock);
	while (r == 0 && pool->done < wanted) {
		if (pool->stopping)
			r = err_set(err, -ENOENT, "the pool is gone");
		else if (cancel_requested(cancel))
			r = err_set(err, -ECANCELED, "ended before its storage answered");
		else if (pthread_cond_timedwait(&pool->cond, &pool->lock, &deadline) == ETIMEDOUT)
			r = err_set(err, -ETIMEDOUT, "its storage does not answer");
	}
	if (r == 0 && pool->state == POOL_FAILED) {
		const char *words = pool->trouble ? strchr(pool->trouble, ' ') : NULL;

		r = err_set(err, pool->failure ? pool->failure : -EIO, "%s",
			    words ? words + 1 : "it failed");
	}
	pthread_mutex_unlock(&pool->lock);
	cancel_set_wake(cancel, NULL, NULL);
	return r;
}
