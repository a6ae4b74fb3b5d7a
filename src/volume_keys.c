// SPDX-License-Identifier: ISC
/*
 * The keys of a volume: size, format, backing and the rest. While a volume is new they are wishes,
 * and each makes the image anew beside the old one, which is then replaced. Later they show
 * what the image is; size can be raised, the others have commands.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"
#include "util/size.h"

static const char *const format_words[] = {[IMAGE_RAW] = "raw", [IMAGE_QCOW2] = "qcow2", NULL};
static const char *const prealloc_words[] = {[IMAGE_PREALLOC_OFF] = "off",
					     [IMAGE_PREALLOC_METADATA] = "metadata",
					     [IMAGE_PREALLOC_FALLOC] = "falloc",
					     [IMAGE_PREALLOC_FULL] = "full",
					     NULL};
static const char *const compression_words[] = {"zlib", "zstd", NULL};

#define OF(field) .offset = offsetof(struct volume_values, field)

const struct config_key volume_keys[] = {
    {.name = "size",
     .type = KEY_SIZE,
     .max = INT64_MAX & ~511ull,
     .preset = "0",
     .help = "bytes of the disk, or as 10G; more makes it larger, less only `resize`",
     OF(size)},
    {.name = "format",
     .type = KEY_ENUM,
     .preset = "raw",
     .words = format_words,
     .help = "raw or qcow2; once it is used, `convert` changes it",
     OF(format)},
    {.name = "backing",
     .type = KEY_TEXT,
     .max = STORAGE_SOURCE_MAX,
     .preset = "",
     .help = "what it is over: VOLUME, POOL/VOLUME or a path; once it is used, `rebase`",
     OF(backing)},
    {.name = "prealloc",
     .type = KEY_ENUM,
     .preset = "off",
     .words = prealloc_words,
     .help = "space taken when it is made: off, metadata, falloc or full",
     OF(prealloc)},
    {.name = "cluster_size",
     .type = KEY_SIZE,
     .min = 512,
     .max = 2 << 20,
     .preset = "64K",
     .help = "qcow2: unit of allocation, a power of two from 512 to 2M",
     OF(cluster_size)},
    {.name = "version",
     .type = KEY_UINT,
     .min = 2,
     .max = 3,
     .preset = "3",
     .help = "qcow2: 3, or 2 for very old programs",
     OF(version)},
    {.name = "refcount_bits",
     .type = KEY_UINT,
     .min = 1,
     .max = 64,
     .preset = "16",
     .help = "qcow2: width of reference counts, a power of two up to 64",
     OF(refcount_bits)},
    {.name = "extended_l2",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "qcow2: clusters have 32 parts of their own",
     OF(extended_l2)},
    {.name = "lazy_refcounts",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "qcow2: counts are written late, and repaired after a crash",
     OF(lazy_refcounts)},
    {.name = "compression",
     .type = KEY_ENUM,
     .preset = "zlib",
     .words = compression_words,
     .help = "qcow2: how `convert … compress` does it",
     OF(compression)},
};
const size_t n_volume_keys = nitems(volume_keys);

const struct config_key *volume_key(const char *name)
{
	for (size_t i = 0; i < n_volume_keys; i++)
		if (strcmp(volume_keys[i].name, name) == 0)
			return &volume_keys[i];
	return NULL;
}

int volume_key_show(struct volume *v, const struct config_key *key, struct strbuf *sb)
{
	LOCK_SCOPE(&v->pool->lock);
	value_show(&v->values, key, sb);
	return sb->failed ? -ENOMEM : 0;
}

void values_to_create(const struct volume_values *values, struct image_create *create)
{
	*create = (struct image_create){.format = (enum image_format)values->format,
					.bytes = values->size,
					.prealloc = (enum image_prealloc)values->prealloc};
	if (values->format != IMAGE_QCOW2) {
		/* a wish that may come before that for the format */
		if (create->prealloc == IMAGE_PREALLOC_METADATA)
			create->prealloc = IMAGE_PREALLOC_OFF;
		return;
	}
	create->version = (uint32_t)values->version;
	create->cluster_bytes = (uint32_t)values->cluster_size;
	create->refcount_bits = (uint32_t)values->refcount_bits;
	create->extended_l2 = values->extended_l2;
	create->zstd = values->compression;
	create->lazy_refcounts = values->lazy_refcounts;
}

