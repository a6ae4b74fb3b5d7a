// SPDX-License-Identifier: ISC
/*
 * Limits: no more goes through than rate and burst allow, however long it takes;
 * order is kept, flushes pass, and new limits free those who wait.
 */
#include "tests/unit/storage/storage_test.h"

#include <poll.h>
#include <time.h>

#include "storage/block_filter.h"

#define N 64

struct many {
	struct block_req reqs[N];
	struct iovec iov;
	unsigned done;
};

static int last_result;

static void keep_result(struct block_req *req, int result)
{
	(void)req;
	last_result = result;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void count(struct block_req *req, int result)
{
	struct many *m = (struct many *)(uintptr_t)req->user;

	assert_int_equal(result, 0);
	assert_ptr_equal(req, &m->reqs[m->done]); /* in order */
	m->done++;
}

static void submit_many(struct many *m, struct block_queue *queue, struct block *block, unsigned n,
			void *buf)
{
	unsigned i;

	m->iov = (struct iovec){buf, 512};
	for (i = 0; i < n; i++) {
		m->reqs[i] = (struct block_req){.op = BLOCK_READ,
						.offset = i * 512,
						.bytes = 512,
						.iov = &m->iov,
						.n_iov = 1,
						.done = count,
						.user = (uintptr_t)m};
		block_submit(queue, block, &m->reqs[i]);
	}
	block_queue_kick(queue);
}

static void set_up(struct block **block, struct block_queue **queue,
		   const struct block_limits *limits)
{
	struct block *file;

	/* Of the engine that completes in order. */
	assert_int_equal(block_queue_new_sync(queue, NULL), 0);
	assert_int_equal(block_file_open(&file, test_file(1 << 20), 0, NULL), 0);
	assert_int_equal(block_throttle_open(block, file, limits, NULL), 0);
}

static void rate_is_not_exceeded(void **state)
{
	struct block_limits limits = {.requests[BLOCK_LIMIT_TOTAL] = {.per_s = 200, .burst = 10}};
	struct block_queue *queue;
	struct block *block;
	struct many m = {0};
	uint8_t buf[512];
	double start, took;

	(void)state;
	set_up(&block, &queue, &limits);
	start = seconds();
	submit_many(&m, queue, block, 50, buf);
	assert_true(m.done <= 12);
	block_queue_drain(queue);
	took = seconds() - start;
	assert_int_equal(m.done, 50);
	assert_true(took >= (50 - 12) / 200.0); /* never faster; slower as the machine likes */
	block_close(block);
	block_queue_free(queue);
}

static void new_limits_free_those_who_wait(void **state)
{
	struct block_limits limits = {.bytes[BLOCK_LIMIT_READ] = {.per_s = 1, .burst = 512}};
	struct block_req flush = {.op = BLOCK_FLUSH};
	struct block_queue *queue;
	struct block *block;
	struct many m = {0};
	uint8_t buf[512];

	(void)state;
	set_up(&block, &queue, &limits);
	submit_many(&m, queue, block, N, buf); /* at this rate nine hours */
	while (block_queue_run(queue))
		;
	assert_true(m.done >= 1 && m.done <= 3);
	/* Writing and flushing are not limited; waiting for reads is not needed for them. */
	flush.done = keep_result;
	last_result = 1;
	block_submit(queue, block, &flush);
	while (last_result == 1)
		block_queue_run(queue);
	assert_int_equal(last_result, 0);
	memset(&limits, 0, sizeof(limits));
	block_throttle_set(block, &limits);
	block_queue_drain(queue);
	assert_int_equal(m.done, N);
	block_close(block);
	block_queue_free(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rate_is_not_exceeded),
	    cmocka_unit_test(new_limits_free_those_who_wait),
	};

	return cmocka_run_group_tests_name("block_throttle", tests, NULL, NULL);
}
