// SPDX-License-Identifier: ISC
/* A volume as such: references, what is shown of it, its place in the pool. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"

struct volume *volume_new(struct pool *pool, struct volume_meta *meta)
{
	struct volume *v = calloc(1, sizeof(*v));
	struct timespec now = time_now();

	if (!v || volume_values_init(&v->values) < 0) {
		free(v);
		meta_free(meta);
		return NULL;
	}
	atomic_init(&v->refs, 1);
	v->pool = pool_get(pool);
	v->serial = model_next_serial(pool->model);
	v->alive = true;
	v->meta = *meta;
	memset(meta, 0, sizeof(*meta));
	strcpy(v->entry.name, v->meta.name);
	for (size_t i = 0; i < VOLUME_ASPECT_MAX; i++)
		v->changed[i] = now;
	return v;
}

struct volume *volume_get(struct volume *v)
{
	atomic_fetch_add(&v->refs, 1);
	return v;
}

void volume_put(struct volume *v)
{
	if (!v || atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	meta_free(&v->meta);
	volume_values_free(&v->values);
	look_free(&v->look);
	free(v->error.text);
	free(v->checked);
	pool_put(v->pool);
	free(v);
}

/* --- its place: all under pool.lock ------------------------------------------------------------
 */

/* Index of the first name that is not less. */
static size_t place(const struct pool *pool, const char *name)
{
	size_t low = 0, high = pool->n_volumes;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (strcmp(pool->by_name[middle]->meta.name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t place_of_serial(const struct pool *pool, uint64_t serial)
{
	size_t low = 0, high = pool->n_volumes;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (pool->order[middle]->serial < serial)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct volume *pool_find_volume(struct pool *pool, const char *name)
{
	size_t i = place(pool, name);

	return i < pool->n_volumes && strcmp(pool->by_name[i]->meta.name, name) == 0
		   ? pool->by_name[i]
		   : NULL;
}

static int make_room(struct pool *pool)
{
	size_t cap = pool->cap ? pool->cap * 2 : 16;
	struct volume **more;

	if (pool->n_volumes < pool->cap)
		return 0;
	more = realloc(pool->by_name, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	pool->by_name = more;
	more = realloc(pool->order, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	pool->order = more;
	pool->cap = cap;
	return 0;
}

static void volumes_event(struct pool *pool, const char *name)
{
	pool_touch(pool, POOL_VOLUMES, name);
}

int pool_add_volume(struct pool *pool, struct volume *v)
{
	size_t i = place(pool, v->meta.name), o;

	if (pool->n_volumes >= STORAGE_VOLUMES_MAX)
		return -ENOSPC;
	if (make_room(pool) < 0)
		return -ENOMEM;
	o = place_of_serial(pool, v->serial);
	memmove(&pool->by_name[i + 1], &pool->by_name[i],
		(pool->n_volumes - i) * sizeof(*pool->by_name));
	memmove(&pool->order[o + 1], &pool->order[o], (pool->n_volumes - o) * sizeof(*pool->order));
	pool->by_name[i] = pool->order[o] = v;
	pool->n_volumes++;
	volume_get(v);
	volumes_event(pool, v->meta.name);
	return 0;
}

void pool_drop_volume(struct pool *pool, struct volume *v)
{
	size_t i = place(pool, v->meta.name), o = place_of_serial(pool, v->serial);

	memmove(&pool->by_name[i], &pool->by_name[i + 1],
		(pool->n_volumes - i - 1) * sizeof(*pool->by_name));
	memmove(&pool->order[o], &pool->order[o + 1],
		(pool->n_volumes - o - 1) * sizeof(*pool->order));
	pool->n_volumes--;
	v->alive = false;
	volumes_event(pool, v->meta.name);
	volume_put(v);
}

struct volume *pool_volume_get(struct pool *pool, const char *name)
{
	struct volume *v;

	LOCK_SCOPE(&pool->lock);
	v = pool_find_volume(pool, name);
	return v ? volume_get(v) : NULL;
}

struct volume *pool_volume_next(struct pool *pool, uint64_t *cursor)
{
	size_t i;

	LOCK_SCOPE(&pool->lock);
	i = place_of_serial(pool, *cursor + 1);
	if (i >= pool->n_volumes)
		return NULL;
	*cursor = pool->order[i]->serial;
	return volume_get(pool->order[i]);
}

size_t pool_volume_count(struct pool *pool)
{
	LOCK_SCOPE(&pool->lock);
	return pool->n_volumes;
}

/* --- looking -------------------------------------------------------------------------------------
 */

struct pool *volume_pool(const struct volume *v)
{
	return v->pool;
}

void volume_name(struct volume *v, char name[VOLUME_NAME_MAX + 1])
{
	strcpy(name, v->meta.name); /* it never changes */
}

uint64_t volume_serial(const struct volume *v)
{
	return v->serial;
}

bool volume_alive(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	return v->alive;
}

struct timespec volume_changed(struct volume *v, enum volume_aspect aspect)
{
	LOCK_SCOPE(&v->pool->lock);
	return v->changed[aspect < VOLUME_ASPECT_MAX ? aspect : VOLUME_DEFINITION];
}

uint64_t volume_allocation(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	return v->entry.allocation;
}

uint64_t volume_size(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	return v->values.size;
}

void volume_info_show(struct volume *v, struct strbuf *sb)
{
	LOCK_SCOPE(&v->pool->lock);
	strbuf_printf(sb, "new %s\n", v->meta.fresh ? "true" : "false");
	if (v->look.info)
		strbuf_puts(sb, v->look.info);
	if (v->entry.readonly)
		strbuf_puts(sb, "readonly true\n");
	if (v->checked)
		strbuf_puts(sb, v->checked);
}

void volume_snapshots_show(struct volume *v, struct strbuf *sb)
{
	LOCK_SCOPE(&v->pool->lock);
	if (v->look.snapshots)
		strbuf_puts(sb, v->look.snapshots);
}

/* Why it cannot be used goes before what a command said. */
void volume_error_show(struct volume *v, struct strbuf *sb)
{
	LOCK_SCOPE(&v->pool->lock);
	if (v->error.text)
		outcome_show(&v->error, sb);
	else if (v->look.trouble)
		strbuf_printf(sb, "EINVAL image: %s", v->look.trouble);
}

void volume_outcome(struct volume *v, const char *what, const struct err *err)
{
	LOCK_SCOPE(&v->pool->lock);
	if (err->code == 0 && !v->error.text)
		return;
	outcome_set(&v->error, what, err, false);
	volume_touch(v, VOLUME_ERROR);
}

void volume_error_set(struct volume *v, const char *what, const struct err *err)
{
	volume_outcome(v, what, err);
}

/* --- changing
 * -------------------------------------------------------------------------------------- */

void volume_touch(struct volume *v, enum volume_aspect aspect)
{
	v->changed[aspect] = time_now();
	tell_volume_changed(v, aspect);
}

void volume_event(struct volume *v, const char *kind, const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "pool", v->pool->name);
	event_text(&sb, "volume", v->meta.name);
	if (caller)
		event_number(&sb, "uid", caller->uid);
	model_event(v->pool->model, &sb);
}

/* Takes text over from the look; true where it differs. */
static bool take_text(char **slot, char **from)
{
	bool same = *slot && *from ? strcmp(*slot, *from) == 0 : !*slot && !*from;

	free(*slot);
	*slot = take_ptr(*from);
	return !same;
}

/* What the keys show: what was asked for while it is new, then what is found. */
static bool show_values(struct volume *v)
{
	struct volume_values now, *old = &v->values;
	const struct volume_look *l = &v->look;
	bool same;

	if (v->meta.fresh) {
		if (volume_values_copy(&now, &v->meta.wanted) < 0)
			return false;
	} else {
		if (volume_values_init(&now) < 0)
			return false;
		now.format = v->meta.format;
		now.size = l->bytes;
		if (l->qcow2) {
			now.cluster_size = l->cluster_bytes;
			now.version = l->version;
			now.refcount_bits = l->refcount_bits;
			now.extended_l2 = l->extended_l2;
			now.lazy_refcounts = l->lazy_refcounts;
			now.compression = l->zstd;
		}
		now.prealloc = v->meta.wanted.prealloc;
		if (l->below) {
			char *shown =
			    strdup(!l->sibling && *v->meta.named ? v->meta.named : l->below);

			if (shown) {
				free(now.backing);
				now.backing = shown;
			}
		}
	}
	same = now.size == old->size && now.format == old->format &&
	       strcmp(now.backing, old->backing) == 0 && now.cluster_size == old->cluster_size &&
	       now.version == old->version && now.refcount_bits == old->refcount_bits &&
	       now.extended_l2 == old->extended_l2 && now.lazy_refcounts == old->lazy_refcounts &&
	       now.compression == old->compression && now.prealloc == old->prealloc;
	volume_values_free(old);
	*old = now;
	return !same;
}

void volume_seen(struct volume *v, const struct storage_entry *entry, struct volume_look *look)
{
	bool content = memcmp(&v->entry.changed, &entry->changed, sizeof(entry->changed)) != 0 ||
		       v->entry.bytes != entry->bytes || v->entry.id != entry->id;
	bool allocation = v->entry.allocation != entry->allocation;
	bool first = !v->look.info && !v->look.trouble;

	v->entry = *entry;
	if (look) {
		bool words = take_text(&v->look.trouble, &look->trouble);
		struct volume_look old = v->look;

		free(old.info);
		free(old.snapshots);
		free(old.below);
		old = *look;
		old.trouble = v->look.trouble;
		v->look = old;
		memset(look, 0, sizeof(*look));
		if (words)
			volume_touch(v, VOLUME_ERROR);
	}
	if (!v->meta.own_access) {
		/* who may read a file may enter the directory */
		v->meta.access = (struct machine_access){
		    entry->uid, entry->gid, (entry->mode & 0777) | ((entry->mode & 0444) >> 2)};
		if (first)
			volume_touch(v, VOLUME_ACCESS);
	}
	if (show_values(v) || first)
		volume_touch(v, VOLUME_DEFINITION);
	if (allocation)
		volume_touch(v, VOLUME_ALLOCATION);
	if (content)
		volume_touch(v, VOLUME_CONTENT);
}

/* --- access
 * ------------------------------------------------------------------------------------------ */

void volume_access_get(struct volume *v, struct machine_access *access)
{
	LOCK_SCOPE(&v->pool->lock);
	*access = v->meta.access;
}

int volume_access_set(struct volume *v, const struct machine_access *access, struct err *err)
{
	struct machine_access old;
	bool own;
	int r;

	LOCK_SCOPE(&v->pool->edit);
	pthread_mutex_lock(&v->pool->lock);
	r = v->alive ? 0 : err_set(err, -ENOENT, "the volume is gone");
	old = v->meta.access;
	own = v->meta.own_access;
	v->meta.access = *access;
	v->meta.own_access = true;
	pthread_mutex_unlock(&v->pool->lock);
	if (r == 0)
		r = pool_store_volumes(v->pool, err);
	LOCK_SCOPE(&v->pool->lock);
	if (r < 0) {
		v->meta.access = old;
		v->meta.own_access = own;
		return r;
	}
	volume_touch(v, VOLUME_ACCESS);
	return 0;
}
