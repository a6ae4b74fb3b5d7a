// SPDX-License-Identifier: ISC
/*
 * Internal snapshots: the table of them, and what counts references for whole
 * trees of tables. All of it has the image to itself (qcow2_begin_exclusive()).
 *
 * In version 3 the dirty bit covers an operation: after a crash in its midst the
 * counts and flags are put right at the next opening. References are
 * counted up before the header makes use of them, and down after.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "storage/qcow2_int.h"
#include "storage/qcow2_snapshot.h"

#define EXTRA_MAX 1024u

static void snapshot_clear(struct qcow2_snapshot *s)
{
	free(s->id);
	free(s->name);
	free(s->extra);
	memset(s, 0, sizeof(*s));
}

void qcow2_snapshots_free(struct qcow2 *q)
{
	unsigned i;

	for (i = 0; i < q->n_snapshots; i++)
		snapshot_clear(&q->snapshots[i]);
	free(take_ptr(q->snapshots));
	q->n_snapshots = 0;
}

/* --- the table ---------------------------------------------------------------------------- */

/* Reads the entry at *@pos and moves it on. */
static int read_entry(struct qcow2 *q, uint64_t *pos, struct qcow2_snapshot *s)
{
	struct qcow2_disk_snapshot d;
	uint16_t id_size, name_size;
	int r = qcow2_meta_read(q, &d, sizeof(d), *pos);

	if (r < 0)
		return r;
	id_size = be16toh(d.id_size);
	name_size = be16toh(d.name_size);
	*s = (struct qcow2_snapshot){.l1_offset = be64toh(d.l1_table_offset),
				     .l1_size = be32toh(d.l1_size),
				     .date_sec = be32toh(d.date_sec),
				     .date_nsec = be32toh(d.date_nsec),
				     .vm_clock_nsec = be64toh(d.vm_clock_nsec),
				     .vm_state_size = be32toh(d.vm_state_size),
				     .disk_size = q->header.size,
				     .extra_size = be32toh(d.extra_data_size)};
	if (s->extra_size > EXTRA_MAX || s->l1_size > QCOW2_L1_BYTES_MAX / 8 ||
	    (s->l1_size && !qcow2_host_ok(q, s->l1_offset)))
		return -EINVAL;
	if (s->extra_size >= 8)
		s->vm_state_size = be64toh(d.vm_state_size_large);
	if (s->extra_size >= 16)
		s->disk_size = be64toh(d.disk_size);
	s->extra = calloc(1, s->extra_size + 1);
	s->id = calloc(1, (size_t)id_size + 1);
	s->name = calloc(1, (size_t)name_size + 1);
	if (!s->extra || !s->id || !s->name)
		return -ENOMEM;
	*pos += QCOW2_SNAPSHOT_FIXED_BYTES;
	r = qcow2_meta_read(q, s->extra, s->extra_size, *pos);
	if (!r)
		r = qcow2_meta_read(q, s->id, id_size, *pos + s->extra_size);
	if (!r)
		r = qcow2_meta_read(q, s->name, name_size, *pos + s->extra_size + id_size);
	*pos = round_up(*pos + s->extra_size + id_size + name_size, 8);
	return r;
}

int qcow2_snapshots_load(struct qcow2 *q, struct err *err)
{
	uint64_t pos = q->header.snapshots_offset;
	unsigned i;
	int r = 0;

	if (!q->header.n_snapshots)
		return 0;
	q->snapshots = calloc(q->header.n_snapshots, sizeof(*q->snapshots));
	if (!q->snapshots)
		return err_set(err, -ENOMEM, "out of memory");
	for (i = 0; i < q->header.n_snapshots && !r; i++) {
		q->n_snapshots = i + 1;
		r = read_entry(q, &pos, &q->snapshots[i]);
		if (!r && pos - q->header.snapshots_offset > QCOW2_SNAPSHOTS_BYTES_MAX)
			r = -EFBIG;
	}
	q->snapshots_bytes = pos - q->header.snapshots_offset;
	return r < 0 ? err_set(err, r, "the snapshot table is damaged") : 0;
}

