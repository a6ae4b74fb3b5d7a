// SPDX-License-Identifier: ISC
/*
 * Queues: what all engines share. Three streams meet in block_queue_run(): ios
 * that the engine completed, ios posted by other threads (event_fd tells of
 * them), and requests that have ended. done() is called only there, from a list
 * that was closed before the first of them, so a done() that submits a request
 * which fails at once cannot keep the thread here for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "storage/block_node.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define DEPTH_MAX 4096

/* See write_at_once(). */
#define AT_ONCE_BYTES	(128u << 10)
#define AT_ONCE_NS	300000
#define AT_ONCE_PENANCE 20
#define NS_MAX		50000000

/* Makes the descriptor readable. Under the lock: a count is there exactly if ->signalled. */
static void signal_locked(struct block_queue *queue)
{
	uint64_t one = 1;

	if (queue->signalled)
		return;
	queue->signalled = true;
	if (write(queue->event_fd, &one, sizeof(one)) < 0)
		abort(); /* cannot fail: the count is far from its limit */
}

static void consume_locked(struct block_queue *queue)
{
	uint64_t count;

	if (!queue->signalled)
		return;
	queue->signalled = false;
	if (!queue->ring_reads_events && read(queue->event_fd, &count, sizeof(count)) < 0)
		abort(); /* cannot fail: see signal_locked() */
}

void queue_post(struct block_queue *queue, struct queue_io *io, int result)
{
	LOCK_SCOPE(&queue->lock);
	io->result = result;
	io_list_add(&queue->posted, io);
	signal_locked(queue);
}

/* --- what is done at once ----------------------------------------------------------------- */

static uint64_t bytes_of(const struct queue_io *io)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < io->n_iov; i++)
		sum += io->iov[i].iov_len;
	return sum;
}

/*
 * A write to the page cache is a copy, and handing it to another thread costs many times
 * that; most file systems have no way to ask for "the copy, if you need not wait". So a small one
 * is tried right here. Where one did wait (dirty pages are throttled, the journal
 * commits), the next go the long way for AT_ONCE_PENANCE times as long: of its time, a queue's
 * thread waits here a small part at most.
 */
static bool write_at_once(struct block_queue *queue, struct queue_io *io)
{
	uint64_t began, took;

	if (bytes_of(io) > AT_ONCE_BYTES)
		return false;
	began = now_ns();
	if (began < queue->patient_ns)
		return false;
	io->result = queue_io_perform(io);
	took = now_ns() - began;
	if (took > AT_ONCE_NS)
		queue->patient_ns =
		    began + took + (took < NS_MAX ? took : NS_MAX) * AT_ONCE_PENANCE;
	return true;
}

/* io_uring tries that by itself, for a whole batch. */
static bool read_at_once(struct queue_io *io)
{
	ssize_t n = preadv2(io->fd, io->iov, io->n_iov, io->offset, RWF_NOWAIT);

	io->result = (int)n;
	return n > 0;
}

void queue_submit(struct block_queue *queue, struct queue_io *io)
{
	bool done = false;

	if (io->cached && io->kind == QUEUE_WRITEV)
		done = write_at_once(queue, io);
	else if (io->cached && io->kind == QUEUE_READV && !queue->ring_reads_events)
		done = read_at_once(io);
	if (done)
		io_list_add(&queue->ready, io);
	else
		queue->engine->submit(queue, io);
}

void block_req_end(struct block_req *req, int result)
{
	struct block_queue *queue = req->queue;

	req->result = result;
	req->next = NULL;
	req->node = NULL; /* no node has it any more: block_cancel() */
	*queue->finished_last = req;
	queue->finished_last = &req->next;
}

void queue_refuse(struct block_queue *queue, struct queue_io *io, int result)
{
	io->result = result;
	io_list_add(&queue->ready, io);
}

void queue_cancel(struct block_queue *queue, struct queue_io *io)
{
	if (queue->engine->cancel && queue->engine->cancel(queue, io))
		queue_refuse(queue, io, -ECANCELED);
}

static bool has_local_work(const struct block_queue *queue)
{
	return queue->finished || queue->ready.first;
}

void block_queue_kick(struct block_queue *queue)
{
	queue->engine->kick(queue);
	if (has_local_work(queue)) {
		LOCK_SCOPE(&queue->lock);
		signal_locked(queue);
	}
}

static void run_list(struct io_list *list)
{
	struct queue_io *io, *next;

	for (io = list->first; io; io = next) {
		next = io->next;
		io->done(io, io->result);
	}
}

static struct io_list take_list(struct io_list *from)
{
	struct io_list list = *from;

	io_list_init(from);
	return list;
}

static struct io_list take_posted(struct block_queue *queue)
{
	LOCK_SCOPE(&queue->lock);
	consume_locked(queue);
	return take_list(&queue->posted);
}

