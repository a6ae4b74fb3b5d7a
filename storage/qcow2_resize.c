// SPDX-License-Identifier: ISC
/*
 * Changing the size of a qcow2 disk. Growing may need a larger L1 table, which
 * is written to a new place before the header names it. Shrinking frees what lies
 * beyond. Contents past the old end must not come back, so the rest of
 * the last cluster is zeroed before the disk grows over it.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

static int write_new_l1(struct qcow2 *q, const uint64_t *l1, uint64_t n, uint64_t offset)
{
	uint64_t bytes = round_up(n * 8, q->cluster_bytes), i;
	_cleanup_free_ uint64_t *be = calloc(1, bytes);

	if (!be)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		be[i] = htobe64(l1[i]);
	return qcow2_meta_write(q, be, bytes, offset);
}

static int grow_l1(struct qcow2 *q, uint64_t entries)
{
	uint64_t old_offset = q->header.l1_offset, old_n = q->l1_entries, offset, got;
	uint64_t *l1;
	int r;

	if (entries <= q->l1_entries)
		return 0;
	if (entries * 8 > QCOW2_L1_BYTES_MAX)
		return -EFBIG;
	l1 = calloc(entries, 8);
	if (!l1)
		return -ENOMEM;
	memcpy(l1, q->l1, old_n * 8);
	r = qcow2_alloc_clusters(q, div_up(entries * 8, q->cluster_bytes), true, &offset, &got);
	if (!r)
		r = write_new_l1(q, l1, entries, offset);
	if (!r)
		r = qcow2_flush(q);
	if (r < 0) {
		free(l1);
		return r;
	}
	pthread_mutex_lock(&q->lock);
	free(q->l1);
	q->l1 = l1;
	q->l1_entries = q->header.l1_size = entries;
	q->header.l1_offset = offset;
	pthread_mutex_unlock(&q->lock);
	r = qcow2_header_update(q);
	q->broken = r < 0; /* the disk may know either table: both are whole, none may change */
	if (!r && old_n)
		r = qcow2_free_clusters(q, old_offset, div_up(old_n * 8, q->cluster_bytes), false);
	return r;
}

/* Clusters wholly beyond @bytes lose their contents. */
static int cut_off(struct qcow2 *q, uint64_t bytes)
{
	uint64_t cluster = div_up(bytes, q->cluster_bytes);
	uint64_t end = div_up(q->header.size, q->cluster_bytes);
	struct l2_entry e;
	int r = 0;

	while (cluster < end && !r) {
		if (!(q->l1[cluster >> q->l2_bits] & QCOW2_OFFSET_MASK)) {
			cluster = ((cluster >> q->l2_bits) + 1) << q->l2_bits;
			continue;
		}
		r = qcow2_l2_get(q, cluster, &e);
		if (!r && (e.word || e.bitmap)) {
			r = qcow2_l2_prepare(q, cluster);
			if (!r)
				r = qcow2_l2_set(q, cluster, (struct l2_entry){0});
			if (!r)
				r = qcow2_free_entry(q, e, true);
		}
		cluster++;
	}
	return r;
}

static int set_size(struct qcow2 *q, uint64_t bytes)
{
	uint64_t old = q->header.size;
	int r = qcow2_flush(q);

	if (r < 0)
		return r;
	q->header.size = bytes;
	r = qcow2_header_update(q);
	if (r < 0)
		q->header.size = old;
	else
		block_set_size(&q->block, bytes);
	return r;
}

/* The last cluster's rest, which a backing image or an earlier life may have filled. */
static int zero_rest(struct qcow2 *q, uint64_t old, uint64_t bytes)
{
	uint64_t to = min_u64(round_up(old, q->cluster_bytes), bytes);
	struct qcow2_ctx *ctx;
	int r;

	/* A longer backing image would show through what is new. */
	if (q->backing && block_size(q->backing) > old)
		to = min_u64(max_u64(to, block_size(q->backing)), bytes);
	if (to <= old)
		return 0;
	ctx = qcow2_ctx_get(q);
	if (!ctx)
		return -ENOMEM;
	r = qcow2_zero(q, ctx, old, to - old, false);
	qcow2_ctx_put(q, ctx);
	return r;
}

static int resize_locked(struct qcow2 *q, uint64_t bytes)
{
	int r = 0;

	if (bytes < q->header.size)
		r = cut_off(q, bytes);
	else
		r = grow_l1(q, qcow2_l1_entries_for(q, bytes));
	return r ? r : set_size(q, bytes);
}

int qcow2_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct qcow2 *q = qcow2_from_block(block);
	uint64_t old = block_size(block);
	int r = 0;

	if (q->readonly)
		return err_set(err, -EROFS, "the image is opened for reading only");
	if (q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS)
		return err_set(err, -ENOTSUP,
			       "the image has persistent bitmaps: remove them first");
	if (bytes % 512)
		return err_set(err, -EINVAL, "the size must be a multiple of 512");
	if (bytes < old && q->n_snapshots && q->header.version < 3)
		return err_set(err, -ENOTSUP, "a version 2 image with snapshots cannot shrink");
	if (q->external && bytes > old)
		r = block_resize(q->data, bytes, err);
	if (r < 0)
		return r;
	qcow2_begin_exclusive(q);
	r = resize_locked(q, bytes);
	qcow2_end_exclusive(q);
	/* Readers of what is new get zeroes as soon as this returns, not before. */
	if (!r && bytes > old)
		r = zero_rest(q, old, bytes);
	if (!r && q->external && bytes < old)
		r = block_resize(q->data, bytes, err);
	return r < 0 ? err_set(err, r, "cannot resize the image: %s", err_name(r)) : 0;
}
