// SPDX-License-Identifier: ISC
/*
 * Showing what a pool's storage answered: volumes come, go, change. All under pool.lock. What is
 * known of a volume that is not there now is kept, so that it is not guessed at again when
 * its storage is back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool_ask.h"
#include "util/cleanup.h"

static int meta_by_name(const void *a, const void *b)
{
	return strcmp(((const struct volume_meta *)a)->name, ((const struct volume_meta *)b)->name);
}

/* They are sorted while a listing is merged. */
static struct volume_meta *find_absent(struct pool *pool, const char *name)
{
	struct volume_meta key, *found;

	if (!pool->n_absent)
		return NULL;
	snprintf(key.name, sizeof(key.name), "%s", name);
	found = bsearch(&key, pool->absent, pool->n_absent, sizeof(key), meta_by_name);
	return found && !found->taken ? found : NULL;
}

/* Those that came are absent no longer. */
static void drop_taken(struct pool *pool)
{
	size_t kept = 0;

	for (size_t i = 0; i < pool->n_absent; i++)
		if (pool->absent[i].taken)
			meta_free(&pool->absent[i]);
		else
			pool->absent[kept++] = pool->absent[i];
	pool->n_absent = kept;
}

/* It is not there now; what is known of it is kept, for when its storage is back. */
static void goes(struct pool *pool, struct volume *v, bool tell)
{
	struct volume_meta *more, copy;

	if (pool->n_absent >= STORAGE_VOLUMES_MAX) {
		meta_free(&pool->absent[0]);
		pool->absent[0] = pool->absent[--pool->n_absent];
	}
	if (meta_copy(&copy, &v->meta) == 0) {
		more = realloc(pool->absent, (pool->n_absent + 1) * sizeof(*more));
		if (more) {
			pool->absent = more;
			more[pool->n_absent++] = copy;
		} else {
			meta_free(&copy);
		}
	}
	volume_get(v);
	pool_drop_volume(pool, v);
	if (tell)
		volume_event(v, "volume-gone", NULL);
	volume_put(v);
}

/* Takes over what the look decided; true where something durable changed. */
static bool learn(struct volume_meta *meta, const struct storage_entry *e,
		  const struct found *found)
{
	bool same = meta->id == e->id && meta->born_ns == e->born_ns;
	bool changed = !same || meta->decided != found->decided || meta->format != found->format;

	if (!same &&
	    !(meta->next_id && meta->next_id == e->id && meta->next_born_ns == e->born_ns)) {
		/* another file of that name: nothing said of the old one counts */
		meta->fresh = false;
		meta->own_access = false;
		meta->named[0] = '\0';
	}
	if (!same || !meta->fresh) {
		meta->next_id = 0;
		meta->id = e->id;
		meta->born_ns = e->born_ns;
		meta->decided = found->decided;
		meta->format = found->format;
	}
	meta->unmade = false;
	return changed && found->decided;
}

static struct volume *comes(struct pool *pool, const struct storage_entry *e)
{
	struct volume_meta *absent = find_absent(pool, e->name), meta;
	struct volume *v;

	if ((absent ? meta_copy(&meta, absent) : meta_init(&meta, e->name)) < 0)
		return NULL;
	v = volume_new(pool, &meta);
	if (!v || pool_add_volume(pool, v) < 0) {
		volume_put(v);
		return NULL;
	}
	if (absent)
		absent->taken = true;
	else
		volume_event(v, "volume-found", NULL);
	volume_put(v); /* the pool has its own */
	return v;
}

static int entry_by_name(const void *a, const void *b)
{
	return strcmp(((const struct storage_entry *)a)->name,
		      ((const struct storage_entry *)b)->name);
}

static void drop_missing(struct pool *pool, const struct storage_list *list)
{
	/* the entries are in the storage's order: sort names of them once */
	size_t n = list->n;
	const char **names = calloc(n + 1, sizeof(*names));
	struct storage_entry *sorted = calloc(n + 1, sizeof(*sorted));

	if (names && sorted) {
		if (n)
			memcpy(sorted, list->entries, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), entry_by_name);
		for (size_t i = pool->n_volumes; i-- > 0;) {
			struct volume *v = pool->order[i];
			struct storage_entry key;

			strcpy(key.name, v->meta.name);
			if (!v->meta.unmade && !v->op &&
			    !bsearch(&key, sorted, n, sizeof(key), entry_by_name))
				goes(pool, v, true);
		}
	}
	free(names);
	free(sorted);
}

static void show_space(struct pool *pool, const struct storage_list *list)
{
	if (pool->capacity == list->capacity && pool->allocation == list->allocation &&
	    pool->free_bytes == list->free_bytes)
		return;
	pool->capacity = list->capacity;
	pool->allocation = list->allocation;
	pool->free_bytes = list->free_bytes;
	pool_touch(pool, POOL_CAPACITY, NULL);
}

/* A volume whose storage shows it only once it has a size is not there: it is shown all the same.
 */
static void show_unmade(struct pool *pool)
{
	for (size_t i = 0; i < pool->n_absent; i++) {
		struct storage_entry e = {0};

		strcpy(e.name, pool->absent[i].name);
		if (pool->absent[i].unmade && !pool->absent[i].taken)
			comes(pool, &e);
	}
}

bool refresh_merge(struct pool *pool, struct refresh *f)
{
	bool changed = false;

	drop_missing(pool, &f->list);
	if (pool->n_absent)
		qsort(pool->absent, pool->n_absent, sizeof(*pool->absent), meta_by_name);
	for (size_t i = 0; i < f->list.n; i++) {
		const struct storage_entry *e = &f->list.entries[i];
		struct volume *v = pool_find_volume(pool, e->name);

		if (!v)
			v = comes(pool, e);
		if (!v || v->op) /* what changes it looks at it itself */
			continue;
		changed |= learn(&v->meta, e, &f->found[i]);
		volume_seen(v, e, f->found[i].looked ? &f->found[i].look : NULL);
	}
	show_unmade(pool);
	drop_taken(pool);
	show_space(pool, &f->list);
	pool_set_state(pool, POOL_ACTIVE, NULL);
	return changed;
}

void refresh_failed(struct pool *pool, const struct err *err)
{
	char words[ERR_TEXT_MAX + 32];

	snprintf(words, sizeof(words), "%s %s", err_name(err->code), err->text);
	for (size_t i = pool->n_volumes; i-- > 0;)
		if (!pool->order[i]->op) /* goes when its command has ended */
			goes(pool, pool->order[i], false);
	pool->capacity = pool->allocation = pool->free_bytes = 0;
	pool_touch(pool, POOL_CAPACITY, NULL);
	pool->failure = err->code;
	pool_set_state(pool, POOL_FAILED, words);
}
