// SPDX-License-Identifier: ISC
/* Device threads with block queues, kept over resets. See io_pool.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/io_pool.h"
#include "util/cleanup.h"

#define NAME_BYTES 96

struct pair {
	struct pair *next;
	char name[NAME_BYTES];
	unsigned depth;
	struct iothread *thread;
	struct block_queue *queue;
};

struct io_pool {
	struct pair *idle;
};

int io_pool_new(struct io_pool **pool)
{
	*pool = calloc(1, sizeof(**pool));
	return *pool ? 0 : -ENOMEM;
}

static void free_pair(struct iothread *thread, struct block_queue *queue)
{
	iothread_free(thread);
	block_queue_free(queue);
}

void io_pool_free(struct io_pool *pool)
{
	if (!pool)
		return;
	while (pool->idle) {
		struct pair *pair = pool->idle;

		pool->idle = pair->next;
		free_pair(pair->thread, pair->queue);
		free(pair);
	}
	free(pool);
}

/* Takes it out of the list; NULL if there is none. */
static struct pair *find(struct io_pool *pool, const char *name, unsigned depth)
{
	for (struct pair **at = &pool->idle; *at; at = &(*at)->next) {
		struct pair *pair = *at;

		if (pair->depth == depth && strcmp(pair->name, name) == 0) {
			*at = pair->next;
			return pair;
		}
	}
	return NULL;
}

int io_pool_take(struct io_pool *pool, const char *name, unsigned depth, struct iothread **thread,
		 struct block_queue **queue, struct err *err)
{
	_cleanup_free_ struct pair *kept = pool ? find(pool, name, depth) : NULL;
	int ret;

	if (kept) {
		*thread = kept->thread;
		*queue = kept->queue;
		return 0;
	}
	ret = block_queue_new(queue, depth, err);
	if (ret < 0)
		return ret;
	ret = iothread_new(thread, name, err);
	if (ret < 0)
		block_queue_free(take_ptr(*queue));
	return ret;
}

void io_pool_put(struct io_pool *pool, const char *name, unsigned depth, struct iothread *thread,
		 struct block_queue *queue)
{
	struct pair *pair = pool && thread && queue ? calloc(1, sizeof(*pair)) : NULL;

	if (!pair || strlen(name) >= sizeof(pair->name)) {
		free(pair);
		free_pair(thread, queue);
		return;
	}
	snprintf(pair->name, sizeof(pair->name), "%s", name);
	pair->depth = depth;
	pair->thread = thread;
	pair->queue = queue;
	pair->next = pool->idle;
	pool->idle = pair;
}
