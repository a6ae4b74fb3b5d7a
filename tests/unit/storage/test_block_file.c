// SPDX-License-Identifier: ISC
/*
 * Raw nodes on real files: random requests by several queues, over every engine,
 * cached and direct, compared with a shadow in memory; and the edges.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <poll.h>

#define DISK	 (2u << 20)
#define SLOTS	 16
#define SLICE	 (DISK / SLOTS)
#define REQUESTS 3000
#define IOVS	 5

struct slot {
	struct block_req req;
	struct iovec iov[IOVS];
	uint8_t *mem;	 /* room for the request's buffers */
	uint8_t *expect; /* READ: what it must give */
	bool busy;
};

struct run {
	struct block *block;
	struct block_queue *queue;
	uint8_t *shadow;
	uint64_t random;
	struct slot slots[SLOTS];
	unsigned done;
};

/* Each slot keeps to a slice of the disk of its own, so that the shadow is exact; the
 * slices are not aligned to blocks, so that unaligned neighbours meet in one block. */
static void slice_of(unsigned slot, uint64_t *from, uint64_t *bytes)
{
	*from = (uint64_t)slot * SLICE - (slot ? 100 : 0);
	*bytes = SLICE - (slot ? 0 : 100);
}

static void check_read(struct slot *slot)
{
	uint64_t pos = 0;
	unsigned i;

	for (i = 0; i < slot->req.n_iov; i++) {
		assert_memory_equal(slot->iov[i].iov_base, slot->expect + pos,
				    slot->iov[i].iov_len);
		pos += slot->iov[i].iov_len;
	}
}

static void slot_done(struct block_req *req, int result)
{
	struct slot *slot = (struct slot *)req;

	assert_int_equal(result, 0);
	assert_true(slot->busy);
	if (req->op == BLOCK_READ)
		check_read(slot);
	slot->busy = false;
}

/* Cuts the request's range into odd pieces of the slot's memory. */
static void cut(struct run *run, struct slot *slot, bool aligned)
{
	uint64_t left = slot->req.bytes, at = aligned ? 0 : 3;
	unsigned i;

	for (i = 0; i < IOVS && left; i++) {
		uint64_t n = i == IOVS - 1 ? left : 1 + test_random(&run->random) % left;

		if (aligned && i < IOVS - 1)
			n = n < 4096 ? left : n / 4096 * 4096;
		slot->iov[i] = (struct iovec){slot->mem + at, n};
		at += n;
		left -= n;
	}
	slot->req.iov = slot->iov;
	slot->req.n_iov = i;
}

static void choose(struct run *run, unsigned n)
{
	struct slot *slot = &run->slots[n];
	struct block_req *req = &slot->req;
	bool aligned = test_random(&run->random) % 2;
	uint64_t from, bytes, unit = aligned ? 4096 : 1;

	static const enum block_op ops[] = {BLOCK_READ,	 BLOCK_READ,	     BLOCK_WRITE,
					    BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_FLUSH};
	slice_of(n, &from, &bytes);
	memset(req, 0, sizeof(*req));
	req->op = ops[test_random(&run->random) % nitems(ops)];
	req->flags =
	    req->op == BLOCK_READ || req->op == BLOCK_FLUSH ? 0 : test_random(&run->random) % 4;
	req->offset = from + test_random(&run->random) % (bytes / 2);
	req->offset = (req->offset + unit - 1) / unit * unit;
	req->bytes = 1 + test_random(&run->random) % (from + bytes - req->offset);
	if (aligned && req->bytes >= 4096)
		req->bytes = req->bytes / 4096 * 4096;
	req->done = slot_done;
	if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
		cut(run, slot, aligned);
}

static void predict(struct run *run, struct slot *slot)
{
	struct block_req *req = &slot->req;
	uint64_t pos = req->offset;
	unsigned i;

	if (req->op == BLOCK_WRITE_ZEROES)
		memset(run->shadow + pos, 0, req->bytes);
	if (req->op == BLOCK_READ)
		memcpy(slot->expect, run->shadow + pos, req->bytes);
	for (i = 0; req->op == BLOCK_WRITE && i < req->n_iov; i++) {
		test_fill(slot->iov[i].iov_base, slot->iov[i].iov_len, &run->random);
		memcpy(run->shadow + pos, slot->iov[i].iov_base, slot->iov[i].iov_len);
		pos += slot->iov[i].iov_len;
	}
}

static void wait_some(struct run *run)
{
	struct pollfd p = {.fd = block_queue_fd(run->queue), .events = POLLIN};

	block_queue_kick(run->queue);
	assert_int_equal(poll(&p, 1, 60000), 1);
	run->done += block_queue_run(run->queue);
}

static void submit_one(struct run *run)
{
	unsigned n = test_random(&run->random) % SLOTS;
	struct slot *slot = &run->slots[n];

	while (slot->busy)
		wait_some(run);
	choose(run, n);
	predict(run, slot);
	slot->busy = true;
	block_submit(run->queue, run->block, &slot->req);
}

