// SPDX-License-Identifier: ISC
/*
 * Content over a node of the block layer that is the daemon's own. Any thread may call:
 * each call takes a queue that carries requests out at once, on that thread, from a few that
 * are kept; nothing is locked while storage works, but for changes of the size.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "content_int.h"
#include "util/cleanup.h"

#define QUEUES_KEPT 8
#define STEP_BYTES  (256u << 20) /* of a range that becomes zero: at once */

struct content_block {
	struct content content;
	struct block *block;
	struct content_block_params params;
	pthread_rwlock_t size_lock; /* written while the size changes */
	atomic_uint_fast64_t end;   /* as it is shown; the node may be larger meanwhile */
	pthread_mutex_t lock;	    /* guards what follows */
	struct block_queue *kept[QUEUES_KEPT];
	unsigned n_kept;
	bool dirty;   /* written since the last flush */
	bool written; /* ever */
};

static struct content_block *of(struct content *content)
{
	return (struct content_block *)content;
}

/* --- queues ---------------------------------------------------------------------------------- */

static int take_queue(struct content_block *c, struct block_queue **queue)
{
	*queue = NULL;
	pthread_mutex_lock(&c->lock);
	if (c->n_kept)
		*queue = c->kept[--c->n_kept];
	pthread_mutex_unlock(&c->lock);
	return *queue ? 0 : block_queue_new_sync(queue, NULL);
}

static void give_queue(struct content_block *c, struct block_queue *queue)
{
	pthread_mutex_lock(&c->lock);
	if (c->n_kept < QUEUES_KEPT)
		c->kept[c->n_kept++] = take_ptr(queue);
	pthread_mutex_unlock(&c->lock);
	block_queue_free(queue);
}

static void note_written(struct content_block *c)
{
	LOCK_SCOPE(&c->lock);
	c->dirty = c->written = true;
}

static uint64_t size_of(struct content_block *c)
{
	return atomic_load(&c->end);
}

static uint64_t node_size(struct content_block *c)
{
	struct block_info info;

	block_info_get(c->block, &info);
	return info.bytes;
}

static uint64_t size(struct content *content)
{
	return size_of(of(content));
}

/* --- reading and writing ------------------------------------------------------------------------
 */

static ssize_t read_some(struct content *content, void *buf, size_t len, uint64_t offset)
{
	struct content_block *c = of(content);
	struct block_queue *queue;
	uint64_t end;
	int r;

	pthread_rwlock_rdlock(&c->size_lock);
	end = size_of(c);
	if (offset >= end)
		len = 0;
	else if (len > end - offset)
		len = end - offset;
	r = len ? take_queue(c, &queue) : 0;
	if (len && r == 0) {
		r = block_pread(queue, c->block, buf, len, offset);
		give_queue(c, queue);
	}
	pthread_rwlock_unlock(&c->size_lock);
	return r < 0 ? r : (ssize_t)len;
}

static int grow(struct content_block *c, uint64_t wanted)
{
	uint64_t end = (wanted + 511) / 512 * 512, step = c->params.step_bytes;
	int r = 0;

	pthread_rwlock_wrlock(&c->size_lock);
	if (end > node_size(c))
		r = block_resize(c->block, step ? (end + step - 1) / step * step : end, NULL);
	if (r == 0 && end > size_of(c))
		atomic_store(&c->end, end);
	pthread_rwlock_unlock(&c->size_lock);
	return r;
}

static int write_all(struct content *content, const void *buf, size_t len, uint64_t offset)
{
	struct content_block *c = of(content);
	struct block_queue *queue;
	int r = 0;

	if (!c->params.write)
		return -EBADF;
	if (len > INT64_MAX || offset > INT64_MAX - len)
		return -EFBIG;
	if (c->params.may_grow && offset + len > size_of(c))
		r = grow(c, offset + len);
	pthread_rwlock_rdlock(&c->size_lock);
	if (r == 0 && offset + len > size_of(c))
		r = -ENOSPC;
	if (r == 0)
		r = take_queue(c, &queue);
	if (r == 0) {
		note_written(c);
		r = block_pwrite(queue, c->block, buf, len, offset);
		give_queue(c, queue);
	}
	pthread_rwlock_unlock(&c->size_lock);
	return r;
}

