// SPDX-License-Identifier: ISC
/*
 * Snapshots of a disk that is written on: step by step with a plain copy for each of
 * several snapshots, and the corners: requests under way at the instant, files that
 * take no more, sectors that cannot be read, resizing, more writes than copies.
 * Several threads at once: test_block_fleece_threads.c.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <sys/mman.h>

#include "storage/block_filter.h"

#define CHUNK (64u << 10)
#define DISK  (40u * CHUNK + 5 * 512) /* not whole chunks */

static struct block_queue *sync_queue(void)
{
	struct block_queue *queue;

	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	return queue;
}

static struct block *fleece_over(struct block *child)
{
	struct block *fleece;

	assert_int_equal(block_fleece_open(&fleece, child, NULL), 0);
	return fleece;
}

static struct block *file_node(uint64_t bytes)
{
	struct block *file;

	assert_int_equal(block_file_open(&file, test_file(bytes), 0, NULL), 0);
	return file;
}

static struct block *snapshot_of(struct block *fleece)
{
	struct block *snapshot;

	assert_int_equal(block_fleece_snapshot(&snapshot, fleece, test_file(0), NULL), 0);
	return snapshot;
}

static void expect_content(struct block_queue *queue, struct block *block, const uint8_t *expect,
			   uint64_t bytes)
{
	_cleanup_free_ uint8_t *buf = malloc(bytes);
	struct block_info info;

	block_info_get(block, &info);
	assert_int_equal(info.bytes, bytes);
	assert_int_equal(block_pread(queue, block, buf, bytes, 0), 0);
	assert_memory_equal(buf, expect, bytes);
}

/* Extents cover all of it, and what they call zero is. */
static void expect_extents(struct block *block, const uint8_t *expect, uint64_t bytes)
{
	uint64_t at, i;
	struct block_extent extent;

	for (at = 0; at < bytes; at += extent.bytes) {
		assert_int_equal(block_status(block, at, bytes - at, &extent), 0);
		assert_true(extent.bytes > 0 && extent.bytes <= bytes - at);
		for (i = 0; extent.zero && i < extent.bytes; i++)
			assert_int_equal(expect[at + i], 0);
	}
}

/* --- in step with copies ---------------------------------------------------------------- */

#define STEPS	  1500
#define SNAPSHOTS 5

struct walk {
	struct block *disk, *snapshots[SNAPSHOTS];
	uint8_t *now, *then[SNAPSHOTS];
	struct block_queue *queue;
	uint64_t random;
	uint8_t buf[5 * CHUNK];
};

static void random_write(struct walk *w)
{
	uint64_t bytes =
	    1 + test_random(&w->random) % (test_random(&w->random) % 8 ? 9000 : sizeof(w->buf));
	uint64_t offset = test_random(&w->random) % (DISK - bytes + 1);

	switch (test_random(&w->random) % 4) {
	case 0:
		assert_int_equal(block_zero(w->queue, w->disk, offset, bytes,
					    test_random(&w->random) & BLOCK_UNMAP),
				 0);
		memset(w->now + offset, 0, bytes);
		break;
	case 1: /* may be carried out or not: what is there then is what is there */
		assert_int_equal(block_discard(w->queue, w->disk, offset, bytes), 0);
		assert_int_equal(block_pread(w->queue, w->disk, w->now + offset, bytes, offset), 0);
		break;
	default:
		test_fill(w->buf, bytes, &w->random);
		assert_int_equal(block_pwrite(w->queue, w->disk, w->buf, bytes, offset), 0);
		memcpy(w->now + offset, w->buf, bytes);
	}
}

static void random_look(struct walk *w, unsigned n)
{
	uint64_t bytes = 1 + test_random(&w->random) % sizeof(w->buf);
	uint64_t offset = test_random(&w->random) % (DISK - bytes + 1);

	if (!w->snapshots[n])
		return;
	assert_int_equal(block_pread(w->queue, w->snapshots[n], w->buf, bytes, offset), 0);
	assert_memory_equal(w->buf, w->then[n] + offset, bytes);
}