static void compare_all(struct run *run)
{
	uint8_t *all = malloc(DISK);

	assert_int_equal(block_pread(run->queue, run->block, all, DISK, 0), 0);
	assert_memory_equal(all, run->shadow, DISK);
	free(all);
}

static void run_random(int (*init)(struct block_queue *), unsigned flags)
{
	struct run run = {.random = 42 + flags};
	unsigned i;
	int r;

	r = block_file_open(&run.block, test_file(DISK), flags, NULL);
	if (r < 0 && (flags & BLOCK_OPEN_DIRECT))
		skip(); /* no O_DIRECT on this file system */
	assert_int_equal(r, 0);
	r = init ? queue_new_with(&run.queue, 7, init, NULL)
		 : block_queue_new_sync(&run.queue, NULL);
	if (r < 0)
		skip(); /* io_uring is refused here */
	run.shadow = calloc(1, DISK);
	for (i = 0; i < SLOTS; i++) {
		assert_int_equal(posix_memalign((void **)&run.slots[i].mem, 4096, SLICE + 4096), 0);
		run.slots[i].expect = malloc(SLICE + 4096);
	}
	for (i = 0; i < REQUESTS; i++)
		submit_one(&run);
	block_queue_drain(run.queue);
	compare_all(&run);
	for (i = 0; i < SLOTS; i++) {
		assert_false(run.slots[i].busy);
		free(run.slots[i].mem);
		free(run.slots[i].expect);
	}
	free(run.shadow);
	block_queue_free(run.queue);
	block_close(run.block);
}

static void uring_cached(void **state)
{
	(void)state;
	run_random(queue_uring_init, 0);
}

static void uring_direct(void **state)
{
	(void)state;
	run_random(queue_uring_init, BLOCK_OPEN_DIRECT);
}

static void threads_cached(void **state)
{
	(void)state;
	run_random(queue_threads_init, 0);
}

static void threads_direct(void **state)
{
	(void)state;
	run_random(queue_threads_init, BLOCK_OPEN_DIRECT);
}

static void sync_direct(void **state)
{
	(void)state;
	run_random(NULL, BLOCK_OPEN_DIRECT);
}

static int last_result;

static void keep_result(struct block_req *req, int result)
{
	(void)req;
	last_result = result;
}

static int one(struct block_queue *queue, struct block *block, enum block_op op, uint64_t offset,
	       uint64_t bytes)
{
	static uint8_t buf[65536];
	struct iovec iov = {buf, bytes < sizeof(buf) ? bytes : sizeof(buf)};
	struct block_req req = {.op = op,
				.offset = offset,
				.bytes = bytes,
				.iov = &iov,
				.n_iov = 1,
				.done = keep_result};

	last_result = 1;
	block_submit(queue, block, &req);
	assert_int_equal(last_result, 1); /* never from submit */
	block_queue_drain(queue);
	return last_result;
}

static void bad_requests_are_refused(void **state)
{
	struct block_queue *queue;
	struct block *block;

	(void)state;
	assert_int_equal(block_queue_new(&queue, 4, NULL), 0);
	assert_int_equal(block_file_open(&block, test_file(10000), 0, NULL), 0);
	assert_int_equal(one(queue, block, BLOCK_READ, 9999, 1), 0);
	assert_int_equal(one(queue, block, BLOCK_READ, 10000, 0), 0);
	assert_int_equal(one(queue, block, BLOCK_READ, 9999, 2), -ERANGE);
	assert_int_equal(one(queue, block, BLOCK_WRITE, 10000, 1), -ERANGE);
	assert_int_equal(one(queue, block, BLOCK_WRITE, UINT64_MAX, 2), -ERANGE);
	assert_int_equal(one(queue, block, BLOCK_DISCARD, 0, 10001), -ERANGE);
	assert_int_equal(one(queue, block, (enum block_op)99, 0, 1), -EINVAL);
	block_close(block);
	assert_int_equal(block_file_open(&block, test_file(10000), BLOCK_OPEN_READONLY, NULL), 0);
	assert_int_equal(one(queue, block, BLOCK_WRITE, 0, 512), -EROFS);
	assert_int_equal(one(queue, block, BLOCK_WRITE_ZEROES, 0, 512), -EROFS);
	assert_int_equal(one(queue, block, BLOCK_READ, 0, 512), 0);
	assert_int_equal(one(queue, block, BLOCK_FLUSH, 0, 0), 0);
	block_close(block);
	block_queue_free(queue);
}

static void only_disks_are_opened(void **state)
{
	struct err err = ERR_INIT;
	struct block *block;

	(void)state;
	assert_int_equal(block_file_open(&block, open("/dev/null", O_RDWR | O_CLOEXEC), 0, &err),
			 -EINVAL);
	assert_int_equal(block_file_open(&block, open("/", O_RDONLY | O_CLOEXEC), 0, &err),
			 -EINVAL);
	assert_string_equal(err.text, "neither a regular file nor a block device");
}