static uint64_t entry_bytes(const struct qcow2_snapshot *s)
{
	uint32_t extra = s->extra_size < 16 ? 16 : s->extra_size;

	return round_up(
	    QCOW2_SNAPSHOT_FIXED_BYTES + (uint64_t)extra + strlen(s->id) + strlen(s->name), 8);
}

static uint8_t *put_entry(uint8_t *p, const struct qcow2_snapshot *s)
{
	uint32_t extra = s->extra_size < 16 ? 16 : s->extra_size;
	struct qcow2_disk_snapshot d = {
	    .l1_table_offset = htobe64(s->l1_offset),
	    .l1_size = htobe32(s->l1_size),
	    .id_size = htobe16(strlen(s->id)),
	    .name_size = htobe16(strlen(s->name)),
	    .date_sec = htobe32(s->date_sec),
	    .date_nsec = htobe32(s->date_nsec),
	    .vm_clock_nsec = htobe64(s->vm_clock_nsec),
	    .vm_state_size = htobe32(s->vm_state_size > UINT32_MAX ? 0 : s->vm_state_size),
	    .extra_data_size = htobe32(extra),
	    .vm_state_size_large = htobe64(s->vm_state_size),
	    .disk_size = htobe64(s->disk_size),
	};

	memcpy(p + QCOW2_SNAPSHOT_FIXED_BYTES, s->extra, s->extra_size);
	memcpy(p, &d, sizeof(d));
	memcpy(p + QCOW2_SNAPSHOT_FIXED_BYTES + extra, s->id, strlen(s->id));
	memcpy(p + QCOW2_SNAPSHOT_FIXED_BYTES + extra + strlen(s->id), s->name, strlen(s->name));
	return p + entry_bytes(s);
}

static void name_table(struct qcow2 *q, uint64_t offset, uint32_t n, uint64_t bytes)
{
	LOCK_SCOPE(&q->lock);
	q->header.snapshots_offset = offset;
	q->header.n_snapshots = n;
	q->snapshots_bytes = bytes;
}

/* Writes @n snapshots to a new place and has the header point there. */
static int write_table(struct qcow2 *q, const struct qcow2_snapshot *snapshots, unsigned n)
{
	uint64_t bytes = 0, offset = 0, got, old = q->header.snapshots_offset, old_bytes;
	_cleanup_free_ uint8_t *buf = NULL;
	uint32_t old_n;
	uint8_t *p;
	unsigned i;
	int r;

	for (i = 0; i < n; i++)
		bytes += entry_bytes(&snapshots[i]);
	if (bytes > QCOW2_SNAPSHOTS_BYTES_MAX || n > QCOW2_SNAPSHOTS_MAX)
		return -EFBIG;
	if (n) {
		p = buf = calloc(1, round_up(bytes, q->cluster_bytes));
		if (!buf)
			return -ENOMEM;
		for (i = 0; i < n; i++)
			p = put_entry(p, &snapshots[i]);
		r = qcow2_alloc_clusters(q, div_up(bytes, q->cluster_bytes), true, &offset, &got);
		if (!r)
			r = qcow2_meta_write(q, buf, round_up(bytes, q->cluster_bytes), offset);
		if (r < 0)
			return r;
	}
	r = qcow2_flush_metadata(q);
	if (!r)
		r = qcow2_meta_sync(q);
	if (r < 0)
		return r;
	old_bytes = q->header.n_snapshots ? q->snapshots_bytes : 0;
	old_n = q->header.n_snapshots;
	name_table(q, offset, n, bytes);
	r = qcow2_header_update(q);
	if (r < 0)
		name_table(q, old, old_n, old_bytes);
	if (!r && old_bytes)
		r = qcow2_free_clusters(q, old, div_up(old_bytes, q->cluster_bytes), false);
	return r;
}

/* --- references of a tree ----------------------------------------------------------------- */

