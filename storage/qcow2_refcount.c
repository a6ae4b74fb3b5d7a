// SPDX-License-Identifier: ISC
/*
 * Reference counts of host clusters, and allocation from them.
 *
 * A refcount block that does not exist yet is put into the first cluster of
 * the range that it describes: all counts there are 0, so it is free, and no
 * search is needed. A refcount table that is too small is replaced by a larger
 * one behind everything the old one could describe. Counts that grow
 * may reach the disk at any time; those that shrink do so after the reference
 * is gone from the disk (qcow2_free_clusters() waits for that).
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

#define FREED_MAX (64u << 10) /* waiting runs; beyond that the image is flushed */

/* --- counts in a block -------------------------------------------------------------------- */

uint64_t qcow2_ref_read(const uint8_t *block, uint32_t order, uint64_t index)
{
	const uint8_t *p = block + (order < 3 ? index >> (3 - order) : index << (order - 3));
	uint16_t v16;
	uint32_t shift;

	switch (order) {
	case 6:
		return get_be64(p);
	case 5:
		return get_be32(p);
	case 4:
		memcpy(&v16, p, sizeof(v16));
		return be16toh(v16);
	case 3:
		return *p;
	}
	shift = (index << order) & 7;
	return *p >> shift & ((1u << (1u << order)) - 1);
}

void qcow2_ref_write(uint8_t *block, uint32_t order, uint64_t index, uint64_t count)
{
	uint8_t *p = block + (order < 3 ? index >> (3 - order) : index << (order - 3));
	uint16_t v16 = htobe16(count);
	uint32_t shift, mask;

	switch (order) {
	case 6:
		put_be64(p, count);
		return;
	case 5:
		put_be32(p, count);
		return;
	case 4:
		memcpy(p, &v16, sizeof(v16));
		return;
	case 3:
		*p = count;
		return;
	}
	shift = (index << order) & 7;
	mask = ((1u << (1u << order)) - 1) << shift;
	*p = (*p & ~mask) | (count << shift & mask);
}

uint64_t qcow2_refcount_max(const struct qcow2 *q)
{
	unsigned bits = 1u << q->header.refcount_order;

	return bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
}

/* --- the table ---------------------------------------------------------------------------- */

/* Two entries for one block would make a search for free clusters endless. */
static int note_block(struct qcow2 *q, uint64_t offset)
{
	if (!offset || q->checking)
		return 0;
	if (!qcow2_host_ok(q, offset) || cluster_set_has(&q->tables, offset >> q->cluster_bits))
		return -EIO;
	return cluster_set_add(&q->tables, offset >> q->cluster_bits);
}

int qcow2_reftable_load(struct qcow2 *q, struct err *err)
{
	uint64_t bytes = (uint64_t)q->header.reftable_clusters << q->cluster_bits;
	uint32_t i;
	int r;

	q->reftable_entries = bytes / 8;
	q->reftable = malloc(bytes);
	if (!q->reftable)
		return err_set(err, -ENOMEM, "out of memory");
	r = qcow2_meta_read(q, q->reftable, bytes, q->header.reftable_offset);
	if (r < 0)
		return err_set(err, r, "cannot read the refcount table: %s", err_name(r));
	for (i = 0; i < q->reftable_entries; i++) {
		q->reftable[i] = be64toh(q->reftable[i]) & ~QCOW2_REF_RESERVED;
		r = note_block(q, q->reftable[i]);
		if (r < 0)
			return err_set(err, r, "refcount block %u is impossible", i);
	}
	return 0;
}

/* The slice and the index in it where @cluster's count stands; *data NULL where no block is. */
static int find_count(struct qcow2 *q, uint64_t cluster, uint8_t **data, uint64_t *offset,
		      uint64_t *index)
{
	uint64_t block = cluster >> q->ref_bits, byte, per_slice;
	uint64_t in_block = cluster & ((1ull << q->ref_bits) - 1);

	*data = NULL;
	if (block >= q->reftable_entries || !q->reftable[block])
		return 0;
	if (!qcow2_host_ok(q, q->reftable[block]))
		return qcow2_damaged(q, "refcount block", q->reftable[block]);
	byte = (in_block << q->header.refcount_order) / 8;
	per_slice = ((uint64_t)q->cache.slice_bytes * 8) >> q->header.refcount_order;
	*offset = q->reftable[block] + byte / q->cache.slice_bytes * q->cache.slice_bytes;
	*index = in_block % per_slice;
	return qcow2_cache_load(q, SLICE_REF, *offset, data);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
	uint64_t offset, index;
	uint8_t *data;
	int r = find_count(q, cluster, &data, &offset, &index);

	if (r < 0)
		return r;
	*count = data ? qcow2_ref_read(data, q->header.refcount_order, index) : 0;
	return 0;
}

