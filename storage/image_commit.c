// SPDX-License-Identifier: ISC
/*
 * Moving contents between an image and the one below it: commit writes the top's
 * contents down; rebase puts the top over another image and copies up what
 * would otherwise read differently.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "storage/image.h"
#include "storage/qcow2_int.h"

#define CHUNK (1u << 20)

static int check_job(const struct image_job *job, uint64_t done, uint64_t total)
{
	if (!job)
		return 0;
	if (job->progress)
		job->progress(job->arg, done, total);
	return cancel_requested(job->cancel) ? -ECANCELED : 0;
}

/* --- commit ------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *p, uint64_t bytes)
{
	return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

static int commit_extent(struct block_queue *queue, struct block *base, struct block *top,
			 uint64_t offset, const struct block_extent *e, uint8_t *buf)
{
	int r;

	if (!e->own)
		return 0;
	if (e->zero)
		return block_zero(queue, base, offset, e->bytes, BLOCK_UNMAP);
	r = block_pread(queue, top, buf, e->bytes, offset);
	if (r < 0)
		return r;
	return is_zero(buf, e->bytes) ? block_zero(queue, base, offset, e->bytes, BLOCK_UNMAP)
				      : block_pwrite(queue, base, buf, e->bytes, offset);
}

static int commit_all(struct block *base, struct block *top, const struct image_job *job)
{
	_cleanup_free_ uint8_t *buf = NULL;
	uint64_t offset, total = block_size(top);
	struct block_extent e = {0};
	struct block_queue *queue;
	int r = block_queue_new_sync(&queue, NULL);

	if (r < 0)
		return r;
	buf = malloc(CHUNK);
	if (!buf)
		r = -ENOMEM;
	for (offset = 0; offset < total && !r; offset += e.bytes) {
		r = block_status(top, offset, min_u64(CHUNK, total - offset), &e);
		if (!r)
			r = commit_extent(queue, base, top, offset, &e, buf);
		if (!r)
			r = check_job(job, offset + e.bytes, total);
	}
	if (!r)
		r = block_flush(queue, base);
	block_queue_free(queue);
	return r;
}

/* The path and format of the image right below @path's. */
static int find_below(const char *path, const struct image_opener *opener, char **below,
		      enum image_format *format, struct err *err)
{
	struct image_chain chain;
	int r = image_chain_find(&chain, path, IMAGE_QCOW2, IMAGE_READONLY, opener, err);

	if (r < 0)
		return r;
	if (chain.n < 2) {
		r = err_set(err, -EINVAL, "%s has no backing file", path);
	} else {
		*below = take_ptr(chain.layers[1].path);
		*format = chain.layers[1].format;
	}
	image_chain_close(&chain);
	return r;
}

int image_commit(const char *path, const struct image_opener *opener, const struct image_job *job,
		 struct err *err)
{
	_cleanup_free_ char *below = NULL;
	struct block *top = NULL, *base = NULL;
	enum image_format format;
	int r = find_below(path, opener, &below, &format, err);

	if (!r)
		r = image_open(&base, below, format, 0, opener, err);
	if (!r)
		r = image_open(&top, path, IMAGE_QCOW2, IMAGE_READONLY | IMAGE_NO_BACKING, opener,
			       err);
	if (!r && block_size(base) < block_size(top))
		r = block_resize(base, block_size(top), err);
	if (!r) {
		r = commit_all(base, top, job);
		if (r < 0)
			err_set(err, r, "cannot commit %s: %s", path, err_name(r));
	}
	block_close(top);
	block_close(base);
	return r;
}

/* --- commit, of open files ---------------------------------------------------------------- */

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static int check_chain(const struct image_chain *chain, struct err *err)
{
	if (chain->n < 2 || chain->layers[0].format != IMAGE_QCOW2)
		return err_set(err, -EINVAL, "there is nothing to commit, or nothing to take it");
	for (unsigned i = 1; i < chain->n; i++)
		if (same_file(chain->layers[0].fd, chain->layers[i].fd))
			return err_set(err, -ELOOP, "the image is below itself");
	return 0;
}

/* The first layer by itself, and all others as one. */
static int open_both(struct block **top, struct block **base, struct image_chain *chain,
		     struct block *bottom, struct err *err)
{
	_cleanup_free_ struct image_chain *first = calloc(1, sizeof(*first));
	int r = first ? check_chain(chain, err) : err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		image_chain_close(chain);
		block_close(bottom);
		return r;
	}
	first->layers[first->n++] = chain->layers[0];
	memmove(&chain->layers[0], &chain->layers[1], --chain->n * sizeof(chain->layers[0]));
	r = image_chain_open_over(base, chain, bottom, NULL, 0, err);
	if (r < 0)
		image_chain_close(first);
	return r ? r : image_chain_open(top, first, IMAGE_READONLY | IMAGE_NO_BACKING, err);
}

/* A disk that shrank over @base shrinks it, too, but for what is no whole sector. */
static int take_size(struct block *base, struct block *top, bool before, struct err *err)
{
	uint64_t has = block_size(base), wants = block_size(top);

	if (before ? has >= wants : has / 512 * 512 <= wants)
		return 0;
	return block_resize(base, wants, err);
}

static int commit_held(struct block *base, struct block *top, const struct image_job *job,
		       struct err *err)
{
	int r = take_size(base, top, true, err);

	if (r < 0)
		return r;
	r = commit_all(base, top, job);
	if (r < 0)
		return err_set(err, r, "cannot commit: %s", err_name(r));
	return take_size(base, top, false, err);
}

static void hold_freed(struct block *block, bool hold)
{
	struct qcow2 *q = qcow2_from_block(block);

	if (!q)
		return;
	LOCK_SCOPE(&q->meta);
	q->hold_freed = hold;
}