static void random_snapshot(struct walk *w, unsigned n)
{
	if (w->snapshots[n]) {
		expect_content(w->queue, w->snapshots[n], w->then[n], DISK);
		expect_extents(w->snapshots[n], w->then[n], DISK);
		block_close(take_ptr(w->snapshots[n]));
		return;
	}
	w->snapshots[n] = snapshot_of(w->disk);
	memcpy(w->then[n], w->now, DISK);
}

static void in_step_with_copies(void **state)
{
	struct walk *w = calloc(1, sizeof(*w));
	unsigned i, n;

	(void)state;
	w->random = 11;
	w->queue = sync_queue();
	w->disk = fleece_over(file_node(DISK));
	w->now = calloc(1, DISK);
	for (n = 0; n < SNAPSHOTS; n++)
		w->then[n] = calloc(1, DISK);
	for (i = 0; i < STEPS; i++) {
		n = test_random(&w->random) % SNAPSHOTS;
		random_write(w);
		random_look(w, n);
		if (test_random(&w->random) % 20 == 0)
			random_snapshot(w, n);
	}
	expect_content(w->queue, w->disk, w->now, DISK);
	for (n = 0; n < SNAPSHOTS; n++) {
		if (w->snapshots[n])
			random_snapshot(w, n);
		free(w->then[n]);
	}
	block_close(w->disk);
	block_queue_free(w->queue);
	free(w->now);
	free(w);
}

static void snapshots_are_read_only_and_counted(void **state)
{
	struct block *disk = fleece_over(file_node(DISK)), *many[64], *one;
	struct block_queue *queue = sync_queue();
	unsigned n;
	int r = 0;

	(void)state;
	for (n = 0; n < nitems(many); n++) {
		r = block_fleece_snapshot(&many[n], disk, test_file(0), NULL);
		if (r < 0)
			break;
	}
	assert_int_equal(r, -EBUSY);
	assert_int_equal(block_pwrite(queue, many[0], "x", 1, 0), -EROFS);
	assert_int_equal(block_flush(queue, many[0]), 0);
	assert_int_equal(block_fleece_snapshot(&one, many[0], test_file(0), NULL), -EINVAL);
	while (n)
		block_close(many[--n]);
	block_close(disk);
	block_queue_free(queue);
}

/* A sparse disk of 1 TiB: found sparse in few steps, and zeroed in few where it was zero. */
static void a_large_disk_stays_sparse(void **state)
{
	const uint64_t large = 1ull << 40, places[] = {0, large / 3, large / 2, large - CHUNK};
	struct block_queue *queue = sync_queue();
	struct block *disk = fleece_over(file_node(large)), *snapshot;
	struct block_extent extent;
	uint8_t buf[4096], data[4096];
	unsigned i, steps = 0;
	uint64_t at;

	(void)state;
	memset(data, 'x', sizeof(data));
	for (i = 0; i < nitems(places); i++)
		assert_int_equal(block_pwrite(queue, disk, data, sizeof(data), places[i]), 0);
	snapshot = snapshot_of(disk);
	for (i = 0; i < nitems(places); i++) {
		assert_int_equal(block_zero(queue, disk, places[i], CHUNK, BLOCK_UNMAP), 0);
		assert_int_equal(block_pread(queue, snapshot, buf, sizeof(buf), places[i]), 0);
		assert_memory_equal(buf, data, sizeof(buf));
	}
	for (at = 0; at < large; at += extent.bytes, steps++) {
		assert_int_equal(block_status(snapshot, at, large - at, &extent), 0);
		for (i = 0; i < nitems(places); i++)
			assert_false(extent.zero && at <= places[i] &&
				     places[i] < at + extent.bytes);
	}
	assert_true(steps < 100);
	block_close(snapshot);
	block_close(disk);
	block_queue_free(queue);
}

/* --- requests under way ------------------------------------------------------------------- */

/* A node that holds writes, until they are let go. */
struct holder {
	struct block block;
	struct block *child;
	bool holding;
	unsigned n;
	struct block_req *held[64];
};

