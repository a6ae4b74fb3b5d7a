// SPDX-License-Identifier: ISC
/*
 * Persistent dirty bitmaps of others, kept in step (the format's specification, "Bitmaps
 * extension"): whoever takes incremental backups finds in them what has changed.
 *
 * When an image is opened for writing each enabled bitmap that is in step is read into
 * memory, and all enabled ones are marked on disk as in use: from then on they are not in step
 * there. Requests set the bits of what they will change before they do. A clean close
 * writes the bits back, into the clusters that the bitmap has or into new ones, syncs, and
 * takes the marks off. So after a crash, or where that fails, a bitmap says of itself that it
 * cannot be relied on; as it does where it was so before, where it is more than we
 * keep in memory, of a type we do not know, or not in clusters of its own.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_bitmap.h"

#define MEMORY_MAX	 (32u << 20) /* of all bitmaps of an image; 1 TiB in units of 64 KiB is 2 MiB */
#define TYPE_DIRTY	 1
#define GRANULARITY_MIN	 9
#define GRANULARITY_MAX	 31
#define TABLE_RESERVED	 0xff000000000001feull
#define TABLE_ALL_ONES	 1ull
#define FLAG_EXTRA_KNOWN 4 /* extra data may be ignored; we know none */

struct qcow2_tracked {
	uint64_t at; /* in the directory */
	unsigned granularity_bits;
	uint64_t bytes;	 /* of bits */
	uint8_t *bits;	 /* whole clusters; as on disk; atomic */
	uint64_t *table; /* where they are, in host order; 0: nowhere */
	uint64_t table_offset;
	uint32_t table_size;
};

/* --- setting bits ------------------------------------------------------------------------- */

static void set_bits(const struct qcow2_tracked *t, uint64_t first, uint64_t last)
{
	uint64_t byte = first / 8;

	for (; byte <= last / 8; byte++) {
		uint8_t mask = 0xff;

		if (byte == first / 8)
			mask &= 0xff << first % 8;
		if (byte == last / 8)
			mask &= 0xff >> (7 - last % 8);
		/* Most are set already: no cache line needs to change hands for these. */
		if ((__atomic_load_n(&t->bits[byte], __ATOMIC_RELAXED) & mask) != mask)
			__atomic_fetch_or(&t->bits[byte], mask, __ATOMIC_RELAXED);
	}
}

void qcow2_track_set(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
	for (unsigned i = 0; bytes && i < q->n_tracked; i++) {
		const struct qcow2_tracked *t = &q->tracked[i];
		uint64_t first = offset >> t->granularity_bits;
		uint64_t last = (offset + bytes - 1) >> t->granularity_bits;

		/* The disk may be larger than it was: then they are lost already. */
		if (first < t->bytes * 8)
			set_bits(t, first, min_u64(last, t->bytes * 8 - 1));
	}
}

/* --- reading ------------------------------------------------------------------------------ */

static void free_one(struct qcow2_tracked *t)
{
	free(t->bits);
	free(t->table);
}

void qcow2_track_free(struct qcow2 *q)
{
	while (q->n_tracked)
		free_one(&q->tracked[--q->n_tracked]);
	free(take_ptr(q->tracked));
	free(take_ptr(q->bitmap_dir));
}

/* A cluster of the bitmap's own, which may be written and freed. */
static bool ours_alone(struct qcow2 *q, struct cluster_set *seen, uint64_t offset)
{
	uint64_t cluster = offset >> q->cluster_bits, count;

	return qcow2_host_ok(q, offset) && offset < block_size(q->file) &&
	       !qcow2_is_metadata(q, offset) && !cluster_set_has(seen, cluster) &&
	       !qcow2_refcount_get(q, cluster, &count) && count == 1 &&
	       !cluster_set_add(seen, cluster);
}

/* One cluster of bits: 0, or an error that leaves the bitmap to itself. */
static int read_chunk(struct qcow2 *q, struct qcow2_tracked *t, struct cluster_set *seen,
		      uint32_t i)
{
	uint8_t *bits = t->bits + (uint64_t)i * q->cluster_bytes;
	uint64_t entry = t->table[i];

	t->table[i] = entry & QCOW2_OFFSET_MASK;
	if (entry & TABLE_RESERVED)
		return -EINVAL;
	if (!t->table[i]) {
		memset(bits, entry & TABLE_ALL_ONES ? 0xff : 0, q->cluster_bytes);
		return 0;
	}
	if ((entry & TABLE_ALL_ONES) || !ours_alone(q, seen, t->table[i]))
		return -EINVAL;
	return qcow2_meta_read(q, bits, q->cluster_bytes, t->table[i]);
}

static int read_table(struct qcow2 *q, struct qcow2_tracked *t, struct cluster_set *seen)
{
	uint64_t bytes = (uint64_t)t->table_size * 8, at;
	uint32_t i;
	int r;

	for (at = 0; at < bytes; at += q->cluster_bytes)
		if (!ours_alone(q, seen, t->table_offset + at))
			return -EINVAL;
	r = qcow2_meta_read(q, t->table, bytes, t->table_offset);
	for (i = 0; i < t->table_size && !r; i++) {
		t->table[i] = be64toh(t->table[i]);
		r = read_chunk(q, t, seen, i);
	}
	return r;
}

/* @memory: what may still be used. */
static int load_one(struct qcow2 *q, const struct qcow2_bitmap_entry *e, struct qcow2_tracked *t,
		    struct cluster_set *seen, uint64_t *memory)
{
	uint64_t room = (uint64_t)e->table_size << q->cluster_bits;

