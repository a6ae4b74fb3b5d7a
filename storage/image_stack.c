// SPDX-License-Identifier: ISC
/*
 * The node over a chain that changes (image_stack.h). Requests are passed on as they
 * are; only a FLUSH becomes several, one after the other from the bottom, as long as something
 * that went below the top is not frozen (->loose).
 *
 * What is below the top is reached through the backing of the layer above it, and exchanged
 * there (qcow2_swap_backing()), so this node counts no requests but those flushes.
 *
 * System calls: futex. Staging and rebasing: those of opening images. Freezing: those of the
 * synchronous engine and fcntl(F_OFD_SETLK).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/image_stack.h"
#include "storage/qcow2_int.h"

#define N_WORKERS   4
#define CACHE_BYTES (1u << 20)

struct stack {
	struct block block;
	struct block *child; /* the top of the chain; atomic */
	unsigned flags;
	struct qcow2_workers *workers; /* of all layers; NULL: none needed yet */
	pthread_mutex_t lock;	       /* guards what follows */
	pthread_cond_t calm;	       /* no flush is under way */
	unsigned n_flushes;
	unsigned n_loose;		      /* atomic for a first look */
	struct block *loose[IMAGE_DEPTH_MAX]; /* below the top, not frozen; the lowest first */
};

/* --- requests ----------------------------------------------------------------------------- */

/* A FLUSH of several nodes. */
struct wide_flush {
	struct block_req sub;
	struct stack *stack;
	struct block_req *parent;
	int result;
	unsigned at, n;
	struct block *nodes[];
};

static void flush_next(struct wide_flush *flush);

static void flushed(struct block_req *req, int result)
{
	struct wide_flush *flush = (struct wide_flush *)req;

	if (result < 0 && !flush->result)
		flush->result = result;
	flush_next(flush);
}

static void flush_next(struct wide_flush *flush)
{
	struct stack *s = flush->stack;
	struct block_req *parent = flush->parent;
	int result = flush->result;

	if (flush->at < flush->n) {
		flush->sub = (struct block_req){.op = BLOCK_FLUSH, .done = flushed};
		block_submit(parent->queue, flush->nodes[flush->at++], &flush->sub);
		return;
	}
	free(flush);
	pthread_mutex_lock(&s->lock);
	if (--s->n_flushes == 0)
		pthread_cond_broadcast(&s->calm);
	pthread_mutex_unlock(&s->lock);
	block_req_end(parent, result);
}

static struct wide_flush *wide_flush_new(struct stack *s, struct block_req *req)
{
	struct wide_flush *flush;

	LOCK_SCOPE(&s->lock);
	flush = malloc(sizeof(*flush) + (s->n_loose + 1) * sizeof(flush->nodes[0]));
	if (!flush)
		return NULL;
	flush->stack = s;
	flush->parent = req;
	flush->result = 0;
	flush->at = 0;
	flush->n = s->n_loose;
	memcpy(flush->nodes, s->loose, s->n_loose * sizeof(s->loose[0]));
	flush->nodes[flush->n++] = s->child;
	s->n_flushes++;
	return flush;
}

static void stack_submit(struct block *block, struct block_req *req)
{
	struct stack *s = (struct stack *)block;
	struct wide_flush *flush;

	if (req->op != BLOCK_FLUSH || !__atomic_load_n(&s->n_loose, __ATOMIC_ACQUIRE)) {
		block_forward(__atomic_load_n(&s->child, __ATOMIC_ACQUIRE), req);
		return;
	}
	flush = wide_flush_new(s, req);
	if (flush)
		flush_next(flush);
	else
		block_req_end(req, -ENOMEM);
}

static int stack_status(struct block *block, uint64_t offset, uint64_t bytes,
			struct block_extent *extent)
{
	struct stack *s = (struct stack *)block;

	return block_status(__atomic_load_n(&s->child, __ATOMIC_ACQUIRE), offset, bytes, extent);
}

static int stack_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct stack *s = (struct stack *)block;
	int r = block_resize(s->child, bytes, err);

	block_set_size(block, block_size(s->child));
	return r;
}

static void stack_close(struct block *block)
{
	struct stack *s = (struct stack *)block;

	block_close(s->child);
	qcow2_workers_free(s->workers); /* idle: no request is under way */
	pthread_cond_destroy(&s->calm);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct block_ops stack_ops = {
    .name = "stack",
    .submit = stack_submit,
    .status = stack_status,
    .resize = stack_resize,
    .close = stack_close,
};

int image_stack_open(struct block **block, struct block *chain, unsigned flags, struct err *err)
{
	struct stack *s = calloc(1, sizeof(*s));
	struct qcow2 *q = qcow2_from_block(chain);

	if (!s) {
		block_close(chain);
		return err_set(err, -ENOMEM, "out of memory");
	}
	s->block.ops = &stack_ops;
	block_info_get(chain, &s->block.info);
	s->child = chain;
	s->flags = flags;
	s->workers = q ? qcow2_take_workers(q) : NULL;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->calm, NULL);
	*block = &s->block;
	return 0;
}

