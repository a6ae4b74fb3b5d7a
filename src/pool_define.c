// SPDX-License-Identifier: ISC
/* Pools come, go, change their name; their type and source. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "pool_int.h"
#include "util/cleanup.h"

static const char *const type_words[] = {"dir", "lvm", "nbd", NULL};

const struct config_key pool_keys[] = {
    {.name = "type",
     .type = KEY_ENUM,
     .preset = "dir",
     .words = type_words,
     .help = "what holds its volumes: dir, lvm or nbd; another type empties source"},
    {.name = "source",
     .type = KEY_TEXT,
     .max = STORAGE_SOURCE_MAX,
     .preset = "",
     .help = "dir: absolute path of a directory; lvm: name of a volume group; nbd: URI of a "
	     "server"},
};
const size_t n_pool_keys = nitems(pool_keys);

/* --- come ---------------------------------------------------------------------------------- */

static void pool_event(struct pool *pool, const char *kind, const char *name, const char *old_name,
		       const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "pool", name);
	if (old_name)
		event_text(&sb, "old", old_name);
	if (caller)
		event_number(&sb, "uid", caller->uid);
	model_event(pool->model, &sb);
}

static int pool_name_check(const char *name, struct err *err)
{
	if (machine_name_check(name, NULL) < 0)
		return err_set(err, -EINVAL,
			       "'%.80s' is no name for a pool: a letter or digit, then up to 62 "
			       "letters, digits, '.', '_' or '-'",
			       name);
	return 0;
}

static int define_reserved(struct model *model, const char *name, mode_t mode,
			   const struct caller *caller, struct pool **out, struct err *err)
{
	_cleanup_pool_ struct pool *pool = NULL;
	char id[ID_TEXT];
	int r;

	model_make_id(id);
	pool = pool_new(model, name, id);
	if (!pool)
		return err_set(err, -ENOMEM, "out of memory");
	pool->access = (struct machine_access){caller->uid, caller->gid, mode & 07777};
	r = pool_store_define(pool, err);
	if (r < 0)
		return r;
	r = pool_thread_start(pool);
	if (r == 0)
		r = pools_insert(model->pools, pool);
	if (r < 0) {
		pool_thread_stop(pool);
		pool_store_undefine(pool, NULL);
		pool_store_sweep(pool);
		return err_set(err, r, "cannot start a thread for it: %s", strerror(-r));
	}
	pool_event(pool, "pool-defined", name, NULL, caller);
	tell_pool(pool, POOL_NEWS_ADDED, NULL);
	if (out)
		*out = take_ptr(pool);
	return 0;
}

int model_pool_define(struct model *model, const char *name, mode_t mode,
		      const struct caller *caller, struct pool **pool, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = pool_name_check(name, e);

	e->code = r;
	if (r == 0)
		r = pools_reserve(model->pools, name, e);
	if (r == 0) {
		r = define_reserved(model, name, mode, caller, pool, e);
		if (r < 0)
			pools_unreserve(model->pools, name);
	}
	if (r < 0)
		model_error_set(model, "mkdir", e);
	return r;
}

/* --- go, and change its name ------------------------------------------------------------------ */

/* Under pool.lock: nothing of it may be in use. */
static int must_be_idle(struct pool *pool, struct err *err)
{
	if (!pool->alive)
		return err_set(err, -ENOENT, "the pool is gone");
	if (pool->uses) {
		char name[MACHINE_NAME_MAX + 1];

		machine_name(pool->uses->m, name);
		return err_set(err, -EBUSY, "machine %s runs with its volume %s (disk %s)", name,
			       pool->uses->volume, pool->uses->disk);
	}
	for (size_t i = 0; i < pool->n_volumes; i++)
		if (pool->order[i]->op || pool->order[i]->writer || pool->order[i]->n_readers)
			return err_set(err, -EBUSY, "its volume %s is in use: %s",
				       pool->order[i]->meta.name,
				       pool->order[i]->op ? pool->order[i]->op : "image is open");
	return 0;
}

