// SPDX-License-Identifier: ISC
/*
 * The slow path of writing: clusters that need allocation or copying.
 *
 * A run of clusters that all need a new place is listed in ->allocs (others who
 * want to change the mapping of those wait), space is found under ->meta, data is
 * written without it, and then the L2 entries are changed under it. A cluster
 * that has a place of its own but holds no data there yet (preallocated zeroes,
 * subclusters) is filled in place. What the request does not cover is copied from
 * the old contents, unless old contents and new place are both known to be zero.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"

#define RUN_BYTES_MAX (4u << 20)
#define COPY_CHUNK    (128u << 10)

/* --- who allocates where ------------------------------------------------------------------ */

static bool overlaps(const struct qcow2_alloc *a, uint64_t first, uint64_t count)
{
	return first < a->first + a->count && a->first < first + count;
}

static bool busy(struct qcow2 *q, uint64_t first, uint64_t count)
{
	const struct qcow2_alloc *a;

	for (a = q->allocs; a; a = a->next)
		if (overlaps(a, first, count))
			return true;
	return false;
}

void qcow2_alloc_wait(struct qcow2 *q, uint64_t first, uint64_t count)
{
	while (busy(q, first, count))
		pthread_cond_wait(&q->alloc_done, &q->meta);
}

void qcow2_alloc_begin(struct qcow2 *q, struct qcow2_alloc *alloc, uint64_t first, uint64_t count)
{
	*alloc = (struct qcow2_alloc){first, count, q->allocs};
	q->allocs = alloc;
}

void qcow2_alloc_end(struct qcow2 *q, struct qcow2_alloc *alloc)
{
	struct qcow2_alloc **link = &q->allocs;

	while (*link != alloc)
		link = &(*link)->next;
	*link = alloc->next;
	pthread_cond_broadcast(&q->alloc_done);
}

/* --- one run ------------------------------------------------------------------------------ */

struct run {
	struct qcow2_alloc alloc;
	uint64_t from, to;	     /* guest bytes written by the request */
	uint64_t span_from, span_to; /* guest bytes that hold data afterwards */
	uint64_t copy_from, copy_to; /* guest bytes that are written, copies included */
	uint64_t host;		     /* of the first cluster's beginning */
	bool reuse;		     /* the one cluster stays where it is */
	bool fresh;		     /* the new place reads as zeroes */
};

static uint64_t run_start(const struct qcow2 *q, const struct run *run)
{
	return run->alloc.first << q->cluster_bits;
}

static uint64_t run_end(const struct qcow2 *q, const struct run *run)
{
	return (run->alloc.first + run->alloc.count) << q->cluster_bits;
}

/* True where the range certainly reads as zeroes. Under meta. */
static int reads_zero(struct qcow2 *q, uint64_t from, uint64_t to, bool *zero)
{
	struct qcow2_map map;
	int r;

	*zero = false;
	for (; from < to; from += map.bytes) {
		r = qcow2_map(q, from, to - from, true, &map);
		if (r < 0)
			return r;
		if (map.kind != MAP_ZERO &&
		    (map.kind != MAP_UNALLOCATED || (q->backing && from < block_size(q->backing))))
			return 0;
	}
	*zero = true;
	return 0;
}

static bool is_plain(const struct l2_entry *e)
{
	return !(e->word & (QCOW2_COMPRESSED | QCOW2_OFFSET_MASK));
}

/* Narrows the span with subclusters: only those that are touched must hold data. */
static int narrow_span(struct qcow2 *q, struct run *run)
{
	uint64_t sub = 1ull << q->sub_bits, last = run->alloc.first + run->alloc.count - 1;
	struct l2_entry e;
	int r;

	r = qcow2_l2_get(q, run->alloc.first, &e);
	if (r < 0)
		return r;
	if (run->reuse || is_plain(&e)) {
		run->span_from = run->from / sub * sub;
		if (e.bitmap >> (run->from % q->cluster_bytes >> q->sub_bits) & 1)
			run->span_from = run->from;
	}
	r = qcow2_l2_get(q, last, &e);
	if (r < 0)
		return r;
	if (run->reuse || is_plain(&e)) {
		run->span_to = round_up(run->to, sub);
		if (e.bitmap >> ((run->to - 1) % q->cluster_bytes >> q->sub_bits) & 1)
			run->span_to = run->to;
	}
	return 0;
}