/* Everything of @base is on stable storage, and asks for no repair. */
static int settle(struct block *base, struct err *err)
{
	struct qcow2 *q = qcow2_from_block(base);
	struct block_queue *queue;
	int r;

	if (q) {
		LOCK_SCOPE(&q->meta);
		r = qcow2_write_back(q);
	} else {
		r = block_queue_new_sync(&queue, NULL);
		if (r == 0) {
			r = block_flush(queue, base);
			block_queue_free(queue);
		}
	}
	return r < 0 ? err_set(err, r, "cannot commit: %s", err_name(r)) : 0;
}

int image_commit_fds(struct image_chain *chain, struct block *bottom,
		     int (*ready)(void *arg, struct err *err), void *arg,
		     const struct image_job *job, struct err *err)
{
	struct block *top = NULL, *base = NULL;
	int r = open_both(&top, &base, chain, bottom, err);

	if (r == 0) {
		hold_freed(base, true);
		r = commit_held(base, top, job, err);
	}
	if (r == 0)
		r = settle(base, err);
	if (r == 0 && ready)
		r = ready(arg, err);
	if (r == 0)
		hold_freed(base, false);
	block_close(top);
	block_close(base);
	return r;
}

/* --- rebase ------------------------------------------------------------------------------- */

static int read_padded(struct block_queue *queue, struct block *block, uint8_t *buf,
		       uint64_t offset, uint64_t bytes)
{
	uint64_t size = block ? block_size(block) : 0;
	uint64_t have = offset < size ? min_u64(bytes, size - offset) : 0;

	memset(buf + have, 0, bytes - have);
	return have ? block_pread(queue, block, buf, have, offset) : 0;
}

/* Copies up what differs within one extent that the top has not got. */
static int rebase_extent(struct block_queue *queue, struct block *top, struct block *below,
			 uint64_t offset, uint64_t bytes, uint8_t *buf)
{
	uint32_t cluster = qcow2_from_block(top)->cluster_bytes;
	uint8_t *other = buf + CHUNK;
	uint64_t at, n;
	int r = block_pread(queue, top, buf, bytes, offset);

	if (!r)
		r = read_padded(queue, below, other, offset, bytes);
	for (at = 0; at < bytes && !r; at += n) {
		n = min_u64(cluster - (offset + at) % cluster, bytes - at);
		if (memcmp(buf + at, other + at, n))
			r = block_pwrite(queue, top, buf + at, n, offset + at);
	}
	return r;
}

static int copy_up(struct block *top, struct block *below, const struct image_job *job)
{
	_cleanup_free_ uint8_t *buf = NULL;
	uint64_t offset, total = block_size(top);
	struct block_extent e = {0};
	struct block_queue *queue;
	int r = block_queue_new_sync(&queue, NULL);

	if (r < 0)
		return r;
	buf = malloc(2 * (size_t)CHUNK);
	if (!buf)
		r = -ENOMEM;
	for (offset = 0; offset < total && !r; offset += e.bytes) {
		r = block_status(top, offset, min_u64(CHUNK, total - offset), &e);
		if (!r && !e.own)
			r = rebase_extent(queue, top, below, offset, e.bytes, buf);
		if (!r)
			r = check_job(job, offset + e.bytes, total);
	}
	if (!r)
		r = block_flush(queue, top);
	block_queue_free(queue);
	return r;
}

static int rename_backing(struct qcow2 *q, const char *backing, enum image_format format,
			  struct err *err)
{
	struct qcow2_header old = q->header;
	int r;

	q->header.backing = backing ? strdup(backing) : NULL;
	q->header.backing_format = backing ? strdup(image_format_name(format)) : NULL;
	if (backing && (!q->header.backing || !q->header.backing_format))
		r = err_set(err, -ENOMEM, "out of memory");
	else
		r = qcow2_header_write(q, err);
	if (r < 0) {
		free(q->header.backing);
		free(q->header.backing_format);
		q->header.backing = old.backing;
		q->header.backing_format = old.backing_format;
		return r;
	}
	free(old.backing);
	free(old.backing_format);
	return 0;
}

/* Opens what is to be below @path from now on, which must not lead back to it. */
static int open_new_below(struct block **below, const char *path, const char *backing,
			  enum image_format format, const struct image_opener *opener,
			  struct err *err)
{
	_cleanup_free_ char *resolved = NULL;
	int r = image_resolve(path, backing, &resolved, err);

	if (!r && !strcmp(resolved, path))
		r = err_set(err, -ELOOP, "%s would be below itself", path);
	return r ? r : image_open(below, resolved, format, IMAGE_READONLY, opener, err);
}

int image_rebase(const char *path, const char *backing, enum image_format backing_format,
		 bool unsafe, const struct image_opener *opener, const struct image_job *job,
		 struct err *err)
{
	struct block *top = NULL, *below = NULL;
	struct qcow2 *q;
	int r = image_open(&top, path, IMAGE_QCOW2, unsafe ? IMAGE_NO_BACKING : 0, opener, err);

	if (!r && backing && !unsafe)
		r = open_new_below(&below, path, backing, backing_format, opener, err);
	if (r < 0) {
		block_close(top);
		return r;
	}
	q = qcow2_from_block(top);
	if (q->external_raw && backing)
		r = err_set(err, -EINVAL, "an image with a raw data file has no backing file");
	if (!r && !unsafe) {
		r = copy_up(top, below, job);
		if (r < 0)
			err_set(err, r, "cannot rebase %s: %s", path, err_name(r));
	}
	if (!r) {
		qcow2_begin_exclusive(q);
		r = rename_backing(q, backing, backing_format, err);
		qcow2_end_exclusive(q);
	}
	block_close(below);
	block_close(top);
	return r;
}
