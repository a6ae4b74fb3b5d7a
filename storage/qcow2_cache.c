// SPDX-License-Identifier: ISC
/*
 * The metadata cache: slices (up to 4 KiB) of L2 tables and refcount blocks, found
 * by a hash of their offset, replaced by second chance. Slices get their memory
 * when first used, so a small image costs little. Loading and replacing happen
 * under ->meta; what the fast path could see changes under ->lock as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

#define SLICE_MAX     4096u
#define CACHE_DEFAULT (1u << 20)
#define SLICES_MIN    16u

static uint32_t bucket_of(const struct qcow2_cache *cache, uint64_t offset)
{
	return (offset / cache->slice_bytes * 0x9e3779b97f4a7c15ull >> 32) % cache->n_buckets;
}

int qcow2_cache_init(struct qcow2 *q, uint32_t bytes)
{
	struct qcow2_cache *c = &q->cache;

	c->slice_bytes = q->cluster_bytes < SLICE_MAX ? q->cluster_bytes : SLICE_MAX;
	c->n_slices = (bytes ? bytes : CACHE_DEFAULT) / c->slice_bytes;
	if (c->n_slices < SLICES_MIN)
		c->n_slices = SLICES_MIN;
	c->n_buckets = c->n_slices;
	c->slices = calloc(c->n_slices, sizeof(*c->slices));
	c->buckets = calloc(c->n_buckets, sizeof(*c->buckets));
	return c->slices && c->buckets ? 0 : -ENOMEM;
}

void qcow2_cache_free(struct qcow2 *q)
{
	uint32_t i;

	for (i = 0; i < q->cache.n_in_use; i++)
		free(q->cache.slices[i].data);
	free(take_ptr(q->cache.slices));
	free(take_ptr(q->cache.buckets));
}

static struct slice *find(struct qcow2_cache *cache, uint64_t offset)
{
	uint32_t i;

	for (i = cache->buckets[bucket_of(cache, offset)]; i; i = cache->slices[i - 1].next)
		if (cache->slices[i - 1].offset == offset)
			return &cache->slices[i - 1];
	return NULL;
}

uint8_t *qcow2_cache_peek(struct qcow2_cache *cache, uint64_t offset)
{
	struct slice *s = find(cache, offset);

	if (!s)
		return NULL;
	__atomic_store_n(&s->recent, true, __ATOMIC_RELAXED);
	return s->data;
}

/* Takes @s out of the hash. Under lock. */
static void unlink_slice(struct qcow2_cache *cache, struct slice *s)
{
	uint32_t *link = &cache->buckets[bucket_of(cache, s->offset)];
	uint32_t self = s - cache->slices + 1;

	while (*link != self)
		link = &cache->slices[*link - 1].next;
	*link = s->next;
	if (s->dirty)
		cache->n_dirty[s->kind]--;
	s->dirty = false;
	s->offset = 0;
}

static void link_slice(struct qcow2_cache *cache, struct slice *s, uint64_t offset,
		       enum slice_kind kind)
{
	uint32_t *bucket = &cache->buckets[bucket_of(cache, offset)];

	s->offset = offset;
	s->kind = kind;
	s->recent = true;
	s->next = *bucket;
	*bucket = s - cache->slices + 1;
}

/* A slice that was not asked for lately. */
static struct slice *choose(struct qcow2_cache *cache)
{
	for (;;) {
		struct slice *s = &cache->slices[cache->hand];

		cache->hand = (cache->hand + 1) % cache->n_slices;
		if (!s->offset || !__atomic_exchange_n(&s->recent, false, __ATOMIC_RELAXED))
			return s;
	}
}

/* A free slice with memory, out of the hash. */
static int make_room(struct qcow2 *q, struct slice **free_slice)
{
	struct qcow2_cache *c = &q->cache;
	struct slice *s;
	int r;

	if (c->n_in_use < c->n_slices) {
		s = &c->slices[c->n_in_use];
		if (posix_memalign((void **)&s->data, c->slice_bytes, c->slice_bytes))
			return -ENOMEM;
		c->n_in_use++;
		*free_slice = s;
		return 0;
	}
	s = choose(c);
	if (s->offset && s->dirty) {
		/* All at once: one sync then serves many slices to come. */
		r = s->kind == SLICE_L2 ? qcow2_flush_metadata(q) : qcow2_cache_write(q, SLICE_REF);
		if (r < 0)
			return r;
	}
	if (s->offset) {
		LOCK_SCOPE(&q->lock);
		unlink_slice(c, s);
	}
	*free_slice = s;
	return 0;
}

int qcow2_cache_load(struct qcow2 *q, enum slice_kind kind, uint64_t offset, uint8_t **data)
{
	struct slice *s = find(&q->cache, offset);
	int r;

	if (!s) {
		r = make_room(q, &s);
		if (r < 0)
			return r;
		r = qcow2_meta_read(q, s->data, q->cache.slice_bytes, offset);
		if (r < 0)
			return r;
		LOCK_SCOPE(&q->lock);
		link_slice(&q->cache, s, offset, kind);
	} else if (s->kind != kind) {
		/* One cluster as two kinds of table: a damaged image. */
		return qcow2_damaged(q, "a table in use twice", offset);
	}
	__atomic_store_n(&s->recent, true, __ATOMIC_RELAXED);
	*data = s->data;
	return 0;
}

void qcow2_cache_dirty(struct qcow2 *q, uint64_t offset)
{
	struct slice *s = find(&q->cache, offset);

	if (s->dirty)
		return;
	LOCK_SCOPE(&q->lock);
	s->dirty = true;
	q->cache.n_dirty[s->kind]++;
}

void qcow2_cache_drop(struct qcow2 *q, uint64_t offset)
{
	uint32_t i;

	LOCK_SCOPE(&q->lock);
	for (i = 0; i < q->cache.n_in_use; i++) {
		struct slice *s = &q->cache.slices[i];

		if (s->offset &&
		    (!offset || s->offset >> q->cluster_bits == offset >> q->cluster_bits))
			unlink_slice(&q->cache, s);
	}
}

int qcow2_cache_write(struct qcow2 *q, enum slice_kind kind)
{
	struct qcow2_cache *c = &q->cache;
	uint32_t i;
	int r;

	for (i = 0; i < c->n_in_use && c->n_dirty[kind]; i++) {
		struct slice *s = &c->slices[i];

		if (!s->offset || !s->dirty || s->kind != kind)
			continue;
		r = qcow2_meta_write(q, s->data, c->slice_bytes, s->offset);
		if (r < 0)
			return r;
		LOCK_SCOPE(&q->lock);
		s->dirty = false;
		c->n_dirty[kind]--;
	}
	return 0;
}