static int zero_range(struct content *content, uint64_t offset, uint64_t len, bool punch)
{
	struct content_block *c = of(content);
	struct block_queue *queue;
	uint64_t end;
	int r;

	if (!c->params.write)
		return -EBADF;
	r = take_queue(c, &queue);
	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&c->size_lock);
	end = size_of(c);
	if (offset >= end)
		len = 0;
	else if (len > end - offset)
		len = end - offset;
	if (len)
		note_written(c);
	while (r == 0 && len) {
		uint64_t step = len < STEP_BYTES ? len : STEP_BYTES;

		r = block_zero(queue, c->block, offset, step, punch ? BLOCK_UNMAP : 0);
		offset += step;
		len -= step;
	}
	pthread_rwlock_unlock(&c->size_lock);
	give_queue(c, queue);
	return r;
}

static int resize(struct content *content, uint64_t wanted)
{
	struct content_block *c = of(content);

	if (!c->params.write)
		return -EBADF;
	if (wanted == 0)
		return zero_range(content, 0, UINT64_MAX, true);
	if (wanted <= size_of(c))
		return 0;
	if (!(c->params.may_grow || c->params.may_resize) || wanted > INT64_MAX)
		return -ENOSPC;
	note_written(c);
	return grow(c, wanted);
}

static int flush(struct content *content)
{
	struct content_block *c = of(content);
	struct block_queue *queue;
	bool dirty;
	int r;

	pthread_mutex_lock(&c->lock);
	dirty = c->dirty;
	c->dirty = false;
	pthread_mutex_unlock(&c->lock);
	if (!dirty)
		return 0;
	r = take_queue(c, &queue);
	if (r == 0) {
		r = block_flush(queue, c->block);
		give_queue(c, queue);
	}
	if (r < 0)
		note_written(c);
	return r;
}

/* --- holes, and the end ---------------------------------------------------------------------- */

static int extent(struct content *content, uint64_t offset, uint64_t bytes, uint64_t *alike,
		  bool *zero)
{
	struct block_extent e;
	int r = block_status(of(content)->block, offset, bytes, &e);

	if (r < 0)
		return r;
	*alike = e.bytes < bytes ? e.bytes : bytes;
	*zero = e.zero;
	return 0;
}

static int64_t seek(struct content *content, int64_t offset, int whence)
{
	struct content_block *c = of(content);
	int64_t r;

	pthread_rwlock_rdlock(&c->size_lock);
	r = content_seek_extents(content, size_of(c), offset, whence, extent);
	pthread_rwlock_unlock(&c->size_lock);
	return r;
}

static int close_block(struct content *content)
{
	struct content_block *c = of(content);
	int r = 0;

	if (c->params.write && node_size(c) > size_of(c))
		r = block_resize(c->block, size_of(c), NULL);
	if (r == 0)
		r = flush(content);
	for (unsigned i = 0; i < c->n_kept; i++)
		block_queue_free(c->kept[i]);
	block_close(c->block);
	if (c->params.closed)
		c->params.closed(c->params.arg, c->written);
	pthread_mutex_destroy(&c->lock);
	pthread_rwlock_destroy(&c->size_lock);
	free(c);
	return r;
}

static const struct content_ops block_ops = {
    .size = size,
    .read = read_some,
    .write = write_all,
    .resize = resize,
    .zero = zero_range,
    .flush = flush,
    .seek = seek,
    .close = close_block,
};

int content_block_open(struct content **content, struct block *block,
		       const struct content_block_params *params, struct err *err)
{
	struct content_block *c = calloc(1, sizeof(*c));

	if (!c) {
		block_close(block);
		if (params->closed)
			params->closed(params->arg, false);
		return err_set(err, -ENOMEM, "out of memory");
	}
	c->content.ops = &block_ops;
	c->block = block;
	c->params = *params;
	atomic_init(&c->end, node_size(c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_rwlock_init(&c->size_lock, NULL);
	*content = &c->content;
	return 0;
}