static int count_entry(struct qcow2 *q, uint64_t word, int delta)
{
	uint64_t offset = word & QCOW2_OFFSET_MASK, first, last;
	uint32_t bytes;

	if (word & QCOW2_COMPRESSED) {
		if (qcow2_packed_range(q, word, &offset, &bytes) < 0)
			return -EIO;
		first = offset >> q->cluster_bits;
		last = (offset + bytes - 1) >> q->cluster_bits;
		return qcow2_refcount_add(q, first, last - first + 1, delta);
	}
	if (offset % q->cluster_bytes)
		return -EIO;
	return offset ? qcow2_refcount_add(q, offset >> q->cluster_bits, 1, delta) : 0;
}

static int count_table(struct qcow2 *q, uint64_t offset, uint8_t *buf, int delta)
{
	uint32_t at;
	int r;

	if (!qcow2_host_ok(q, offset))
		return -EIO;
	r = qcow2_meta_read(q, buf, q->cluster_bytes, offset);
	for (at = 0; at < q->cluster_bytes && !r; at += q->l2_entry_bytes)
		r = count_entry(q, get_be64(buf + at), delta);
	return r ? r : qcow2_refcount_add(q, offset >> q->cluster_bits, 1, delta);
}

/* Adds @delta to the counts of all that an L1 table (host order) leads to. */
static int count_tree(struct qcow2 *q, const uint64_t *l1, uint32_t n, int delta)
{
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_bytes);
	uint32_t i;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	for (i = 0; i < n && !r; i++)
		if (l1[i] & QCOW2_OFFSET_MASK)
			r = count_table(q, l1[i] & QCOW2_OFFSET_MASK, buf, delta);
	return r;
}

/* Sets or clears the flag of one entry as its count demands; true if it changed. */
static int fix_flag(struct qcow2 *q, uint64_t *word, bool *changed)
{
	uint64_t offset = *word & QCOW2_OFFSET_MASK, count, now;
	int r;

	if ((*word & QCOW2_COMPRESSED) || !offset)
		return 0;
	r = qcow2_refcount_get(q, offset >> q->cluster_bits, &count);
	if (r < 0)
		return r;
	now = count == 1 ? *word | QCOW2_COPIED : *word & ~QCOW2_COPIED;
	*changed |= now != *word;
	*word = now;
	return 0;
}

static int fix_table_flags(struct qcow2 *q, uint64_t offset, uint8_t *buf)
{
	bool changed = false;
	uint32_t at;
	int r = qcow2_meta_read(q, buf, q->cluster_bytes, offset);

	for (at = 0; at < q->cluster_bytes && !r; at += q->l2_entry_bytes) {
		uint64_t word = get_be64(buf + at);

		r = fix_flag(q, &word, &changed);
		put_be64(buf + at, word);
	}
	if (r < 0 || !changed)
		return r;
	qcow2_cache_drop(q, offset);
	return qcow2_meta_write(q, buf, q->cluster_bytes, offset);
}

static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t n, uint64_t offset)
{
	_cleanup_free_ uint64_t *be = malloc(((size_t)n + 1) * 8);
	uint32_t i;

	if (!be)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		be[i] = htobe64(l1[i]);
	return n ? qcow2_meta_write(q, be, (uint64_t)n * 8, offset) : 0;
}

int qcow2_fix_copied_flags(struct qcow2 *q)
{
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_bytes);
	bool changed = false;
	uint32_t i;
	int r;

	if (!buf)
		return -ENOMEM;
	r = qcow2_flush_metadata(q); /* tables are read and written past the cache */
	if (!r)
		r = qcow2_meta_sync(q);
	for (i = 0; i < q->l1_entries && !r; i++) {
		uint64_t word = q->l1[i];

		if (!(word & QCOW2_OFFSET_MASK))
			continue;
		r = fix_table_flags(q, word & QCOW2_OFFSET_MASK, buf);
		if (!r)
			r = fix_flag(q, &word, &changed);
		pthread_mutex_lock(&q->lock);
		q->l1[i] = word;
		pthread_mutex_unlock(&q->lock);
	}
	if (!r && changed)
		r = write_l1(q, q->l1, q->l1_entries, q->header.l1_offset);
	return r ? r : qcow2_flush(q);
}

