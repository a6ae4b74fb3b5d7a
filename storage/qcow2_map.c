// SPDX-License-Identifier: ISC
/*
 * From guest offsets to host offsets: L1 and L2 tables read, checked and changed.
 * Every entry is checked when it is used; a damaged one fails the request, and
 * ends writing to the image.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

#define BITMAP_ALLOC(e) ((uint32_t)(e).bitmap)
#define BITMAP_ZERO(e)	((uint32_t)((e).bitmap >> 32))

uint64_t qcow2_l1_entries_for(const struct qcow2 *q, uint64_t bytes)
{
	return div_up(bytes, (uint64_t)q->cluster_bytes << q->l2_bits);
}

bool qcow2_host_ok(const struct qcow2 *q, uint64_t offset)
{
	return offset && offset % q->cluster_bytes == 0 && offset < QCOW2_HOST_MAX;
}

int qcow2_l1_load(struct qcow2 *q, struct err *err)
{
	uint64_t bytes = (uint64_t)q->header.l1_size * 8;
	uint32_t i;
	int r;

	q->l1_entries = q->header.l1_size;
	q->l1 = calloc(q->l1_entries + 1, 8);
	if (!q->l1)
		return err_set(err, -ENOMEM, "out of memory");
	r = bytes ? qcow2_meta_read(q, q->l1, bytes, q->header.l1_offset) : 0;
	if (r < 0)
		return err_set(err, r, "cannot read the L1 table: %s", err_name(r));
	for (i = 0; i < q->l1_entries; i++) {
		uint64_t offset;

		q->l1[i] = be64toh(q->l1[i]);
		offset = q->l1[i] & QCOW2_OFFSET_MASK;
		if (!q->readonly && offset &&
		    cluster_set_add(&q->tables, offset >> q->cluster_bits) < 0)
			return err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* Where the L2 slice of a cluster is; 0 if there is no table, -EIO if it cannot be there. */
static int slice_of(const struct qcow2 *q, uint64_t cluster, uint64_t *offset, uint32_t *byte)
{
	uint64_t l1_index = cluster >> q->l2_bits, entry, table, at;

	*offset = 0;
	if (l1_index >= q->l1_entries)
		return -EIO;
	entry = q->l1[l1_index];
	table = entry & QCOW2_OFFSET_MASK;
	if (!table)
		return 0;
	if (table % q->cluster_bytes || (entry & QCOW2_L1_RESERVED))
		return -EIO;
	at = (cluster & ((1ull << q->l2_bits) - 1)) * q->l2_entry_bytes;
	*offset = table + at / q->cache.slice_bytes * q->cache.slice_bytes;
	*byte = at % q->cache.slice_bytes;
	return 0;
}

static struct l2_entry decode(const struct qcow2 *q, const uint8_t *p)
{
	struct l2_entry e = {.word = get_be64(p)};

	if (q->extended)
		e.bitmap = get_be64(p + 8);
	return e;
}

int qcow2_packed_range(const struct qcow2 *q, uint64_t word, uint64_t *offset, uint32_t *bytes)
{
	unsigned x = 62 - (q->cluster_bits - 8);
	uint64_t at = word & ((1ull << x) - 1);
	uint64_t sectors = (word & (QCOW2_COMPRESSED - 1)) >> x;

	if (!at || at >= QCOW2_HOST_MAX || q->external)
		return -EIO;
	*offset = at;
	*bytes = (sectors + 1) * 512 - at % 512;
	return 0;
}

/* What one entry says of the subcluster at @in (bytes into the cluster). -EIO if it makes no sense.
 */
static int read_entry(const struct qcow2 *q, uint64_t cluster, struct l2_entry e, uint32_t in,
		      struct qcow2_map *map)
{
	uint64_t host = e.word & QCOW2_OFFSET_MASK;
	uint32_t bit = q->extended ? 1u << (in >> q->sub_bits) : 0;
	bool zero, allocated;

