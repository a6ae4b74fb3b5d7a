// SPDX-License-Identifier: ISC
/*
 * Check and repair: everything that the header leads to is walked and counted,
 * then the counts are compared with the refcount blocks.
 *
 * The counts of the walk live in a sparse array (pages made when a cluster
 * in them is met), so memory follows what the image really refers to, not where a
 * hostile offset points. Repair sets each wrong count to what was found, or
 * writes a whole new refcount table behind the end of the image where the old one
 * is itself damaged; then flags are put right. Entries that cannot be true
 * are cleared (their data is lost already).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/qcow2_bitmap.h"
#include "storage/qcow2_check_int.h"

/* --- the counts of the walk --------------------------------------------------------------- */

static size_t page_slot(const struct check *c, uint64_t number)
{
	size_t i = (number * 0x9e3779b97f4a7c15ull >> 20) & (c->n_slots - 1);

	while (c->pages[i] && c->pages[i]->number != number)
		i = (i + 1) & (c->n_slots - 1);
	return i;
}

static int grow_pages(struct check *c)
{
	struct check_page **old = c->pages;
	size_t i, n = c->n_slots;

	c->n_slots = n ? n * 2 : 256;
	c->pages = calloc(c->n_slots, sizeof(*c->pages));
	if (!c->pages) {
		c->pages = old;
		c->n_slots = n;
		return -ENOMEM;
	}
	for (i = 0; i < n; i++)
		if (old[i])
			c->pages[page_slot(c, old[i]->number)] = old[i];
	free(old);
	return 0;
}

uint32_t *check_count(struct check *c, uint64_t cluster, bool make)
{
	uint64_t number = cluster / CHECK_PAGE;
	size_t i;

	if (c->n_pages * 2 >= c->n_slots && grow_pages(c) < 0)
		return NULL;
	i = page_slot(c, number);
	if (!c->pages[i]) {
		if (!make)
			return NULL;
		c->pages[i] = calloc(1, sizeof(**c->pages));
		if (!c->pages[i])
			return NULL;
		c->pages[i]->number = number;
		c->n_pages++;
	}
	return &c->pages[i]->counts[cluster % CHECK_PAGE];
}

void check_free_counts(struct check *c)
{
	size_t i;

	for (i = 0; i < c->n_slots; i++)
		free(c->pages[i]);
	free(c->pages);
	c->pages = NULL;
	c->n_slots = c->n_pages = 0;
}

void check_say(struct check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!c->params->report)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->params->report(c->params->arg, line);
}

static int mark(struct check *c, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset >> c->q->cluster_bits, last;
	uint32_t *count;

	if (!bytes)
		return 0;
	last = (offset + bytes - 1) >> c->q->cluster_bits;
	if (((last + 1) << c->q->cluster_bits) > c->result->image_end)
		c->result->image_end = (last + 1) << c->q->cluster_bits;
	for (; first <= last; first++) {
		count = check_count(c, first, true);
		if (!count)
			return -ENOMEM;
		if (*count < UINT32_MAX)
			++*count;
	}
	return cancel_requested(c->params->cancel) ? -ECANCELED : 0;
}

/* --- the walk ----------------------------------------------------------------------------- */

static void bad(struct check *c, const char *what, uint64_t at, uint64_t value)
{
	c->result->corruptions++;
	check_say(c, "%s %llu: impossible entry 0x%llx", what, (unsigned long long)at,
		  (unsigned long long)value);
}

/* Is a standard entry possible at all? */
static bool plausible(const struct qcow2 *q, uint64_t cluster, struct l2_entry e)
{
	uint64_t offset = e.word & QCOW2_OFFSET_MASK;

	if ((e.word & QCOW2_L2_RESERVED) || offset % q->cluster_bytes)
		return false;
	if ((e.word & QCOW2_ZERO) && (q->header.version < 3 || q->extended))
		return false;
	if (q->extended && ((uint32_t)e.bitmap & (uint32_t)(e.bitmap >> 32)))
		return false;
	if (q->extended && !offset && (uint32_t)e.bitmap && !q->external)
		return false;
	if (q->external && (e.word & QCOW2_COPIED))
		return offset == cluster << q->cluster_bits;
	return true;
}

static void count_guest(struct check *c, uint64_t host, bool compressed)
{
	struct qcow2_check_result *res = c->result;

	res->allocated_clusters++;
	res->compressed_clusters += compressed;
	if (!compressed && c->next_host && host != c->next_host)
		res->fragmented_clusters++;
	c->next_host = host + c->q->cluster_bytes;
}

