// SPDX-License-Identifier: ISC
/*
 * The qcow2 node: opening and closing, which requests take the fast path, and the
 * workers that carry out the others.
 *
 * System calls: futex, those of the synchronous engine on the files below (preadv
 * pwritev2 fdatasync fallocate) and write to eventfds (workers at work); clone3 mmap
 * mprotect rt_sigprocmask eventfd2 (opening); memory may be mapped and unmapped any time.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "storage/qcow2_bitmap.h"

#define WORKERS_MAX  16
#define WORKER_STACK (256 << 10)

/* --- workers ------------------------------------------------------------------------------ */

struct qcow2_workers {
	pthread_t threads[WORKERS_MAX];
	unsigned n_threads;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t more;
	struct block_req *first, **last;
	bool end;
};

static struct block_req *next_req(struct qcow2_workers *w)
{
	struct block_req *req;

	LOCK_SCOPE(&w->lock);
	while (!w->first && !w->end)
		pthread_cond_wait(&w->more, &w->lock);
	req = w->first;
	if (req) {
		w->first = req->next;
		if (!w->first)
			w->last = &w->first;
	}
	return req;
}

static void worker_done(struct queue_io *io, int result)
{
	block_req_end(block_io_req(io), result);
}

static int run_slow(struct qcow2 *q, struct block_req *req)
{
	struct qcow2_ctx *ctx = qcow2_ctx_get(q);
	int r;

	if (!ctx)
		return -ENOMEM;
	qcow2_slow(q, ctx, req, &r);
	qcow2_ctx_put(q, ctx);
	return r;
}

static void *worker_main(void *arg)
{
	struct qcow2_workers *w = arg;
	struct block_req *req;

	while ((req = next_req(w))) {
		int r = run_slow((struct qcow2 *)req->node, req);

		block_req_io(req)->done = worker_done;
		queue_post(req->queue, block_req_io(req), r);
	}
	return NULL;
}

void qcow2_workers_run(struct qcow2_workers *workers, struct block_req *req)
{
	LOCK_SCOPE(&workers->lock);
	req->next = NULL;
	*workers->last = req;
	workers->last = &req->next;
	pthread_cond_signal(&workers->more);
}

bool qcow2_workers_cancel(struct qcow2_workers *workers, struct block_req *req)
{
	struct block_req **at;

	LOCK_SCOPE(&workers->lock);
	for (at = &workers->first; *at; at = &(*at)->next) {
		if (*at != req)
			continue;
		*at = req->next;
		if (!*at)
			workers->last = at;
		return true;
	}
	return false;
}

int qcow2_workers_new(struct qcow2_workers **workers, unsigned n, struct err *err)
{
	struct qcow2_workers *w = calloc(1, sizeof(*w));
	pthread_attr_t attr;
	sigset_t all, old;
	int r = 0;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	w->last = &w->first;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for other threads */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	while (!r && w->n_threads < n && w->n_threads < WORKERS_MAX) {
		r = -pthread_create(&w->threads[w->n_threads], &attr, worker_main, w);
		if (!r)
			w->n_threads++;
	}
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!w->n_threads) {
		qcow2_workers_free(w);
		return err_set(err, r, "cannot start threads for disk images: %s", err_name(r));
	}
	*workers = w;
	return 0;
}

struct qcow2_workers *qcow2_take_workers(struct qcow2 *q)
{
	struct qcow2_workers *workers = q->owns_workers ? q->workers : NULL;

	q->owns_workers = false;
	return workers;
}