/* Takes all volumes out of it. */
static void drop_volumes(struct pool *pool)
{
	for (;;) {
		struct volume *volume = NULL;

		pthread_mutex_lock(&pool->lock);
		if (pool->n_volumes) {
			volume = volume_get(pool->order[pool->n_volumes - 1]);
			pool_drop_volume(pool, volume);
		}
		pthread_mutex_unlock(&pool->lock);
		if (!volume)
			return;
		volume_put(volume);
	}
}

int model_pool_undefine(struct model *model, struct pool *pool, struct err *err)
{
	struct subject subject = {.kind = SUBJECT_POOL, .model = model, .pool = pool};
	char name[POOL_NAME_MAX + 1];
	int r;

	pthread_mutex_lock(&pool->edit);
	pthread_mutex_lock(&pool->lock);
	r = must_be_idle(pool, err);
	if (r == 0)
		pool->alive = false;
	strcpy(name, pool->name);
	pthread_mutex_unlock(&pool->lock);
	if (r == 0) {
		r = pool_store_undefine(pool, err);
		if (r < 0) {
			pthread_mutex_lock(&pool->lock);
			pool->alive = true;
			pthread_mutex_unlock(&pool->lock);
		}
	}
	pthread_mutex_unlock(&pool->edit);
	if (r < 0)
		return r;
	pool_get(pool);
	pool_thread_stop(pool);
	pools_remove(model->pools, pool);
	drop_volumes(pool);
	pool_event(pool, "pool-undefined", name, NULL, NULL);
	tell_pool(pool, POOL_NEWS_REMOVED, NULL);
	jobs_drop(model->jobs, &subject);
	pool_store_sweep(pool);
	pool_put(pool);
	return 0;
}

int model_pool_rename(struct model *model, struct pool *pool, const char *new_name, struct err *err)
{
	char old_name[POOL_NAME_MAX + 1];
	int r = pool_name_check(new_name, err);

	if (r < 0)
		return r;
	LOCK_SCOPE(&pool->edit);
	pool_name(pool, old_name);
	if (strcmp(old_name, new_name) == 0)
		return 0;
	pthread_mutex_lock(&pool->lock);
	r = must_be_idle(pool, err);
	pthread_mutex_unlock(&pool->lock);
	if (r == 0)
		r = layers_refuse_pool(model, old_name, err);
	if (r == 0)
		r = pools_reserve(model->pools, new_name, err);
	if (r < 0)
		return r;
	r = pool_store_rename(pool, new_name, err);
	if (r < 0) {
		pools_unreserve(model->pools, new_name);
		return r;
	}
	pools_rename(model->pools, pool, new_name);
	pool_event(pool, "pool-renamed", new_name, old_name, NULL);
	tell_pool(pool, POOL_NEWS_RENAMED, old_name);
	return 0;
}

/* --- type and source ----------------------------------------------------------------------------
 */

int pool_key_show(struct pool *pool, const struct config_key *key, struct strbuf *sb)
{
	LOCK_SCOPE(&pool->lock);
	strbuf_puts(sb, key == &pool_keys[0] ? pool->type->name : pool->source);
	return sb->failed ? -ENOMEM : 0;
}

static const struct storage_type *find_type(const char *name)
{
	for (size_t i = 0; i < n_storage_types; i++)
		if (strcmp(storage_types[i]->name, name) == 0)
			return storage_types[i];
	return NULL;
}

/*
 * A directory must be one that the owner may list, now. Servers and volume groups may
 * come later: the state tells.
 */
static int try_source(struct pool *pool, const struct storage_type *type, const char *source,
		      const struct caller *caller, struct err *err)
{
	struct rights rights = {caller->uid, caller->gid, caller->groups, caller->n_groups};
	_cleanup_storage_ struct storage *storage = NULL;
	struct storage_list list;
	int r;

	if (!*source)
		return 0;
	r = storage_new(&storage, type, source, &rights, pool->model->nbd_path, err);
	if (r < 0 || !type->watch)
		return r;
	r = storage_list_waiting(storage, caller->cancel, &list, err);
	if (r == 0)
		storage_list_free(&list);
	return r;
}

