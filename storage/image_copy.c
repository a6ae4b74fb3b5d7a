// SPDX-License-Identifier: ISC
/*
 * Copying a disk's contents with all processors. Threads take pieces of the disk
 * in order; each asks the source how the piece is stored, reads what is data,
 * leaves out what is zero, and writes the rest (compressed if asked). The target's
 * allocation keeps them apart; data moves in parallel.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/image.h"
#include "storage/qcow2_int.h"

#define PIECE	    (2u << 20)
#define BITE	    (512u << 10) /* or a cluster, where that is more */
#define GRAIN	    4096u
#define THREADS_MAX 16

struct copy {
	struct block *from, *to;
	struct qcow2 *packed_to; /* compressed output */
	const struct image_copy *params;
	const struct image_job *job;
	uint64_t total;
	uint64_t bite;	   /* read and written at once */
	uint64_t grain;	   /* zeroes are looked for in units of this */
	bool write_zeroes; /* what is not written would not read as zeroes */
	/* all threads */
	pthread_mutex_t lock;
	struct block_extent extent; /* what is left of the one at ->next */
	uint64_t next, finished;
	int result;
};

/* One thread's own. */
struct copier {
	struct copy *copy;
	struct block_queue *queue;
	struct qcow2_ctx *ctx;
	struct qcow2_packer *packer;
	uint8_t *buf, *packed;
	pthread_t thread;
	bool started;
};