void qcow2_workers_free(struct qcow2_workers *workers)
{
	unsigned i;

	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->end = true;
	pthread_cond_broadcast(&workers->more);
	pthread_mutex_unlock(&workers->lock);
	for (i = 0; i < workers->n_threads; i++)
		pthread_join(workers->threads[i], NULL);
	pthread_cond_destroy(&workers->more);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

/* --- requests ----------------------------------------------------------------------------- */

static int flush(struct qcow2 *q)
{
	LOCK_SCOPE(&q->meta);
	return qcow2_flush(q);
}

void qcow2_slow(struct qcow2 *q, struct qcow2_ctx *ctx, struct block_req *req, int *result)
{
	int r = -EINVAL;

	switch (req->op) {
	case BLOCK_READ:
		r = qcow2_read(q, ctx, req->offset, req->bytes, req->iov, req->n_iov, 0);
		break;
	case BLOCK_WRITE:
		r = qcow2_write(q, ctx, req->offset, req->bytes, req->iov, req->n_iov, 0);
		break;
	case BLOCK_FLUSH:
		r = flush(q);
		break;
	case BLOCK_DISCARD:
		r = qcow2_discard(q, ctx, req->offset, req->bytes);
		break;
	case BLOCK_WRITE_ZEROES:
		r = qcow2_zero(q, ctx, req->offset, req->bytes, req->flags & BLOCK_UNMAP);
		break;
	}
	if (!r && (req->flags & BLOCK_FUA) && req->op != BLOCK_READ && req->op != BLOCK_FLUSH)
		r = flush(q);
	*result = r;
}

/* A flush with no metadata to write is the file's alone. */
static bool fast_flush(struct qcow2 *q, struct block_req *req)
{
	bool clean;

	if (q->external)
		return false;
	pthread_mutex_lock(&q->lock);
	clean = !q->exclusive && qcow2_metadata_written(q);
	pthread_mutex_unlock(&q->lock);
	if (clean)
		block_forward(q->file, req);
	return clean;
}

static void node_submit(struct block *block, struct block_req *req)
{
	struct qcow2 *q = (struct qcow2 *)block;

	if (q->n_tracked && req->op != BLOCK_READ && req->op != BLOCK_FLUSH)
		qcow2_track_set(q, req->offset, req->bytes);
	if ((req->op == BLOCK_READ || req->op == BLOCK_WRITE) && qcow2_fast_rw(q, req))
		return;
	if (req->op == BLOCK_FLUSH && fast_flush(q, req))
		return;
	*(void **)block_req_room(req) = NULL;
	if (q->workers && !block_queue_may_wait(req->queue)) {
		qcow2_workers_run(q->workers, req);
		return;
	}
	if (block_queue_may_wait(req->queue))
		queue_settle(req->queue);
	block_req_end(req, run_slow(q, req));
}

static void node_cancel(struct block *block, struct block_req *req)
{
	struct qcow2 *q = (struct qcow2 *)block;

	if (q->workers && qcow2_workers_cancel(q->workers, req))
		block_req_end(req, -ECANCELED);
	else
		qcow2_fast_cancel(req);
}

static int below_status(struct qcow2 *q, uint64_t offset, struct block_extent *extent)
{
	struct block *backing = qcow2_backing(q);
	uint64_t size = backing ? block_size(backing) : 0;
	int r;

	if (offset >= size) {
		*extent = (struct block_extent){.bytes = extent->bytes, .zero = true};
		return 0;
	}
	r = block_status(backing, offset, min_u64(extent->bytes, size - offset), extent);
	extent->own = false;
	return r;
}

static int node_status(struct block *block, uint64_t offset, uint64_t bytes,
		       struct block_extent *extent)
{
	struct qcow2 *q = (struct qcow2 *)block;
	struct qcow2_map map = {0}, next;
	unsigned generation;
	int r;

	pthread_mutex_lock(&q->meta);
	pthread_mutex_lock(&q->lock);
	generation = qcow2_enter(q);
	pthread_mutex_unlock(&q->lock);
	r = qcow2_map(q, offset, bytes, true, &map);
	/* Pieces of one kind, wherever they lie, are one extent. */
	while (!r && map.bytes < bytes) {
		r = qcow2_map(q, offset + map.bytes, bytes - map.bytes, true, &next);
		if (r < 0 || next.kind != map.kind)
			break;
		map.bytes += next.bytes;
	}
	pthread_mutex_unlock(&q->meta);
	*extent = (struct block_extent){.bytes = map.bytes, .own = true};
	extent->zero = map.kind == MAP_ZERO;
	extent->data = map.has_host || map.kind == MAP_COMPRESSED;
	if (!r && map.kind == MAP_UNALLOCATED)
		r = below_status(q, offset, extent);
	qcow2_leave(q, generation);
	return r;
}

/* --- opening and closing ------------------------------------------------------------------ */

static void free_ctxs(struct qcow2 *q)
{
	struct qcow2_ctx *ctx, *next;

	for (ctx = q->ctxs; ctx; ctx = next) {
		next = ctx->next;
		block_queue_free(ctx->queue);
		free(ctx->cluster);
		free(ctx->packed);
		free(ctx);
	}
}

static void node_free(struct qcow2 *q)
{
	free_ctxs(q);
	if (q->owns_workers)
		qcow2_workers_free(q->workers); /* idle: no request is under way */
	qcow2_track_free(q);
	qcow2_snapshots_free(q);
	qcow2_cache_free(q);
	cluster_set_free(&q->tables);
	free(q->freed[0].items);
	free(q->freed[1].items);
	free(q->l1);
	free(q->reftable);
	block_queue_free(q->meta_queue);
	block_close(q->backing);
	if (q->data != q->file)
		block_close(q->data);
	block_close(q->file);
	qcow2_header_free(&q->header);
	pthread_mutex_destroy(&q->meta);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->alloc_done);
	pthread_cond_destroy(&q->idle);
	free(q);
}