	*map = (struct qcow2_map){.kind = MAP_UNALLOCATED};
	if (e.word & QCOW2_COMPRESSED) {
		map->kind = MAP_COMPRESSED;
		map->host = e.word;
		return e.word & QCOW2_COPIED ? -EIO : 0;
	}
	if ((e.word & QCOW2_L2_RESERVED) || host % q->cluster_bytes)
		return -EIO;
	map->has_host = host || (q->external && (e.word & QCOW2_COPIED));
	if (q->external && map->has_host && host != cluster << q->cluster_bits)
		return -EIO; /* guest and host offsets must agree there */
	map->copied = e.word & QCOW2_COPIED;
	map->host = host + in;
	if (q->extended) {
		zero = BITMAP_ZERO(e) & bit;
		allocated = BITMAP_ALLOC(e) & bit;
		if ((BITMAP_ZERO(e) & BITMAP_ALLOC(e)) || (BITMAP_ALLOC(e) && !map->has_host) ||
		    (e.word & QCOW2_ZERO))
			return -EIO;
	} else {
		zero = q->header.version >= 3 && (e.word & QCOW2_ZERO);
		allocated = map->has_host;
		if (q->header.version < 3 && (e.word & QCOW2_ZERO))
			return -EIO;
	}
	if (zero)
		map->kind = MAP_ZERO;
	else if (allocated)
		map->kind = MAP_DATA;
	return 0;
}

/* True where @b, at @distance behind @a, goes on like it. */
static bool continues(const struct qcow2_map *a, const struct qcow2_map *b, uint64_t distance)
{
	if (a->kind != b->kind || a->kind == MAP_COMPRESSED || a->has_host != b->has_host ||
	    a->copied != b->copied)
		return false;
	return !a->has_host || b->host == a->host + distance;
}

/* Extends @map over the entries of one slice, from guest offset @pos up to @end. */
static int extend(struct qcow2 *q, const uint8_t *slice, uint32_t byte, uint64_t pos, uint64_t end,
		  struct qcow2_map *map)
{
	uint64_t start = pos, sub = 1ull << q->sub_bits;
	struct qcow2_map next;
	int r;

	while (pos < end && byte < q->cache.slice_bytes) {
		struct l2_entry e = decode(q, slice + byte);
		uint64_t cluster = pos >> q->cluster_bits;
		uint64_t cluster_end = (cluster + 1) << q->cluster_bits;

		while (pos < end && pos < cluster_end) {
			r = read_entry(q, cluster, e, pos & (q->cluster_bytes - 1), &next);
			if (r < 0)
				return pos == start ? r : 0; /* it is met again on its own */
			if (pos == start)
				*map = next;
			else if (!continues(map, &next, pos - start))
				return 0;
			pos = next.kind == MAP_COMPRESSED ? cluster_end : (pos / sub + 1) * sub;
			map->bytes = min_u64(pos, end) - start;
		}
		byte += q->l2_entry_bytes;
	}
	return 0;
}

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool load, struct qcow2_map *map)
{
	uint64_t slice_offset, cluster = offset >> q->cluster_bits;
	uint32_t byte;
	uint8_t *data;
	int r = slice_of(q, cluster, &slice_offset, &byte);

	if (r < 0)
		return load ? qcow2_damaged(q, "L1 entry", offset) : -EAGAIN;
	if (!slice_offset) {
		uint64_t table = (uint64_t)q->cluster_bytes << q->l2_bits;

		*map = (struct qcow2_map){.kind = MAP_UNALLOCATED};
		map->bytes = min_u64(bytes, table - offset % table);
		return 0;
	}
	if (load) {
		r = qcow2_cache_load(q, SLICE_L2, slice_offset, &data);
		if (r < 0)
			return r;
	} else {
		data = qcow2_cache_peek(&q->cache, slice_offset);
		if (!data)
			return -EAGAIN;
	}
	r = extend(q, data, byte, offset, offset + bytes, map);
	/* Of an image that is merged into while it is read, an entry may have been half written. */
	if (r < 0 && load && q->readonly) {
		qcow2_cache_drop(q, slice_offset);
		r = qcow2_cache_load(q, SLICE_L2, slice_offset, &data);
		if (r < 0)
			return r;
		r = extend(q, data, byte, offset, offset + bytes, map);
	}
	if (r < 0)
		return load ? qcow2_damaged(q, "L2 entry for guest", offset) : -EAGAIN;
	return 0;
}

int qcow2_l2_get(struct qcow2 *q, uint64_t cluster, struct l2_entry *entry)
{
	uint64_t slice_offset;
	uint32_t byte;
	uint8_t *data;
	int r = slice_of(q, cluster, &slice_offset, &byte);

	*entry = (struct l2_entry){0};
	if (r < 0)
		return qcow2_damaged(q, "L1 entry", cluster << q->cluster_bits);
	if (!slice_offset)
		return 0;
	r = qcow2_cache_load(q, SLICE_L2, slice_offset, &data);
	if (!r)
		*entry = decode(q, data + byte);
	return r;
}

