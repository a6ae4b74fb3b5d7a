// SPDX-License-Identifier: ISC
/*
 * What all of qcow2 leans on: metadata I/O, the order in which metadata reaches the
 * disk, the set of clusters that hold it, and who may be under way (see
 * qcow2_int.h for the rules).
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"
#define LOG_MODULE "storage"
#include "util/log.h"

/* --- I/O ---------------------------------------------------------------------------------- */

int qcow2_meta_read(struct qcow2 *q, void *buf, uint64_t bytes, uint64_t offset)
{
	uint64_t size = block_size(q->file), have;

	/* A file may end within its last cluster, and a damaged table points anywhere. */
	have = offset >= size ? 0 : min_u64(bytes, size - offset);
	memset((uint8_t *)buf + have, 0, bytes - have);
	return have ? block_pread(q->meta_queue, q->file, buf, have, offset) : 0;
}

int qcow2_meta_write(struct qcow2 *q, const void *buf, uint64_t bytes, uint64_t offset)
{
	if (q->broken)
		return -EIO;
	q->unsynced = true;
	if (offset + bytes > q->fresh_from)
		q->fresh_from = offset + bytes;
	return block_pwrite(q->meta_queue, q->file, buf, bytes, offset);
}

int qcow2_meta_sync(struct qcow2 *q)
{
	int r = block_flush(q->meta_queue, q->file);

	if (!r)
		q->unsynced = false;
	return r;
}

int qcow2_counts_first(struct qcow2 *q)
{
	if (!q->lazy)
		return qcow2_cache_write(q, SLICE_REF);
	return q->cache.n_dirty[SLICE_REF] ? qcow2_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0) : 0;
}

int qcow2_settle_counts(struct qcow2 *q)
{
	int r = qcow2_cache_write(q, SLICE_REF);

	if (!r)
		r = qcow2_meta_sync(q);
	return r ? r : qcow2_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY);
}

int qcow2_flush_metadata(struct qcow2 *q)
{
	int r = qcow2_counts_first(q);

	if (r < 0 || !q->cache.n_dirty[SLICE_L2])
		return r;
	/* Data of new clusters and their counts go before the entries that name them. */
	if (q->external)
		r = block_flush(q->meta_queue, q->data);
	if (!r)
		r = qcow2_meta_sync(q);
	return r ? r : qcow2_cache_write(q, SLICE_L2);
}

int qcow2_flush(struct qcow2 *q)
{
	int r = qcow2_flush_metadata(q);

	if (!r && q->external)
		r = block_flush(q->meta_queue, q->data);
	if (!r)
		r = qcow2_meta_sync(q);
	return r ? r : qcow2_apply_freed(q, false);
}

int qcow2_damaged(struct qcow2 *q, const char *what, uint64_t offset)
{
	if (q->broken || q->readonly || q->checking)
		return -EIO;
	log_error("qcow2 image is damaged, no more writing: %s at offset %llu", what,
		  (unsigned long long)offset);
	qcow2_set_incompatible(q, QCOW2_INCOMPAT_CORRUPT, 0);
	q->broken = true;
	return -EIO;
}

/* --- where metadata is -------------------------------------------------------------------- */

static size_t slot_of(const struct cluster_set *set, uint64_t number)
{
	size_t i = (number * 0x9e3779b97f4a7c15ull >> 20) & (set->n_slots - 1);

	while (set->slots[i] && set->slots[i] != number + 1)
		i = (i + 1) & (set->n_slots - 1);
	return i;
}

static int set_grow(struct cluster_set *set)
{
	struct cluster_set old = *set;
	size_t i;

	set->n_slots = old.n_slots ? old.n_slots * 2 : 64;
	set->slots = calloc(set->n_slots, sizeof(*set->slots));
	if (!set->slots) {
		*set = old;
		return -ENOMEM;
	}
	for (i = 0; i < old.n_slots; i++)
		if (old.slots[i])
			set->slots[slot_of(set, old.slots[i] - 1)] = old.slots[i];
	free(old.slots);
	return 0;
}

