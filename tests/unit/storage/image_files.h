/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_IMAGE_FILES_H
#define FV_TEST_IMAGE_FILES_H
/*
 * Chains of image files of every kind beside an array that they must read as, for tests of what
 * changes a chain. Included once.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#include "storage/image_stack.h"
#include "storage/qcow2_int.h"

#define BYTES (6u << 20)

/* The files of a disk, the top first; the test's own. */
struct files {
	struct image_layer l[16];
	unsigned n;
};

struct kind {
	const char *name;
	enum image_format format;
	uint32_t cluster_bytes;
	bool extended, zstd, lazy, data_file, compressed;
};

static const struct kind kinds[] = {
    {.name = "raw", .format = IMAGE_RAW},
    {.name = "qcow2", .format = IMAGE_QCOW2},
    {.name = "small clusters, lazy", .format = IMAGE_QCOW2, .cluster_bytes = 4096, .lazy = true},
    {.name = "extended", .format = IMAGE_QCOW2, .cluster_bytes = 65536, .extended = true},
    {.name = "large extended", .format = IMAGE_QCOW2, .cluster_bytes = 1 << 20, .extended = true},
    {.name = "data file", .format = IMAGE_QCOW2, .data_file = true},
    {.name = "compressed", .format = IMAGE_QCOW2, .compressed = true},
    {.name = "large, zstd",
     .format = IMAGE_QCOW2,
     .cluster_bytes = 1 << 20,
     .zstd = true,
     .compressed = true},
};

static uint8_t model[BYTES];
static struct block_queue *queue;

/* --- files ---------------------------------------------------------------------------------- */

static inline int copy_fd(int fd)
{
	int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);

	assert_true(copy >= 0 || fd < 0);
	return copy;
}

static inline struct image_layer make_layer(const struct kind *k, uint64_t bytes, bool over)
{
	struct image_layer l = {.format = k->format, .fd = test_file(0), .data_fd = -1};
	struct image_create p = {
	    .format = k->format,
	    .bytes = bytes,
	    .cluster_bytes = k->cluster_bytes,
	    .extended_l2 = k->extended,
	    .zstd = k->zstd,
	    .lazy_refcounts = k->lazy,
	    .backing = over ? "whatever" : NULL,
	    .data_file = k->data_file ? "data" : NULL,
	};

	if (k->data_file)
		p.data_fd = l.data_fd = test_file(0);
	assert_int_equal(image_create(copy_fd(l.fd), &p, NULL), 0);
	return l;
}

static inline struct image_layer overlay(void)
{
	static const struct kind plain = {.format = IMAGE_QCOW2};

	return make_layer(&plain, BYTES, true);
}

static inline void close_layer(struct image_layer *l)
{
	close(l->fd);
	if (l->data_fd >= 0)
		close(l->data_fd);
}

static inline void files_close(struct files *f)
{
	while (f->n)
		close_layer(&f->l[--f->n]);
}

static inline void push(struct files *f, struct image_layer l)
{
	memmove(&f->l[1], &f->l[0], f->n++ * sizeof(l));
	f->l[0] = l;
}

/* Those from @from on, for somebody who takes them. */
static inline struct image_chain *chain_of(const struct files *f, unsigned from)
{
	struct image_chain *chain = calloc(1, sizeof(*chain));

	for (unsigned i = from; i < f->n; i++) {
		chain->layers[chain->n] = f->l[i];
		chain->layers[chain->n].fd = copy_fd(f->l[i].fd);
		chain->layers[chain->n++].data_fd = copy_fd(f->l[i].data_fd);
	}
	return chain;
}

static inline struct block *open_files(const struct files *f, unsigned from, unsigned flags)
{
	struct image_chain *chain = chain_of(f, from);
	struct err err = ERR_INIT;
	struct block *block;

	if (image_chain_open(&block, chain, flags, &err) < 0)
		fail_msg("%s", err.text);
	free(chain);
	return block;
}

static inline struct block *open_stack(const struct files *f, unsigned flags)
{
	struct block *stack;

	assert_int_equal(image_stack_open(&stack, open_files(f, 0, flags), flags, NULL), 0);
	return stack;
}

/* Nothing is damaged in any of them, and no space lost. */
static inline void check_files(const struct files *f)
{
	for (unsigned i = 0; i < f->n; i++) {
		struct qcow2_check_result result;
		struct block *block;
		struct image_chain *one;

		if (f->l[i].format != IMAGE_QCOW2)
			continue;
		one = chain_of(&(struct files){{f->l[i]}, 1}, 0);
		assert_int_equal(image_chain_open(&block, one,
						  IMAGE_READONLY | IMAGE_CHECK | IMAGE_NO_BACKING,
						  NULL),
				 0);
		free(one);
		assert_int_equal(qcow2_check(block, &(struct qcow2_check_params){0}, &result, NULL),
				 0);
		assert_int_equal(result.corruptions, 0);
		assert_int_equal(result.leaks, 0);
		block_close(block);
	}
}