/* --- operations --------------------------------------------------------------------------- */

static struct qcow2_snapshot *find(struct qcow2 *q, const char *name)
{
	unsigned i;

	for (i = 0; i < q->n_snapshots; i++)
		if (!strcmp(q->snapshots[i].name, name))
			return &q->snapshots[i];
	for (i = 0; i < q->n_snapshots; i++)
		if (!strcmp(q->snapshots[i].id, name))
			return &q->snapshots[i];
	return NULL;
}

int qcow2_snapshot_use(struct qcow2 *q, const char *name, struct err *err)
{
	struct qcow2_snapshot *s = find(q, name);

	if (!s)
		return err_set(err, -ENOENT, "there is no snapshot %s", name);
	q->header.l1_offset = s->l1_offset;
	q->header.l1_size = s->l1_size;
	q->header.size = q->block.info.bytes = s->disk_size;
	if (s->disk_size > INT64_MAX || qcow2_l1_entries_for(q, s->disk_size) > s->l1_size)
		return err_set(err, -EINVAL, "snapshot %s is damaged", name);
	return 0;
}

static int read_l1(struct qcow2 *q, const struct qcow2_snapshot *s, uint64_t **l1)
{
	uint32_t i;
	int r;

	*l1 = malloc(((size_t)s->l1_size + 1) * 8);
	if (!*l1)
		return -ENOMEM;
	r = s->l1_size ? qcow2_meta_read(q, *l1, (uint64_t)s->l1_size * 8, s->l1_offset) : 0;
	for (i = 0; i < s->l1_size; i++)
		(*l1)[i] = be64toh((*l1)[i]);
	return r;
}

/* A free identifier: one more than the largest number in use. */
static int make_id(struct qcow2 *q, char **id)
{
	unsigned long max = 0, v;
	unsigned i;

	for (i = 0; i < q->n_snapshots; i++) {
		v = strtoul(q->snapshots[i].id, NULL, 10);
		if (v > max && v < UINT32_MAX)
			max = v;
	}
	return asprintf(id, "%lu", max + 1) < 0 ? -ENOMEM : 0;
}

static int describe_new(struct qcow2 *q, const char *name, struct qcow2_snapshot *s)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*s = (struct qcow2_snapshot){.l1_size = q->l1_entries,
				     .date_sec = now.tv_sec,
				     .date_nsec = now.tv_nsec,
				     .disk_size = q->header.size,
				     .name = strdup(name),
				     .extra = calloc(1, 16)};
	if (!s->name || !s->extra)
		return -ENOMEM;
	return make_id(q, &s->id);
}

static int append(struct qcow2 *q, struct qcow2_snapshot *s)
{
	struct qcow2_snapshot *list = reallocarray(q->snapshots, q->n_snapshots + 1, sizeof(*list));
	int r;

	if (!list)
		return -ENOMEM;
	q->snapshots = list;
	list[q->n_snapshots] = *s;
	r = write_table(q, list, q->n_snapshots + 1);
	if (r < 0)
		return r;
	q->n_snapshots++;
	memset(s, 0, sizeof(*s)); /* the list's now */
	return 0;
}

static int create(struct qcow2 *q, struct qcow2_snapshot *s)
{
	uint64_t got;
	int r = qcow2_flush(q);

	if (!r)
		r = qcow2_apply_freed(q, true);
	if (!r)
		r = qcow2_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0);
	if (!r)
		r = count_tree(q, q->l1, q->l1_entries, 1);
	if (!r)
		r = qcow2_fix_copied_flags(q);
	if (!r && q->l1_entries) {
		r = qcow2_alloc_clusters(q, div_up((uint64_t)q->l1_entries * 8, q->cluster_bytes),
					 true, &s->l1_offset, &got);
		if (!r)
			r = write_l1(q, q->l1, q->l1_entries, s->l1_offset);
	}
	return r ? r : append(q, s);
}