/* 1: the entry must be cleared. */
static int walk_entry(struct check *c, uint64_t cluster, struct l2_entry e, bool active)
{
	struct qcow2 *q = c->q;
	uint64_t offset;
	uint32_t bytes;

	if (e.word & QCOW2_COMPRESSED) {
		if ((e.word & QCOW2_COPIED) || qcow2_packed_range(q, e.word, &offset, &bytes) < 0) {
			bad(c, "compressed cluster", cluster, e.word);
			return 1;
		}
		if (active)
			count_guest(c, offset, true);
		return mark(c, offset, bytes);
	}
	if (!plausible(q, cluster, e)) {
		bad(c, "L2 entry of cluster", cluster, e.word);
		return 1;
	}
	offset = e.word & QCOW2_OFFSET_MASK;
	if (!offset)
		return 0;
	if (active)
		count_guest(c, offset, false);
	return q->external ? 0 : mark(c, offset, q->cluster_bytes);
}

static int walk_l2(struct check *c, uint64_t l1_index, uint64_t offset, uint8_t *buf, bool active)
{
	struct qcow2 *q = c->q;
	uint64_t i, n = 1ull << q->l2_bits;
	bool changed = false;
	int r = qcow2_meta_read(q, buf, q->cluster_bytes, offset);

	for (i = 0; i < n && r >= 0; i++) {
		uint8_t *p = buf + i * q->l2_entry_bytes;
		struct l2_entry e = {.word = get_be64(p),
				     .bitmap = q->extended ? get_be64(p + 8) : 0};

		if (!e.word)
			continue;
		r = walk_entry(c, l1_index * n + i, e, active);
		if (r == 1 && c->params->fix_errors && !q->readonly) {
			memset(p, 0, q->l2_entry_bytes);
			changed = true;
			c->result->corruptions_fixed++;
		}
		if (r == 1)
			r = 0;
	}
	if (r >= 0 && changed)
		r = qcow2_meta_write(q, buf, q->cluster_bytes, offset);
	return r;
}

/* Can an L2 table be there? Each has its own place in the file. */
static bool table_plausible(struct check *c, uint64_t entry, const struct cluster_set *seen)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK;

	return !(entry & QCOW2_L1_RESERVED) && offset % c->q->cluster_bytes == 0 &&
	       offset < block_size(c->q->file) &&
	       !cluster_set_has(seen, offset >> c->q->cluster_bits);
}

/* An L1 table in host order, active or a snapshot's. */
static int walk_l1(struct check *c, uint64_t *l1, uint32_t n, bool active)
{
	_cleanup_free_ uint8_t *buf = malloc(c->q->cluster_bytes);
	_cleanup_(cluster_set_free) struct cluster_set seen = {0};
	uint32_t i;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	for (i = 0; i < n && r >= 0; i++) {
		uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;

		if (!l1[i])
			continue;
		if (!table_plausible(c, l1[i], &seen)) {
			bad(c, "L1 entry", i, l1[i]);
			if (active && c->params->fix_errors) {
				l1[i] = 0;
				c->l1_changed = true;
				c->result->corruptions_fixed++;
			}
			continue;
		}
		if (!offset)
			continue;
		r = mark(c, offset, c->q->cluster_bytes);
		if (r >= 0)
			r = cluster_set_add(&seen, offset >> c->q->cluster_bits);
		if (r >= 0)
			r = walk_l2(c, i, offset, buf, active);
	}
	return r;
}

static int walk_snapshots(struct check *c)
{
	struct qcow2 *q = c->q;
	unsigned i;
	int r = mark(c, q->header.snapshots_offset, q->n_snapshots ? q->snapshots_bytes : 0);

	for (i = 0; i < q->n_snapshots && r >= 0; i++) {
		const struct qcow2_snapshot *s = &q->snapshots[i];
		uint64_t bytes = (uint64_t)s->l1_size * 8;
		_cleanup_free_ uint64_t *l1 = malloc(bytes + 8);
		uint32_t k;

		if (!l1)
			return -ENOMEM;
		r = mark(c, s->l1_offset, bytes);
		if (r >= 0 && bytes)
			r = qcow2_meta_read(q, l1, bytes, s->l1_offset);
		for (k = 0; k < s->l1_size && r >= 0; k++)
			l1[k] = be64toh(l1[k]);
		if (r >= 0)
			r = walk_l1(c, l1, s->l1_size, false);
	}
	return r;
}

