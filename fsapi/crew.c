// SPDX-License-Identifier: ISC
/*
 * Threads for what may wait, so that no thread that serves FUSE ever does:
 * commands (for seconds), stores (for a disk's fsync), questions to a VMM,
 * reads and writes of images (for storage, which may hang).
 *
 * Threads are made as work comes and nobody is idle, and end when nothing came
 * for a while. Each class of work has a share of them that it cannot exceed, so that
 * a thousand waiting clients cannot keep a thousand-and-first from writing a
 * value. Work on storage has lanes besides, one for each image: a few threads at most
 * hang with storage that hangs, the others serve the rest.
 *
 * What a class or lane has no room for stays in the queue, and no thread is called for
 * it: a thread that ends a work of that class looks for more before it rests.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define COMMANDS_MAX 512u
#define STORAGE_MAX  64u
#define LANE_MAX     8u
#define OTHERS_MAX   32u
#define THREADS_MAX  (COMMANDS_MAX + STORAGE_MAX + OTHERS_MAX)
#define IDLE_S	     5
#define STACK_BYTES  (256u << 10)

struct queue {
	struct work *first, **last;
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t work;  /* something queued, or closing */
	pthread_cond_t ended; /* a thread ended */
	struct queue queue;   /* SHORT, COMMAND */
	struct queue storage;
	struct work *running;
	unsigned threads, idle;
	unsigned called;   /* work in the queues for which a thread was called */
	unsigned commands; /* queued or running */
	struct lane all_storage;
	bool closing;
};

int crew_open(struct crew **crew)
{
	struct crew *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->work, &attr);
	pthread_cond_init(&c->ended, NULL);
	pthread_condattr_destroy(&attr);
	c->queue.last = &c->queue.first;
	c->storage.last = &c->storage.first;
	*crew = c;
	return 0;
}

/* --- what may begin; all with the lock ------------------------------------------------ */

static bool has_room(const struct crew *c, const struct lane *lane)
{
	return lane->busy < LANE_MAX && c->all_storage.busy < STORAGE_MAX;
}

/* Whether there is room for one more than those that threads were called for. */
static bool has_room_beside(const struct crew *c, const struct lane *lane)
{
	return lane->busy + lane->called < LANE_MAX &&
	       c->all_storage.busy + c->all_storage.called < STORAGE_MAX;
}

/* Where the pointer to the next work stands; NULL if none may begin. */
static struct work **next_work(struct crew *c, struct queue **queue)
{
	*queue = &c->queue;
	if (c->queue.first)
		return &c->queue.first;
	*queue = &c->storage;
	for (struct work **p = &c->storage.first; *p; p = &(*p)->next)
		if (has_room(c, (*p)->lane))
			return p;
	return NULL;
}

static bool work_waits(struct crew *c)
{
	struct queue *queue;

	return next_work(c, &queue) != NULL;
}

static void count_call(struct crew *c, struct work *w, int by)
{
	c->called += (unsigned)by;
	if (w->class == WORK_STORAGE) {
		c->all_storage.called += (unsigned)by;
		w->lane->called += (unsigned)by;
	}
}

static struct work *take_work(struct crew *c)
{
	struct queue *queue;
	struct work **p = next_work(c, &queue);
	struct work *w = *p;

	*p = w->next;
	if (!*p)
		queue->last = p;
	if (w->called)
		count_call(c, w, -1);
	if (w->class == WORK_STORAGE) {
		c->all_storage.busy++;
		w->lane->busy++;
	}
	w->running_next = c->running;
	w->running_prev = &c->running;
	if (c->running)
		c->running->running_prev = &w->running_next;
	c->running = w;
	return w;
}

/* --- threads -------------------------------------------------------------------------- */

/* Waits for work; false when there was none for long. With the lock. */
static bool wait_for_work(struct crew *c)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	c->idle++;
	while (!work_waits(c) && !c->closing && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&c->work, &c->lock, &until);
	c->idle--;
	return work_waits(c);
}

static void *crew_thread(void *arg)
{
	struct crew *c = arg;

	pthread_setname_np(pthread_self(), "crew");
	pthread_mutex_lock(&c->lock);
	while (work_waits(c) || wait_for_work(c)) {
		struct work *w = take_work(c);

		if (c->closing && w->cancel)
			cancel_request(w->cancel);
		pthread_mutex_unlock(&c->lock);
		w->run(w); /* calls crew_done() before @w goes */
		pthread_mutex_lock(&c->lock);
	}
	c->threads--;
	pthread_cond_signal(&c->ended);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

void crew_done(struct crew *c, struct work *w)
{
	LOCK_SCOPE(&c->lock);
	*w->running_prev = w->running_next;
	if (w->running_next)
		w->running_next->running_prev = w->running_prev;
	if (w->class == WORK_STORAGE) {
		c->all_storage.busy--;
		w->lane->busy--;
	} else if (w->class == WORK_COMMAND) {
		c->commands--;
	}
}

/* With the lock. */
static int add_thread(struct crew *c)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, crew_thread, c);
	pthread_attr_destroy(&attr);
	if (r == 0)
		c->threads++;
	return -r;
}

/* Sees that a thread will come for it, if it may begin. With the lock. */
static int call_thread(struct crew *c, struct work *w)
{
	w->called = w->class != WORK_STORAGE || has_room_beside(c, w->lane);
	if (!w->called)
		return 0;
	/* Called work that idle threads will not reach needs a thread more. */
	if (c->called >= c->idle && c->threads < THREADS_MAX && add_thread(c) < 0 &&
	    c->threads == 0)
		return -ENOMEM;
	count_call(c, w, 1);
	pthread_cond_signal(&c->work);
	return 0;
}

int crew_submit(struct crew *c, struct work *w)
{
	struct queue *queue = w->class == WORK_STORAGE ? &c->storage : &c->queue;
	int r;

	LOCK_SCOPE(&c->lock);
	if (c->closing)
		return -ENODEV;
	if (w->class == WORK_COMMAND && c->commands >= COMMANDS_MAX)
		return -EBUSY;
	r = call_thread(c, w);
	if (r < 0)
		return r;
	if (w->class == WORK_COMMAND)
		c->commands++;
	w->next = NULL;
	*queue->last = w;
	queue->last = &w->next;
	return 0;
}

void crew_stop(struct crew *c)
{
	LOCK_SCOPE(&c->lock);
	c->closing = true;
	for (struct work *w = c->running; w; w = w->running_next)
		if (w->cancel)
			cancel_request(w->cancel);
	pthread_cond_broadcast(&c->work);
	while (c->threads > 0)
		pthread_cond_wait(&c->ended, &c->lock);
}

void crew_close(struct crew *c)
{
	if (!c)
		return;
	crew_stop(c);
	pthread_cond_destroy(&c->ended);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