/* Points the table at a block that is on stable storage. */
static int set_table_entry(struct qcow2 *q, uint64_t block, uint64_t offset)
{
	uint64_t be = htobe64(offset);
	int r = qcow2_meta_write(q, &be, 8, q->header.reftable_offset + block * 8);

	if (!r)
		q->reftable[block] = offset;
	return r;
}

/* Writes the first contents of a block: its own count. */
static int write_first_counts(struct qcow2 *q, uint64_t offset)
{
	_cleanup_free_ uint8_t *buf = calloc(1, q->cluster_bytes);
	int r;

	if (!buf)
		return -ENOMEM;
	qcow2_ref_write(buf, q->header.refcount_order, 0, 1);
	r = qcow2_meta_write(q, buf, q->cluster_bytes, offset);
	return r ? r : qcow2_meta_sync(q);
}

static void forget_tables(struct qcow2 *q, uint64_t first, uint64_t n)
{
	LOCK_SCOPE(&q->lock);
	while (n--)
		cluster_set_remove(&q->tables, first + n);
}

static int add_block(struct qcow2 *q, uint64_t block)
{
	uint64_t cluster = block << q->ref_bits;
	uint64_t offset = cluster << q->cluster_bits;
	int r;

	if (qcow2_is_metadata(q, offset))
		return qcow2_damaged(q, "metadata in a free cluster", offset);
	if (!q->file->grow && offset + q->cluster_bytes > block_size(q->file))
		return -ENOSPC;
	pthread_mutex_lock(&q->lock);
	r = cluster_set_add(&q->tables, cluster);
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		return r;
	qcow2_cache_drop(q, offset);
	r = write_first_counts(q, offset);
	if (!r)
		r = set_table_entry(q, block, offset);
	if (r < 0)
		forget_tables(q, cluster, 1); /* it is tried again at the same place */
	return r;
}

/* Sizes for a table that covers itself and its blocks from @start on, and @cluster. */
static void plan_table(const struct qcow2 *q, uint64_t start, uint64_t cluster,
		       uint64_t *table_clusters, uint64_t *n_blocks)
{
	uint64_t per_cluster = q->cluster_bytes / 8, used;
	uint64_t entries = max_u64((uint64_t)q->reftable_entries + q->reftable_entries / 2,
				   (cluster >> q->ref_bits) + 1);

	/* Each of the three can only make another grow; they settle after a round or two. */
	for (*n_blocks = 1;;) {
		*table_clusters = div_up(entries, per_cluster);
		used = *n_blocks + *table_clusters;
		if (div_up(used, 1ull << q->ref_bits) > *n_blocks)
			*n_blocks = div_up(used, 1ull << q->ref_bits);
		else if (((start + used - 1) >> q->ref_bits) + 1 > entries)
			entries = ((start + used - 1) >> q->ref_bits) + 1;
		else
			return;
	}
}

/* Writes the new blocks at @start: they count themselves and the table behind them. */
static int write_new_blocks(struct qcow2 *q, uint64_t start, uint64_t n_blocks, uint64_t used)
{
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_bytes);
	uint64_t b, i, per_block = 1ull << q->ref_bits;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	for (b = 0; b < n_blocks && !r; b++) {
		memset(buf, 0, q->cluster_bytes);
		for (i = 0; i < per_block && b * per_block + i < used; i++)
			qcow2_ref_write(buf, q->header.refcount_order, i, 1);
		r = qcow2_meta_write(q, buf, q->cluster_bytes, (start + b) << q->cluster_bits);
	}
	return r;
}

static int write_new_table(struct qcow2 *q, uint64_t *table, uint64_t entries, uint64_t offset)
{
	_cleanup_free_ uint64_t *be = malloc(entries * 8);
	uint64_t i;
	int r;

	if (!be)
		return -ENOMEM;
	for (i = 0; i < entries; i++)
		be[i] = htobe64(table[i]);
	r = qcow2_meta_write(q, be, entries * 8, offset);
	return r ? r : qcow2_meta_sync(q);
}

