// SPDX-License-Identifier: ISC
/*
 * The client of NBD's transmission phase, at an other end that behaves and at several that
 * do not. The end is a thread that serves a disk in memory; ->mode is what it does instead.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

#include "storage/block_nbd.h"
#include "storage/nbd_proto.h"

#define DISK  (4u << 20)
#define NOTES 64

enum mode {
	GOOD,
	REVERSE, /* holds back as many as ->hold, then answers the last first */
	BAD_MAGIC,
	BAD_SLOT, /* a cookie that never was */
	BAD_USE,  /* that of the slot's earlier use */
	TWICE,
	EARLY,	   /* answers a write when its payload is half there */
	TRUNCATED, /* half a payload, then the end */
	FAILS,	   /* with ->error */
	HANG_UP,   /* after ->hold requests */
};

struct end {
	pthread_t thread;
	int fd;
	enum mode mode;
	unsigned hold;
	uint32_t error;
	int gate; /* a descriptor to wait for before the first request; -1 */
	uint8_t *disk;
	struct nbd_request notes[NOTES]; /* in the host's order */
	unsigned n_notes;
};

/* --- the other end -----------------------------------------------------------------------------
 */

static bool take(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static void give(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
}

static void reply(struct end *e, const struct nbd_request *rq, uint32_t error)
{
	struct nbd_reply r = {htobe32(NBD_REPLY_MAGIC), htobe32(error), htobe64(rq->cookie)};

	if (e->mode == BAD_MAGIC)
		r.magic = ~r.magic;
	if (e->mode == BAD_SLOT)
		r.cookie = htobe64(rq->cookie | 0xff00);
	if (e->mode == BAD_USE)
		r.cookie = htobe64(rq->cookie - (1 << 16));
	give(e->fd, &r, sizeof(r));
	if (rq->type == NBD_CMD_READ && !error)
		give(e->fd, e->disk + rq->offset,
		     e->mode == TRUNCATED ? rq->length / 2 : rq->length);
	if (e->mode == TRUNCATED)
		shutdown(e->fd, SHUT_RDWR);
	if (e->mode == TWICE)
		give(e->fd, &r, sizeof(r));
}

static bool receive(struct end *e, struct nbd_request *rq)
{
	if (!take(e->fd, rq, sizeof(*rq)) || be32toh(rq->magic) != NBD_REQUEST_MAGIC)
		return false;
	*rq = (struct nbd_request){be32toh(rq->magic),	be16toh(rq->flags),  be16toh(rq->type),
				   be64toh(rq->cookie), be64toh(rq->offset), be32toh(rq->length)};
	if (e->n_notes < NOTES)
		e->notes[e->n_notes++] = *rq;
	if (rq->type != NBD_CMD_FLUSH && (rq->offset > DISK || rq->length > DISK - rq->offset))
		return false;
	if (rq->type == NBD_CMD_WRITE && e->mode == EARLY) {
		take(e->fd, e->disk, rq->length / 2);
		reply(e, rq, 0);
		return false;
	}
	if (rq->type == NBD_CMD_WRITE)
		return take(e->fd, e->disk + rq->offset, rq->length);
	if (rq->type == NBD_CMD_WRITE_ZEROES)
		memset(e->disk + rq->offset, 0, rq->length);
	return true;
}

static void *serve(void *arg)
{
	struct end *e = arg;
	struct nbd_request rq, *held = calloc(e->hold + 1, sizeof(rq));
	unsigned n = 0;
	char c;

	if (e->gate >= 0)
		assert_int_equal(read(e->gate, &c, 1), 1);
	while (receive(e, &rq)) {
		if (e->mode == REVERSE) {
			held[n++] = rq;
			if (n < e->hold)
				continue;
			for (e->hold = 0; n; n--)
				reply(e, &held[n - 1], 0);
		} else if (e->mode == HANG_UP && ++n == e->hold) {
			break;
		} else if (e->mode != HANG_UP) {
			reply(e, &rq, e->mode == FAILS ? e->error : 0);
		}
	}
	shutdown(e->fd, SHUT_RDWR);
	free(held);
	return NULL;
}

#define ALL_FLAGS                                                                                  \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |       \
	 NBD_FLAG_SEND_WRITE_ZEROES)

static struct block *open_at(struct end *e, uint32_t flags)
{
	struct block_nbd_params params = {.bytes = DISK, .flags = flags};
	struct block *block;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	e->fd = pair[1];
	e->disk = calloc(1, DISK);
	assert_int_equal(pthread_create(&e->thread, NULL, serve, e), 0);
	assert_int_equal(block_nbd_open(&block, pair[0], &params, NULL), 0);
	return block;
}

static void close_at(struct end *e, struct block *block)
{
	block_close(block);
	pthread_join(e->thread, NULL);
	close(e->fd);
	free(e->disk);
}

