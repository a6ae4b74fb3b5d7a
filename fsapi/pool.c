// SPDX-License-Identifier: ISC
/*
 * Threads for what may wait, so that no thread that serves FUSE ever does:
 * commands (for seconds), stores (for a disk's fsync), questions to a VMM.
 *
 * Threads are made as work comes and nobody is idle, and end when nothing came
 * for a while. Commands may hold at most COMMANDS_MAX of them; the rest is
 * kept for short work, so that a thousand waiting clients cannot keep a
 * thousand-and-first from writing a value.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define COMMANDS_MAX 512u
#define OTHERS_MAX   32u
#define IDLE_S	     5
#define STACK_BYTES  (256u << 10)

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work;  /* something queued, or closing */
	pthread_cond_t ended; /* a thread ended */
	struct work *first, **last;
	struct work *running;
	unsigned threads, idle, queued;
	unsigned commands; /* queued or running */
	bool closing;
};

int pool_open(struct pool **pool)
{
	struct pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &attr);
	pthread_cond_init(&p->ended, NULL);
	pthread_condattr_destroy(&attr);
	p->last = &p->first;
	*pool = p;
	return 0;
}

static struct work *take_work(struct pool *p)
{
	struct work *w = p->first;

	if (!w)
		return NULL;
	p->first = w->next;
	if (!p->first)
		p->last = &p->first;
	p->queued--;
	w->running_next = p->running;
	w->running_prev = &p->running;
	if (p->running)
		p->running->running_prev = &w->running_next;
	p->running = w;
	return w;
}

/* Waits for work; false when there was none for long. With the lock. */
static bool wait_for_work(struct pool *p)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	p->idle++;
	while (!p->first && !p->closing && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&p->work, &p->lock, &until);
	p->idle--;
	return p->first != NULL;
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	struct work *w;

	pthread_setname_np(pthread_self(), "command");
	pthread_mutex_lock(&p->lock);
	while (p->first || wait_for_work(p)) {
		bool command;

		w = take_work(p);
		command = w->command;
		if (p->closing && w->cancel)
			cancel_request(w->cancel);
		pthread_mutex_unlock(&p->lock);
		w->run(w); /* calls pool_done() before @w goes */
		pthread_mutex_lock(&p->lock);
		if (command)
			p->commands--;
	}
	p->threads--;
	pthread_cond_signal(&p->ended);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void pool_done(struct pool *p, struct work *w)
{
	LOCK_SCOPE(&p->lock);
	*w->running_prev = w->running_next;
	if (w->running_next)
		w->running_next->running_prev = w->running_prev;
}

/* With the lock. */
static int add_thread(struct pool *p)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, pool_thread, p);
	pthread_attr_destroy(&attr);
	if (r == 0)
		p->threads++;
	return -r;
}

int pool_submit(struct pool *p, struct work *w)
{
	LOCK_SCOPE(&p->lock);
	if (p->closing)
		return -ENODEV;
	if (w->command && p->commands >= COMMANDS_MAX)
		return -EBUSY;
	/* Queued work that idle threads will not reach needs a thread more. */
	if (p->queued >= p->idle && p->threads < COMMANDS_MAX + OTHERS_MAX && add_thread(p) < 0 &&
	    p->threads == 0)
		return -ENOMEM;
	if (w->command)
		p->commands++;
	w->next = NULL;
	*p->last = w;
	p->last = &w->next;
	p->queued++;
	pthread_cond_signal(&p->work);
	return 0;
}

bool pool_closing(struct pool *p)
{
	LOCK_SCOPE(&p->lock);
	return p->closing;
}

void pool_stop(struct pool *p)
{
	LOCK_SCOPE(&p->lock);
	p->closing = true;
	for (struct work *w = p->running; w; w = w->running_next)
		if (w->cancel)
			cancel_request(w->cancel);
	pthread_cond_broadcast(&p->work);
	while (p->threads > 0)
		pthread_cond_wait(&p->ended, &p->lock);
}

void pool_close(struct pool *p)
{
	if (!p)
		return;
	pool_stop(p);
	pthread_cond_destroy(&p->ended);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