static int use_new_table(struct qcow2 *q, uint64_t *table, uint64_t entries, uint64_t offset)
{
	struct qcow2_header old = q->header;
	int r;

	pthread_mutex_lock(&q->lock);
	q->header.reftable_offset = offset;
	q->header.reftable_clusters = (entries * 8) >> q->cluster_bits;
	pthread_mutex_unlock(&q->lock);
	r = qcow2_header_update(q);
	if (r < 0) {
		pthread_mutex_lock(&q->lock);
		q->header.reftable_offset = old.reftable_offset;
		q->header.reftable_clusters = old.reftable_clusters;
		pthread_mutex_unlock(&q->lock);
		/* Which of the two is on disk is not known, unless the old one can be written. */
		if (qcow2_header_update(q) < 0)
			q->broken = true;
		return r;
	}
	free(q->reftable);
	q->reftable = table;
	q->reftable_entries = entries;
	/* The new table is in force: nothing is left of the old one, and a leak is no harm. */
	qcow2_free_clusters(q, old.reftable_offset, old.reftable_clusters, false);
	return 0;
}

static int grow_table(struct qcow2 *q, uint64_t cluster)
{
	uint64_t start = (uint64_t)q->reftable_entries << q->ref_bits;
	uint64_t table_clusters, n_blocks, entries, i, offset;
	_cleanup_free_ uint64_t *table = NULL;
	int r;

	/* The file may reach beyond what was counted: never build on top of it. */
	if (q->fresh_from != UINT64_MAX)
		start = max_u64(
		    start, round_up(div_up(q->fresh_from, q->cluster_bytes), 1ull << q->ref_bits));
	plan_table(q, start, cluster, &table_clusters, &n_blocks);
	entries = table_clusters * (q->cluster_bytes / 8);
	offset = (start + n_blocks) << q->cluster_bits;
	if (entries * 8 > QCOW2_REFTABLE_BYTES_MAX || offset >= QCOW2_HOST_MAX)
		return -EFBIG;
	table = calloc(entries, 8);
	if (!table)
		return -ENOMEM;
	memcpy(table, q->reftable, (size_t)q->reftable_entries * 8);
	for (i = 0, r = 0; i < n_blocks && !r; i++) {
		LOCK_SCOPE(&q->lock);
		table[(start >> q->ref_bits) + i] = (start + i) << q->cluster_bits;
		r = cluster_set_add(&q->tables, start + i);
	}
	if (!r)
		r = write_new_blocks(q, start, n_blocks, n_blocks + table_clusters);
	if (!r)
		r = write_new_table(q, table, entries, offset);
	if (!r)
		r = use_new_table(q, table, entries, offset);
	if (!r)
		take_ptr(table);
	else
		forget_tables(q, start, n_blocks);
	return r;
}

/* A block for @cluster's count exists after this. */
static int need_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t block = cluster >> q->ref_bits;
	int r = 0;

	if (block >= q->reftable_entries)
		r = grow_table(q, cluster);
	if (!r && !q->reftable[block])
		r = add_block(q, block);
	return r;
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	uint64_t offset, index;
	uint8_t *data;
	int r = need_block(q, cluster);

	if (!r)
		r = find_count(q, cluster, &data, &offset, &index);
	if (r < 0)
		return r;
	qcow2_ref_write(data, q->header.refcount_order, index, count);
	qcow2_cache_dirty(q, offset);
	if (count)
		return 0;
	if (cluster < q->free_hint)
		q->free_hint = cluster;
	LOCK_SCOPE(&q->lock);
	cluster_set_remove(&q->tables, cluster); /* whatever it was, it is no table any more */
	return 0;
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t first, uint64_t n, int delta)
{
	uint64_t i, count;
	int r = 0;

	for (i = 0; i < n && !r; i++) {
		r = qcow2_refcount_get(q, first + i, &count);
		if (r < 0)
			break;
		if (delta > 0 && count == qcow2_refcount_max(q))
			r = -ERANGE;
		else if (delta < 0 && !count)
			r = qcow2_damaged(q, "a used cluster counted as free",
					  (first + i) << q->cluster_bits);
		else
			r = qcow2_refcount_set(q, first + i, count + delta);
	}
	/* What was added is taken back; where that fails too, clusters leak. */
	while (r < 0 && delta > 0 && i--)
		if (!qcow2_refcount_get(q, first + i, &count) && count)
			qcow2_refcount_set(q, first + i, count - 1);
	return r;
}

/* --- allocation --------------------------------------------------------------------------- */