static struct block_queue *new_queue(bool sync)
{
	struct block_queue *queue;

	assert_int_equal(
	    sync ? block_queue_new_sync(&queue, NULL) : block_queue_new(&queue, 64, NULL), 0);
	return queue;
}

/* --- it behaves
 * ----------------------------------------------------------------------------------- */

static void check_note(struct end *e, unsigned i, uint16_t type, uint16_t flags, uint64_t offset,
		       uint32_t length)
{
	const struct nbd_request *n = &e->notes[i];

	assert_true(i < e->n_notes);
	assert_int_equal(n->type, type);
	assert_int_equal(n->flags, flags);
	assert_int_equal(n->offset, offset);
	assert_int_equal(n->length, length);
}

static void test_requests(void **state)
{
	for (int sync = 0; sync < 2; sync++) {
		struct end e = {.gate = -1};
		struct block *block = open_at(&e, ALL_FLAGS);
		struct block_queue *queue = new_queue(sync);
		uint8_t data[5000], back[5000];
		uint64_t random = 1;

		(void)state;
		test_fill(data, sizeof(data), &random);
		assert_int_equal(block_pwrite(queue, block, data, 5000, 123), 0);
		assert_int_equal(block_pread(queue, block, back, 5000, 123), 0);
		assert_memory_equal(data, back, 5000);
		assert_int_equal(block_zero(queue, block, 123, 10, 0), 0);
		assert_int_equal(block_zero(queue, block, 133, 10, BLOCK_UNMAP), 0);
		assert_int_equal(block_zero(queue, block, 143, 10, BLOCK_FUA | BLOCK_UNMAP), 0);
		assert_int_equal(block_discard(queue, block, 200, 10), 0);
		assert_int_equal(block_flush(queue, block), 0);
		assert_int_equal(block_pread(queue, block, back, DISK, 1), -ERANGE);
		check_note(&e, 0, NBD_CMD_WRITE, 0, 123, 5000);
		check_note(&e, 1, NBD_CMD_READ, 0, 123, 5000);
		check_note(&e, 2, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 123, 10);
		check_note(&e, 3, NBD_CMD_WRITE_ZEROES, 0, 133, 10);
		check_note(&e, 4, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA, 143, 10);
		check_note(&e, 5, NBD_CMD_TRIM, 0, 200, 10);
		check_note(&e, 6, NBD_CMD_FLUSH, 0, 0, 0);
		assert_int_equal(e.n_notes, 7);
		block_queue_free(queue);
		close_at(&e, block);
	}
}

static int vectored(struct block_queue *queue, struct block *block, enum block_op op,
		    unsigned flags, uint8_t *data, uint64_t bytes, uint64_t offset);

/* In pieces of odd sizes, and in commands of no more than the server takes. */
static void test_large_and_vectored(void **state)
{
	struct end e = {.gate = -1};
	struct block *block = open_at(&e, ALL_FLAGS | 12u << NBD_LINK_PAYLOAD_SHIFT);
	struct block_queue *queue = new_queue(false);
	uint8_t *data = malloc(DISK), *back = calloc(1, DISK);
	uint64_t random = 2;

	(void)state;
	test_fill(data, DISK, &random);
	assert_int_equal(vectored(queue, block, BLOCK_WRITE, 0, data, DISK, 0), 0);
	assert_memory_equal(e.disk, data, DISK);
	assert_int_equal(vectored(queue, block, BLOCK_READ, 0, back, DISK - 5001, 4999), 0);
	assert_memory_equal(back, data + 4999, DISK - 5001);
	for (unsigned i = 0; i < NOTES; i++)
		check_note(&e, i, NBD_CMD_WRITE, 0, i * 4096, 4096);
	free(data);
	free(back);
	block_queue_free(queue);
	close_at(&e, block);
}

static void test_what_the_server_lacks(void **state)
{
	struct end e = {.gate = -1};
	struct block *block = open_at(&e, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH);
	struct block_queue *queue = new_queue(false);
	struct block_info info;
	uint8_t data[512];

	(void)state;
	memset(data, 1, sizeof(data));
	block_info_get(block, &info);
	assert_false(info.discard || info.write_zeroes);
	assert_int_equal(vectored(queue, block, BLOCK_WRITE, BLOCK_FUA, data, 512, 0), 0);
	check_note(&e, 0, NBD_CMD_WRITE, 0, 0, 512);
	check_note(&e, 1, NBD_CMD_FLUSH, 0, 0, 0);
	assert_int_equal(block_discard(queue, block, 0, 512), 0);
	assert_int_equal(e.n_notes, 2);
	memset(e.disk, 7, DISK);
	assert_int_equal(block_zero(queue, block, 1, 300001, 0), 0);
	assert_int_equal(e.disk[0], 7);
	for (unsigned i = 1; i < 300002; i++)
		assert_int_equal(e.disk[i], 0);
	assert_int_equal(e.disk[300002], 7);
	assert_int_equal(block_zero(queue, block, 0, 512, BLOCK_FUA), 0);
	check_note(&e, e.n_notes - 1, NBD_CMD_FLUSH, 0, 0, 0);
	block_queue_free(queue);
	close_at(&e, block);
}