void queue_settle(struct block_queue *queue)
{
	struct io_list posted, ready;

	do {
		posted = take_posted(queue);
		ready = take_list(&queue->ready);
		run_list(&posted);
		run_list(&ready);
	} while (posted.first || ready.first);
}

static unsigned run_finished(struct block_queue *queue)
{
	struct block_req *req = queue->finished, *next;
	unsigned n = 0;

	queue->finished = NULL;
	queue->finished_last = &queue->finished;
	for (; req; req = next, n++) {
		next = req->next;
		queue->under_way--;
		req->done(req, req->result);
	}
	return n;
}

unsigned block_queue_run(struct block_queue *queue)
{
	struct io_list list;
	unsigned n;

	/* First, as it may use up the count in event_fd: what was posted is looked for after that.
	 */
	queue->engine->reap(queue);
	list = take_posted(queue);
	run_list(&list);
	list = take_list(&queue->ready);
	run_list(&list);
	n = run_finished(queue);
	block_queue_kick(queue);
	return n;
}

void block_queue_drain(struct block_queue *queue)
{
	/* No need to make the descriptor readable for what is done right here. */
	queue->engine->kick(queue);
	for (block_queue_run(queue); queue->under_way; block_queue_run(queue))
		if (!has_local_work(queue))
			queue->engine->wait(queue);
}

const char *block_queue_kind(const struct block_queue *queue)
{
	return queue->engine->name;
}

int block_queue_fd(const struct block_queue *queue)
{
	return queue->fd;
}

int queue_io_perform(const struct queue_io *io)
{
	ssize_t n = -1;

	do {
		switch (io->kind) {
		case QUEUE_READV:
			n = preadv(io->fd, io->iov, io->n_iov, io->offset);
			break;
		case QUEUE_WRITEV:
			n = pwritev2(io->fd, io->iov, io->n_iov, io->offset, io->flags);
			break;
		case QUEUE_FSYNC:
			n = fdatasync(io->fd);
			break;
		case QUEUE_FALLOCATE:
			n = fallocate(io->fd, io->flags, io->offset, io->bytes);
			break;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

/* --- the engine without threads --------------------------------------------------------- */

static void sync_submit(struct block_queue *queue, struct queue_io *io)
{
	queue_refuse(queue, io, queue_io_perform(io));
}

static void sync_nothing(struct block_queue *queue)
{
	(void)queue;
}

static void sync_wait(struct block_queue *queue)
{
	struct pollfd p = {.fd = queue->event_fd, .events = POLLIN};

	poll(&p, 1, -1);
}

static const struct queue_engine sync_engine = {
    .name = "sync",
    .submit = sync_submit,
    .kick = sync_nothing,
    .reap = sync_nothing,
    .wait = sync_wait,
    .free = sync_nothing,
};

bool block_queue_may_wait(const struct block_queue *queue)
{
	return queue->engine == &sync_engine;
}

static int queue_new(struct block_queue **queue, unsigned depth, struct err *err)
{
	struct block_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return err_set(err, -ENOMEM, "out of memory");
	q->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->event_fd < 0) {
		int r = -errno;

		free(q);
		return err_set(err, r, "eventfd: %s", err_name(r));
	}
	q->fd = q->event_fd;
	q->depth = depth;
	q->finished_last = &q->finished;
	io_list_init(&q->ready);
	io_list_init(&q->posted);
	pthread_mutex_init(&q->lock, NULL);
	*queue = q;
	return 0;
}

static void queue_release(struct block_queue *queue)
{
	close(queue->event_fd);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
}

int block_queue_new_sync(struct block_queue **queue, struct err *err)
{
	int r = queue_new(queue, 1, err);

	if (!r)
		(*queue)->engine = &sync_engine;
	return r;
}

int queue_new_with(struct block_queue **queue, unsigned depth,
		   int (*init)(struct block_queue *queue), struct err *err)
{
	struct block_queue *q;
	int r;

	if (depth < 1 || depth > DEPTH_MAX)
		return err_set(err, -EINVAL, "queue depth %u is not in 1..%d", depth, DEPTH_MAX);
	r = queue_new(&q, depth, err);
	if (r < 0)
		return r;
	r = init(q);
	if (r < 0) {
		queue_release(q);
		return err_set(err, r, "cannot make a queue for disk I/O: %s", err_name(r));
	}
	*queue = q;
	return 0;
}

int block_queue_new(struct block_queue **queue, unsigned depth, struct err *err)
{
	int r = queue_new_with(queue, depth, queue_uring_init, NULL);

	return r < 0 ? queue_new_with(queue, depth, queue_threads_init, err) : 0;
}

void block_queue_free(struct block_queue *queue)
{
	if (!queue)
		return;
	queue->engine->free(queue);
	queue_release(queue);
}