/* --- layers --------------------------------------------------------------------------------- */

static struct block *below(struct block *layer)
{
	struct qcow2 *q = qcow2_from_block(layer);

	return q ? q->backing : NULL;
}

static unsigned depth_of(struct block *layer)
{
	unsigned n = 0;

	for (; layer; layer = below(layer))
		n++;
	return n;
}

/* Calls @fn with each descriptor of the layer's own. */
static void for_each_fd(struct block *layer, void (*fn)(int fd))
{
	struct qcow2 *q = qcow2_from_block(layer);
	struct block *const files[] = {q ? q->file : layer,
				       q && q->data != q->file ? q->data : NULL};

	for (unsigned i = 0; i < nitems(files); i++)
		if (files[i] && block_file_fd(files[i]) >= 0)
			fn(block_file_fd(files[i]));
}

/* --- staging -------------------------------------------------------------------------------- */

static bool same_file(int fd, const struct stat *st)
{
	struct stat other;

	return fd >= 0 && fstat(fd, &other) == 0 && other.st_dev == st->st_dev &&
	       other.st_ino == st->st_ino && (S_ISREG(st->st_mode) || other.st_rdev == st->st_rdev);
}

/* An image over itself would be read for ever. */
static int check_file(struct stack *s, int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "the new image's file");
	if ((flags & O_ACCMODE) != O_RDWR)
		return err_set(err, -EROFS, "the new image is not opened for writing");
	for (struct block *layer = s->child; layer; layer = below(layer)) {
		struct qcow2 *q = qcow2_from_block(layer);

		if (same_file(block_file_fd(q ? q->file : layer), &st) ||
		    (q && same_file(block_file_fd(q->data), &st)))
			return err_set(err, -ELOOP, "the new image is a part of the disk already");
	}
	return 0;
}

static int check_info(struct stack *s, const struct qcow2_header_info *info, struct err *err)
{
	uint64_t bytes = block_size(&s->block);

	if (!info->backing)
		return err_set(err, -EINVAL, "the new image has nothing below it");
	if (info->needs_data_file || info->n_snapshots || info->n_bitmaps)
		return err_set(err, -EINVAL, "the new image has snapshots, bitmaps or a data file");
	if (info->dirty || info->corrupt)
		return err_set(err, -EINVAL, "the new image has been in use");
	if (info->bytes != bytes && info->bytes != bytes / 512 * 512)
		return err_set(err, -EINVAL, "the new image has %llu bytes, the disk %llu",
			       (unsigned long long)info->bytes, (unsigned long long)bytes);
	return 0;
}

static int check_header(struct stack *s, struct block *file, struct err *err)
{
	struct qcow2_header_info info;
	int r = qcow2_header_info(file, &info, err);

	if (r < 0)
		return r;
	r = check_info(s, &info, err);
	qcow2_header_info_free(&info);
	return r;
}

/* Once it is open: @q takes the place of what it was staged over. */
static int check_staged(struct stack *s, struct qcow2 *q, struct err *err)
{
	uint64_t bytes = block_size(&s->block);

	if (!qcow2_is_empty(q))
		return err_set(err, -EINVAL, "the new image is not empty");
	/* What is no whole sector is shown as before: nobody can write it. */
	if (qcow2_l1_entries_for(q, bytes) > q->l1_entries)
		return err_set(err, -EINVAL, "the disk's last sector is not whole");
	block_set_size(&q->block, bytes);
	return 0;
}

static int open_staged(struct stack *s, struct block *file, struct block **staged, struct err *err)
{
	const struct qcow2_open_params params = {
	    .file = file,
	    .flags = QCOW2_OPEN_NO_BACKING,
	    .cache_bytes = CACHE_BYTES,
	    .workers = s->workers,
	};
	int r = qcow2_open(staged, &params, err);

	if (r < 0)
		return r;
	r = check_staged(s, qcow2_from_block(*staged), err);
	if (r < 0)
		image_stack_unstage(take_ptr(*staged));
	return r;
}

int image_stack_stage(struct block *stack, int fd, struct block **staged, struct err *err)
{
	struct stack *s = (struct stack *)stack;
	_cleanup_close_ int own = fd;
	struct block *file;
	int r = check_file(s, fd, err);

	*staged = NULL;
	if (r == 0 && stack->info.readonly)
		r = err_set(err, -EROFS, "the disk is read-only");
	if (r == 0 && depth_of(s->child) >= IMAGE_DEPTH_MAX)
		r = err_set(err, -ELOOP, "the disk has %d layers already", IMAGE_DEPTH_MAX);
	if (r == 0 && !s->workers && (s->flags & IMAGE_ASYNC))
		r = qcow2_workers_new(&s->workers, N_WORKERS, err);
	if (r == 0)
		r = block_file_open(&file, take_fd(&own),
				    BLOCK_OPEN_GROW |
					(s->flags & IMAGE_DIRECT ? BLOCK_OPEN_DIRECT : 0) |
					(s->flags & IMAGE_NO_FLUSH ? BLOCK_OPEN_NO_FLUSH : 0),
				    err);
	if (r < 0)
		return r;
	r = check_header(s, file, err);
	if (r < 0) {
		block_close(file);
		return r;
	}
	return open_staged(s, file, staged, err);
}

