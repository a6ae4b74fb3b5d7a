// SPDX-License-Identifier: ISC
/*
 * Zeroes and discards: whole clusters (or subclusters) by changing their entries,
 * the ragged ends by writing. The end of the disk counts as a cluster's end.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

#define ALL_ZERO     0xffffffff00000000ull
#define BATCH	     1024u /* clusters changed without letting others in */
#define ZERO_BUF     (64u << 10)
#define ZERO_IOV_MAX 16u

static const uint8_t zeroes[ZERO_BUF];

static int write_zeroes(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes)
{
	struct iovec iov[ZERO_IOV_MAX];
	uint64_t n, left;
	unsigned i;
	int r = 0;

	for (; bytes && !r; offset += n, bytes -= n) {
		n = min_u64(bytes, (uint64_t)ZERO_BUF * ZERO_IOV_MAX);
		for (i = 0, left = n; left; left -= iov[i++].iov_len)
			iov[i] = (struct iovec){(void *)zeroes, min_u64(left, ZERO_BUF)};
		r = qcow2_write(q, ctx, offset, n, iov, i, 0);
	}
	return r;
}

static bool has_own_place(const struct qcow2 *q, const struct l2_entry *e)
{
	bool place = (e->word & QCOW2_OFFSET_MASK) || q->external;

	return !(e->word & QCOW2_COMPRESSED) && place && (e->word & QCOW2_COPIED);
}

static bool is_unallocated(const struct l2_entry *e)
{
	return !e->word && !e->bitmap;
}

/* The entry of a cluster that is to read as zeroes; false where writing is the only way. */
static bool zero_entry(const struct qcow2 *q, struct l2_entry old, bool unmap, struct l2_entry *e)
{
	bool keep = !unmap && has_own_place(q, &old);

	if (q->header.version < 3) {
		*e = (struct l2_entry){0};
		return !q->backing;
	}
	if (q->extended) {
		e->word = keep ? old.word : 0;
		e->bitmap = ALL_ZERO;
	} else {
		e->word = (keep ? old.word : 0) | QCOW2_ZERO;
		e->bitmap = 0;
	}
	return true;
}

/* Changes one cluster's entry. Under meta. 1: it must be written instead. */
static int zero_cluster(struct qcow2 *q, uint64_t cluster, bool unmap, bool discard)
{
	struct l2_entry old, e;
	int r;

	qcow2_alloc_wait(q, cluster, 1);
	r = qcow2_l2_get(q, cluster, &old);
	if (r < 0)
		return r;
	if (is_unallocated(&old) && !q->backing)
		return 0;
	if (!zero_entry(q, old, unmap, &e))
		return discard ? 0 : 1; /* a discard promises nothing */
	if (e.word == old.word && e.bitmap == old.bitmap)
		return 0;
	r = qcow2_l2_prepare(q, cluster);
	if (!r)
		r = qcow2_l2_set(q, cluster, e);
	if (!r && (e.word & QCOW2_OFFSET_MASK) == 0)
		r = qcow2_free_entry(q, old, true);
	return r;
}

/* Whole clusters. */
static int zero_clusters(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t first, uint64_t end,
			 bool unmap, bool discard)
{
	uint64_t size = block_size(&q->block);
	int r = 0;

	while (first < end && r >= 0) {
		uint64_t stop = min_u64(end, first + BATCH);

		pthread_mutex_lock(&q->meta);
		r = q->broken ? -EIO : 0;
		for (; first < stop && !r; first++) {
			r = zero_cluster(q, first, unmap, discard);
			if (r)
				break;
		}
		pthread_mutex_unlock(&q->meta);
		if (r == 1) {
			uint64_t at = first << q->cluster_bits;

			r = write_zeroes(q, ctx, at, min_u64(q->cluster_bytes, size - at));
			first++;
		}
	}
	return r;
}

