// SPDX-License-Identifier: ISC
/*
 * The queue engine where io_uring is refused (a container's seccomp profile,
 * kernel.io_uring_disabled): a few threads per queue take ios from a list, carry
 * them out, and post them back. All are started when the queue is made.
 *
 * System calls: eventfd2 mmap mprotect clone3 rt_sigprocmask (making); futex
 * preadv pwritev2 fdatasync fallocate write (threads); futex read poll (use).
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "storage/block_node.h"
#include "util/cleanup.h"

#define THREADS_MAX  8
#define THREAD_STACK (256 << 10)

struct pool {
	pthread_t threads[THREADS_MAX];
	unsigned n_threads;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t more;
	struct io_list todo;
	bool end;
};

static struct queue_io *next_io(struct pool *pool)
{
	LOCK_SCOPE(&pool->lock);
	while (!pool->todo.first && !pool->end)
		pthread_cond_wait(&pool->more, &pool->lock);
	return io_list_take(&pool->todo);
}

static void *thread_main(void *arg)
{
	struct block_queue *queue = arg;
	struct pool *pool = queue->engine_state;
	struct queue_io *io;

	while ((io = next_io(pool)))
		queue_post(queue, io, queue_io_perform(io));
	return NULL;
}

static void threads_submit(struct block_queue *queue, struct queue_io *io)
{
	struct pool *pool = queue->engine_state;

	LOCK_SCOPE(&pool->lock);
	io_list_add(&pool->todo, io);
	pthread_cond_signal(&pool->more);
}

static bool threads_cancel(struct block_queue *queue, struct queue_io *io)
{
	struct pool *pool = queue->engine_state;

	LOCK_SCOPE(&pool->lock);
	return io_list_remove(&pool->todo, io);
}

static void threads_nothing(struct block_queue *queue)
{
	(void)queue;
}

static void threads_wait(struct block_queue *queue)
{
	struct pollfd p = {.fd = queue->event_fd, .events = POLLIN};

	poll(&p, 1, -1);
}

static void threads_free(struct block_queue *queue)
{
	struct pool *pool = queue->engine_state;
	unsigned i;

	pthread_mutex_lock(&pool->lock);
	pool->end = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->more);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static const struct queue_engine threads_engine = {
    .name = "threads",
    .submit = threads_submit,
    .kick = threads_nothing,
    .reap = threads_nothing,
    .wait = threads_wait,
    .cancel = threads_cancel,
    .free = threads_free,
};

/* Signals are for the program's own threads: these take none. */
static int start_threads(struct block_queue *queue, struct pool *pool, unsigned wanted)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	while (!r && pool->n_threads < wanted) {
		r = -pthread_create(&pool->threads[pool->n_threads], &attr, thread_main, queue);
		if (!r)
			pool->n_threads++;
	}
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pool->n_threads ? 0 : r;
}

int queue_threads_init(struct block_queue *queue)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int r;

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	io_list_init(&pool->todo);
	queue->engine = &threads_engine;
	queue->engine_state = pool;
	queue->fd = queue->event_fd;
	queue->ring_reads_events = false;
	r = start_threads(queue, pool, queue->depth < THREADS_MAX ? queue->depth : THREADS_MAX);
	if (r < 0)
		threads_free(queue);
	return r;
}