/* --- contents ------------------------------------------------------------------------------- */

static inline void same_as_model(struct block_queue *q, struct block *block)
{
	_cleanup_free_ uint8_t *buf = malloc(BYTES);

	assert_int_equal(block_pread(q, block, buf, BYTES, 0), 0);
	for (unsigned at = 0; at < BYTES; at += 512)
		if (memcmp(buf + at, model + at, 512))
			fail_msg("another content at %u", at);
}

static inline void closed_reads_alike(const struct files *f)
{
	struct block *block = open_files(f, 0, IMAGE_READONLY);

	same_as_model(queue, block);
	block_close(block);
}

/* A write or zeroes somewhere in [from, to), at the disk and in the model. */
static inline void change(struct block_queue *q, struct block *block, uint32_t from, uint32_t to,
			  uint64_t *seed)
{
	uint32_t bytes = 512 * (1 + test_random(seed) % (test_random(seed) % 8 ? 40 : 700));
	uint32_t offset = from + 512 * (test_random(seed) % ((to - from) / 512));

	if (bytes > to - offset)
		bytes = to - offset;
	if (test_random(seed) % 5) {
		test_fill(model + offset, bytes, seed);
		assert_int_equal(block_pwrite(q, block, model + offset, bytes, offset), 0);
	} else {
		memset(model + offset, 0, bytes);
		assert_int_equal(
		    block_zero(q, block, offset, bytes, test_random(seed) % 2 ? BLOCK_UNMAP : 0),
		    0);
	}
}

static inline void changes(struct block *block, unsigned n, uint64_t *seed)
{
	while (n--)
		change(queue, block, 0, BYTES, seed);
}

/* A bottom of that kind with something in it. */
static inline void make_bottom(struct files *f, const struct kind *k, bool over, uint64_t *seed)
{
	const struct image_copy copy = {.compress = true, .threads = 1};
	struct files source = {0};
	struct block *block, *from;

	push(f, make_layer(k, BYTES, over));
	if (!k->compressed) {
		block = open_files(f, 0, 0);
		changes(block, 60, seed);
		block_close(block);
		return;
	}
	push(&source, make_layer(&kinds[0], BYTES, false));
	from = open_files(&source, 0, 0);
	memset(model, 0, sizeof(model));
	changes(from, 60, seed);
	block = open_files(f, 0, 0);
	assert_int_equal(image_copy(block, from, &copy, NULL, NULL), 0);
	block_close(block);
	block_close(from);
	files_close(&source);
}

/* --- the way of a disk ---------------------------------------------------------------------- */

static inline struct block *stage(struct block *stack, const struct image_layer *l)
{
	struct err err = ERR_INIT;
	struct block *staged;

	if (image_stack_stage(stack, copy_fd(l->fd), &staged, &err) < 0)
		fail_msg("%s", err.text);
	return staged;
}

static inline void go_over(struct block *stack, struct files *f)
{
	struct image_layer l = overlay();

	image_stack_switch(stack, stage(stack, &l));
	push(f, l);
}

/* --- merging -------------------------------------------------------------------------------- */

struct merge {
	struct block *stack;	  /* NULL: nobody has it open */
	pthread_mutex_t *reading; /* held by each of n_readers while it reads */
	unsigned n_readers;
	struct files *f;
	unsigned at; /* the layer that goes down */
	bool called;
};

/* The files without the one that was merged; whoever has them open has exchanged them. */
static inline int merged(void *arg, struct err *err)
{
	struct merge *m = arg;
	struct files *f = m->f;
	struct block *old;
	int r = 0;

	m->called = true;
	close_layer(&f->l[m->at]);
	memmove(&f->l[m->at], &f->l[m->at + 1], (--f->n - m->at) * sizeof(f->l[0]));
	if (m->stack) {
		struct image_chain *chain = chain_of(f, m->at);

		r = image_stack_rebase(m->stack, m->at, chain, NULL, &old, err);
		free(chain);
		for (unsigned i = 0; i < m->n_readers; i++) {
			pthread_mutex_lock(&m->reading[i]);
			pthread_mutex_unlock(&m->reading[i]);
		}
		if (r == 0)
			block_close(old);
	}
	return r;
}

static inline void merge_down(struct merge *m)
{
	struct image_chain *chain = chain_of(m->f, m->at);
	struct err err = ERR_INIT;

	m->called = false;
	if (image_commit_fds(chain, NULL, merged, m, NULL, &err) < 0)
		fail_msg("%s", err.text);
	free(chain);
	assert_true(m->called);
}

/* --- tests ------------------------------------------------------------------------------ */

static inline int begin(void **state)
{
	(void)state;
	return block_queue_new_sync(&queue, NULL);
}

static inline int end(void **state)
{
	(void)state;
	block_queue_free(queue);
	return 0;
}

#endif
