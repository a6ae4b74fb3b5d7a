// SPDX-License-Identifier: ISC
/*
 * The queue engine over io_uring.
 *
 * The ring is made disabled, on whichever thread calls block_queue_new(), and
 * enabled on first use by the thread that owns the queue from then on, as
 * SINGLE_ISSUER requires. COOP_TASKRUN has completions worked off when the owner
 * enters the kernel anyway, be it in its poll(2), so that block_queue_run() usually
 * finds them without a system call. (DEFER_TASKRUN is not for us: with it a
 * completion does not wake who sleeps in poll(2) on the ring.) Older kernels get
 * the plain ring. While it is disabled the ring is restricted
 * to the few operations below, for good: whoever takes over the process finds no
 * way around its seccomp filter here (which must refuse io_uring_setup).
 *
 * The ring's descriptor is the one to poll. A read of event_fd is always under
 * way in the ring, so that a post from another thread makes it readable too.
 *
 * System calls: io_uring_setup mmap madvise io_uring_register (making);
 * io_uring_register (first use); io_uring_enter, write (use); munmap close (end).
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage/block_node.h"
#include "util/cleanup.h"

struct uring {
	struct io_uring ring;
	bool started;
	unsigned in_ring;	/* ios submitted and not reaped, without the event read */
	struct io_list backlog; /* beyond the queue's depth */
	uint64_t event_count;
};

/* liburing 2.3 as Debian has it declares what it does not export. */
static int ring_register(struct io_uring *ring, unsigned opcode, void *arg, unsigned n)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, opcode, arg, n) < 0 ? -errno : 0;
}

static void prepare(struct io_uring_sqe *sqe, struct queue_io *io)
{
	switch (io->kind) {
	case QUEUE_READV:
		io_uring_prep_readv(sqe, io->fd, io->iov, io->n_iov, io->offset);
		break;
	case QUEUE_WRITEV:
		io_uring_prep_writev2(sqe, io->fd, io->iov, io->n_iov, io->offset, io->flags);
		break;
	case QUEUE_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case QUEUE_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, io->flags, io->offset, io->bytes);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
}

static struct io_uring_sqe *get_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	while (!sqe) {
		io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

static void arm_event_read(struct block_queue *queue)
{
	struct uring *u = queue->engine_state;
	struct io_uring_sqe *sqe = get_sqe(u);

	io_uring_prep_read(sqe, queue->event_fd, &u->event_count, sizeof(u->event_count), 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void start(struct block_queue *queue)
{
	struct uring *u = queue->engine_state;

	if (u->started)
		return;
	if (ring_register(&u->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		abort(); /* fails only for rings that are not disabled */
	u->started = true;
	arm_event_read(queue);
}

static void uring_submit(struct block_queue *queue, struct queue_io *io)
{
	struct uring *u = queue->engine_state;

	start(queue);
	if (u->in_ring >= queue->depth) {
		io_list_add(&u->backlog, io);
		return;
	}
	u->in_ring++;
	prepare(get_sqe(u), io);
}

/* The ring answers twice: for the cancellation (with @u's own address), and for what was cancelled.
 */
static bool uring_cancel(struct block_queue *queue, struct queue_io *io)
{
	struct uring *u = queue->engine_state;
	struct io_uring_sqe *sqe;

	if (io_list_remove(&u->backlog, io))
		return true;
	sqe = get_sqe(u);
	io_uring_prep_cancel(sqe, io, 0);
	io_uring_sqe_set_data(sqe, u);
	return false;
}

static void uring_kick(struct block_queue *queue)
{
	struct uring *u = queue->engine_state;

	start(queue);
	/* EBUSY, EAGAIN: what is left stays in the ring and goes with the next kick. */
	if (io_uring_sq_ready(&u->ring))
		io_uring_submit(&u->ring);
}

static void uring_reap(struct block_queue *queue)
{
	struct uring *u = queue->engine_state;
	struct io_uring_cqe *cqe;
	struct queue_io *io;

	start(queue);
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		int result = cqe->res;

		io = io_uring_cqe_get_data(cqe);
		io_uring_cqe_seen(&u->ring, cqe);
		if ((void *)io == u)
			continue;
		if (!io) {
			arm_event_read(queue);
			continue;
		}
		u->in_ring--;
		io->done(io, result);
		while (u->in_ring < queue->depth && (io = io_list_take(&u->backlog))) {
			u->in_ring++;
			prepare(get_sqe(u), io);
		}
	}
}

static void uring_wait(struct block_queue *queue)
{
	struct uring *u = queue->engine_state;

	io_uring_submit_and_wait(&u->ring, 1);
}

static void uring_free(struct block_queue *queue)
{
	struct uring *u = queue->engine_state;

	io_uring_queue_exit(&u->ring);
	free(u);
}

static const struct queue_engine uring_engine = {
    .name = "io_uring",
    .submit = uring_submit,
    .kick = uring_kick,
    .reap = uring_reap,
    .wait = uring_wait,
    .cancel = uring_cancel,
    .free = uring_free,
};

static int restrict_ring(struct io_uring *ring)
{
	static const uint8_t allowed[] = {IORING_OP_READV,     IORING_OP_WRITEV,
					  IORING_OP_READ,      IORING_OP_FSYNC,
					  IORING_OP_FALLOCATE, IORING_OP_ASYNC_CANCEL};
	struct io_uring_restriction rules[nitems(allowed)] = {0};
	unsigned i;

	for (i = 0; i < nitems(allowed); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = allowed[i];
	}
	return ring_register(ring, IORING_REGISTER_RESTRICTIONS, rules, nitems(allowed));
}

int queue_uring_init(struct block_queue *queue)
{
	static const unsigned ways[] = {
	    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	    0,
	};
	struct uring *u = calloc(1, sizeof(*u));
	int r = -EINVAL;
	unsigned i;

	if (!u)
		return -ENOMEM;
	for (i = 0; i < nitems(ways) && r == -EINVAL; i++)
		r = io_uring_queue_init(queue->depth + 1, &u->ring,
					ways[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP);
	if (!r) {
		r = restrict_ring(&u->ring);
		/* Mapped by a fork, it would live on, with its files and their locks. */
		if (r == 0)
			r = io_uring_ring_dontfork(&u->ring);
		if (r < 0)
			io_uring_queue_exit(&u->ring);
	}
	if (r < 0) {
		free(u);
		return r;
	}
	io_list_init(&u->backlog);
	queue->engine = &uring_engine;
	queue->engine_state = u;
	queue->fd = u->ring.ring_fd;
	queue->ring_reads_events = true;
	return 0;
}