/* The first free cluster from @from on. */
static int find_free(struct qcow2 *q, uint64_t from, uint64_t *found)
{
	uint64_t count;
	int r;

	for (;; from++) {
		r = need_block(q, from);
		if (!r)
			r = qcow2_refcount_get(q, from, &count);
		if (r < 0)
			return r;
		if (!count) {
			*found = from;
			return 0;
		}
	}
}

/* How many clusters are free in a row from @from on, up to @want. */
static int count_free(struct qcow2 *q, uint64_t from, uint64_t want, uint64_t *n)
{
	uint64_t count;
	int r;

	for (*n = 0; *n < want; ++*n) {
		r = need_block(q, from + *n);
		if (!r)
			r = qcow2_refcount_get(q, from + *n, &count);
		if (r < 0)
			return r;
		if (count)
			break;
	}
	return 0;
}

/* The first of @n blocks in a row that do not exist, behind the file's end where it can grow. */
static uint64_t missing_blocks(const struct qcow2 *q, uint64_t n)
{
	uint64_t first = 0, block;

	if (q->fresh_from != UINT64_MAX)
		first = div_up(div_up(q->fresh_from, q->cluster_bytes), 1ull << q->ref_bits);
	for (block = first; block < q->reftable_entries && block < first + n; block++)
		if (q->reftable[block])
			first = block + 1;
	return first;
}

/*
 * More clusters in a row than a block counts, which never are free: each lies in the
 * first of those that it counts. Here the new blocks all lie before the clusters, and both are
 * counted before the table knows of them.
 */
static int alloc_many(struct qcow2 *q, uint64_t want, uint64_t *offset)
{
	uint64_t per_block = 1ull << q->ref_bits, n = 1, first, start, i;
	int r = 0;

	while (div_up(n + want, per_block) > n)
		n = div_up(n + want, per_block);
	while ((first = missing_blocks(q, n)) + n > q->reftable_entries && !r)
		r = grow_table(q, (first + n) << q->ref_bits);
	start = first << q->ref_bits;
	if (!r && (start + n + want) << q->cluster_bits >= QCOW2_HOST_MAX)
		r = -EFBIG;
	if (!r && !q->file->grow && (start + n + want) << q->cluster_bits > block_size(q->file))
		r = -ENOSPC;
	for (i = 0; i < n + want && !r; i++)
		if (qcow2_is_metadata(q, (start + i) << q->cluster_bits))
			r = qcow2_damaged(q, "metadata in a free cluster",
					  (start + i) << q->cluster_bits);
	for (i = 0; i < n && !r; i++) {
		LOCK_SCOPE(&q->lock);
		r = cluster_set_add(&q->tables, start + i);
	}
	if (!r)
		r = write_new_blocks(q, start, n, n + want);
	if (!r)
		r = qcow2_meta_sync(q);
	for (i = 0; i < n && !r; i++)
		r = set_table_entry(q, first + i, (start + i) << q->cluster_bits);
	for (i = 0; i < n && r < 0 && first + i < q->reftable_entries; i++)
		if (!q->reftable[first + i])
			forget_tables(q, start + i, 1);
	*offset = (start + n) << q->cluster_bits;
	return r;
}

int qcow2_alloc_clusters(struct qcow2 *q, uint64_t want, bool exact, uint64_t *offset,
			 uint64_t *got)
{
	uint64_t first, n, i, at = q->free_hint;
	int r;

	if (q->broken)
		return -EIO;
	*got = want;
	if (exact && want >= 1ull << q->ref_bits)
		return alloc_many(q, want, offset);
	for (;; at = first + n) {
		r = find_free(q, at, &first);
		if (!r && at == q->free_hint)
			q->free_hint = first;
		if (!r)
			r = count_free(q, first, want, &n);
		if (r < 0)
			return r;
		if ((first + n) << q->cluster_bits >= QCOW2_HOST_MAX)
			return -EFBIG;
		if (!q->file->grow && (first + n) << q->cluster_bits > block_size(q->file))
			return -ENOSPC; /* the end of the device */
		if (n == want || (!exact && n))
			break;
	}
	for (i = 0; i < n; i++)
		if (qcow2_is_metadata(q, (first + i) << q->cluster_bits))
			return qcow2_damaged(q, "metadata in a free cluster",
					     (first + i) << q->cluster_bits);
	r = qcow2_refcount_add(q, first, n, 1);
	if (r < 0)
		return r;
	if (first == q->free_hint)
		q->free_hint = first + n;
	*offset = first << q->cluster_bits;
	*got = n;
	return 0;
}