/* --- tables ------------------------------------------------------------------------------- */

static int write_l1_entry(struct qcow2 *q, uint64_t l1_index, uint64_t entry)
{
	uint64_t be = htobe64(entry);
	int r = qcow2_meta_write(q, &be, 8, q->header.l1_offset + l1_index * 8);

	if (r < 0)
		return r;
	LOCK_SCOPE(&q->lock);
	q->l1[l1_index] = entry;
	return 0;
}

/* The new table's first contents: those of the shared one, or none. */
static int write_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
	_cleanup_free_ uint8_t *buf = calloc(1, q->cluster_bytes);
	int r = 0;

	if (!buf)
		return -ENOMEM;
	if (from)
		r = qcow2_meta_read(q, buf, q->cluster_bytes, from);
	if (!r)
		r = qcow2_meta_write(q, buf, q->cluster_bytes, to);
	return r;
}

int qcow2_l2_prepare(struct qcow2 *q, uint64_t cluster)
{
	uint64_t l1_index = cluster >> q->l2_bits, old, table, got;
	int r;

	if (l1_index >= q->l1_entries)
		return -EIO;
	old = q->l1[l1_index] & QCOW2_OFFSET_MASK;
	if (old && (q->l1[l1_index] & QCOW2_COPIED))
		return 0;
	if (old % q->cluster_bytes || (q->l1[l1_index] & QCOW2_L1_RESERVED))
		return qcow2_damaged(q, "L1 entry", old);
	r = qcow2_alloc_clusters(q, 1, true, &table, &got);
	if (r < 0)
		return r;
	qcow2_cache_drop(q, table);
	pthread_mutex_lock(&q->lock);
	r = cluster_set_add(&q->tables, table >> q->cluster_bits);
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		goto unused;
	/* A shared table may be newer in the cache than on disk. */
	r = old ? qcow2_flush_metadata(q) : qcow2_counts_first(q);
	if (!r)
		r = write_table(q, old, table);
	if (!r)
		r = qcow2_meta_sync(q);
	if (r < 0)
		goto unused;
	/* Should that fail, the entry may be on disk all the same: the table rather leaks. */
	r = write_l1_entry(q, l1_index, table | QCOW2_COPIED);
	if (r < 0 || !old)
		return r;
	/* The old table loses its reference only once the new L1 entry is on disk. */
	r = qcow2_meta_sync(q);
	qcow2_cache_drop(q, old);
	return r ? r : qcow2_free_clusters(q, old, 1, false);

unused:
	qcow2_free_clusters(q, table, 1, false);
	return r;
}

int qcow2_l2_set(struct qcow2 *q, uint64_t cluster, struct l2_entry entry)
{
	uint64_t slice_offset;
	uint32_t byte;
	uint8_t *data;
	int r = slice_of(q, cluster, &slice_offset, &byte);

	if (!r && !slice_offset)
		r = -EIO;
	if (!r)
		r = qcow2_cache_load(q, SLICE_L2, slice_offset, &data);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	put_be64(data + byte, entry.word);
	if (q->extended)
		put_be64(data + byte + 8, entry.bitmap);
	pthread_mutex_unlock(&q->lock);
	qcow2_cache_dirty(q, slice_offset);
	return 0;
}

int qcow2_free_entry(struct qcow2 *q, struct l2_entry entry, bool discard)
{
	uint64_t offset;
	uint32_t bytes;

	if (q->external)
		return 0; /* data there is not counted */
	if (entry.word & QCOW2_COMPRESSED) {
		uint64_t first, last;

		if (qcow2_packed_range(q, entry.word, &offset, &bytes) < 0)
			return qcow2_damaged(q, "compressed cluster", entry.word);
		first = offset >> q->cluster_bits;
		last = (offset + bytes - 1) >> q->cluster_bits;
		return qcow2_free_clusters(q, first << q->cluster_bits, last - first + 1, discard);
	}
	offset = entry.word & QCOW2_OFFSET_MASK;
	return offset ? qcow2_free_clusters(q, offset, 1, discard) : 0;
}