static int walk_bitmap_table(struct check *c, const struct qcow2_bitmap_entry *e)
{
	uint64_t bytes = (uint64_t)e->table_size * 8, i;
	_cleanup_free_ uint64_t *table = malloc(bytes + 8);
	int r;

	if (!table)
		return -ENOMEM;
	r = mark(c, e->table_offset, bytes);
	if (r >= 0 && bytes)
		r = qcow2_meta_read(c->q, table, bytes, e->table_offset);
	for (i = 0; i < e->table_size && r >= 0; i++) {
		uint64_t offset = be64toh(table[i]) & QCOW2_OFFSET_MASK;

		if (offset % c->q->cluster_bytes)
			bad(c, "bitmap table entry", i, offset);
		else if (offset)
			r = mark(c, offset, c->q->cluster_bytes);
	}
	return r;
}

static int walk_bitmaps(struct check *c)
{
	_cleanup_free_ uint8_t *dir = NULL;
	struct qcow2_bitmap_entry e;
	uint64_t pos = 0;
	int r, more;

	if (!(c->q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	r = qcow2_bitmap_dir_load(c->q, &dir);
	if (r >= 0)
		r = mark(c, c->q->header.bitmaps_offset, c->q->header.bitmaps_size);
	while (r >= 0 && (more = qcow2_bitmap_next(c->q, dir, &pos, &e)) != 0) {
		if (more < 0) {
			bad(c, "bitmap directory at", pos, 0);
			break;
		}
		r = walk_bitmap_table(c, &e);
	}
	return r;
}

static int walk_reftable(struct check *c)
{
	struct qcow2 *q = c->q;
	uint32_t i, *count;
	int r = mark(c, q->header.reftable_offset,
		     (uint64_t)q->header.reftable_clusters << q->cluster_bits);

	for (i = 0; i < q->reftable_entries && r >= 0; i++) {
		uint64_t offset = q->reftable[i];

		if (!offset)
			continue;
		if (!qcow2_host_ok(q, offset) || offset >= block_size(q->file)) {
			bad(c, "refcount table entry", i, offset);
			c->rebuild = true;
			continue;
		}
		r = mark(c, offset, q->cluster_bytes);
		count = check_count(c, offset >> q->cluster_bits, true);
		if (count && *count > 1) {
			bad(c, "refcount block in use otherwise,", i, offset);
			c->rebuild = true;
		}
	}
	return r;
}

static int walk(struct check *c)
{
	struct qcow2 *q = c->q;
	int r = mark(c, 0, q->cluster_bytes);

	if (!r)
		r = mark(c, q->header.l1_offset, (uint64_t)q->header.l1_size * 8);
	if (!r)
		r = walk_l1(c, q->l1, q->l1_entries, true);
	if (!r && c->l1_changed)
		r = check_write_l1(c);
	if (!r)
		r = walk_snapshots(c);
	if (!r)
		r = walk_bitmaps(c);
	return r ? r : walk_reftable(c); /* last: it must find its clusters unused */
}

/* --- comparing ---------------------------------------------------------------------------- */

static int compare_one(struct check *c, uint64_t cluster, uint64_t stored, uint64_t found)
{
	struct qcow2_check_result *res = c->result;
	bool leak = stored > found;
	int r = 0;

	if (stored == found)
		return 0;
	if (leak)
		res->leaks++;
	else
		res->corruptions++;
	check_say(c, "cluster %llu is used %llu times and counted %llu times%s",
		  (unsigned long long)cluster, (unsigned long long)found,
		  (unsigned long long)stored, leak ? " (leaked)" : "");
	if (c->rebuild ||
	    !(leak ? c->params->fix_leaks || c->params->fix_errors : c->params->fix_errors))
		return 0;
	if (found > qcow2_refcount_max(c->q))
		return -ERANGE;
	r = qcow2_refcount_set(c->q, cluster, found);
	if (!r && leak)
		res->leaks_fixed++;
	else if (!r)
		res->corruptions_fixed++;
	return r;
}

/* All counts that are stored, against what was found. */
static int compare_stored(struct check *c)
{
	struct qcow2 *q = c->q;
	uint64_t block, i, per_block = 1ull << q->ref_bits, stored;
	uint32_t *count;
	int r = 0;

	for (block = 0; block < q->reftable_entries && !r && !c->rebuild; block++) {
		if (!q->reftable[block])
			continue;
		for (i = 0; i < per_block && !r; i++) {
			uint64_t cluster = block * per_block + i;

			r = qcow2_refcount_get(q, cluster, &stored);
			count = check_count(c, cluster, false);
			if (!r && (stored || count))
				r = compare_one(c, cluster, stored, count ? *count : 0);
			if (!(i & 0xfff) && cancel_requested(c->params->cancel))
				r = -ECANCELED;
		}
	}
	return r;
}

/* What was found where nothing is stored. */
static int compare_missing(struct check *c)
{
	struct qcow2 *q = c->q;
	size_t i;
	unsigned k;
	int r = 0;

	for (i = 0; i < c->n_slots && !r; i++) {
		for (k = 0; c->pages[i] && k < CHECK_PAGE && !r; k++) {
			uint64_t cluster = c->pages[i]->number * CHECK_PAGE + k;
			uint64_t block = cluster >> q->ref_bits;

			if (!c->pages[i]->counts[k] ||
			    (block < q->reftable_entries && qcow2_host_ok(q, q->reftable[block])))
				continue;
			/* Where there is no block to put it into, all are written anew. */
			c->rebuild = true;
			r = compare_one(c, cluster, 0, c->pages[i]->counts[k]);
		}
	}
	return r;
}

static int check_flag(struct check *c, uint64_t word, const char *what, uint64_t at)
{
	uint64_t offset = word & QCOW2_OFFSET_MASK;
	uint32_t *count;

	if ((word & QCOW2_COMPRESSED) || !offset || offset % c->q->cluster_bytes)
		return 0;
	count = check_count(c, offset >> c->q->cluster_bits, false);
	if ((count && *count == 1) == !!(word & QCOW2_COPIED))
		return 0;
	c->result->corruptions++;
	c->flags_wrong++;
	check_say(c, "%s %llu: the flag of sole ownership is wrong", what, (unsigned long long)at);
	return 0;
}

static int check_flags(struct check *c)
{
	struct qcow2 *q = c->q;
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_bytes);
	uint32_t i, at;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	for (i = 0; i < q->l1_entries && !r; i++) {
		uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK;

		if (!offset || offset % q->cluster_bytes)
			continue;
		check_flag(c, q->l1[i], "L1 entry", i);
		r = qcow2_meta_read(q, buf, q->cluster_bytes, offset);
		for (at = 0; !q->external && at < q->cluster_bytes && !r; at += q->l2_entry_bytes)
			check_flag(c, get_be64(buf + at), "L2 entry at", offset + at);
		if (cancel_requested(c->params->cancel))
			r = -ECANCELED;
	}
	return r;
}

/* --- the whole ---------------------------------------------------------------------------- */

static int fix_flags(struct check *c)
{
	int r = qcow2_fix_copied_flags(c->q);

	if (!r)
		c->result->corruptions_fixed += c->flags_wrong;
	return r;
}

static int repair(struct check *c)
{
	struct qcow2 *q = c->q;
	bool wanted = c->params->fix_errors || c->params->fix_leaks;
	int r = 0;

	if (!wanted || q->readonly)
		return 0;
	if (c->rebuild && c->params->fix_errors) {
		r = check_rebuild(c);
		c->result->corruptions_fixed = c->result->corruptions - c->flags_wrong;
		c->result->leaks_fixed = c->result->leaks;
	}
	if (!r)
		r = qcow2_flush(q);
	if (!r && q->lazy)
		r = qcow2_settle_counts(q);
	if (!r && c->params->fix_errors)
		r = fix_flags(c);
	if (!r && c->params->fix_errors)
		r = qcow2_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	return r;
}

static int run(struct check *c)
{
	int r = walk(c);

	if (!r)
		r = compare_stored(c);
	if (!r)
		r = compare_missing(c);
	if (!r)
		r = check_flags(c);
	return r ? r : repair(c);
}

int qcow2_check(struct block *block, const struct qcow2_check_params *params,
		struct qcow2_check_result *result, struct err *err)
{
	struct qcow2 *q = qcow2_from_block(block);
	struct check c = {.q = q, .params = params, .result = result};
	int r;

	memset(result, 0, sizeof(*result));
	if (!q)
		return err_set(err, -ENOTSUP, "only qcow2 images are checked");
	qcow2_begin_exclusive(q);
	result->total_clusters = div_up(q->header.size, q->cluster_bytes);
	r = q->reftable ? 0 : qcow2_reftable_load(q, err);
	if (!r)
		r = run(&c);
	qcow2_end_exclusive(q);
	check_free_counts(&c);
	return r < 0 ? err_set(err, r, "cannot check the image: %s", err_name(r)) : 0;
}

int qcow2_repair_refcounts(struct qcow2 *q, struct err *err)
{
	struct qcow2_check_params params = {.fix_leaks = true, .fix_errors = true};
	struct qcow2_check_result result = {0};
	struct check c = {.q = q, .params = &params, .result = &result};
	int r;

	/* What waits to be counted down is not referred to any more: it is not found. */
	q->freed[0].n = q->freed[1].n = 0;
	q->packed_next = 0;
	r = run(&c);
	check_free_counts(&c);
	return r < 0 ? err_set(err, r, "cannot repair the refcounts: %s", err_name(r)) : 0;
}