static void holder_submit(struct block *block, struct block_req *req)
{
	struct holder *h = (struct holder *)block;

	if (h->holding && req->op != BLOCK_READ && h->n < nitems(h->held))
		h->held[h->n++] = req;
	else
		block_forward(h->child, req);
}

static void holder_close(struct block *block)
{
	block_close(((struct holder *)block)->child);
	free(block);
}

static const struct block_ops holder_ops = {
    .name = "holder", .submit = holder_submit, .close = holder_close};

static struct holder *holder_over(struct block *child)
{
	struct holder *h = calloc(1, sizeof(*h));

	h->block.ops = &holder_ops;
	h->child = child;
	block_info_get(child, &h->block.info);
	h->holding = true;
	return h;
}

static void let_go(struct holder *h)
{
	h->holding = false;
	for (unsigned i = 0; i < h->n; i++)
		block_forward(h->child, h->held[i]);
	h->n = 0;
}

struct tracked {
	struct block_req req;
	struct iovec iov;
	uint8_t buf[CHUNK];
	int result; /* 1: under way */
};

static void tracked_done(struct block_req *req, int result)
{
	((struct tracked *)req)->result = result;
}

static void submit(struct tracked *t, struct block_queue *queue, struct block *block,
		   enum block_op op, uint64_t offset, uint64_t bytes, uint8_t with)
{
	memset(t->buf, with, sizeof(t->buf));
	t->iov = (struct iovec){t->buf, bytes};
	t->result = 1;
	t->req = (struct block_req){.op = op,
				    .offset = offset,
				    .bytes = bytes,
				    .iov = &t->iov,
				    .n_iov = 1,
				    .done = tracked_done};
	block_submit(queue, block, &t->req);
}

static void run_all(struct block_queue *queue)
{
	for (unsigned i = 0; i < 20; i++)
		block_queue_run(queue);
}

/*
 * What is under way when two snapshots are made belongs to both; they cannot be read before it
 * has ended, and what is written after is not in them. Another queue is in the same line.
 */