static int plan_copies(struct qcow2 *q, struct run *run)
{
	bool zero;
	int r = 0;

	run->span_from = run_start(q, run);
	run->span_to = run_end(q, run);
	if (q->extended)
		r = narrow_span(q, run);
	run->copy_from = run->span_from;
	run->copy_to = run->span_to;
	if (!r && run->fresh && run->span_from < run->from) {
		r = reads_zero(q, run->span_from, run->from, &zero);
		if (!r && zero)
			run->copy_from = run->from;
	}
	if (!r && run->fresh && run->to < run->span_to) {
		r = reads_zero(q, run->to, run->span_to, &zero);
		if (!r && zero)
			run->copy_to = run->to;
	}
	return r;
}

/* Does a cluster need to move? Sets what it is now. Under meta. */
static int inspect(struct qcow2 *q, uint64_t guest, bool *in_place, bool *reuse,
		   struct qcow2_map *map, uint64_t bytes)
{
	int r = qcow2_map(q, guest, bytes, true, map);

	*in_place = *reuse = false;
	if (r < 0)
		return r;
	*in_place = map->kind == MAP_DATA && map->copied;
	*reuse = map->kind != MAP_COMPRESSED && map->has_host && map->copied;
	return 0;
}

/* How many clusters from the first on may go together: all need a new place. Under meta. */
static int measure_run(struct qcow2 *q, struct run *run, uint64_t end)
{
	uint64_t first = run->alloc.first, table_end = ((first >> q->l2_bits) + 1) << q->l2_bits;
	uint64_t last = (end - 1) >> q->cluster_bits, n = 1;
	uint64_t max = max_u64(RUN_BYTES_MAX >> q->cluster_bits, 1);
	bool in_place, reuse;
	struct qcow2_map map;
	int r;

	while (!run->reuse && n < max && first + n <= last && first + n < table_end &&
	       !busy(q, first + n, 1)) {
		r = inspect(q, (first + n) << q->cluster_bits, &in_place, &reuse, &map, 1);
		if (r < 0)
			return r;
		if (in_place || reuse)
			break;
		n++;
	}
	run->alloc.count = n;
	return 0;
}

/* Finds the run's place. Under meta; may shorten the run. */
static int place_run(struct qcow2 *q, struct run *run, const struct qcow2_map *map)
{
	uint64_t got = run->alloc.count, end;
	int r;

	if (run->reuse) {
		run->host = map->host - (run->from & (q->cluster_bytes - 1));
		return !q->external && qcow2_is_metadata(q, run->host)
			   ? qcow2_damaged(q, "data in metadata", run->host)
			   : 0;
	}
	if (q->external) {
		run->host = run_start(q, run);
		return 0;
	}
	r = qcow2_alloc_clusters(q, run->alloc.count, false, &run->host, &got);
	if (r < 0)
		return r;
	run->alloc.count = got;
	end = run->host + (got << q->cluster_bits);
	run->fresh = run->host >= q->fresh_from;
	if (end > q->fresh_from)
		q->fresh_from = end;
	return 0;
}

static int read_old(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t from, uint64_t bytes,
		    uint8_t *buf)
{
	uint64_t size = block_size(&q->block), have = from < size ? min_u64(bytes, size - from) : 0;

	memset(buf + have, 0, bytes - have);
	return have ? qcow2_read_buf(q, ctx, from, have, buf) : 0;
}

/* Copies old contents of [from, to) to their new place. */
static int copy_old(struct qcow2 *q, struct qcow2_ctx *ctx, const struct run *run, uint64_t from,
		    uint64_t to)
{
	_cleanup_free_ uint8_t *buf = NULL;
	uint64_t n;
	int r = 0;

	if (from >= to)
		return 0;
	if (posix_memalign((void **)&buf, 4096, min_u64(COPY_CHUNK, to - from)))
		return -ENOMEM;
	for (; from < to && !r; from += n) {
		struct iovec iov = {buf, 0};

		iov.iov_len = n = min_u64(COPY_CHUNK, to - from);
		r = read_old(q, ctx, from, n, buf);
		if (!r)
			r = qcow2_data_io(ctx, q->data, BLOCK_WRITE,
					  run->host + (from - run_start(q, run)), n, &iov, 1, 0);
	}
	return r;
}

static uint64_t bits_within(const struct qcow2 *q, uint64_t cluster_start, uint64_t from,
			    uint64_t to)
{
	uint64_t end = cluster_start + q->cluster_bytes;
	unsigned first, last;

	from = max_u64(from, cluster_start);
	to = min_u64(to, end);
	first = (from - cluster_start) >> q->sub_bits;
	last = (to - 1 - cluster_start) >> q->sub_bits;
	return (last == 31 ? UINT32_MAX : (1u << (last + 1)) - 1) & ~((1u << first) - 1);
}