/* Marks subclusters of one cluster as zero. 1: they must be written. */
static int zero_subclusters(struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint64_t cluster = from >> q->cluster_bits, in = from % q->cluster_bytes;
	unsigned first = in >> q->sub_bits, last = (in + (to - from) - 1) >> q->sub_bits;
	uint64_t bits = (last == 31 ? UINT32_MAX : (1u << (last + 1)) - 1) & ~((1u << first) - 1);
	struct l2_entry e;
	int r;

	LOCK_SCOPE(&q->meta);
	qcow2_alloc_wait(q, cluster, 1);
	r = q->broken ? -EIO : qcow2_l2_get(q, cluster, &e);
	if (r < 0)
		return r;
	if (e.word & QCOW2_COMPRESSED)
		return 1;
	e.bitmap = (e.bitmap | bits << 32) & ~bits;
	r = qcow2_l2_prepare(q, cluster);
	return r ? r : qcow2_l2_set(q, cluster, e);
}

static int is_zero(struct qcow2 *q, uint64_t from, uint64_t to, bool *zero)
{
	struct qcow2_map map;
	int r;

	*zero = true;
	LOCK_SCOPE(&q->meta);
	qcow2_alloc_wait(q, from >> q->cluster_bits, 1);
	for (; from < to && *zero; from += map.bytes) {
		r = qcow2_map(q, from, to - from, true, &map);
		if (r < 0)
			return r;
		*zero = map.kind == MAP_ZERO || (map.kind == MAP_UNALLOCATED &&
						 (!q->backing || from >= block_size(q->backing)));
	}
	return 0;
}

/* A range within one cluster that is not all of it. */
static int zero_part(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t from, uint64_t to)
{
	uint64_t sub = 1ull << q->sub_bits, sub_from = round_up(from, sub), sub_to = to / sub * sub;
	bool zero;
	int r;

	if (from >= to)
		return 0;
	r = is_zero(q, from, to, &zero);
	if (r < 0 || zero)
		return r;
	if (!q->extended || sub_from >= sub_to)
		return write_zeroes(q, ctx, from, to - from);
	r = zero_subclusters(q, sub_from, sub_to);
	if (r < 0)
		return r;
	if (r == 1)
		return write_zeroes(q, ctx, from, to - from);
	r = write_zeroes(q, ctx, from, sub_from - from);
	return r ? r : write_zeroes(q, ctx, sub_to, to - sub_to);
}

/* A data file that is a raw image must hold the zeroes itself. */
static int zero_raw_data(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
			 bool unmap)
{
	uint64_t first = offset >> q->cluster_bits, end = (offset + bytes - 1) >> q->cluster_bits;
	int r = block_zero(ctx->queue, q->data, offset, bytes, unmap ? BLOCK_UNMAP : 0);
	struct l2_entry e;

	LOCK_SCOPE(&q->meta);
	for (; first <= end && !r; first++) {
		r = qcow2_l2_get(q, first, &e);
		if (r < 0 || is_unallocated(&e))
			continue; /* reads as zeroes: such an image has no backing file */
		r = qcow2_l2_prepare(q, first);
		e.word = first << q->cluster_bits | QCOW2_COPIED;
		e.bitmap = q->extended ? UINT32_MAX : 0;
		if (!r)
			r = qcow2_l2_set(q, first, e);
	}
	return r;
}

int qcow2_zero(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes, bool unmap)
{
	uint64_t size = block_size(&q->block), to = offset + bytes;
	uint64_t first = div_up(offset, q->cluster_bytes);
	uint64_t end = to == size ? div_up(to, q->cluster_bytes) : to / q->cluster_bytes;
	int r;

	if (q->external_raw)
		return zero_raw_data(q, ctx, offset, bytes, unmap);
	if (first >= end) {
		/* Within one cluster, or across one border. */
		uint64_t border = min_u64(first << q->cluster_bits, to);

		if (border == offset)
			border = to;
		r = zero_part(q, ctx, offset, border);
		return r ? r : zero_part(q, ctx, border, to);
	}
	r = zero_part(q, ctx, offset, first << q->cluster_bits);
	if (!r)
		r = zero_clusters(q, ctx, first, end, unmap, false);
	return r ? r : zero_part(q, ctx, end << q->cluster_bits, to);
}

int qcow2_discard(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes)
{
	uint64_t size = block_size(&q->block), to = offset + bytes;
	uint64_t first = div_up(offset, q->cluster_bytes);
	uint64_t end = to == size ? div_up(to, q->cluster_bytes) : to / q->cluster_bytes;

	if (q->external_raw)
		return zero_raw_data(q, ctx, offset, bytes, true);
	return first < end ? zero_clusters(q, ctx, first, end, true, true) : 0;
}