int cluster_set_add(struct cluster_set *set, uint64_t number)
{
	size_t i;

	if (set->n_used * 2 >= set->n_slots && set_grow(set) < 0)
		return -ENOMEM;
	i = slot_of(set, number);
	if (!set->slots[i])
		set->n_used++;
	set->slots[i] = number + 1;
	return 0;
}

void cluster_set_remove(struct cluster_set *set, uint64_t number)
{
	size_t i, next;

	if (!set->n_slots)
		return;
	i = slot_of(set, number);
	if (!set->slots[i])
		return;
	set->slots[i] = 0;
	set->n_used--;
	/* Those behind that had been pushed on by it move up. */
	for (next = (i + 1) & (set->n_slots - 1); set->slots[next];
	     next = (next + 1) & (set->n_slots - 1)) {
		uint64_t moved = set->slots[next];

		set->slots[next] = 0;
		set->slots[slot_of(set, moved - 1)] = moved;
	}
}

bool cluster_set_has(const struct cluster_set *set, uint64_t number)
{
	return set->n_slots && set->slots[slot_of(set, number)];
}

void cluster_set_free(struct cluster_set *set)
{
	free(set->slots);
	*set = (struct cluster_set){0};
}

static bool within(uint64_t offset, uint64_t from, uint64_t bytes)
{
	return offset >= from && offset < from + bytes;
}

bool qcow2_is_metadata(struct qcow2 *q, uint64_t offset)
{
	const struct qcow2_header *h = &q->header;

	return offset < q->cluster_bytes ||
	       within(offset, h->l1_offset, round_up((uint64_t)h->l1_size * 8, q->cluster_bytes)) ||
	       within(offset, h->reftable_offset,
		      (uint64_t)h->reftable_clusters << q->cluster_bits) ||
	       (h->n_snapshots && within(offset, h->snapshots_offset,
					 round_up(q->snapshots_bytes, q->cluster_bytes))) ||
	       cluster_set_has(&q->tables, offset >> q->cluster_bits);
}

/* --- who is under way --------------------------------------------------------------------- */

unsigned qcow2_enter(struct qcow2 *q)
{
	q->in_flight[q->generation]++;
	return q->generation;
}

void qcow2_leave(struct qcow2 *q, unsigned generation)
{
	LOCK_SCOPE(&q->lock);
	if (--q->in_flight[generation] == 0)
		pthread_cond_broadcast(&q->idle);
}

void qcow2_begin_exclusive(struct qcow2 *q)
{
	pthread_mutex_lock(&q->meta);
	while (q->allocs)
		pthread_cond_wait(&q->alloc_done, &q->meta);
	LOCK_SCOPE(&q->lock);
	q->exclusive = true;
	while (q->in_flight[0] || q->in_flight[1])
		pthread_cond_wait(&q->idle, &q->lock);
}

void qcow2_end_exclusive(struct qcow2 *q)
{
	pthread_mutex_lock(&q->lock);
	q->exclusive = false;
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_unlock(&q->meta);
}

struct qcow2_ctx *qcow2_ctx_get(struct qcow2 *q)
{
	struct qcow2_ctx *ctx;

	pthread_mutex_lock(&q->lock);
	ctx = q->ctxs;
	if (ctx)
		q->ctxs = ctx->next;
	pthread_mutex_unlock(&q->lock);
	if (ctx)
		return ctx;
	ctx = calloc(1, sizeof(*ctx));
	if (ctx && block_queue_new_sync(&ctx->queue, NULL) < 0) {
		free(ctx);
		return NULL;
	}
	return ctx;
}

void qcow2_ctx_put(struct qcow2 *q, struct qcow2_ctx *ctx)
{
	LOCK_SCOPE(&q->lock);
	ctx->next = q->ctxs;
	q->ctxs = ctx;
}

uint8_t *qcow2_ctx_cluster(struct qcow2 *q, struct qcow2_ctx *ctx)
{
	if (!ctx->cluster && posix_memalign((void **)&ctx->cluster, 4096, q->cluster_bytes))
		ctx->cluster = NULL;
	return ctx->cluster;
}