/* The entry for cluster @i of the run, once its data is written. */
static struct l2_entry new_entry(const struct qcow2 *q, const struct run *run, uint64_t i,
				 struct l2_entry old)
{
	uint64_t start = (run->alloc.first + i) << q->cluster_bits;
	struct l2_entry e = {.word = (run->host + (i << q->cluster_bits)) | QCOW2_COPIED};
	uint64_t bits;

	if (!q->extended)
		return e;
	bits = bits_within(q, start, run->span_from, run->span_to);
	/* What was copied as a whole (shared, compressed) holds data everywhere. */
	e.bitmap = run->reuse || is_plain(&old) ? old.bitmap : 0;
	e.bitmap = (e.bitmap | bits) & ~(bits << 32);
	return e;
}

/* Makes the run's clusters the guest's. Under meta. */
static int link_run(struct qcow2 *q, struct run *run)
{
	struct l2_entry old;
	uint64_t i;
	int r = 0;

	for (i = 0; i < run->alloc.count && !r; i++) {
		r = qcow2_l2_get(q, run->alloc.first + i, &old);
		if (!r)
			r = qcow2_l2_set(q, run->alloc.first + i, new_entry(q, run, i, old));
		if (r < 0)
			break;
		if (!run->reuse)
			r = qcow2_free_entry(q, old, false);
	}
	if (r < 0 && !run->reuse && !q->external && i < run->alloc.count)
		qcow2_free_clusters(q, run->host + (i << q->cluster_bits), run->alloc.count - i,
				    false);
	return r;
}

/* Copies and data in one write. */
static int fill_at_once(struct qcow2 *q, struct qcow2_ctx *ctx, const struct run *run,
			const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	uint64_t head = run->from - run->copy_from, tail = run->copy_to - run->to;
	_cleanup_free_ struct iovec *all = malloc(((size_t)n_iov + 2) * sizeof(*all));
	_cleanup_free_ uint8_t *buf = malloc(head + tail + 1);
	unsigned n = 0;
	int r;

	if (!all || !buf)
		return -ENOMEM;
	r = read_old(q, ctx, run->copy_from, head, buf);
	if (!r)
		r = read_old(q, ctx, run->to, tail, buf + head);
	if (r < 0)
		return r;
	all[n++] = (struct iovec){buf, head};
	n += block_iov_part(iov, n_iov, skip, run->to - run->from, all + n);
	all[n++] = (struct iovec){buf + head, tail};
	return qcow2_data_io(ctx, q->data, BLOCK_WRITE,
			     run->host + (run->copy_from - run_start(q, run)),
			     run->copy_to - run->copy_from, all, n, 0);
}

static int fill_run(struct qcow2 *q, struct qcow2_ctx *ctx, const struct run *run,
		    const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	uint64_t copies = (run->from - run->copy_from) + (run->copy_to - run->to);
	int r;

	if (copies && copies <= COPY_CHUNK)
		return fill_at_once(q, ctx, run, iov, n_iov, skip);
	r = copy_old(q, ctx, run, run->copy_from, run->from);
	if (!r)
		r = copy_old(q, ctx, run, run->to, run->copy_to);
	if (!r)
		r = qcow2_data_io(ctx, q->data, BLOCK_WRITE,
				  run->host + (run->from - run_start(q, run)), run->to - run->from,
				  iov, n_iov, skip);
	return r;
}

/* Enters with meta held, leaves without. *done: bytes written. */
static int write_run(struct qcow2 *q, struct qcow2_ctx *ctx, const struct qcow2_map *map,
		     struct run *run, uint64_t end, const struct iovec *iov, unsigned n_iov,
		     uint64_t skip, uint64_t *done)
{
	int r = measure_run(q, run, end);

	if (!r)
		r = qcow2_l2_prepare(q, run->alloc.first);
	if (!r)
		r = place_run(q, run, map);
	if (r < 0) {
		pthread_mutex_unlock(&q->meta);
		return r;
	}
	run->to = min_u64(end, run_end(q, run));
	*done = run->to - run->from;
	r = plan_copies(q, run);
	qcow2_alloc_begin(q, &run->alloc, run->alloc.first, run->alloc.count);
	pthread_mutex_unlock(&q->meta);
	if (!r)
		r = fill_run(q, ctx, run, iov, n_iov, skip);
	pthread_mutex_lock(&q->meta);
	if (!r)
		r = link_run(q, run);
	else if (!run->reuse && !q->external)
		qcow2_free_clusters(q, run->host, run->alloc.count, false);
	qcow2_alloc_end(q, &run->alloc);
	pthread_mutex_unlock(&q->meta);
	return r;
}

