// SPDX-License-Identifier: ISC
/* All pools: a handful, in an array by serial. Names are reserved while their files are made. */
#define LOG_MODULE "pools"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "pools.h"
#include "util/cleanup.h"
#include "util/log.h"

/* --- names; all under the lock ------------------------------------------------------------ */

static struct pool *find(struct pools *pools, const char *name)
{
	for (size_t i = 0; i < pools->n; i++)
		if (strcmp(pools->list[i]->name, name) == 0)
			return pools->list[i];
	return NULL;
}

static char **find_reserved(struct pools *pools, const char *name)
{
	for (size_t i = 0; i < pools->n_reserved; i++)
		if (strcmp(pools->reserved[i], name) == 0)
			return &pools->reserved[i];
	return NULL;
}

static void drop_reserved(struct pools *pools, const char *name)
{
	char **slot = find_reserved(pools, name);

	if (!slot)
		return;
	free(*slot);
	*slot = pools->reserved[--pools->n_reserved];
}

int pools_reserve(struct pools *pools, const char *name, struct err *err)
{
	char *copy = strdup(name), **more;

	LOCK_SCOPE(&pools->lock);
	more = realloc(pools->reserved, (pools->n_reserved + 1) * sizeof(*more));
	if (more)
		pools->reserved = more;
	if (!copy || !more) {
		free(copy);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (find(pools, name) || find_reserved(pools, name)) {
		free(copy);
		return err_set(err, -EEXIST, "there is a pool %s already", name);
	}
	if (pools->n + pools->n_reserved >= POOLS_MAX) {
		free(copy);
		return err_set(err, -ENOSPC, "there are %d pools already", POOLS_MAX);
	}
	pools->reserved[pools->n_reserved++] = copy;
	return 0;
}

void pools_unreserve(struct pools *pools, const char *name)
{
	LOCK_SCOPE(&pools->lock);
	drop_reserved(pools, name);
}

int pools_insert(struct pools *pools, struct pool *pool)
{
	struct pool **more;

	LOCK_SCOPE(&pools->lock);
	more = realloc(pools->list, (pools->n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	pools->list = more;
	pool->serial = model_next_serial(pools->model);
	pools->list[pools->n++] = pool_get(pool);
	pools->changed = time_now();
	drop_reserved(pools, pool->name);
	return 0;
}

void pools_remove(struct pools *pools, struct pool *pool)
{
	pthread_mutex_lock(&pools->lock);
	for (size_t i = 0; i < pools->n; i++)
		if (pools->list[i] == pool) {
			memmove(&pools->list[i], &pools->list[i + 1],
				(pools->n - i - 1) * sizeof(*pools->list));
			pools->n--;
			break;
		}
	pools->changed = time_now();
	pthread_mutex_unlock(&pools->lock);
	pool_put(pool);
}

void pools_rename(struct pools *pools, struct pool *pool, const char *new_name)
{
	LOCK_SCOPE(&pools->lock);
	pthread_mutex_lock(&pool->lock);
	strcpy(pool->name, new_name);
	pthread_mutex_unlock(&pool->lock);
	drop_reserved(pools, new_name);
	pools->changed = time_now();
}

/* --- opening and closing ------------------------------------------------------------------- */

/* Each has what it had in the last daemon's time; its thread then asks. */
static void start_all(struct pools *pools)
{
	for (size_t i = 0; i < pools->n; i++) {
		struct pool *pool = pools->list[i];
		struct err err = ERR_INIT;

		if (!pool->damaged && pool_activate(pool, &err) < 0)
			log_error("pool %s: %s", pool->name, err.text);
		if (pool_thread_start(pool) < 0)
			log_error("pool %s has no thread", pool->name);
	}
}

int pools_open(struct pools **out, struct model *model, struct err *err)
{
	struct pools *pools = calloc(1, sizeof(*pools));
	int r;

	if (!pools)
		return err_set(err, -ENOMEM, "out of memory");
	pools->model = model;
	pools->dir = -1;
	pools->changed = time_now();
	pthread_mutex_init(&pools->lock, NULL);
	*out = pools;
	r = pools_store_open(pools, err);
	if (r == 0)
		r = pools_store_load(pools, err);
	if (r == 0)
		start_all(pools);
	return r;
}

/* What machines and volumes refer to each other by is let go, so that all is freed. */
static void close_pool(struct pool *pool)
{
	struct volume **volumes;
	struct volume_use *uses;
	size_t n;

	pool_thread_stop(pool);
	pthread_mutex_lock(&pool->lock);
	volumes = take_ptr(pool->order);
	n = pool->n_volumes;
	pool->n_volumes = 0;
	free(take_ptr(pool->by_name));
	uses = take_ptr(pool->uses);
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < n; i++)
		volume_put(volumes[i]);
	free(volumes);
	for (struct volume_use *next; uses; uses = next) {
		next = uses->next;
		machine_put(uses->m);
		free(uses);
	}
	pool_put(pool);
}

void pools_close(struct pools *pools)
{
	if (!pools)
		return;
	for (size_t i = 0; i < pools->n; i++)
		close_pool(pools->list[i]);
	for (size_t i = 0; i < pools->n_reserved; i++)
		free(pools->reserved[i]);
	if (pools->dir >= 0)
		close(pools->dir);
	pthread_mutex_destroy(&pools->lock);
	free(pools->list);
	free(pools->reserved);
	free(pools);
}

/* --- pool.h ---------------------------------------------------------------------------------- */

struct pool *model_pool_get(struct model *model, const char *name)
{
	struct pool *pool;

	LOCK_SCOPE(&model->pools->lock);
	pool = find(model->pools, name);
	return pool ? pool_get(pool) : NULL;
}

struct pool *model_pool_next(struct model *model, uint64_t *cursor)
{
	struct pools *pools = model->pools;

	LOCK_SCOPE(&pools->lock);
	for (size_t i = 0; i < pools->n; i++)
		if (pools->list[i]->serial > *cursor) {
			*cursor = pools->list[i]->serial;
			return pool_get(pools->list[i]);
		}
	return NULL;
}

size_t model_pool_count(struct model *model)
{
	LOCK_SCOPE(&model->pools->lock);
	return model->pools->n;
}

struct timespec model_pools_changed(struct model *model)
{
	LOCK_SCOPE(&model->pools->lock);
	return model->pools->changed;
}
