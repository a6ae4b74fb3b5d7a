// SPDX-License-Identifier: ISC
/* A pool as such: references, state, access, error. */
#define LOG_MODULE "pool"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "pool_int.h"
#include "util/cleanup.h"
#include "util/log.h"

static const char *const state_names[POOL_STATE_MAX] = {
    [POOL_INACTIVE] = "inactive", [POOL_ACTIVE] = "active", [POOL_FAILED] = "failed"};

const char *pool_state_name(enum pool_state state)
{
	return state_names[state];
}

struct pool *pool_new(struct model *model, const char *name, const char *id)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	struct timespec now = time_now();
	pthread_condattr_t attr;

	if (!pool)
		return NULL;
	atomic_init(&pool->refs, 1);
	pool->model = model;
	pool->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&pool->edit, NULL);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->cond, &attr);
	pthread_condattr_destroy(&attr);
	cancel_init(&pool->cancel);
	strcpy(pool->name, name);
	strcpy(pool->id, id);
	pool->alive = true;
	pool->type = storage_types[0];
	pool->source = strdup("");
	for (size_t i = 0; i < POOL_ASPECT_MAX; i++)
		pool->changed[i] = now;
	if (!pool->source || pool->wake < 0) {
		pool_put(pool);
		return NULL;
	}
	return pool;
}

struct pool *pool_get(struct pool *pool)
{
	atomic_fetch_add(&pool->refs, 1);
	return pool;
}

void pool_put(struct pool *pool)
{
	if (!pool || atomic_fetch_sub(&pool->refs, 1) != 1)
		return;
	storage_put(pool->storage);
	for (size_t i = 0; i < pool->n_modes; i++)
		free(pool->modes[i].path);
	for (size_t i = 0; i < pool->n_absent; i++)
		meta_free(&pool->absent[i]);
	free(pool->absent);
	free(pool->modes);
	free(pool->by_name);
	free(pool->order);
	free(pool->error.text);
	free(pool->trouble);
	free(pool->source);
	if (pool->wake >= 0)
		close(pool->wake);
	cancel_destroy(&pool->cancel);
	pthread_cond_destroy(&pool->cond);
	pthread_mutex_destroy(&pool->lock);
	pthread_mutex_destroy(&pool->edit);
	free(pool);
}

/* --- looking ---------------------------------------------------------------------------------- */

void pool_name(struct pool *pool, char name[POOL_NAME_MAX + 1])
{
	LOCK_SCOPE(&pool->lock);
	strcpy(name, pool->name);
}

uint64_t pool_serial(const struct pool *pool)
{
	return pool->serial;
}

bool pool_alive(struct pool *pool)
{
	LOCK_SCOPE(&pool->lock);
	return pool->alive;
}

enum pool_state pool_state(struct pool *pool)
{
	LOCK_SCOPE(&pool->lock);
	return pool->state;
}

struct timespec pool_changed(struct pool *pool, enum pool_aspect aspect)
{
	LOCK_SCOPE(&pool->lock);
	return pool->changed[aspect < POOL_ASPECT_MAX ? aspect : POOL_STATE];
}

void pool_space(struct pool *pool, uint64_t *capacity, uint64_t *allocation, uint64_t *free_bytes)
{
	LOCK_SCOPE(&pool->lock);
	*capacity = pool->capacity;
	*allocation = pool->allocation;
	*free_bytes = pool->free_bytes;
}

struct storage *pool_storage(struct pool *pool, struct err *err)
{
	LOCK_SCOPE(&pool->lock);
	if (!pool->alive) {
		err_set(err, -ENOENT, "the pool is gone");
		return NULL;
	}
	if (!pool->storage) {
		err_set(err, -ENXIO, "the pool %s has no source", pool->name);
		return NULL;
	}
	/* who asks would wait for what does not come; its thread tries again by itself */
	if (pool->state == POOL_FAILED) {
		err_set(err, -ENXIO, "the pool %s failed: %s", pool->name,
			pool->trouble ? pool->trouble : "");
		return NULL;
	}
	return storage_get(pool->storage);
}

/* --- changing --------------------------------------------------------------------------------- */

void pool_touch(struct pool *pool, enum pool_aspect aspect, const char *name)
{
	pool->changed[aspect] = time_now();
	tell_pool_changed(pool, aspect, name);
}

static void state_event(struct pool *pool, enum pool_state state, const char *trouble)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "pool-state");
	event_text(&sb, "pool", pool->name);
	event_text(&sb, "from", pool_state_name(pool->state));
	event_text(&sb, "to", pool_state_name(state));
	if (trouble)
		event_text(&sb, "reason", trouble);
	model_event(pool->model, &sb);
}

void pool_set_state(struct pool *pool, enum pool_state state, const char *trouble)
{
	bool same_words =
	    trouble ? pool->trouble && strcmp(trouble, pool->trouble) == 0 : !pool->trouble;

	if (!same_words) {
		free(pool->trouble);
		pool->trouble = trouble ? strdup(trouble) : NULL;
		pool_touch(pool, POOL_ERROR, NULL);
	}
	if (state == pool->state)
		return;
	state_event(pool, state, trouble);
	pool->state = state;
	pool_touch(pool, POOL_STATE, NULL);
	pool_touch(pool, POOL_COMMANDS, NULL);
}