int qcow2_write_back(struct qcow2 *q)
{
	int r = qcow2_flush(q);

	if (r < 0)
		return r;
	qcow2_track_store(q); /* where that fails the bitmaps are not in step, and that is all */
	r = qcow2_flush(q);
	if (!r)
		r = qcow2_apply_freed(q, true);
	if (!r)
		r = qcow2_flush(q);
	return r || !q->lazy ? r : qcow2_settle_counts(q);
}

/* What cannot be written any more is lost: whoever needed it has flushed before. */
static void node_close(struct block *block)
{
	struct qcow2 *q = (struct qcow2 *)block;

	if (!q->readonly && !q->broken) {
		LOCK_SCOPE(&q->meta);
		qcow2_write_back(q);
	}
	node_free(q);
}

static const struct block_ops node_ops = {
    .name = "qcow2",
    .submit = node_submit,
    .status = node_status,
    .resize = qcow2_resize,
    .close = node_close,
    .cancel = node_cancel,
};

struct qcow2 *qcow2_from_block(struct block *block)
{
	return block->ops == &node_ops ? (struct qcow2 *)block : NULL;
}

static void set_constants(struct qcow2 *q)
{
	const struct qcow2_header *h = &q->header;

	q->cluster_bits = h->cluster_bits;
	q->cluster_bytes = 1u << h->cluster_bits;
	q->extended = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
	q->l2_entry_bytes = q->extended ? 16 : 8;
	q->l2_bits = q->cluster_bits - (q->extended ? 4 : 3);
	q->sub_bits = q->cluster_bits - (q->extended ? 5 : 0);
	q->ref_bits = q->cluster_bits + 3 - h->refcount_order;
	q->external = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
	q->external_raw = h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
	q->block.info.bytes = h->size;
	q->block.info.logical_block = 512;
	q->block.info.physical_block = q->cluster_bytes < 4096 ? q->cluster_bytes : 4096;
	q->block.info.readonly = q->readonly;
	q->block.info.discard = q->block.info.write_zeroes = !q->readonly;
}