int qcow2_alloc_packed(struct qcow2 *q, uint32_t bytes, uint64_t *offset)
{
	uint64_t at = q->packed_next, room = at ? q->cluster_bytes - at % q->cluster_bytes : 0;
	uint64_t next, got, count;
	int r;

	if (room) {
		/* The cluster that holds the end of the last one takes one reference more. */
		r = qcow2_refcount_get(q, (at - 1) >> q->cluster_bits, &count);
		if (r < 0)
			return r;
		if (at % q->cluster_bytes == 0 || count == qcow2_refcount_max(q))
			room = 0;
	}
	if (room < bytes) {
		r = qcow2_alloc_clusters(q, 1, true, &next, &got);
		if (r < 0)
			return r;
		if (!room || next != at + room) {
			*offset = next;
			q->packed_next = next + bytes;
			return 0;
		}
	}
	r = qcow2_refcount_add(q, at >> q->cluster_bits, 1, 1);
	if (r < 0)
		return r;
	*offset = at;
	q->packed_next = at + bytes;
	return 0;
}

/* --- freeing ------------------------------------------------------------------------------ */

static int freed_push(struct freed_list *list, uint64_t first, uint64_t n, bool discard)
{
	struct freed *last = list->n ? &list->items[list->n - 1] : NULL;

	if (last && last->first + last->count == first && last->discard == discard) {
		last->count += n;
		return 0;
	}
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct freed *items = reallocarray(list->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->cap = cap;
	}
	list->items[list->n++] = (struct freed){first, n, discard};
	return 0;
}

int qcow2_free_clusters(struct qcow2 *q, uint64_t offset, uint64_t n, bool discard)
{
	int r = freed_push(&q->freed[0], offset >> q->cluster_bits, n, discard);

	if (q->packed_next &&
	    (q->packed_next - 1) >> q->cluster_bits >= offset >> q->cluster_bits &&
	    (q->packed_next - 1) >> q->cluster_bits < (offset >> q->cluster_bits) + n)
		q->packed_next = 0;
	if (!r && q->freed[0].n >= FREED_MAX && !q->hold_freed)
		r = qcow2_flush(q);
	return r;
}

/* Gives the host its space back for clusters that became free. */
static void punch(struct qcow2 *q, uint64_t first, uint64_t n)
{
	uint64_t from = first << q->cluster_bits, bytes = n << q->cluster_bits;
	uint64_t size = block_size(q->file);

	if (n && from < size)
		block_discard(q->meta_queue, q->file, from, min_u64(bytes, size - from));
}

static int apply_one(struct qcow2 *q, const struct freed *f)
{
	uint64_t i, count, run = 0;
	int r;

	for (i = 0; i < f->count; i++) {
		r = qcow2_refcount_get(q, f->first + i, &count);
		if (!r && !count)
			r = qcow2_damaged(q, "a used cluster counted as free",
					  (f->first + i) << q->cluster_bits);
		if (!r)
			r = qcow2_refcount_set(q, f->first + i, count - 1);
		if (r < 0)
			return r;
		if (f->discard && count == 1) {
			run++;
			continue;
		}
		punch(q, f->first + i - run, run);
		run = 0;
	}
	punch(q, f->first + i - run, run);
	return 0;
}

static int apply_list(struct qcow2 *q, struct freed_list *list)
{
	size_t i;
	int r = 0;

	for (i = 0; i < list->n && !r; i++)
		r = apply_one(q, &list->items[i]);
	list->n = 0; /* after a failure the rest leaks */
	return r;
}

int qcow2_apply_freed(struct qcow2 *q, bool all)
{
	struct freed_list swap;
	bool old_over, new_over;
	int r;

	if (q->hold_freed || (!q->freed[0].n && !q->freed[1].n))
		return 0;
	pthread_mutex_lock(&q->lock);
	old_over = all || !q->in_flight[!q->generation];
	new_over = all || !q->in_flight[q->generation];
	if (old_over)
		q->generation = !q->generation;
	pthread_mutex_unlock(&q->lock);
	if (!old_over)
		return 0; /* some may still use what was freed in the generation before */
	r = apply_list(q, &q->freed[1]);
	swap = q->freed[1];
	q->freed[1] = q->freed[0];
	q->freed[0] = swap;
	if (!r && new_over)
		r = apply_list(q, &q->freed[1]);
	return r;
}
