// SPDX-License-Identifier: ISC
/*
 * Refcount structures written anew, from the counts that a check found: blocks
 * and table go behind everything in use, are synced, and then the header names
 * them. The old ones are free after that.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_check_int.h"

/* The old structures are not part of the new count. */
static void forget_old(struct check *c)
{
	struct qcow2 *q = c->q;
	uint32_t i, *count;

	for (i = 0; i < q->header.reftable_clusters; i++) {
		count = check_count(c, (q->header.reftable_offset >> q->cluster_bits) + i, false);
		if (count && *count)
			--*count;
	}
	for (i = 0; i < q->reftable_entries; i++) {
		if (!q->reftable[i] || !qcow2_host_ok(q, q->reftable[i]))
			continue;
		count = check_count(c, q->reftable[i] >> q->cluster_bits, false);
		if (count && *count)
			--*count;
	}
}

static bool block_needed(struct check *c, uint64_t block)
{
	uint64_t at = block << c->q->ref_bits, end = (block + 1) << c->q->ref_bits, next;
	uint32_t *count;

	for (; at < end; at = next) {
		next = min_u64((at / CHECK_PAGE + 1) * CHECK_PAGE, end);
		count = check_count(c, at, false);
		for (; count && at < next; at++)
			if (*count++)
				return true;
	}
	return false;
}

struct rebuild {
	uint64_t start;	   /* first cluster of the new structures */
	uint64_t n_blocks; /* present ones */
	uint64_t entries;  /* of the table */
	uint64_t table_clusters;
	uint64_t *table;
};

/* Counts the new structures as used, and finds how many blocks that makes. */
static int plan(struct check *c, struct rebuild *b)
{
	struct qcow2 *q = c->q;
	uint64_t used = 0, i, need, end = c->result->image_end >> q->cluster_bits;
	uint32_t *count;

	b->start = end;
	for (;;) {
		b->entries = ((b->start + used) >> q->ref_bits) + 1;
		b->table_clusters = div_up(b->entries * 8, q->cluster_bytes);
		if (b->table_clusters << q->cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
			return -EFBIG;
		for (b->n_blocks = 0, i = 0; i < b->entries; i++)
			b->n_blocks += block_needed(c, i);
		need = b->n_blocks + b->table_clusters;
		if (need == used)
			return 0;
		if (need < used)
			return 0; /* a little too much is counted: never less */
		for (; used < need; used++) {
			count = check_count(c, b->start + used, true);
			if (!count)
				return -ENOMEM;
			*count = 1;
		}
	}
}

static int write_block(struct check *c, uint64_t block, uint64_t offset, uint8_t *buf)
{
	struct qcow2 *q = c->q;
	uint64_t i, first = block << q->ref_bits, n = 1ull << q->ref_bits;
	uint32_t *count;

	memset(buf, 0, q->cluster_bytes);
	for (i = 0; i < n; i++) {
		count = check_count(c, first + i, false);
		if (count && *count > qcow2_refcount_max(q))
			return -ERANGE;
		if (count && *count)
			qcow2_ref_write(buf, q->header.refcount_order, i, *count);
	}
	return qcow2_meta_write(q, buf, q->cluster_bytes, offset);
}

static int write_all(struct check *c, struct rebuild *b)
{
	struct qcow2 *q = c->q;
	uint64_t bytes = b->table_clusters << q->cluster_bits;
	uint64_t at = b->start + b->table_clusters, i;
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_bytes);
	_cleanup_free_ uint64_t *be = calloc(1, bytes);
	int r = 0;

	b->table = calloc(1, bytes);
	if (!buf || !be || !b->table)
		return -ENOMEM;
	for (i = 0; i < b->entries && !r; i++) {
		if (!block_needed(c, i))
			continue;
		b->table[i] = at++ << q->cluster_bits;
		be[i] = htobe64(b->table[i]);
		r = write_block(c, i, b->table[i], buf);
	}
	if (!r)
		r = qcow2_meta_write(q, be, bytes, b->start << q->cluster_bits);
	return r ? r : qcow2_meta_sync(q);
}

int check_rebuild(struct check *c)
{
	struct qcow2 *q = c->q;
	struct rebuild b = {0};
	int r;

	qcow2_cache_drop(q, 0);
	forget_old(c);
	r = plan(c, &b);
	if (!r)
		r = write_all(c, &b);
	if (r < 0) {
		free(b.table);
		return r;
	}
	pthread_mutex_lock(&q->lock);
	q->header.reftable_offset = b.start << q->cluster_bits;
	q->header.reftable_clusters = b.table_clusters;
	pthread_mutex_unlock(&q->lock);
	free(q->reftable);
	q->reftable = b.table;
	q->reftable_entries = (b.table_clusters << q->cluster_bits) / 8;
	q->free_hint = 0;
	q->packed_next = 0;
	return qcow2_header_update(q);
}

int check_write_l1(struct check *c)
{
	struct qcow2 *q = c->q;
	_cleanup_free_ uint64_t *be = malloc((size_t)q->l1_entries * 8 + 8);
	uint32_t i;

	if (!be)
		return -ENOMEM;
	for (i = 0; i < q->l1_entries; i++)
		be[i] = htobe64(q->l1[i]);
	return qcow2_meta_write(q, be, (uint64_t)q->l1_entries * 8, q->header.l1_offset);
}