static bool is_zero(const uint8_t *p, size_t n)
{
	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

/* --- one piece ---------------------------------------------------------------------------- */

static int put_zeroes(struct copier *t, uint64_t offset, uint64_t bytes)
{
	if (!t->copy->write_zeroes)
		return 0;
	return block_zero(t->queue, t->copy->to, offset, bytes, BLOCK_UNMAP);
}

/* Compresses and writes whole clusters at @offset, the last one padded. */
static int put_packed(struct copier *t, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	struct qcow2 *q = t->copy->packed_to;
	uint32_t cluster = q->cluster_bytes;
	uint64_t at, n;
	size_t packed;
	int r = 0;

	for (at = 0; at < bytes && !r; at += n) {
		n = min_u64(cluster, bytes - at);
		memset(data + at + n, 0, cluster - n);
		packed = qcow2_pack(t->packer, data + at, cluster, t->packed, cluster - 1);
		if (packed)
			r = qcow2_write_packed(q, t->ctx, offset + at, t->packed, packed);
		else
			r = block_pwrite(t->queue, t->copy->to, data + at, n, offset + at);
	}
	return r;
}

static int put_data(struct copier *t, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	if (t->copy->packed_to)
		return put_packed(t, offset, data, bytes);
	return block_pwrite(t->queue, t->copy->to, data, bytes, offset);
}

/* Writes what was read, runs of zeroes left out. @offset is a multiple of the grain, or the
 * range lies within one. */
static int put_range(struct copier *t, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	uint64_t grain = t->copy->grain, at = 0, run, n;
	bool zero;
	int r = 0;

	for (; at < bytes && !r; at += run) {
		n = min_u64(grain - (offset + at) % grain, bytes - at);
		zero = is_zero(data + at, n);
		for (run = n; at + run < bytes; run += n) {
			n = min_u64(grain, bytes - at - run);
			if (is_zero(data + at + run, n) != zero)
				break;
		}
		r = zero ? put_zeroes(t, offset + at, run)
			 : put_data(t, offset + at, data + at, run);
	}
	return r;
}

static int copy_extent(struct copier *t, uint64_t offset, const struct block_extent *e)
{
	struct copy *c = t->copy;
	uint64_t at, n;
	int r = 0;

	if (!e->own && !c->params->whole_chain)
		return 0;
	if (e->zero)
		return put_zeroes(t, offset, e->bytes);
	/* In bites that stay in the processor's cache between reading and writing. */
	for (at = 0; at < e->bytes && !r; at += n) {
		n = min_u64(e->bytes - at, c->bite - (offset + at) % c->bite);
		r = block_pread(t->queue, c->from, t->buf, n, offset + at);
		if (!r)
			r = put_range(t, offset + at, t->buf, n);
	}
	return r;
}

/* --- threads ------------------------------------------------------------------------------ */

/*
 * Looks how the source goes on. With compression whole clusters are needed: one
 * that is data and zero, or from two images, is read as data.
 */
static int next_extent(struct copy *c)
{
	struct block_extent *e = &c->extent;
	uint64_t unit = c->packed_to ? c->packed_to->cluster_bytes : 1, end;
	int r = block_status(c->from, c->next, c->total - c->next, e);

	if (r < 0)
		return r;
	end = c->next + e->bytes;
	if (end % unit && end < c->total) {
		if (e->bytes > unit) {
			e->bytes = end / unit * unit - c->next;
		} else {
			e->bytes = min_u64(round_up(end, unit), c->total) - c->next;
			e->zero = false;
			e->own = true;
		}
	}
	return 0;
}

/* The next piece of the disk that is all alike. */
static bool take_piece(struct copy *c, uint64_t *offset, struct block_extent *piece)
{
	LOCK_SCOPE(&c->lock);
	if (!c->result && c->job && cancel_requested(c->job->cancel))
		c->result = -ECANCELED;
	if (!c->result && c->next < c->total && !c->extent.bytes)
		c->result = next_extent(c);
	if (c->result || c->next >= c->total)
		return false;
	*offset = c->next;
	*piece = c->extent;
	if (!piece->zero)
		piece->bytes = min_u64(piece->bytes, PIECE - c->next % PIECE);
	c->next += piece->bytes;
	c->extent.bytes -= piece->bytes;
	return true;
}

static void piece_done(struct copy *c, uint64_t bytes, int r)
{
	LOCK_SCOPE(&c->lock);
	if (r < 0 && !c->result)
		c->result = r;
	c->finished += bytes;
	if (c->job && c->job->progress)
		c->job->progress(c->job->arg, c->finished, c->total);
}

static void *copier_main(void *arg)
{
	struct copier *t = arg;
	struct block_extent piece;
	uint64_t offset;

	while (take_piece(t->copy, &offset, &piece))
		piece_done(t->copy, piece.bytes, copy_extent(t, offset, &piece));
	return NULL;
}

static int copier_init(struct copier *t, struct copy *c)
{
	int r;

	t->copy = c;
	r = block_queue_new_sync(&t->queue, NULL);
	/* Room behind for the padding of a last cluster. */
	if (!r && posix_memalign((void **)&t->buf, 4096, 2 * PIECE))
		r = -ENOMEM;
	if (r < 0 || !c->packed_to)
		return r;
	t->ctx = qcow2_ctx_get(c->packed_to);
	t->packed = malloc(c->packed_to->cluster_bytes);
	if (!t->ctx || !t->packed)
		return -ENOMEM;
	return qcow2_packer_new(&t->packer,
				c->packed_to->header.compression == QCOW2_COMPRESSION_ZSTD);
}

static void copier_free(struct copier *t)
{
	block_queue_free(t->queue);
	if (t->ctx)
		qcow2_ctx_put(t->copy->packed_to, t->ctx);
	qcow2_packer_free(t->packer);
	free(t->buf);
	free(t->packed);
}

static unsigned n_processors(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return CPU_COUNT(&set);
}

static int run(struct copy *c, unsigned n)
{
	struct copier threads[THREADS_MAX] = {0};
	unsigned i;
	int r = 0;

	for (i = 0; i < n && !r; i++)
		r = copier_init(&threads[i], c);
	/* The first is the caller itself; where no more can be started, so be it. */
	for (i = 1; i < n && !r; i++)
		threads[i].started =
		    !pthread_create(&threads[i].thread, NULL, copier_main, &threads[i]);
	if (!r)
		copier_main(&threads[0]);
	for (i = 0; i < n; i++) {
		if (threads[i].started)
			pthread_join(threads[i].thread, NULL);
		copier_free(&threads[i]);
	}
	return r ? r : c->result;
}

static int flush(struct block *block)
{
	struct block_queue *queue;
	int r = block_queue_new_sync(&queue, NULL);

	if (r < 0)
		return r;
	r = block_flush(queue, block);
	block_queue_free(queue);
	return r;
}

/* Does the target read as zeroes where nothing is written? */
static bool reads_zero_anyway(struct block *to)
{
	struct qcow2 *q = qcow2_from_block(to);
	struct block_extent e;

	if (q)
		return !q->backing;
	return !block_size(to) ||
	       (!block_status(to, 0, block_size(to), &e) && e.zero && e.bytes == block_size(to));
}

static int check_target(struct block *to, struct block *from, const struct image_copy *params,
			struct err *err)
{
	struct qcow2 *q = qcow2_from_block(to);

	if (block_size(to) < block_size(from))
		return err_set(err, -EINVAL, "the target is smaller than the source");
	if (params->compress && !q)
		return err_set(err, -EINVAL, "only qcow2 images are compressed");
	if (params->compress && q->external)
		return err_set(err, -EINVAL, "data files are not compressed");
	return 0;
}

int image_copy(struct block *to, struct block *from, const struct image_copy *params,
	       const struct image_job *job, struct err *err)
{
	struct qcow2 *q = qcow2_from_block(to);
	uint32_t cluster = q ? q->cluster_bytes : GRAIN;
	struct copy c = {
	    .from = from,
	    .to = to,
	    .packed_to = params->compress ? q : NULL,
	    .params = params,
	    .job = job,
	    .total = block_size(from),
	    .bite = max_u64(BITE, cluster),
	    .grain = max_u64(GRAIN, cluster),
	    .write_zeroes = !reads_zero_anyway(to),
	};
	unsigned n = params->threads ? params->threads : n_processors();
	int r = check_target(to, from, params, err);

	if (r < 0)
		return r;
	pthread_mutex_init(&c.lock, NULL);
	r = run(&c, n < THREADS_MAX ? n : THREADS_MAX);
	pthread_mutex_destroy(&c.lock);
	if (!r)
		r = flush(to);
	return r < 0 ? err_set(err, r, "cannot copy the disk: %s", err_name(r)) : 0;
}