/* After a failure: the counts follow the tables again, or nothing more is written. */
static void undo(struct qcow2 *q)
{
	if (q->header.version >= 3 && !(q->header.incompatible & QCOW2_INCOMPAT_DIRTY))
		return; /* nothing was touched yet */
	if (qcow2_flush_metadata(q) < 0 || qcow2_repair_refcounts(q, NULL) < 0)
		q->broken = true;
}

static int settle(struct qcow2 *q)
{
	int r = qcow2_flush(q);

	if (!r)
		r = qcow2_apply_freed(q, true);
	if (!r)
		r = qcow2_flush(q);
	return r ? r : qcow2_settle_counts(q);
}

/* Ends an operation that began with qcow2_begin_exclusive(). */
static int finish(struct qcow2 *q, int r, struct err *err, const char *what)
{
	if (!r)
		r = settle(q);
	if (r < 0) {
		err_set(err, r, "cannot %s the snapshot: %s", what, err_name(r));
		undo(q);
	}
	qcow2_end_exclusive(q);
	return r;
}

static int open_for_snapshots(struct block *block, struct qcow2 **q, struct err *err)
{
	*q = qcow2_from_block(block);
	if (!*q)
		return err_set(err, -ENOTSUP, "only qcow2 images have snapshots");
	if ((*q)->readonly)
		return err_set(err, -EROFS, "the image is opened for reading only");
	if ((*q)->external)
		return err_set(err, -ENOTSUP,
			       "images with an external data file have no snapshots");
	return 0;
}

int qcow2_snapshot_create(struct block *block, const char *name, struct err *err)
{
	struct qcow2_snapshot s;
	struct qcow2 *q;
	int r = open_for_snapshots(block, &q, err);

	if (r < 0)
		return r;
	if (!*name || strlen(name) > 255)
		return err_set(err, -EINVAL, "a snapshot's name has 1 to 255 bytes");
	qcow2_begin_exclusive(q);
	if (find(q, name)) {
		qcow2_end_exclusive(q);
		return err_set(err, -EEXIST, "there is a snapshot %s already", name);
	}
	r = describe_new(q, name, &s);
	if (!r)
		r = create(q, &s);
	snapshot_clear(&s);
	return finish(q, r, err, "take");
}

static int delete (struct qcow2 *q, struct qcow2_snapshot *s)
{
	_cleanup_free_ uint64_t *l1 = NULL;
	unsigned at = s - q->snapshots;
	struct qcow2_snapshot gone = *s;
	int r = read_l1(q, s, &l1);

	if (!r)
		r = qcow2_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0);
	if (r < 0)
		return r;
	memmove(s, s + 1, (q->n_snapshots - at - 1) * sizeof(*s));
	r = write_table(q, q->snapshots, q->n_snapshots - 1);
	if (r < 0) {
		memmove(s + 1, s, (q->n_snapshots - at - 1) * sizeof(*s));
		*s = gone;
		return r;
	}
	q->n_snapshots--;
	r = count_tree(q, l1, gone.l1_size, -1);
	if (!r && gone.l1_size)
		r = qcow2_free_clusters(
		    q, gone.l1_offset, div_up((uint64_t)gone.l1_size * 8, q->cluster_bytes), false);
	if (!r)
		r = qcow2_fix_copied_flags(q);
	snapshot_clear(&gone);
	return r;
}

int qcow2_snapshot_delete(struct block *block, const char *name, struct err *err)
{
	struct qcow2_snapshot *s;
	struct qcow2 *q;
	int r = open_for_snapshots(block, &q, err);

	if (r < 0)
		return r;
	qcow2_begin_exclusive(q);
	s = find(q, name);
	if (!s) {
		qcow2_end_exclusive(q);
		return err_set(err, -ENOENT, "there is no snapshot %s", name);
	}
	r = qcow2_flush(q);
	if (!r)
		r = delete (q, s);
	return finish(q, r, err, "delete");
}

static int note_tables(struct qcow2 *q, const uint64_t *l1, uint32_t n)
{
	uint32_t i;
	int r = 0;

	LOCK_SCOPE(&q->lock);
	for (i = 0; i < n && !r; i++)
		if (l1[i] & QCOW2_OFFSET_MASK)
			r = cluster_set_add(&q->tables,
					    (l1[i] & QCOW2_OFFSET_MASK) >> q->cluster_bits);
	return r;
}