void pool_outcome(struct pool *pool, const char *what, const struct err *err)
{
	LOCK_SCOPE(&pool->lock);
	if (err->code == 0 && !pool->error.text)
		return;
	outcome_set(&pool->error, what, err, false);
	pool_touch(pool, POOL_ERROR, NULL);
}

void pool_error_set(struct pool *pool, const char *what, const struct err *err)
{
	pool_outcome(pool, what, err);
}

/* What its storage says goes before what a command said. */
void pool_error_show(struct pool *pool, struct strbuf *sb)
{
	LOCK_SCOPE(&pool->lock);
	if (pool->trouble)
		strbuf_puts(sb, pool->trouble);
	else
		outcome_show(&pool->error, sb);
}

int pool_activate(struct pool *pool, struct err *err)
{
	_cleanup_storage_ struct storage *storage = NULL, *old = NULL;
	_cleanup_free_ gid_t *groups = NULL;
	_cleanup_free_ char *source = NULL;
	const struct storage_type *type;
	struct rights rights = {0};
	int r = 0;

	pthread_mutex_lock(&pool->lock);
	type = pool->type;
	source = strdup(pool->source);
	rights.uid = pool->access.uid;
	rights.gid = pool->access.gid;
	pthread_mutex_unlock(&pool->lock);
	if (!source)
		return err_set(err, -ENOMEM, "out of memory");
	if (*source && type->root_only && geteuid() == 0 && rights.uid != 0)
		r = err_set(err, -EPERM, "only root may have a pool of type %s", type->name);
	else if (*source)
		r = rights_groups(rights.uid, rights.gid, &groups, &rights.n_groups);
	rights.groups = groups;
	if (r == 0 && *source)
		r = storage_new(&storage, type, source, &rights, pool->model->nbd_path, err);
	LOCK_SCOPE(&pool->lock);
	old = pool->storage;
	pool->storage = take_ptr(storage);
	pool->changes++;
	if (r < 0) {
		char words[ERR_TEXT_MAX + 32];

		snprintf(words, sizeof(words), "%s %s", err_name(r), err ? err->text : "");
		pool->failure = r;
		pool_set_state(pool, POOL_FAILED, words);
	} else if (!*source) {
		pool_set_state(pool, POOL_INACTIVE, NULL);
	}
	return r;
}

/* --- access ----------------------------------------------------------------------------------- */

void pool_access_get(struct pool *pool, struct machine_access *access)
{
	LOCK_SCOPE(&pool->lock);
	*access = pool->access;
}

/* Another owner's rights count from now on. */
int pool_access_set(struct pool *pool, const struct machine_access *access, struct err *err)
{
	bool other = false;
	int r;

	pthread_mutex_lock(&pool->edit);
	r = pool_alive(pool) ? pool_store_access(pool, access, pool->modes, pool->n_modes, err)
			     : err_set(err, -ENOENT, "the pool is gone");
	if (r == 0) {
		LOCK_SCOPE(&pool->lock);
		other = access->uid != pool->access.uid || access->gid != pool->access.gid;
		pool->access = *access;
		pool_touch(pool, POOL_ACCESS, NULL);
	}
	pthread_mutex_unlock(&pool->edit);
	if (r < 0)
		return r;
	if (other && pool_activate(pool, NULL) == 0)
		pool_refresh(pool, false, NULL, NULL);
	return 0;
}

bool pool_file_mode_get(struct pool *pool, const char *path, mode_t *mode)
{
	LOCK_SCOPE(&pool->lock);
	for (size_t i = 0; i < pool->n_modes; i++)
		if (strcmp(pool->modes[i].path, path) == 0) {
			*mode = pool->modes[i].mode;
			return true;
		}
	return false;
}

int pool_file_mode_set(struct pool *pool, const char *path, mode_t mode, struct err *err)
{
	struct access_file copy = {0}, old;
	int r;

	if (!*path || strpbrk(path, " \n"))
		return err_set(err, -EINVAL, "no such file");
	LOCK_SCOPE(&pool->edit);
	if (!pool_alive(pool))
		return err_set(err, -ENOENT, "the pool is gone");
	r = access_modes_with(pool->modes, pool->n_modes, path, mode & 07777, &copy);
	if (r < 0)
		err_set(err, r, "too many files with modes of their own");
	if (r == 0)
		r = pool_store_access(pool, &pool->access, copy.modes, copy.n_modes, err);
	if (r < 0) {
		access_free(&copy);
		return r;
	}
	pthread_mutex_lock(&pool->lock);
	old.modes = pool->modes;
	old.n_modes = pool->n_modes;
	pool->modes = copy.modes;
	pool->n_modes = copy.n_modes;
	pool_touch(pool, POOL_ACCESS, NULL);
	pthread_mutex_unlock(&pool->lock);
	access_free(&old);
	return 0;
}