	if (e->type != TYPE_DIRTY || e->granularity_bits < GRANULARITY_MIN ||
	    e->granularity_bits > GRANULARITY_MAX ||
	    (e->extra_size && !(e->flags & FLAG_EXTRA_KNOWN)))
		return -EINVAL;
	*t = (struct qcow2_tracked){
	    .at = e->at,
	    .granularity_bits = e->granularity_bits,
	    .bytes = div_up(div_up(q->header.size, 1ull << e->granularity_bits), 8),
	    .table_offset = e->table_offset,
	    .table_size = e->table_size,
	};
	if (e->table_size != div_up(t->bytes, q->cluster_bytes) || room > *memory)
		return -EINVAL;
	*memory -= room;
	t->bits = malloc(room + 1);
	t->table = malloc((uint64_t)e->table_size * 8 + 1);
	return t->bits && t->table ? read_table(q, t, seen) : -ENOMEM;
}

int qcow2_track_load(struct qcow2 *q, const uint8_t *dir)
{
	_cleanup_(cluster_set_free) struct cluster_set seen = {0};
	struct qcow2_bitmap_entry e;
	uint64_t pos = 0, memory = MEMORY_MAX;

	q->tracked = calloc(q->header.n_bitmaps, sizeof(*q->tracked));
	if (!q->tracked)
		return -ENOMEM;
	for (uint64_t at = 0; at < q->header.bitmaps_size; at += q->cluster_bytes)
		if (!ours_alone(q, &seen, q->header.bitmaps_offset + at))
			return 0;
	while (q->n_tracked < q->header.n_bitmaps && qcow2_bitmap_next(q, dir, &pos, &e) == 1) {
		struct qcow2_tracked *t = &q->tracked[q->n_tracked];

		if ((e.flags & (QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE)) != QCOW2_BITMAP_AUTO)
			continue;
		*t = (struct qcow2_tracked){0};
		if (load_one(q, &e, t, &seen, &memory) == 0)
			q->n_tracked++;
		else
			free_one(t);
	}
	return 0;
}

/* --- writing ------------------------------------------------------------------------------ */

/*
 * In an order in which a crash harms nobody but the bitmap, which is marked: new clusters
 * and their counts, sync; tables, sync; the directory without the marks, sync. What is not needed
 * any more is freed in between.
 */

static bool all_zero(const uint8_t *p, uint64_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

static uint8_t *chunk(const struct qcow2 *q, const struct qcow2_tracked *t, uint32_t i)
{
	return t->bits + ((uint64_t)i << q->cluster_bits);
}

static int write_bits(struct qcow2 *q, struct qcow2_tracked *t)
{
	uint64_t got;
	uint32_t i;
	int r = 0;

	/* Bits beyond the disk are 0 on disk. */
	memset(t->bits + t->bytes, 0, ((uint64_t)t->table_size << q->cluster_bits) - t->bytes);
	for (i = 0; i < t->table_size && !r; i++) {
		if (all_zero(chunk(q, t, i), q->cluster_bytes))
			continue;
		if (!t->table[i])
			r = qcow2_alloc_clusters(q, 1, true, &t->table[i], &got);
		if (!r)
			r = qcow2_meta_write(q, chunk(q, t, i), q->cluster_bytes, t->table[i]);
	}
	return r;
}

static int write_table(struct qcow2 *q, const struct qcow2_tracked *t)
{
	_cleanup_free_ uint64_t *be = calloc(t->table_size + 1, 8);
	uint32_t i;

	if (!be)
		return -ENOMEM;
	for (i = 0; i < t->table_size; i++)
		if (!all_zero(chunk(q, t, i), q->cluster_bytes))
			be[i] = htobe64(t->table[i]);
	return qcow2_meta_write(q, be, (uint64_t)t->table_size * 8, t->table_offset);
}

/* After the table has let them go. */
static int free_unused(struct qcow2 *q, const struct qcow2_tracked *t)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < t->table_size && !r; i++)
		if (t->table[i] && all_zero(chunk(q, t, i), q->cluster_bytes))
			r = qcow2_free_clusters(q, t->table[i], 1, false);
	return r;
}

int qcow2_track_store(struct qcow2 *q)
{
	unsigned i;
	int r = 0;

	if (!q->n_tracked || q->track_lost)
		return 0;
	for (i = 0; i < q->n_tracked && !r; i++)
		r = write_bits(q, &q->tracked[i]);
	if (!r)
		r = qcow2_flush(q);
	for (i = 0; i < q->n_tracked && !r; i++)
		r = write_table(q, &q->tracked[i]);
	if (!r)
		r = qcow2_meta_sync(q);
	for (i = 0; i < q->n_tracked && !r; i++)
		r = free_unused(q, &q->tracked[i]);
	for (i = 0; i < q->n_tracked; i++) {
		uint8_t *flags =
		    q->bitmap_dir + q->tracked[i].at + offsetof(struct qcow2_disk_bitmap, flags);

		put_be32(flags, get_be32(flags) & ~(uint32_t)QCOW2_BITMAP_IN_USE);
	}
	if (!r)
		r = qcow2_meta_write(q, q->bitmap_dir, q->header.bitmaps_size,
				     q->header.bitmaps_offset);
	return r ? r : qcow2_meta_sync(q);
}