/* --- storing a value
 * --------------------------------------------------------------------------------- */

static bool power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

int volume_value_parse(struct volume_values *values, const struct config_key *key, const char *text,
		       struct err *err)
{
	uint64_t bytes;
	int r;

	if (key->type != KEY_SIZE) {
		r = value_parse(values, key, text, err);
		if (r == 0 && !power_of_two(values->refcount_bits))
			r = err_set(err, -EINVAL, "%s is no power of two", text);
		return r;
	}
	r = size_parse(text, &bytes);
	if (r == -ERANGE)
		return err_set(err, r, "%.40s is too large", text);
	if (r < 0)
		return err_set(err, r, "'%.40s' is not a size (bytes, or as 64M, 2G)", text);
	if (bytes < key->min || bytes > key->max)
		return err_set(err, -ERANGE, "%.40s is not within %llu and %llu", text,
			       (unsigned long long)key->min, (unsigned long long)key->max);
	if (bytes % 512)
		return err_set(err, -EINVAL, "%llu is not a multiple of 512",
			       (unsigned long long)bytes);
	if (key->offset == offsetof(struct volume_values, cluster_size) && !power_of_two(bytes))
		return err_set(err, -EINVAL, "%.40s is no power of two", text);
	*(uint64_t *)((char *)values + key->offset) = bytes;
	return 0;
}

static bool is_key(const struct config_key *key, const char *name)
{
	return strcmp(key->name, name) == 0;
}

/* Who named what it is over: his rights count when it is looked at again. */
static int named_caller(struct volume *v, const struct config_key *key, const struct caller *caller,
			struct caller *by, gid_t **groups)
{
	size_t n = 0;

	*by = *caller;
	if (is_key(key, "backing"))
		return 0;
	pthread_mutex_lock(&v->pool->lock);
	by->uid = v->meta.named_uid;
	by->gid = v->meta.named_gid;
	pthread_mutex_unlock(&v->pool->lock);
	if (rights_groups(by->uid, by->gid, groups, &n) < 0)
		return -ENOMEM;
	by->groups = *groups;
	by->n_groups = n;
	return 0;
}

static int set_text(char **slot, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*slot);
	*slot = copy;
	return 0;
}

/* The wishes with one more, and what they come to. */
static int wish(struct volume *v, const struct config_key *key, const char *text,
		const struct caller *by, struct volume_values *values,
		struct volume_backing *backing, struct err *err)
{
	bool is_backing = is_key(key, "backing");
	int r = is_backing && strcmp(text, "none") == 0
		    ? volume_value_parse(values, key, "", err)
		    : volume_value_parse(values, key, text, err);

	if (r < 0 || !*values->backing)
		return r;
	if (values->format == IMAGE_RAW && !is_backing)
		return err_set(err, -EINVAL, "a raw volume is over nothing: echo none > backing");
	r = backing_find(v, values->backing, by, backing, err);
	if (r < 0)
		return r;
	values->format = IMAGE_QCOW2;
	if (!values->size)
		values->size = (backing->bytes + 511) & ~511ull;
	return set_text(&values->backing, backing->named);
}

static int store_new(struct volume *v, const struct config_key *key, const char *text,
		     const struct caller *caller, struct err *err)
{
	struct volume_backing backing = {0};
	struct volume_values values;
	_cleanup_free_ gid_t *groups = NULL;
	struct caller by;
	int r;

	pthread_mutex_lock(&v->pool->lock);
	r = volume_values_copy(&values, &v->meta.wanted);
	pthread_mutex_unlock(&v->pool->lock);
	if (r == 0)
		r = named_caller(v, key, caller, &by, &groups);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = wish(v, key, text, &by, &values, &backing, err);
	if (r == 0)
		r = volume_make_anew(v, &values, backing.path ? &backing : NULL, &by,
				     caller->cancel, err);
	backing_free(&backing);
	volume_values_free(&values);
	return r;
}

