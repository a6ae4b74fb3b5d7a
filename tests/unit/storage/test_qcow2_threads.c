// SPDX-License-Identifier: ISC
/*
 * One image, several queues on threads of their own, as a disk with many
 * virtqueues has: each keeps to its part of the disk and knows what is there, while
 * snapshots come and go, the disk grows and everything is flushed. Then all is
 * compared, and the image is checked.
 */
#include "tests/unit/storage/storage_test.h"

#include <poll.h>
#include <sys/mman.h>

#include "storage/image.h"

#define THREADS	 3
#define PART	 (3u << 20) /* not a multiple of the larger clusters: neighbours share some */
#define DISK	 (THREADS * PART)
#define IN_RING	 6
#define REQUESTS 400
#define MAX	 (96u << 10)

struct slot {
	struct block_req req;
	struct iovec iov;
	uint8_t *buf, *expect;
	bool busy;
};

struct user {
	struct block *block;
	struct block_queue *queue;
	uint64_t from, random;
	uint8_t *shadow;
	struct slot slots[IN_RING];
	pthread_t thread;
	unsigned bad;
};

static void slot_done(struct block_req *req, int result)
{
	struct slot *slot = (struct slot *)req;
	struct user *u = (struct user *)(uintptr_t)req->user;

	if (result || (req->op == BLOCK_READ && memcmp(slot->buf, slot->expect, req->bytes)))
		u->bad++;
	slot->busy = false;
}

static bool overlaps(const struct user *u, const struct slot *slot)
{
	const struct block_req *a = &slot->req;
	unsigned i;

	for (i = 0; i < IN_RING; i++) {
		const struct block_req *b = &u->slots[i].req;

		if (u->slots[i].busy && a->offset < b->offset + b->bytes &&
		    b->offset < a->offset + a->bytes)
			return true;
	}
	return false;
}

static void wait_some(struct user *u)
{
	struct pollfd p = {.fd = block_queue_fd(u->queue), .events = POLLIN};

	block_queue_kick(u->queue);
	poll(&p, 1, 60000);
	block_queue_run(u->queue);
}

static void prepare(struct user *u, struct slot *slot)
{
	static const enum block_op ops[] = {BLOCK_READ,	 BLOCK_READ,	     BLOCK_WRITE,
					    BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_FLUSH};
	struct block_req *req = &slot->req;

	memset(req, 0, sizeof(*req));
	req->op = ops[test_random(&u->random) % nitems(ops)];
	req->user = (uintptr_t)u;
	req->done = slot_done;
	if (req->op == BLOCK_FLUSH)
		return;
	if (req->op != BLOCK_READ)
		req->flags = test_random(&u->random) % 8 ? 0 : BLOCK_FUA;
	if (req->op == BLOCK_WRITE_ZEROES)
		req->flags |= test_random(&u->random) & BLOCK_UNMAP;
	req->bytes = (1 + test_random(&u->random) % (MAX / 512)) * 512;
	req->offset = u->from + test_random(&u->random) % ((PART - req->bytes) / 512 + 1) * 512;
	slot->iov = (struct iovec){slot->buf, req->bytes};
	req->iov = &slot->iov;
	req->n_iov = 1;
}

static void predict(struct user *u, struct slot *slot)
{
	struct block_req *req = &slot->req;
	uint8_t *there = u->shadow + (req->offset - u->from);

	if (req->op == BLOCK_READ) {
		memcpy(slot->expect, there, req->bytes);
	} else if (req->op == BLOCK_WRITE) {
		test_fill(slot->buf, req->bytes, &u->random);
		memcpy(there, slot->buf, req->bytes);
	} else if (req->op == BLOCK_WRITE_ZEROES) {
		memset(there, 0, req->bytes);
	}
}

static void *user_main(void *arg)
{
	struct user *u = arg;
	unsigned i;

	for (i = 0; i < REQUESTS; i++) {
		struct slot *slot = &u->slots[i % IN_RING];

		while (slot->busy)
			wait_some(u);
		prepare(u, slot);
		while (overlaps(u, slot))
			wait_some(u);
		predict(u, slot);
		slot->busy = true;
		block_submit(u->queue, u->block, &slot->req);
		if (i % 3 == 0)
			block_queue_kick(u->queue);
		block_queue_run(u->queue);
	}
	block_queue_drain(u->queue);
	return NULL;
}

static struct block *make_image(const struct image_create *how, int *fd)
{
	struct image_chain chain = {.n = 1};
	struct image_create create = *how;
	struct block *block;

