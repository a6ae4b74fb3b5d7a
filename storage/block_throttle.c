// SPDX-License-Identifier: ISC
/*
 * Limits on requests and bytes per second. Each limit is a bucket that fills at
 * its rate up to its burst; a request goes when no bucket is in debt, and takes
 * its cost from each, which may leave it in debt (so one request larger than the
 * burst still goes, and those behind it wait longer). Requests that must wait
 * stand in one line; a thread sleeps until the first may go, and
 * sends it on from its own queue's thread.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/block_filter.h"
#include "storage/block_node.h"
#include "util/cleanup.h"

#define N_BUCKETS    (2 * N_BLOCK_LIMITS)
#define THREAD_STACK (64 << 10)
#define NS	     1000000000ll

struct bucket {
	struct block_limit limit;
	double level; /* what may be taken now; below 0: debt */
};

struct throttle {
	struct block block;
	struct block *child;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t change;
	struct bucket buckets[N_BUCKETS];
	int64_t filled_ns; /* when the levels were true */
	struct block_req *first, **last;
	bool end;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

static double burst_of(const struct bucket *b)
{
	return b->limit.burst ? (double)b->limit.burst : (double)b->limit.per_s / 10;
}

static void fill(struct throttle *t)
{
	int64_t now = now_ns();
	unsigned i;

	for (i = 0; i < N_BUCKETS; i++) {
		struct bucket *b = &t->buckets[i];

		b->level += (double)b->limit.per_s * (double)(now - t->filled_ns) / NS;
		if (b->level > burst_of(b))
			b->level = burst_of(b);
	}
	t->filled_ns = now;
}

/* Does bucket @i count requests of that kind? The first half counts requests, the other bytes. */
static bool concerns(unsigned i, const struct block_req *req)
{
	unsigned which = i % N_BLOCK_LIMITS;
	bool read = req->op == BLOCK_READ;

	return which == BLOCK_LIMIT_TOTAL || (which == BLOCK_LIMIT_READ) == read;
}

/* How long until @req may go; 0: now, and it has been paid for. Under lock. */
static int64_t try_pay(struct throttle *t, const struct block_req *req)
{
	int64_t wait = 0;
	unsigned i;

	fill(t);
	for (i = 0; i < N_BUCKETS; i++) {
		struct bucket *b = &t->buckets[i];

		if (b->limit.per_s && concerns(i, req) && b->level < 0) {
			int64_t ns = (int64_t)(-b->level / (double)b->limit.per_s * NS) + 1;

			wait = ns > wait ? ns : wait;
		}
	}
	for (i = 0; i < N_BUCKETS && !wait; i++)
		if (t->buckets[i].limit.per_s && concerns(i, req))
			t->buckets[i].level -= i < N_BLOCK_LIMITS ? 1 : (double)req->bytes;
	return wait;
}

static void go_on(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);

	(void)result;
	if (req->cancelled)
		block_req_end(req, -ECANCELED);
	else
		block_forward(((struct throttle *)req->node)->child, req);
}

static void send_first(struct throttle *t)
{
	struct block_req *req = t->first;

	t->first = req->next;
	if (!t->first)
		t->last = &t->first;
	block_req_io(req)->done = go_on;
	queue_post(req->queue, block_req_io(req), 0);
}

static void *throttle_main(void *arg)
{
	struct throttle *t = arg;

	LOCK_SCOPE(&t->lock);
	while (!t->end) {
		struct timespec until;
		int64_t wait;

		if (!t->first) {
			pthread_cond_wait(&t->change, &t->lock);
			continue;
		}
		wait = try_pay(t, t->first);
		if (!wait) {
			send_first(t);
			continue;
		}
		wait += now_ns();
		until = (struct timespec){wait / NS, wait % NS};
		pthread_cond_timedwait(&t->change, &t->lock, &until);
	}
	return NULL;
}

static void throttle_submit(struct block *block, struct block_req *req)
{
	struct throttle *t = (struct throttle *)block;
	bool go;

	pthread_mutex_lock(&t->lock);
	go = req->op == BLOCK_FLUSH || (!t->first && !try_pay(t, req));
	if (!go) {
		req->next = NULL;
		*t->last = req;
		t->last = &req->next;
		pthread_cond_signal(&t->change);
	}
	pthread_mutex_unlock(&t->lock);
	if (go)
		block_forward(t->child, req);
}

static void throttle_cancel(struct block *block, struct block_req *req)
{
	struct throttle *t = (struct throttle *)block;
	struct block_req **at;
	bool waits;

	pthread_mutex_lock(&t->lock);
	for (at = &t->first; *at && *at != req; at = &(*at)->next)
		;
	waits = *at;
	if (waits) {
		*at = req->next;
		if (!*at)
			t->last = at;
		pthread_cond_signal(&t->change);
	}
	pthread_mutex_unlock(&t->lock);
	if (waits)
		block_req_end(req, -ECANCELED);
}

static int throttle_status(struct block *block, uint64_t offset, uint64_t bytes,
			   struct block_extent *extent)
{
	return block_status(((struct throttle *)block)->child, offset, bytes, extent);
}

static int throttle_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct throttle *t = (struct throttle *)block;
	int r = block_resize(t->child, bytes, err);

	block_set_size(block, block_size(t->child));
	return r;
}

static void throttle_free(struct throttle *t)
{
	pthread_cond_destroy(&t->change);
	pthread_mutex_destroy(&t->lock);
	block_close(t->child);
	free(t);
}

static void throttle_close(struct block *block)
{
	struct throttle *t = (struct throttle *)block;

	pthread_mutex_lock(&t->lock);
	t->end = true;
	pthread_cond_signal(&t->change);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	throttle_free(t);
}

static const struct block_ops throttle_ops = {
    .name = "throttle",
    .submit = throttle_submit,
    .status = throttle_status,
    .resize = throttle_resize,
    .close = throttle_close,
    .cancel = throttle_cancel,
};

void block_throttle_set(struct block *block, const struct block_limits *limits)
{
	struct throttle *t = (struct throttle *)block;
	unsigned i;

	if (block->ops != &throttle_ops)
		return;
	LOCK_SCOPE(&t->lock);
	fill(t);
	for (i = 0; i < N_BUCKETS; i++) {
		struct bucket *b = &t->buckets[i];

		b->limit =
		    i < N_BLOCK_LIMITS ? limits->requests[i] : limits->bytes[i - N_BLOCK_LIMITS];
		/* An old debt at a lower rate must not hold requests up for ever. */
		b->level = burst_of(b);
	}
	pthread_cond_signal(&t->change);
}

static int start_thread(struct throttle *t)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = -pthread_create(&t->thread, &attr, throttle_main, t);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int block_throttle_open(struct block **block, struct block *child,
			const struct block_limits *limits, struct err *err)
{
	struct throttle *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	int r;

	if (!t) {
		block_close(child);
		return err_set(err, -ENOMEM, "out of memory");
	}
	t->block.ops = &throttle_ops;
	t->block.grow = child->grow;
	block_info_get(child, &t->block.info);
	t->child = child;
	t->last = &t->first;
	t->filled_ns = now_ns();
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->change, &attr);
	pthread_condattr_destroy(&attr);
	block_throttle_set(&t->block, limits);
	r = start_thread(t);
	if (r < 0) {
		throttle_free(t);
		return err_set(err, r, "cannot start a thread for limits: %s", err_name(r));
	}
	*block = &t->block;
	return 0;
}