/* Enters with meta held, leaves without. */
static int write_in_place(struct qcow2 *q, struct qcow2_ctx *ctx, const struct qcow2_map *map,
			  const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	uint64_t at, end = map->host + map->bytes;
	unsigned generation;
	int r = 0;

	for (at = map->host & ~(uint64_t)(q->cluster_bytes - 1); !q->external && at < end && !r;
	     at += q->cluster_bytes)
		if (qcow2_is_metadata(q, at))
			r = qcow2_damaged(q, "data in metadata", at);
	pthread_mutex_lock(&q->lock);
	generation = qcow2_enter(q);
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_unlock(&q->meta);
	if (!r)
		r = qcow2_data_io(ctx, q->data, BLOCK_WRITE, map->host, map->bytes, iov, n_iov,
				  skip);
	qcow2_leave(q, generation);
	return r;
}

int qcow2_write(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, uint64_t bytes,
		const struct iovec *iov, unsigned n_iov, uint64_t skip)
{
	uint64_t end = offset + bytes, done;
	int r;

	for (; offset < end; offset += done, skip += done) {
		struct run run = {.alloc.first = offset >> q->cluster_bits, .from = offset};
		struct qcow2_map map;
		bool in_place;

		pthread_mutex_lock(&q->meta);
		qcow2_alloc_wait(q, run.alloc.first, 1);
		r = q->broken ? -EIO
			      : inspect(q, offset, &in_place, &run.reuse, &map, end - offset);
		if (r < 0) {
			pthread_mutex_unlock(&q->meta);
			return r;
		}
		done = map.bytes;
		if (in_place)
			r = write_in_place(q, ctx, &map, iov, n_iov, skip);
		else
			r = write_run(q, ctx, &map, &run, end, iov, n_iov, skip, &done);
		if (r < 0)
			return r;
	}
	return 0;
}

static void free_packed(struct qcow2 *q, uint64_t host, uint32_t bytes)
{
	uint64_t first = host >> q->cluster_bits, last = (host + bytes - 1) >> q->cluster_bits;

	qcow2_free_clusters(q, first << q->cluster_bits, last - first + 1, false);
}

int qcow2_write_packed(struct qcow2 *q, struct qcow2_ctx *ctx, uint64_t offset, const void *packed,
		       uint32_t bytes)
{
	uint64_t cluster = offset >> q->cluster_bits, host;
	unsigned x = 62 - (q->cluster_bits - 8);
	struct qcow2_alloc alloc;
	struct l2_entry old;
	struct iovec iov = {(void *)packed, bytes};
	int r;

	qcow2_track_set(q, offset, q->cluster_bytes);
	pthread_mutex_lock(&q->meta);
	qcow2_alloc_wait(q, cluster, 1);
	r = qcow2_l2_prepare(q, cluster);
	if (!r)
		r = qcow2_alloc_packed(q, bytes, &host);
	if (r < 0) {
		pthread_mutex_unlock(&q->meta);
		return r;
	}
	if (round_up(host + bytes, q->cluster_bytes) > q->fresh_from)
		q->fresh_from = round_up(host + bytes, q->cluster_bytes);
	qcow2_alloc_begin(q, &alloc, cluster, 1);
	pthread_mutex_unlock(&q->meta);
	r = qcow2_data_io(ctx, q->file, BLOCK_WRITE, host, bytes, &iov, 1, 0);
	pthread_mutex_lock(&q->meta);
	if (!r)
		r = qcow2_l2_get(q, cluster, &old);
	if (!r) {
		uint64_t sectors = (host + bytes - 1) / 512 - host / 512;
		struct l2_entry e = {.word = QCOW2_COMPRESSED | sectors << x | host};

		r = host >> x ? -EFBIG : qcow2_l2_set(q, cluster, e);
	}
	if (!r)
		r = qcow2_free_entry(q, old, false);
	else
		free_packed(q, host, bytes);
	qcow2_alloc_end(q, &alloc);
	pthread_mutex_unlock(&q->meta);
	return r;
}