	create.format = IMAGE_QCOW2;
	create.bytes = DISK;
	*fd = memfd_create("image", MFD_CLOEXEC);
	assert_int_equal(image_create(fcntl(*fd, F_DUPFD_CLOEXEC, 3), &create, NULL), 0);
	chain.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = fcntl(*fd, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	assert_int_equal(image_chain_open(&block, &chain, IMAGE_ASYNC, NULL), 0);
	return block;
}

static void start_user(struct user *u, struct block *block, unsigned n)
{
	unsigned i;

	*u = (struct user){.block = block, .from = (uint64_t)n * PART, .random = n + 1};
	u->shadow = calloc(1, PART);
	for (i = 0; i < IN_RING; i++) {
		u->slots[i].buf = malloc(MAX);
		u->slots[i].expect = malloc(MAX);
	}
	assert_int_equal(block_queue_new(&u->queue, IN_RING, NULL), 0);
	assert_int_equal(pthread_create(&u->thread, NULL, user_main, u), 0);
}

static void end_user(struct user *u)
{
	_cleanup_free_ uint8_t *buf = malloc(PART);
	struct block_queue *queue;
	unsigned i;

	assert_int_equal(u->bad, 0);
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(block_pread(queue, u->block, buf, PART, u->from), 0);
	assert_memory_equal(buf, u->shadow, PART);
	block_queue_free(queue);
	block_queue_free(u->queue);
	for (i = 0; i < IN_RING; i++) {
		free(u->slots[i].buf);
		free(u->slots[i].expect);
	}
	free(u->shadow);
}

static void disturb(struct block *block)
{
	struct block_extent extent;
	struct block_info info;
	unsigned i;

	for (i = 0; i < 6; i++) {
		assert_int_equal(qcow2_snapshot_create(block, "s", NULL), 0);
		assert_int_equal(block_status(block, i * 1000, DISK / 2, &extent), 0);
		block_info_get(block, &info);
		assert_int_equal(block_resize(block, info.bytes + (i << 20), NULL), 0);
		assert_int_equal(qcow2_snapshot_delete(block, "s", NULL), 0);
	}
}

static void check(int fd)
{
	struct image_chain chain = {.n = 1};
	struct qcow2_check_params params = {0};
	struct qcow2_check_result result;
	struct block *block;

	chain.layers[0] = (struct image_layer){.format = IMAGE_QCOW2, .fd = fd, .data_fd = -1};
	assert_int_equal(image_chain_open(&block, &chain, IMAGE_CHECK | IMAGE_READONLY, NULL), 0);
	assert_int_equal(qcow2_check(block, &params, &result, NULL), 0);
	assert_int_equal(result.corruptions, 0);
	assert_int_equal(result.leaks, 0);
	block_close(block);
}

static void many_queues(const struct image_create *how, bool disturbed)
{
	struct user users[THREADS];
	struct block *block;
	unsigned i;
	int fd;

	block = make_image(how, &fd);
	for (i = 0; i < THREADS; i++)
		start_user(&users[i], block, i);
	if (disturbed)
		disturb(block);
	for (i = 0; i < THREADS; i++)
		pthread_join(users[i].thread, NULL);
	for (i = 0; i < THREADS; i++)
		end_user(&users[i]);
	block_close(block);
	check(fd);
}

static void small_clusters(void **state)
{
	(void)state;
	many_queues(&(struct image_create){.cluster_bytes = 1024}, false);
}

static void default_clusters(void **state)
{
	(void)state;
	many_queues(&(struct image_create){.cluster_bytes = 64 << 10}, false);
}

static void large_clusters(void **state)
{
	(void)state;
	many_queues(&(struct image_create){.cluster_bytes = 2 << 20}, false);
}

static void subclusters(void **state)
{
	(void)state;
	many_queues(&(struct image_create){.cluster_bytes = 64 << 10, .extended_l2 = true}, false);
}

static void with_snapshots_and_resizes(void **state)
{
	(void)state;
	many_queues(&(struct image_create){.cluster_bytes = 4096}, true);
	many_queues(&(struct image_create){.cluster_bytes = 64 << 10, .extended_l2 = true}, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(small_clusters),
	    cmocka_unit_test(default_clusters),
	    cmocka_unit_test(large_clusters),
	    cmocka_unit_test(subclusters),
	    cmocka_unit_test(with_snapshots_and_resizes),
	};

	return cmocka_run_group_tests_name("qcow2_threads", tests, NULL, NULL);
}