/* Who may read what the image is over says that it is meant. */
static int approve(struct volume *v, const char *text, const struct caller *caller, struct err *err)
{
	struct volume_backing b;
	int r = backing_find(v, text, caller, &b, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&v->pool->lock);
	if (!v->look.below)
		r = err_set(err, -EBUSY, "its image is made: rebase it");
	else if (v->look.sibling ? !(b.volume && b.volume->pool == v->pool &&
				     strcmp(b.volume->meta.name, v->look.below) == 0)
				 : strcmp(b.path, v->look.below) != 0)
		r = err_set(err, -EBUSY, "it is over %s: rebase it", v->look.below);
	pthread_mutex_unlock(&v->pool->lock);
	if (r == 0) {
		LOCK_SCOPE(&v->pool->edit);
		pthread_mutex_lock(&v->pool->lock);
		r = set_text(&v->meta.named, b.named);
		v->meta.named_uid = caller->uid;
		v->meta.named_gid = caller->gid;
		pthread_mutex_unlock(&v->pool->lock);
		if (r == 0)
			r = pool_store_volumes(v->pool, err);
	}
	backing_free(&b);
	return r ? r : volume_look_now(v, caller->cancel, err);
}

static int store_made(struct volume *v, const struct config_key *key, const char *text,
		      const struct caller *caller, struct err *err)
{
	struct volume_values values;
	bool same;
	int r;

	if (is_key(key, "size"))
		return volume_grow(v, text, caller, err);
	pthread_mutex_lock(&v->pool->lock);
	r = volume_values_copy(&values, &v->values);
	pthread_mutex_unlock(&v->pool->lock);
	if (r == 0)
		r = volume_value_parse(
		    &values, key, is_key(key, "backing") && !strcmp(text, "none") ? "" : text, err);
	if (r < 0) {
		volume_values_free(&values);
		return r;
	}
	pthread_mutex_lock(&v->pool->lock);
	same = value_equal(&values, &v->values, key);
	pthread_mutex_unlock(&v->pool->lock);
	volume_values_free(&values);
	if (is_key(key, "backing") && *text && strcmp(text, "none") != 0)
		return approve(v, text, caller, err);
	if (same)
		return 0;
	if (is_key(key, "backing"))
		return err_set(err, -EBUSY, "its image is made: echo rebase none > ctl");
	return err_set(err, -EBUSY, "its image is made: echo convert FORMAT %s=%.20s > ctl",
		       key->name, text);
}

static void key_event(struct volume *v, const struct config_key *key, const char *text,
		      const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "volume-config");
	pthread_mutex_lock(&v->pool->lock);
	event_text(&sb, "pool", v->pool->name);
	pthread_mutex_unlock(&v->pool->lock);
	event_text(&sb, "volume", v->meta.name);
	event_text(&sb, "key", key->name);
	event_text(&sb, "value", text);
	event_number(&sb, "uid", caller->uid);
	model_event(v->pool->model, &sb);
}

static bool is_fresh(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	return v->meta.fresh;
}

int volume_key_store(struct volume *v, const struct config_key *key, const char *text,
		     const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *e = err ? err : &own;
	bool fresh = is_fresh(v);
	int r;

	if (fresh) {
		r = volume_claim(v, key->name, e);
		if (r == 0) {
			fresh = is_fresh(v);
			r = fresh ? store_new(v, key, text, caller, e) : 0;
			volume_unclaim(v);
		}
		if (r == 0 && !fresh) /* it was first used in between */
			r = store_made(v, key, text, caller, e);
	} else {
		r = store_made(v, key, text, caller, e);
	}
	e->code = r;
	if (r == 0)
		key_event(v, key, text, caller);
	volume_outcome(v, key->name, e);
	return r;
}