static void test_errors(void **state)
{
	static const struct {
		uint32_t wire;
		int result;
	} errors[] = {{1, -EROFS},	 {5, -EIO},	{12, -ENOMEM},
		      {22, -EIO},	 {28, -ENOSPC}, {75, -EIO},
		      {95, -EOPNOTSUPP}, {108, -EIO},	{0x80000000, -EIO}};
	uint8_t data[512] = {0};

	(void)state;
	for (unsigned i = 0; i < nitems(errors); i++) {
		struct end e = {.gate = -1, .mode = FAILS, .error = errors[i].wire};
		struct block *block = open_at(&e, ALL_FLAGS);
		struct block_queue *queue = new_queue(true);

		assert_int_equal(block_pread(queue, block, data, 512, 0), errors[i].result);
		assert_int_equal(block_pwrite(queue, block, data, 512, 0), errors[i].result);
		assert_int_equal(block_flush(queue, block), errors[i].result);
		block_queue_free(queue);
		close_at(&e, block);
	}
}

/* --- many
 * ------------------------------------------------------------------------------------------- */

#define MANY 600

struct many {
	struct block_req reqs[MANY];
	struct iovec iov[MANY];
	uint8_t *data;
	unsigned n, done, failed;
};

static void count(struct block_req *req, int result)
{
	struct many *m = (struct many *)(uintptr_t)req->user;

	m->done++;
	m->failed += result == -EIO;
	assert_true(result == 0 || result == -EIO);
}

static void submit_many(struct many *m, struct block_queue *queue, struct block *block,
			enum block_op op, unsigned n, uint32_t bytes)
{
	m->data = m->data ? m->data : calloc(n, bytes);
	m->n = n;
	m->done = m->failed = 0;
	for (unsigned i = 0; i < n; i++) {
		m->iov[i] = (struct iovec){m->data + (size_t)i * bytes, bytes};
		m->reqs[i] = (struct block_req){.op = op,
						.offset = (uint64_t)i * bytes % DISK,
						.bytes = bytes,
						.iov = &m->iov[i],
						.n_iov = 1,
						.done = count,
						.user = (uintptr_t)m};
		block_submit(queue, block, &m->reqs[i]);
	}
}

static void wait_one(struct block_req *req, int result)
{
	*(int *)(uintptr_t)req->user = result;
}

static int vectored(struct block_queue *queue, struct block *block, enum block_op op,
		    unsigned flags, uint8_t *data, uint64_t bytes, uint64_t offset)
{
	struct iovec iov[200];
	struct block_req req = {.op = op,
				.flags = flags,
				.offset = offset,
				.bytes = bytes,
				.iov = iov,
				.done = wait_one};
	uint64_t at = 0;
	int result = 1;

	req.user = (uintptr_t)&result;
	for (unsigned i = 0; i < 199 && at + 1 + i * 97 < bytes; i++) {
		iov[req.n_iov++] = (struct iovec){data + at, i * 97};
		at += i * 97;
	}
	iov[req.n_iov++] = (struct iovec){data + at, bytes - at};
	block_submit(queue, block, &req);
	block_queue_drain(queue);
	return result;
}

/* More than there are slots, answered in another order. */
static void test_more_than_slots(void **state)
{
	struct end e = {.gate = -1, .mode = REVERSE, .hold = 256};
	struct block *block = open_at(&e, ALL_FLAGS);
	struct block_queue *queue = new_queue(false);
	struct many m = {0};

	(void)state;
	memset(e.disk, 3, DISK);
	submit_many(&m, queue, block, BLOCK_READ, MANY, 512);
	block_queue_drain(queue);
	assert_int_equal(m.done, MANY);
	assert_int_equal(m.failed, 0);
	for (unsigned i = 0; i < MANY * 512; i++)
		assert_int_equal(m.data[i], 3);
	free(m.data);
	block_queue_free(queue);
	close_at(&e, block);
}

/* An end that does not read holds up nobody who submits. */
static void test_submit_never_waits(void **state)
{
	int gate[2];
	struct end e = {0};
	struct block *block;
	struct block_queue *queue = new_queue(false);
	struct many m = {0};

	(void)state;
	assert_int_equal(pipe(gate), 0);
	e.gate = gate[0];
	block = open_at(&e, ALL_FLAGS);
	submit_many(&m, queue, block, BLOCK_WRITE, 100, 1 << 20);
	block_queue_kick(queue);
	block_queue_run(queue);
	assert_int_equal(m.done, 0);
	assert_int_equal(write(gate[1], "", 1), 1);
	block_queue_drain(queue);
	assert_int_equal(m.done, 100);
	assert_int_equal(m.failed, 0);
	free(m.data);
	block_queue_free(queue);
	close_at(&e, block);
	close(gate[0]);
	close(gate[1]);
}