void image_stack_unstage(struct block *staged)
{
	if (!staged)
		return;
	qcow2_abandon(qcow2_from_block(staged));
	block_close(staged);
}

void image_stack_switch(struct block *stack, struct block *staged)
{
	struct stack *s = (struct stack *)stack;

	qcow2_from_block(staged)->backing = s->child;
	LOCK_SCOPE(&s->lock);
	s->loose[s->n_loose] = s->child; /* there is room: there are not more layers */
	__atomic_store_n(&s->n_loose, s->n_loose + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&s->child, staged, __ATOMIC_RELEASE);
}

/* --- freezing ------------------------------------------------------------------------------- */

static int flush_one(struct block *layer)
{
	struct block_queue *queue;
	int r = block_queue_new_sync(&queue, NULL);

	if (r < 0)
		return r;
	r = block_flush(queue, layer);
	block_queue_free(queue);
	return r;
}

static struct block *first_loose(struct stack *s)
{
	LOCK_SCOPE(&s->lock);
	return s->n_loose ? s->loose[0] : NULL;
}

static void drop_first_loose(struct stack *s)
{
	LOCK_SCOPE(&s->lock);
	memmove(&s->loose[0], &s->loose[1], (s->n_loose - 1) * sizeof(s->loose[0]));
	__atomic_store_n(&s->n_loose, s->n_loose - 1, __ATOMIC_RELEASE);
}

int image_stack_freeze(struct block *stack, struct err *err)
{
	struct stack *s = (struct stack *)stack;
	struct block *layer;

	while ((layer = first_loose(s))) {
		struct qcow2 *q = qcow2_from_block(layer);
		int r = q ? qcow2_freeze(q) : flush_one(layer);

		if (r < 0)
			return err_set(err, r, "cannot write back what is below: %s", err_name(r));
		for_each_fd(layer, image_lock_reader);
		drop_first_loose(s);
	}
	return 0;
}

/* --- rebasing ------------------------------------------------------------------------------- */

/* The layer whose backing is exchanged. */
static int find_kept(struct stack *s, unsigned keep, struct qcow2 **kept, struct err *err)
{
	struct block *layer = s->child;

	if (keep == 0 || keep > IMAGE_DEPTH_MAX)
		return err_set(err, -EINVAL, "%u layers cannot stay", keep);
	for (unsigned i = 1; i < keep && layer; i++)
		layer = below(layer);
	if (!layer || !below(layer))
		return err_set(err, -EINVAL, "the disk has no more than %u layers",
			       depth_of(s->child));
	*kept = qcow2_from_block(layer);
	LOCK_SCOPE(&s->lock);
	if (s->n_loose >= keep)
		return err_set(err, -EBUSY, "what is to go is not frozen yet");
	return 0;
}

/* A longer one would show through, a shorter one would hide, what the old one did not. */
static int check_size(struct qcow2 *kept, struct block *new, struct err *err)
{
	uint64_t seen = block_size(&kept->block), had = min_u64(seen, block_size(kept->backing));
	uint64_t has = min_u64(seen, block_size(new));

	if (had != has)
		return err_set(err, -EINVAL, "the new layers have %llu bytes, not %llu",
			       (unsigned long long)has, (unsigned long long)had);
	return 0;
}

static void wait_for_flushes(struct stack *s)
{
	LOCK_SCOPE(&s->lock);
	while (s->n_flushes)
		pthread_cond_wait(&s->calm, &s->lock);
}

int image_stack_rebase(struct block *stack, unsigned keep, struct image_chain *chain,
		       struct block *bottom, struct block **old, struct err *err)
{
	struct stack *s = (struct stack *)stack;
	struct qcow2 *kept = NULL;
	struct block *new = NULL;
	int r = find_kept(s, keep, &kept, err);

	*old = NULL;
	if (r == 0 && keep + chain->n + (bottom != NULL) > IMAGE_DEPTH_MAX)
		r = err_set(err, -ELOOP, "more than %d layers", IMAGE_DEPTH_MAX);
	if (r < 0) {
		image_chain_close(chain);
		block_close(bottom);
		return r;
	}
	r = image_chain_open_over(&new, chain, bottom, s->workers,
				  IMAGE_READONLY | (s->flags & (IMAGE_DIRECT | IMAGE_NO_FLUSH)),
				  err);
	if (r == 0)
		r = check_size(kept, new, err);
	if (r < 0) {
		block_close(new);
		return r;
	}
	*old = qcow2_swap_backing(kept, new);
	wait_for_flushes(s);
	return 0;
}