static void holes_are_told(void **state)
{
	struct block_extent extent;
	struct block_queue *queue;
	struct block *block;
	char buf[4096];

	(void)state;
	memset(buf, 1, sizeof(buf));
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(block_file_open(&block, test_file(1 << 20), 0, NULL), 0);
	assert_int_equal(block_pwrite(queue, block, buf, sizeof(buf), 65536), 0);
	assert_int_equal(block_status(block, 0, 1 << 20, &extent), 0);
	assert_true(extent.zero && !extent.data);
	assert_int_equal(extent.bytes, 65536);
	assert_int_equal(block_status(block, 65536, 1 << 20, &extent), 0);
	assert_true(extent.data && !extent.zero);
	assert_int_equal(extent.bytes, 4096);
	assert_int_equal(block_zero(queue, block, 65536, 4096, BLOCK_UNMAP), 0);
	assert_int_equal(block_status(block, 0, 2 << 20, &extent), 0);
	assert_true(extent.zero);
	assert_int_equal(extent.bytes, 1 << 20);
	assert_int_equal(block_status(block, 1 << 20, 1, &extent), -ERANGE);
	block_close(block);
	block_queue_free(queue);
}

static void growing_and_resizing(void **state)
{
	struct block_queue *queue;
	struct block_info info;
	struct block *block;
	char buf[3000] = {1};

	(void)state;
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(block_file_open(&block, test_file(0), BLOCK_OPEN_GROW, NULL), 0);
	assert_int_equal(block_pwrite(queue, block, buf, 3000, 5000), 0);
	block_info_get(block, &info);
	assert_int_equal(info.bytes, 8000);
	assert_int_equal(block_zero(queue, block, 8000, 2000, BLOCK_UNMAP), 0);
	assert_int_equal(block_resize(block, 0, NULL), 0);
	block_info_get(block, &info);
	assert_int_equal(info.bytes, 10000);
	assert_int_equal(block_pread(queue, block, buf, 3000, 9000), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(block_resize(block, 4096, NULL), 0);
	block_info_get(block, &info);
	assert_int_equal(info.bytes, 4096);
	block_close(block);
	block_queue_free(queue);
}

static void direct_keeps_the_odd_size(void **state)
{
	struct block_queue *queue;
	struct block *block;
	char buf[100] = {1};

	(void)state;
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	if (block_file_open(&block, test_file(10100), BLOCK_OPEN_DIRECT, NULL) < 0)
		skip();
	assert_int_equal(block_pwrite(queue, block, buf, 100, 10000), 0);
	assert_int_equal(block_resize(block, 0, NULL), 0);
	assert_int_equal(block_size(block), 10100);
	block_close(block);
	block_queue_free(queue);
}

static void *post_later(void *arg)
{
	struct queue_io *io = arg;

	usleep(1000);
	queue_post((struct block_queue *)(uintptr_t)io->offset, io, 7);
	return NULL;
}

static void posted(struct queue_io *io, int result)
{
	io->bytes = result;
}

/* What another thread posts wakes poll(2) on the queue's descriptor, idle ring or not. */
static void posts_wake_the_queue(void **state)
{
	struct queue_io io = {.done = posted};
	struct block_queue *queue;
	struct pollfd p;
	pthread_t thread;
	int i;

	(void)state;
	assert_int_equal(block_queue_new(&queue, 4, NULL), 0);
	block_queue_kick(queue);
	for (i = 0; i < 3; i++) {
		io.offset = (uintptr_t)queue;
		io.bytes = 0;
		p = (struct pollfd){.fd = block_queue_fd(queue), .events = POLLIN};
		pthread_create(&thread, NULL, post_later, &io);
		while (io.bytes == 0) {
			assert_int_equal(poll(&p, 1, 60000), 1);
			block_queue_run(queue);
		}
		pthread_join(thread, NULL);
		assert_int_equal(io.bytes, 7);
		block_queue_run(queue);
		block_queue_run(queue);
		assert_int_equal(poll(&p, 1, 0), 0); /* and then it is quiet again */
	}
	block_queue_free(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(uring_cached),	     cmocka_unit_test(uring_direct),
	    cmocka_unit_test(threads_cached),	     cmocka_unit_test(threads_direct),
	    cmocka_unit_test(sync_direct),	     cmocka_unit_test(bad_requests_are_refused),
	    cmocka_unit_test(only_disks_are_opened), cmocka_unit_test(holes_are_told),
	    cmocka_unit_test(growing_and_resizing),  cmocka_unit_test(direct_keeps_the_odd_size),
	    cmocka_unit_test(posts_wake_the_queue),
	};

	return cmocka_run_group_tests_name("block_file", tests, NULL, NULL);
}
