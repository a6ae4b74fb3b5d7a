// SPDX-License-Identifier: ISC
/* mkdir and rmdir of a volume. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"

/* --- making -------------------------------------------------------------------------------- */

/* Takes the name before its storage is asked: nobody else makes one of that name. */
static int reserve(struct pool *pool, const char *name, mode_t mode, const struct caller *caller,
		   bool files, struct volume **out, struct err *err)
{
	struct volume_meta meta;
	struct volume *v;
	int r;

	if (meta_init(&meta, name) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	meta.fresh = meta.decided = true;
	meta.unmade = !files;
	meta.own_access = true;
	meta.access = (struct machine_access){caller->uid, caller->gid, mode & 07777};
	v = volume_new(pool, &meta);
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->op = "mkdir";
	pthread_mutex_lock(&pool->lock);
	if (!pool->alive)
		r = err_set(err, -ENOENT, "the pool is gone");
	else if (pool_find_volume(pool, name))
		r = err_set(err, -EEXIST, "there is a volume %s already", name);
	else
		r = pool_add_volume(pool, v);
	if (r == 0)
		pool->changes++;
	pthread_mutex_unlock(&pool->lock);
	if (r == 0) {
		*out = v;
		return 0;
	}
	volume_put(v);
	if (r == -ENOSPC)
		return err_set(err, r, "there are %d volumes already", STORAGE_VOLUMES_MAX);
	return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
}

static void take_back(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	if (v->alive)
		pool_drop_volume(v->pool, v);
	v->pool->changes++;
}

/* What was known of a former volume of that name does not count for this one. */
static void forget_absent(struct pool *pool, const char *name)
{
	LOCK_SCOPE(&pool->lock);
	for (size_t i = 0; i < pool->n_absent; i++)
		if (strcmp(pool->absent[i].name, name) == 0) {
			meta_free(&pool->absent[i]);
			pool->absent[i] = pool->absent[--pool->n_absent];
			return;
		}
}

/* Modes of files below a directory that went are not those of a new one of its name. */
static void forget_modes(struct pool *pool, const char *name)
{
	char prefix[VOLUME_NAME_MAX + 16];
	size_t len = (size_t)snprintf(prefix, sizeof(prefix), "volumes/%s/", name), kept = 0;

	LOCK_SCOPE(&pool->edit);
	pthread_mutex_lock(&pool->lock);
	for (size_t i = 0; i < pool->n_modes; i++)
		if (strncmp(pool->modes[i].path, prefix, len) == 0)
			free(pool->modes[i].path);
		else
			pool->modes[kept++] = pool->modes[i];
	if (kept == pool->n_modes)
		len = 0;
	pool->n_modes = kept;
	pthread_mutex_unlock(&pool->lock);
	if (len && pool_alive(pool))
		pool_store_access(pool, &pool->access, pool->modes, kept, NULL);
}

static int store(struct pool *pool, struct err *err)
{
	LOCK_SCOPE(&pool->edit);
	return pool_store_volumes(pool, err);
}

static int make(struct pool *pool, struct storage *s, const char *name, mode_t mode,
		const struct caller *caller, struct volume **out, struct err *err)
{
	_cleanup_volume_ struct volume *v = NULL;
	struct volume_values values = {0};
	int r = reserve(pool, name, mode, caller, s->type->rename != NULL, &v, err);

	if (r < 0)
		return r;
	forget_absent(pool, name);
	forget_modes(pool, name);
	if (s->type->rename) {
		r = volume_values_init(&values);
		if (r == 0)
			r = volume_make_anew(v, &values, NULL, NULL, caller->cancel, err);
		volume_values_free(&values);
	} else {
		r = store(pool, err);
	}
	volume_unclaim(v);
	if (r < 0) {
		take_back(v);
		return r;
	}
	pthread_mutex_lock(&pool->lock);
	volume_event(v, "volume-made", caller);
	pthread_mutex_unlock(&pool->lock);
	if (out)
		*out = take_ptr(v);
	return 0;
}

int pool_volume_make(struct pool *pool, const char *name, mode_t mode, const struct caller *caller,
		     struct volume **volume, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	_cleanup_storage_ struct storage *s = pool_storage(pool, e);
	int r = s ? 0 : -ENXIO;

	if (s && !s->type->create)
		r = err_set(e, -EOPNOTSUPP,
			    "volumes of a pool of type %s are made by who runs its server",
			    s->type->name);
	if (r == 0)
		r = s->type->check_name ? s->type->check_name(name, e)
					: storage_name_check(name, e);
	if (r == 0)
		r = make(pool, s, name, mode, caller, volume, e);
	e->code = r;
	if (r < 0)
		pool_outcome(pool, "mkdir", e);
	return r;
}

/* --- removing -------------------------------------------------------------------------------- */

/* Whether the volume of that pool is over the file at @path. */
static bool is_over(struct volume *v, struct storage *s, const char *path)
{
	_cleanup_free_ char *below = NULL;

	if (!v->look.below)
		return false;
	below = v->look.sibling && s->type->path ? s->type->path(s, v->look.below)
						 : strdup(v->look.below);
	return below && strcmp(below, path) == 0;
}

/* Another volume, of any pool, whose image is over this one's. */
int volume_must_not_back(struct volume *v, struct err *err)
{
	_cleanup_free_ char *path = volume_path(v);
	uint64_t cursor = 0;
	struct pool *next;
	int r = 0;

	while (path && r == 0 && (next = model_pool_next(v->pool->model, &cursor))) {
		_cleanup_pool_ struct pool *pool = next;
		_cleanup_storage_ struct storage *s = pool_storage(pool, NULL);

		if (!s)
			continue;
		LOCK_SCOPE(&pool->lock);
		for (size_t i = 0; i < pool->n_volumes && r == 0; i++)
			if (pool->order[i] != v && is_over(pool->order[i], s, path))
				r = err_set(err, -EBUSY, "the volume %s/%s is over it", pool->name,
					    pool->order[i]->meta.name);
	}
	return r;
}

/* Another program, or a machine that names its file by path, may have it. */
static int must_be_unlocked(struct volume *v, struct storage *s, struct cancel *cancel,
			    struct err *err)
{
	_cleanup_close_ int fd = -1;

	if (!s->type->rename)
		return 0;
	fd = storage_open_waiting(s, v->meta.name, true, cancel, NULL);
	if (fd < 0)
		return 0; /* what cannot be opened can be removed */
	return image_lock(fd, true, false, err);
}

static int remove_claimed(struct volume *v, struct storage *s, const struct caller *caller,
			  struct err *err)
{
	struct pool *pool = v->pool;
	bool unmade;
	int r = volume_must_not_back(v, err);

	pthread_mutex_lock(&pool->lock);
	unmade = v->meta.unmade;
	pthread_mutex_unlock(&pool->lock);
	if (r == 0 && !unmade)
		r = must_be_unlocked(v, s, caller->cancel, err);
	if (r == 0 && !unmade)
		r = storage_remove_waiting(s, v->meta.name, caller->cancel, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&pool->lock);
	volume_event(v, "volume-removed", caller);
	if (v->alive)
		pool_drop_volume(pool, v);
	pool->changes++;
	pthread_mutex_unlock(&pool->lock);
	forget_absent(pool, v->meta.name);
	forget_modes(pool, v->meta.name);
	store(pool, NULL); /* a line too many does no harm */
	pool_refresh(pool, false, NULL, NULL);
	return 0;
}

int pool_volume_remove(struct pool *pool, struct volume *v, const struct caller *caller,
		       struct err *err)
{
	struct subject subject = {
	    .kind = SUBJECT_VOLUME, .model = pool->model, .pool = pool, .volume = v};
	struct err own = ERR_INIT, *e = err ? err : &own;
	_cleanup_storage_ struct storage *s = pool_storage(pool, e);
	int r = s ? 0 : -ENXIO;

	if (s && !s->type->remove)
		r = err_set(e, -EOPNOTSUPP,
			    "volumes of a pool of type %s are removed by who runs its server",
			    s->type->name);
	if (r == 0)
		r = volume_claim(v, "rmdir", e);
	if (r == 0) {
		r = remove_claimed(v, s, caller, e);
		volume_unclaim(v);
	}
	e->code = r;
	if (r < 0) {
		volume_outcome(v, "rmdir", e);
		return r;
	}
	jobs_drop(pool->model->jobs, &subject);
	return 0;
}