static int check_parts(struct qcow2 *q, unsigned flags, struct err *err)
{
	const struct qcow2_header *h = &q->header;

	if (h->backing && !q->backing && !(flags & QCOW2_OPEN_NO_BACKING))
		return err_set(err, -EINVAL, "the image needs its backing file %s", h->backing);
	if (!h->backing && q->backing)
		return err_set(err, -EINVAL, "the image has no backing file, and one was given");
	if (q->external && !q->data)
		return err_set(err, -EINVAL, "the image needs its data file %s",
			       h->data_file ? h->data_file : "(unnamed)");
	if (!q->external && q->data)
		return err_set(err, -EINVAL, "the image has no data file, and one was given");
	if (q->external && h->n_snapshots)
		return err_set(err, -EINVAL, "snapshots cannot be with an external data file");
	if (!q->external)
		q->data = q->file;
	if (!q->readonly && !q->checking && (h->incompatible & QCOW2_INCOMPAT_CORRUPT))
		return err_set(err, -EROFS,
			       "the image is marked as corrupt: it can be read, or repaired");
	return 0;
}

/* What an image needs before its first write. */
static int begin_writing(struct qcow2 *q, struct err *err)
{
	uint64_t known = q->header.autoclear & QCOW2_AUTOCLEAR_KNOWN;
	int r;

	if (q->file->info.readonly)
		return err_set(err, -EROFS, "the image's file is opened for reading only");
	r = qcow2_reftable_load(q, err);
	if (r < 0 || q->checking)
		return r;
	if (q->header.incompatible & QCOW2_INCOMPAT_DIRTY) {
		r = qcow2_repair_refcounts(q, err);
		if (r < 0)
			return r;
	}
	if (known != q->header.autoclear) {
		q->header.autoclear = known;
		r = qcow2_header_update(q);
		if (r < 0)
			return err_set(err, r, "cannot write the header: %s", err_name(r));
	}
	return qcow2_bitmaps_begin_writing(q, err);
}

static int load(struct qcow2 *q, const struct qcow2_open_params *params, struct err *err)
{
	int r = block_queue_new_sync(&q->meta_queue, err);

	if (!r)
		r = qcow2_header_read(q->meta_queue, q->file, &q->header, err);
	if (r < 0)
		return r;
	set_constants(q);
	r = check_parts(q, params->flags, err);
	if (r < 0)
		return r;
	/* Beyond its end a regular file reads as zeroes; a device does not. */
	q->fresh_from = q->file->grow ? block_size(q->file) : UINT64_MAX;
	if (qcow2_cache_init(q, params->cache_bytes) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = qcow2_snapshots_load(q, err);
	if (!r && params->snapshot)
		r = q->readonly ? qcow2_snapshot_use(q, params->snapshot, err)
				: err_set(err, -EROFS, "a snapshot can only be read");
	if (!r)
		r = qcow2_l1_load(q, err);
	if (!r && !q->readonly)
		r = begin_writing(q, err);
	if (!r && !q->readonly && !q->checking && q->header.version >= 3)
		q->lazy = q->header.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
	return r;
}

/* One context for each worker now, so that none needs to be made once the process is locked in. */
static int make_ctxs(struct qcow2 *q)
{
	struct qcow2_ctx *list = NULL, *ctx;
	unsigned i;

	for (i = 0; q->workers && i < q->workers->n_threads; i++) {
		ctx = qcow2_ctx_get(q);
		if (!ctx)
			break;
		ctx->next = list;
		list = ctx;
	}
	while ((ctx = list)) {
		list = ctx->next;
		qcow2_ctx_put(q, ctx);
	}
	return !q->workers || i == q->workers->n_threads ? 0 : -ENOMEM;
}

int qcow2_open(struct block **block, const struct qcow2_open_params *params, struct err *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	if (!q) {
		block_close(params->file);
		block_close(params->data);
		block_close(params->backing);
		return err_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_init(&q->meta, NULL);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->alloc_done, NULL);
	pthread_cond_init(&q->idle, NULL);
	q->block.ops = &node_ops;
	q->file = params->file;
	q->data = params->data;
	q->backing = params->backing;
	q->workers = params->workers;
	q->readonly = params->flags & QCOW2_OPEN_READONLY;
	q->checking = params->flags & QCOW2_OPEN_CHECK;
	r = make_ctxs(q);
	if (!r)
		r = load(q, params, err);
	else
		err_set(err, r, "out of memory or descriptors");
	if (r < 0) {
		node_free(q);
		return r;
	}
	*block = &q->block;
	return 0;
}
