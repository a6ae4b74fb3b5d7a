// SPDX-License-Identifier: ISC
/*
 * Requests that nobody wants any more: wherever one stands (in an engine's line, in the
 * kernel, in line for its share of a limit, behind a snapshot's instant, before a format's
 * workers) it ends, once, with -ECANCELED or as it would have; those around it
 * go on.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>

#include "storage/block_filter.h"
#include "storage/image.h"

#define DISK (4u << 20)
#define PART 4096u

struct tracked {
	struct block_req req;
	struct iovec iov;
	uint8_t buf[PART];
	int result;
	unsigned ended; /* how often */
};

static void tracked_done(struct block_req *req, int result)
{
	struct tracked *t = (struct tracked *)req;

	t->result = result;
	t->ended++;
}

static void submit(struct tracked *t, struct block_queue *queue, struct block *block,
		   enum block_op op, unsigned flags, uint64_t offset, uint8_t with)
{
	memset(t->buf, with, PART);
	t->iov = (struct iovec){t->buf, PART};
	t->ended = 0;
	t->req = (struct block_req){.op = op,
				    .flags = flags,
				    .offset = offset,
				    .bytes = PART,
				    .iov = &t->iov,
				    .n_iov = 1,
				    .done = tracked_done};
	block_submit(queue, block, &t->req);
}

static struct block *file_node(void)
{
	struct block *file;

	assert_int_equal(block_file_open(&file, test_file(DISK), 0, NULL), 0);
	return file;
}

/* Runs the queue until all have ended; fails where one does not. */
static void run_until_ended(struct block_queue *queue, const struct tracked *t, unsigned n)
{
	struct pollfd p = {.fd = block_queue_fd(queue), .events = POLLIN};

	for (unsigned i = 0; i < n; i++) {
		while (!t[i].ended) {
			block_queue_kick(queue);
			assert_int_equal(poll(&p, 1, 60000), 1);
			block_queue_run(queue);
		}
		assert_int_equal(t[i].ended, 1);
	}
}

/* --- engines ------------------------------------------------------------------------------ */

struct io {
	struct queue_io io;
	struct iovec iov;
	char buf[8];
	int result;
	bool ended;
};

static void io_done(struct queue_io *io, int result)
{
	((struct io *)io)->result = result;
	((struct io *)io)->ended = true;
}

static void read_tty(struct io *io, struct block_queue *queue, int fd)
{
	*io = (struct io){0};
	io->iov = (struct iovec){io->buf, sizeof(io->buf)};
	io->io = (struct queue_io){
	    .kind = QUEUE_READV, .fd = fd, .iov = &io->iov, .n_iov = 1, .done = io_done};
	queue_submit(queue, &io->io);
	block_queue_kick(queue);
}

static void wait_io(struct block_queue *queue, const struct io *io)
{
	struct pollfd p = {.fd = block_queue_fd(queue), .events = POLLIN};

	while (!io->ended) {
		block_queue_kick(queue);
		assert_int_equal(poll(&p, 1, 60000), 1);
		block_queue_run(queue);
	}
}

/* A read that waits in the kernel for a terminal where nobody types. */
static void io_uring_stops_what_waits_in_the_kernel(void **state)
{
	struct block_queue *queue;
	struct io io;
	int tty;

	(void)state;
	if (queue_new_with(&queue, 4, queue_uring_init, NULL) < 0)
		skip();
	tty = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(tty >= 0 && grantpt(tty) == 0 && unlockpt(tty) == 0);
	read_tty(&io, queue, tty);
	block_queue_run(queue);
	assert_false(io.ended);
	queue_cancel(queue, &io.io);
	wait_io(queue, &io);
	assert_true(io.result == -ECANCELED || io.result == -EINTR);
	queue_cancel(queue, &io.io); /* is over: nothing happens */
	block_queue_kick(queue);
	block_queue_run(queue);
	close(tty);
	block_queue_free(queue);
}

/* (FUA: what goes to the page cache alone may be carried out at once.) */