struct worker {
	pthread_t thread;
	struct block *block;
	bool sync;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct block_queue *queue = new_queue(w->sync);
	struct many m = {0};

	for (unsigned i = 0; i < 20; i++) {
		submit_many(&m, queue, w->block, i % 2 ? BLOCK_READ : BLOCK_WRITE, 100, 1024);
		block_queue_drain(queue);
		assert_int_equal(m.done, 100);
		assert_int_equal(m.failed, 0);
	}
	free(m.data);
	block_queue_free(queue);
	return NULL;
}

/* Several queues at one disk, while one has requests there and does not look at their ends. */
static void test_queues_are_independent(void **state)
{
	struct end e = {.gate = -1};
	struct block *block = open_at(&e, ALL_FLAGS);
	struct block_queue *asleep = new_queue(false);
	struct worker workers[4];
	struct many m = {0};

	(void)state;
	submit_many(&m, asleep, block, BLOCK_READ, 50, 4096);
	for (unsigned i = 0; i < nitems(workers); i++) {
		workers[i] = (struct worker){.block = block, .sync = i % 2};
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < nitems(workers); i++)
		pthread_join(workers[i].thread, NULL);
	assert_int_equal(m.done, 0);
	block_queue_drain(asleep);
	assert_int_equal(m.done, 50);
	free(m.data);
	block_queue_free(asleep);
	close_at(&e, block);
}

/* --- it does not behave
 * --------------------------------------------------------------------------------- */

static void test_hostile(void **state)
{
	static const enum mode modes[] = {BAD_MAGIC, BAD_SLOT, BAD_USE, TWICE, EARLY, TRUNCATED};

	(void)state;
	for (unsigned i = 0; i < nitems(modes); i++) {
		struct end e = {.gate = -1, .mode = modes[i]};
		struct block *block = open_at(&e, ALL_FLAGS);
		struct block_queue *queue = new_queue(false);
		struct many m = {0};

		submit_many(&m, queue, block, modes[i] == EARLY ? BLOCK_WRITE : BLOCK_READ, 300,
			    4096);
		block_queue_drain(queue);
		assert_int_equal(m.done, 300);
		assert_true(m.failed >= 298);
		/* and so it stays */
		submit_many(&m, queue, block, BLOCK_WRITE, 300, 4096);
		block_queue_drain(queue);
		assert_int_equal(m.failed, 300);
		free(m.data);
		block_queue_free(queue);
		close_at(&e, block);
	}
}

static void test_gone(void **state)
{
	(void)state;
	for (unsigned after = 1; after < 40; after += 7) {
		struct end e = {.gate = -1, .mode = HANG_UP, .hold = after};
		struct block *block = open_at(&e, ALL_FLAGS);
		struct block_queue *queue = new_queue(after % 2);
		struct many m = {0};

		submit_many(&m, queue, block, BLOCK_WRITE, MANY, 4096);
		block_queue_drain(queue);
		assert_int_equal(m.done, MANY);
		assert_int_equal(m.failed, MANY);
		assert_int_equal(block_flush(queue, block), -EIO);
		free(m.data);
		block_queue_free(queue);
		close_at(&e, block);
	}
}

static void test_refused(void **state)
{
	struct block_nbd_params huge = {.bytes = UINT64_MAX};
	struct block_nbd_params locked = {.bytes = 512, .flags = NBD_FLAG_READ_ONLY};
	struct block_queue *queue = new_queue(true);
	struct err err = ERR_INIT;
	struct block *block;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(block_nbd_open(&block, dup(pair[0]), &huge, &err), -EINVAL);
	assert_int_equal(block_nbd_open(&block, dup(pair[0]), &locked, &err), -EROFS);
	locked.readonly = true;
	assert_int_equal(block_nbd_open(&block, pair[0], &locked, &err), 0);
	assert_int_equal(block_pwrite(queue, block, "", 1, 0), -EROFS);
	block_queue_free(queue);
	block_close(block);
	/* it was closed: the descriptors taken are gone */
	assert_int_equal(read(pair[1], &locked, 1), 0);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_requests),
	    cmocka_unit_test(test_large_and_vectored),
	    cmocka_unit_test(test_what_the_server_lacks),
	    cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_more_than_slots),
	    cmocka_unit_test(test_submit_never_waits),
	    cmocka_unit_test(test_queues_are_independent),
	    cmocka_unit_test(test_hostile),
	    cmocka_unit_test(test_gone),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