/* Who sets the source has the owner's rights used there: it must be he himself, or root. */
static int may_set(struct pool *pool, const struct storage_type *type, const struct caller *caller,
		   struct err *err)
{
	struct machine_access access;

	pool_access_get(pool, &access);
	if (caller->uid != 0 && caller->uid != geteuid() && caller->uid != access.uid)
		return err_set(err, -EPERM, "only the pool's owner sets this");
	if (type->root_only && geteuid() == 0 && (caller->uid != 0 || access.uid != 0))
		return err_set(err, -EPERM, "only root may have a pool of type %s", type->name);
	return 0;
}

static void key_event(struct pool *pool, const struct config_key *key, const char *text,
		      const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "pool-config");
	event_text(&sb, "pool", pool->name);
	event_text(&sb, "key", key->name);
	event_text(&sb, "value", text);
	event_number(&sb, "uid", caller->uid);
	model_event(pool->model, &sb);
}

/* Stores and shows it; what was there of volumes goes. */
static int commit(struct pool *pool, const struct config_key *key, const struct storage_type *type,
		  const char *source, const struct caller *caller, struct err *err)
{
	char *copy = strdup(source);
	int r;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	LOCK_SCOPE(&pool->edit);
	pthread_mutex_lock(&pool->lock);
	r = must_be_idle(pool, err);
	pthread_mutex_unlock(&pool->lock);
	if (r == 0)
		r = pool_store_config(pool, type, source, err);
	if (r < 0) {
		free(copy);
		return r;
	}
	drop_volumes(pool);
	LOCK_SCOPE(&pool->lock);
	for (size_t i = 0; i < pool->n_absent; i++)
		meta_free(&pool->absent[i]);
	pool->n_absent = 0;
	pool->capacity = pool->allocation = pool->free_bytes = 0;
	pool->type = type;
	free(pool->source);
	pool->source = copy;
	key_event(pool, key, key == &pool_keys[0] ? type->name : source, caller);
	pool_touch(pool, POOL_DEFINITION, NULL);
	pool_touch(pool, POOL_CAPACITY, NULL);
	return 0;
}

static int store(struct pool *pool, const struct config_key *key, const char *text,
		 const struct caller *caller, struct err *err)
{
	const struct storage_type *type = key == &pool_keys[0] ? find_type(text) : NULL, *old_type;
	_cleanup_free_ char *source = NULL;
	bool same;
	int r;

	pthread_mutex_lock(&pool->lock);
	old_type = pool->type;
	if (key != &pool_keys[0])
		type = old_type;
	source = strdup(key == &pool_keys[0] ? (type == old_type ? pool->source : "") : text);
	same = type == old_type && source && strcmp(source, pool->source) == 0;
	pthread_mutex_unlock(&pool->lock);
	if (!source)
		return err_set(err, -ENOMEM, "out of memory");
	if (!type)
		return err_set(err, -EINVAL, "'%.40s' is none of: dir, lvm, nbd", text);
	if (strlen(source) > key->max && key->max)
		return err_set(err, -EFBIG, "%zu bytes are too many", strlen(source));
	for (const char *p = source; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(err, -EINVAL, "a control character at byte %td", p - source);
	r = may_set(pool, type, caller, err);
	if (r == 0 && !same)
		r = try_source(pool, type, source, caller, err);
	if (r < 0 || same)
		return r;
	r = commit(pool, key, type, source, caller, err);
	if (r < 0)
		return r;
	/* from here on it is so; how its storage answers is its state */
	if (pool_activate(pool, NULL) == 0 && *source)
		pool_refresh(pool, true, caller->cancel, NULL);
	return 0;
}

int pool_key_store(struct pool *pool, const struct config_key *key, const char *text,
		   const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	int r = store(pool, key, text, caller, e);

	e->code = r;
	pool_outcome(pool, key->name, e);
	return r;
}