/* The one thread cannot bring home what it has done; those behind it are taken back. */
static void threads_give_back_what_they_have_not_begun(void **state)
{
	struct tracked *t = calloc(3, sizeof(*t));
	struct block *file = file_node();
	struct block_queue *queue;

	(void)state;
	assert_int_equal(queue_new_with(&queue, 1, queue_threads_init, NULL), 0);
	pthread_mutex_lock(&queue->lock);
	for (unsigned i = 0; i < 3; i++)
		submit(&t[i], queue, file, BLOCK_WRITE, BLOCK_FUA, i * PART, 'x');
	block_cancel(&t[1].req);
	block_cancel(&t[2].req);
	pthread_mutex_unlock(&queue->lock);
	run_until_ended(queue, t, 3);
	assert_int_equal(t[0].result, 0);
	assert_int_equal(t[1].result, -ECANCELED);
	assert_int_equal(t[2].result, -ECANCELED);
	block_queue_free(queue);
	block_close(file);
	free(t);
}

/* More than a ring takes: those that wait for room are taken back. */
static void a_rings_backlog_is_given_back(void **state)
{
	enum { N = 40, DEPTH = 4 };
	struct tracked *t = calloc(N, sizeof(*t));
	struct block *file = file_node();
	struct block_queue *queue;

	(void)state;
	if (queue_new_with(&queue, DEPTH, queue_uring_init, NULL) < 0)
		skip();
	for (unsigned i = 0; i < N; i++)
		submit(&t[i], queue, file, BLOCK_WRITE, BLOCK_FUA, i * PART, 'x');
	for (unsigned i = N; i-- > 0;)
		if (i % 2)
			block_cancel(&t[i].req);
	run_until_ended(queue, t, N);
	for (unsigned i = 0; i < N; i++)
		if (i % 2 && i > DEPTH)
			assert_int_equal(t[i].result, -ECANCELED);
		else if (i % 2 == 0)
			assert_int_equal(t[i].result, 0);
	block_queue_free(queue);
	block_close(file);
	free(t);
}

static void what_has_ended_stays_as_it_is(void **state)
{
	struct tracked *t = calloc(1, sizeof(*t));
	struct block *file = file_node();
	struct block_queue *queue;

	(void)state;
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	submit(t, queue, file, BLOCK_WRITE, 0, DISK, 'x'); /* out of range: ends at once */
	block_cancel(&t->req);
	block_queue_drain(queue);
	assert_int_equal(t->ended, 1);
	assert_int_equal(t->result, -ERANGE);
	block_queue_free(queue);
	block_close(file);
	free(t);
}

/* --- nodes -------------------------------------------------------------------------------- */

static void a_limits_line_is_left(void **state)
{
	enum { N = 20 };
	struct block_limits limits = {.requests[BLOCK_LIMIT_WRITE] = {.per_s = 1, .burst = 1}};
	struct tracked *t = calloc(N, sizeof(*t));
	struct block *limited;
	struct block_queue *queue;
	unsigned cancelled = 0;

	(void)state;
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(block_throttle_open(&limited, file_node(), &limits, NULL), 0);
	for (unsigned i = 0; i < N; i++)
		submit(&t[i], queue, limited, BLOCK_WRITE, 0, i * PART, 'x');
	for (unsigned i = 0; i < N; i += 2) /* the last one stays */
		block_cancel(&t[i].req);
	for (unsigned i = 1; i < N - 1; i += 2)
		block_cancel(&t[i].req);
	run_until_ended(queue, t, N);
	for (unsigned i = 0; i < N; i++) {
		assert_true(t[i].result == 0 || t[i].result == -ECANCELED);
		cancelled += t[i].result == -ECANCELED;
	}
	assert_true(cancelled >= N - 4);
	assert_int_equal(t[N - 1].result, 0);
	block_close(limited);
	block_queue_free(queue);
	free(t);
}

/* A node that holds writes until they are let go, each on its own queue. */
struct holder {
	struct block block;
	struct block *child;
	pthread_mutex_t lock;
	bool holding;
	unsigned n;
	struct block_req *held[64];
};

static void holder_go_on(struct queue_io *io, int result)
{
	struct block_req *req = block_io_req(io);

	(void)result;
	block_forward(((struct holder *)req->node)->child, req);
}