/* Switches the active L1 table to @l1, in a new place. */
static int switch_l1(struct qcow2 *q, uint64_t *l1, uint32_t n, uint64_t size)
{
	uint64_t offset = 0, got, old_offset = q->header.l1_offset;
	uint32_t old_n = q->l1_entries;
	uint64_t *old = q->l1;
	int r = 0;

	if (n)
		r = qcow2_alloc_clusters(q, div_up((uint64_t)n * 8, q->cluster_bytes), true,
					 &offset, &got);
	if (!r)
		r = note_tables(q, l1, n);
	if (!r)
		r = write_l1(q, l1, n, offset);
	if (!r)
		r = qcow2_flush(q);
	if (!r)
		r = qcow2_cache_write(q, SLICE_REF); /* lazy ones too: the cache is dropped */
	if (r < 0) {
		free(l1);
		return r;
	}
	pthread_mutex_lock(&q->lock);
	q->l1 = l1;
	q->l1_entries = q->header.l1_size = n;
	q->header.l1_offset = offset;
	q->header.size = size;
	block_set_size(&q->block, size);
	pthread_mutex_unlock(&q->lock);
	qcow2_cache_drop(q, 0);
	r = qcow2_header_update(q);
	q->broken = r < 0; /* the disk may know either table: both are whole, none may change */
	if (!r)
		r = count_tree(q, old, old_n, -1);
	if (!r && old_n)
		r = qcow2_free_clusters(q, old_offset,
					div_up((uint64_t)old_n * 8, q->cluster_bytes), false);
	free(old);
	return r;
}

static int apply(struct qcow2 *q, const struct qcow2_snapshot *s)
{
	uint64_t size = s->disk_size;
	uint64_t *l1;
	uint32_t i;
	int r;

	if (size > INT64_MAX || qcow2_l1_entries_for(q, size) > s->l1_size)
		return -EINVAL;
	r = read_l1(q, s, &l1);
	if (!r)
		r = qcow2_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0);
	if (!r)
		r = count_tree(q, l1, s->l1_size, 1);
	if (r < 0) {
		free(l1);
		return r;
	}
	for (i = 0; i < s->l1_size; i++)
		l1[i] &= ~QCOW2_COPIED;
	r = switch_l1(q, l1, s->l1_size, size);
	return r ? r : qcow2_fix_copied_flags(q);
}

int qcow2_snapshot_apply(struct block *block, const char *name, struct err *err)
{
	struct qcow2_snapshot *s;
	struct qcow2 *q;
	int r = open_for_snapshots(block, &q, err);

	if (r < 0)
		return r;
	qcow2_begin_exclusive(q);
	s = find(q, name);
	if (!s) {
		qcow2_end_exclusive(q);
		return err_set(err, -ENOENT, "there is no snapshot %s", name);
	}
	r = qcow2_flush(q);
	if (!r)
		r = qcow2_apply_freed(q, true);
	q->track_lost = true; /* everything may change, its size too */
	if (!r)
		r = apply(q, s);
	return finish(q, r, err, "go back to");
}

unsigned qcow2_snapshot_count(struct block *block)
{
	struct qcow2 *q = qcow2_from_block(block);

	return q ? q->n_snapshots : 0;
}

int qcow2_snapshot_info(struct block *block, unsigned i, struct qcow2_snapshot_info *info)
{
	struct qcow2 *q = qcow2_from_block(block);
	const struct qcow2_snapshot *s;

	if (!q || i >= q->n_snapshots)
		return -ENOENT;
	s = &q->snapshots[i];
	*info = (struct qcow2_snapshot_info){.id = s->id,
					     .name = s->name,
					     .time_s = s->date_sec,
					     .time_ns = s->date_nsec,
					     .vm_clock_ns = s->vm_clock_nsec,
					     .vm_state_bytes = s->vm_state_size,
					     .bytes = s->disk_size};
	return 0;
}