static void the_instant_is_after_what_is_under_way(void **state)
{
	struct block_queue *queue = sync_queue(), *other = sync_queue();
	struct holder *h = holder_over(file_node(DISK));
	struct block *disk = fleece_over(&h->block), *first, *second;
	struct tracked *t = calloc(4, sizeof(*t));
	struct block_extent extent;
	uint8_t buf[512];

	(void)state;
	submit(&t[0], queue, disk, BLOCK_WRITE, 0, 512, 'a');
	first = snapshot_of(disk);
	second = snapshot_of(disk);
	submit(&t[1], other, disk, BLOCK_WRITE, 0, 512, 'b');
	submit(&t[2], other, first, BLOCK_READ, 0, 512, 0);
	submit(&t[3], other, second, BLOCK_READ, 0, 512, 0);
	run_all(queue);
	run_all(other);
	assert_int_equal(h->n, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(t[i].result, 1);
	assert_int_equal(block_status(first, 0, DISK, &extent), 0);
	assert_true(extent.data && !extent.zero && extent.bytes <= CHUNK);
	let_go(h);
	run_all(queue);
	assert_int_equal(t[0].result, 0);
	block_queue_drain(other);
	assert_int_equal(t[1].result | t[2].result | t[3].result, 0);
	assert_int_equal(t[2].buf[0], 'a');
	assert_int_equal(t[3].buf[511], 'a');
	assert_int_equal(block_pread(queue, disk, buf, 512, 0), 0);
	assert_int_equal(buf[0], 'b');
	block_close(first);
	assert_int_equal(block_pread(queue, second, buf, 512, 0), 0);
	assert_int_equal(buf[0], 'a');
	block_close(second);
	block_close(disk);
	block_queue_free(queue);
	block_queue_free(other);
	free(t);
}

/* The line moves even where the snapshot that made it is gone. */
static void closed_while_it_waits(void **state)
{
	struct block_queue *queue = sync_queue();
	struct holder *h = holder_over(file_node(DISK));
	struct block *disk = fleece_over(&h->block), *snapshot;
	struct tracked *t = calloc(3, sizeof(*t));

	(void)state;
	submit(&t[0], queue, disk, BLOCK_WRITE, 0, 512, 'a');
	block_close(snapshot_of(disk));
	submit(&t[1], queue, disk, BLOCK_WRITE, 0, 512, 'b');
	snapshot = snapshot_of(disk);
	submit(&t[2], queue, disk, BLOCK_WRITE, 512, 512, 'c');
	run_all(queue);
	assert_int_equal(h->n, 1);
	let_go(h);
	block_queue_drain(queue);
	assert_int_equal(t[0].result | t[1].result | t[2].result, 0);
	assert_int_equal(block_pread(queue, snapshot, t[0].buf, 1024, 0), 0);
	assert_int_equal(t[0].buf[0], 'a');
	assert_int_equal(t[0].buf[512], 0);
	block_close(snapshot);
	block_close(disk);
	block_queue_free(queue);
	free(t);
}

/* More writes at once than copies may be made: all end, nothing is lost. */
static void more_writes_than_copies(void **state)
{
	enum { N = 200 };
	struct tracked *t = calloc(N, sizeof(*t));
	_cleanup_free_ uint8_t *before = malloc(DISK), *after = malloc(DISK);
	struct block *disk = fleece_over(file_node(DISK)), *snapshots[3];
	struct block_queue *queue = sync_queue(), *ring;
	uint64_t random = 5;

	(void)state;
	test_fill(before, DISK, &random);
	assert_int_equal(block_pwrite(queue, disk, before, DISK, 0), 0);
	memcpy(after, before, DISK);
	for (unsigned i = 0; i < nitems(snapshots); i++)
		snapshots[i] = snapshot_of(disk);
	assert_int_equal(block_queue_new(&ring, 256, NULL), 0);
	for (unsigned i = 0; i < N; i++) {
		uint64_t at = (uint64_t)(i * 7 % N) * 4096 * 3;

		submit(&t[i], i % 2 ? ring : queue, disk, BLOCK_WRITE, at, 4096, i);
		memset(after + at, i, 4096);
	}
	block_queue_kick(ring);
	/* Each may wait for the other. */
	for (bool busy = true; busy;) {
		block_queue_run(queue);
		block_queue_run(ring);
		busy = false;
		for (unsigned i = 0; i < N; i++)
			busy |= t[i].result == 1;
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(t[i].result, 0);
	expect_content(queue, disk, after, DISK);
	for (unsigned i = 0; i < nitems(snapshots); i++) {
		expect_content(queue, snapshots[i], before, DISK);
		block_close(snapshots[i]);
	}
	block_close(disk);
	block_queue_free(queue);
	block_queue_free(ring);
	free(t);
}

/* --- what may fail ------------------------------------------------------------------------ */

/* A file that cannot grow loses its snapshot; not the other's, and no write of the disk. */
static void a_full_file_loses_only_its_snapshot(void **state)
{
	struct block_queue *queue = sync_queue();
	struct block *disk = fleece_over(file_node(DISK)), *full, *good;
	int fd = memfd_create("full", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_free_ uint8_t *before = malloc(DISK), *buf = malloc(DISK);
	struct block_extent extent;
	uint64_t random = 3;

	(void)state;
	test_fill(before, DISK, &random);
	assert_int_equal(block_pwrite(queue, disk, before, DISK, 0), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(block_fleece_snapshot(&full, disk, fd, NULL), 0);
	good = snapshot_of(disk);
	expect_content(queue, full, before, DISK);
	memset(buf, 1, 9 * CHUNK);
	assert_int_equal(block_pwrite(queue, disk, buf, 9 * CHUNK, 100), 0);
	assert_int_equal(block_pread(queue, full, buf, 1, 20 * CHUNK), -EIO);
	assert_int_equal(block_status(full, 20 * CHUNK, 1, &extent), -EIO);
	assert_int_equal(block_zero(queue, disk, 0, DISK, 0), 0);
	expect_content(queue, good, before, DISK);
	block_close(full);
	block_close(good);
	memset(before, 0, DISK);
	expect_content(queue, disk, before, DISK);
	block_close(disk);
	block_queue_free(queue);
}

static int bad_sector(void *arg, const struct block_req *req)
{
	uint64_t bad = *(uint64_t *)arg;

	return req->op == BLOCK_READ && req->offset <= bad && bad < req->offset + req->bytes ? -EIO
											     : 0;
}

/* What the disk cannot give is lost to the snapshot, its neighbours are not. */
static void what_cannot_be_read_is_lost_alone(void **state)
{
	struct block_queue *queue = sync_queue();
	uint64_t bad = 3 * CHUNK + 512, random = 4;
	_cleanup_free_ uint8_t *before = malloc(DISK), *buf = malloc(DISK);
	struct block *disk, *snapshot;

	(void)state;
	assert_int_equal(block_fault_open(&disk, file_node(DISK),
					  &(struct block_fault_plan){bad_sector, &bad}, NULL),
			 0);
	disk = fleece_over(disk);
	test_fill(before, DISK, &random);
	assert_int_equal(block_pwrite(queue, disk, before, DISK, 0), 0);
	snapshot = snapshot_of(disk);
	assert_int_equal(block_pwrite(queue, disk, buf, 1, 3 * CHUNK), 0);
	assert_int_equal(block_pwrite(queue, disk, buf, 1, 4 * CHUNK), 0);
	assert_int_equal(block_pread(queue, snapshot, buf, 1, 3 * CHUNK), -EIO);
	assert_int_equal(block_pread(queue, snapshot, buf, CHUNK, 2 * CHUNK), 0);
	assert_memory_equal(buf, before + 2 * CHUNK, CHUNK);
	assert_int_equal(block_pread(queue, snapshot, buf, 3 * CHUNK, 4 * CHUNK), 0);
	assert_memory_equal(buf, before + 4 * CHUNK, 3 * CHUNK);
	block_close(snapshot);
	block_close(disk);
	block_queue_free(queue);
}

/* --- resizing ----------------------------------------------------------------------------- */

static void resizing_leaves_snapshots_as_they_were(void **state)
{
	struct block_queue *queue = sync_queue();
	struct block *disk = fleece_over(file_node(DISK)), *first, *small, *large;
	const uint64_t less = 7 * CHUNK + 1000, more = DISK + 3 * CHUNK;
	_cleanup_free_ uint8_t *before = malloc(DISK), *after = calloc(1, more), *x = malloc(more);
	uint64_t random = 3;

	(void)state;
	test_fill(before, DISK, &random);
	test_fill(x, more, &random);
	assert_int_equal(block_pwrite(queue, disk, before, DISK, 0), 0);
	first = snapshot_of(disk);
	assert_int_equal(block_resize(disk, less, NULL), 0);
	small = snapshot_of(disk);
	assert_int_equal(block_resize(disk, more, NULL), 0);
	large = snapshot_of(disk);
	expect_content(queue, first, before, DISK);
	expect_content(queue, small, before, less);
	memcpy(after, before, less);
	expect_content(queue, large, after, more);
	expect_extents(large, after, more);
	assert_int_equal(block_pwrite(queue, disk, x, more, 0), 0);
	expect_content(queue, first, before, DISK);
	expect_content(queue, small, before, less);
	expect_content(queue, large, after, more);
	expect_content(queue, disk, x, more);
	block_close(small);
	block_close(first);
	block_close(large);
	block_close(disk);
	block_queue_free(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(in_step_with_copies),
	    cmocka_unit_test(snapshots_are_read_only_and_counted),
	    cmocka_unit_test(a_large_disk_stays_sparse),
	    cmocka_unit_test(the_instant_is_after_what_is_under_way),
	    cmocka_unit_test(closed_while_it_waits),
	    cmocka_unit_test(more_writes_than_copies),
	    cmocka_unit_test(a_full_file_loses_only_its_snapshot),
	    cmocka_unit_test(what_cannot_be_read_is_lost_alone),
	    cmocka_unit_test(resizing_leaves_snapshots_as_they_were),
	};

	return cmocka_run_group_tests_name("block_fleece", tests, NULL, NULL);
}