static void holder_submit(struct block *block, struct block_req *req)
{
	struct holder *h = (struct holder *)block;
	bool hold;

	pthread_mutex_lock(&h->lock);
	hold = h->holding && req->op == BLOCK_WRITE && h->n < nitems(h->held);
	if (hold) {
		block_req_io(req)->done = holder_go_on;
		h->held[h->n++] = req;
	}
	pthread_mutex_unlock(&h->lock);
	if (!hold)
		block_forward(h->child, req);
}

static void holder_close(struct block *block)
{
	block_close(((struct holder *)block)->child);
	pthread_mutex_destroy(&((struct holder *)block)->lock);
	free(block);
}

static const struct block_ops holder_ops = {
    .name = "holder", .submit = holder_submit, .close = holder_close};

static struct holder *holder_over(struct block *child)
{
	struct holder *h = calloc(1, sizeof(*h));

	h->block.ops = &holder_ops;
	h->block.grow = child->grow;
	h->child = child;
	block_info_get(child, &h->block.info);
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

static void hold(struct holder *h)
{
	pthread_mutex_lock(&h->lock);
	h->holding = true;
	pthread_mutex_unlock(&h->lock);
}

static void let_go(struct holder *h)
{
	pthread_mutex_lock(&h->lock);
	h->holding = false;
	for (unsigned i = 0; i < h->n; i++)
		queue_post(h->held[i]->queue, block_req_io(h->held[i]), 0);
	h->n = 0;
	pthread_mutex_unlock(&h->lock);
}

/* A write and a read that wait for a snapshot's instant, which does not come. */
static void a_snapshots_line_is_left(void **state)
{
	struct holder *h = holder_over(file_node());
	struct tracked *t = calloc(4, sizeof(*t));
	struct block *disk, *snapshot;
	struct block_queue *queue;

	(void)state;
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(block_fleece_open(&disk, &h->block, NULL), 0);
	hold(h);
	submit(&t[0], queue, disk, BLOCK_WRITE, 0, 0, 'a');
	assert_int_equal(block_fleece_snapshot(&snapshot, disk, test_file(0), NULL), 0);
	submit(&t[1], queue, disk, BLOCK_WRITE, 0, 0, 'b');
	submit(&t[2], queue, snapshot, BLOCK_READ, 0, 0, 'c');
	submit(&t[3], queue, disk, BLOCK_WRITE, 0, PART, 'd');
	block_cancel(&t[1].req);
	block_cancel(&t[2].req);
	run_until_ended(queue, t + 1, 2);
	assert_int_equal(t[1].result, -ECANCELED);
	assert_int_equal(t[2].result, -ECANCELED);
	let_go(h);
	run_until_ended(queue, t, 1);
	run_until_ended(queue, t + 3, 1);
	assert_int_equal(t[0].result | t[3].result, 0);
	/* The snapshot is as good as if nobody had asked. */
	submit(&t[2], queue, snapshot, BLOCK_READ, 0, 0, 'c');
	run_until_ended(queue, t + 2, 1);
	assert_int_equal(t[2].buf[0], 'a');
	assert_int_equal(t[2].buf[PART - 1], 'a');
	block_close(snapshot);
	block_close(disk);
	block_queue_free(queue);
	free(t);
}

/* Workers that are all busy: those who wait for one are taken back. */
static void a_formats_line_is_left(void **state)
{
	enum { N = 20, WORKERS = 2 };
	struct image_create create = {.format = IMAGE_QCOW2, .bytes = DISK, .cluster_bytes = 4096};
	struct tracked *t = calloc(N, sizeof(*t));
	struct qcow2_open_params p = {0};
	struct qcow2_workers *workers;
	struct block_queue *queue;
	struct holder *h;
	struct block *image;
	unsigned cancelled = 0;
	int fd = memfd_create("image", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(image_create(fcntl(fd, F_DUPFD_CLOEXEC, 3), &create, NULL), 0);
	assert_int_equal(block_file_open(&p.file, fd, BLOCK_OPEN_GROW, NULL), 0);
	p.file = &(h = holder_over(p.file))->block;
	assert_int_equal(qcow2_workers_new(&workers, WORKERS, NULL), 0);
	p.workers = workers;
	assert_int_equal(qcow2_open(&image, &p, NULL), 0);
	assert_int_equal(block_queue_new(&queue, N, NULL), 0);
	hold(h);
	for (unsigned i = 0; i < N; i++)
		submit(&t[i], queue, image, BLOCK_WRITE, 0, i * 2 * PART, 'x');
	for (unsigned i = 0; i < N - 1; i++)
		block_cancel(&t[i].req);
	let_go(h);
	run_until_ended(queue, t, N);
	for (unsigned i = 0; i < N; i++) {
		assert_true(t[i].result == 0 || t[i].result == -ECANCELED);
		cancelled += t[i].result == -ECANCELED;
	}
	assert_true(cancelled >= N - 1 - WORKERS);
	assert_int_equal(t[N - 1].result, 0);
	block_close(image);
	qcow2_workers_free(workers);
	block_queue_free(queue);
	free(t);
}

/* --- at random ---------------------------------------------------------------------------- */

/* What was not cancelled is carried out; what was, wholly, in part or not at all. */
static void cancel_at_random(struct block *block, int (*engine)(struct block_queue *queue))
{
	enum { N = 32, ROUNDS = 60 };
	struct tracked *t = calloc(N, sizeof(*t));
	struct block_queue *queue;
	uint64_t random = 7;

	if (queue_new_with(&queue, 8, engine, NULL) < 0)
		skip();
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < N; i++)
			submit(&t[i], queue, block, BLOCK_WRITE, 0, i * 3 * PART, round);
		for (unsigned i = 0; i < N; i++) {
			if (test_random(&random) % 3 == 0)
				block_queue_kick(queue);
			if (test_random(&random) % 4 == 0)
				block_queue_run(queue);
			if (!t[i].ended && test_random(&random) % 2)
				block_cancel(&t[i].req);
		}
		run_until_ended(queue, t, N);
		for (unsigned i = 0; i < N; i++) {
			int r = t[i].result;

			assert_true(r == 0 || r == -ECANCELED);
			if (r)
				continue;
			assert_int_equal(block_pread(queue, block, t[i].buf, PART, i * 3 * PART),
					 0);
			for (unsigned k = 0; k < PART; k++)
				assert_int_equal(t[i].buf[k], round);
		}
	}
	block_queue_free(queue);
	free(t);
}

static void at_random_over_a_file(void **state)
{
	struct block *file = file_node();

	(void)state;
	cancel_at_random(file, queue_uring_init);
	cancel_at_random(file, queue_threads_init);
	block_close(file);
}

static void at_random_over_everything(void **state)
{
	struct image_create create = {.format = IMAGE_QCOW2, .bytes = DISK, .cluster_bytes = 4096};
	struct block_limits limits = {.requests[BLOCK_LIMIT_TOTAL] = {.per_s = 50000, .burst = 4}};
	struct image_chain chain = {.n = 1};
	struct block *image, *top, *snapshot;
	int fd = memfd_create("image", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(image_create(fcntl(fd, F_DUPFD_CLOEXEC, 3), &create, NULL), 0);
	chain.layers[0] = (struct image_layer){.format = IMAGE_QCOW2, .fd = fd, .data_fd = -1};
	assert_int_equal(image_chain_open(&image, &chain, IMAGE_ASYNC, NULL), 0);
	assert_int_equal(block_throttle_open(&top, image, &limits, NULL), 0);
	assert_int_equal(block_fleece_open(&top, top, NULL), 0);
	assert_int_equal(block_fleece_snapshot(&snapshot, top, test_file(0), NULL), 0);
	cancel_at_random(top, queue_uring_init);
	block_close(snapshot);
	cancel_at_random(top, queue_threads_init);
	block_close(top);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(io_uring_stops_what_waits_in_the_kernel),
	    cmocka_unit_test(threads_give_back_what_they_have_not_begun),
	    cmocka_unit_test(a_rings_backlog_is_given_back),
	    cmocka_unit_test(what_has_ended_stays_as_it_is),
	    cmocka_unit_test(a_limits_line_is_left),
	    cmocka_unit_test(a_snapshots_line_is_left),
	    cmocka_unit_test(a_formats_line_is_left),
	    cmocka_unit_test(at_random_over_a_file),
	    cmocka_unit_test(at_random_over_everything),
	};

	return cmocka_run_group_tests_name("block_cancel", tests, NULL, NULL);
}
