// SPDX-License-Identifier: ISC
/*
 * virtio-rng (virtio 1.2 §5.4): the guest's buffers are filled from getrandom(2).
 *
 * A request gets at most REQUEST_MAX bytes, however large its buffers (the
 * device may write fewer), and all together RATE bytes a second with a burst of
 * BURST: a token bucket. Where it is empty, requests stay in the ring until a
 * timer has refilled it enough for one more. A guest that wants more
 * has a generator of its own to seed.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"

#define QUEUE_SIZE     64
#define REQUEST_MAX    4096
#define RATE	       (1024 * 1024) /* bytes a second */
#define BURST	       (256 * 1024)
#define CLASS_CODE     0xff0000 /* no class of its own */
#define NS_PER_S       1000000000ull
#define BUCKET_FULL_NS (BURST * NS_PER_S / RATE)

struct rng {
	struct virtio_device virtio;
	struct iothread *thread;
	uint64_t *bytes_total;
	/* the lane's */
	struct iothread_source timer;
	/*
	 * The bucket as a time: tokens are what has flowed since then, so that
	 * filling needs no code. Never further back than a full bucket.
	 */
	uint64_t empty_at_ns;
	struct iovec iov[QUEUE_SIZE];
};

/* Is there enough for a whole request? If not, the timer is set for when there is. */
static bool may_serve(struct rng *rng)
{
	uint64_t now = now_ns(), ready = rng->empty_at_ns + REQUEST_MAX * NS_PER_S / RATE;
	struct itimerspec at = {.it_value = {ready / NS_PER_S, ready % NS_PER_S}};

	if (now - rng->empty_at_ns > BUCKET_FULL_NS && now > rng->empty_at_ns)
		rng->empty_at_ns = now - BUCKET_FULL_NS;
	if (now >= ready)
		return true;
	timerfd_settime(rng->timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
	return false;
}

/* Fills the chain's beginning; how many bytes. getrandom(2) gives up to 256 at once whole. */
static uint32_t fill(struct rng *rng, struct virtqueue_chain *chain)
{
	uint64_t left = chain->in_bytes < REQUEST_MAX ? chain->in_bytes : REQUEST_MAX;
	uint32_t done = 0;

	while (left) {
		uint8_t bytes[256];
		ssize_t n = getrandom(bytes, left < sizeof(bytes) ? left : sizeof(bytes), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		virtqueue_chain_write(chain, bytes, n);
		done += n;
		left -= n;
	}
	rng->empty_at_ns += done * NS_PER_S / RATE;
	stats_add(rng->bytes_total, done);
	return done;
}

static void rng_notify(struct virtio_queue *queue)
{
	struct rng *rng = (struct rng *)queue->dev;
	struct virtqueue_chain chain;

	do {
		while (may_serve(rng) && virtio_pop(queue, rng->iov, &chain) == 0) {
			uint32_t done = fill(rng, &chain);

			/* §5.4.6.2: at least one byte. A request that cannot hold one is a fault.
			 */
			if (!done)
				virtio_queue_fail(queue, "entropy request without a buffer");
			virtqueue_push(&queue->ring, chain.head, done);
		}
	} while (virtio_notify_on(queue) && may_serve(rng));
	virtio_publish(queue);
}

static void timer_ready(struct iothread_source *source)
{
	struct rng *rng = (struct rng *)((char *)source - offsetof(struct rng, timer));
	struct virtio_queue *queue = &rng->virtio.queues[0];
	uint64_t expirations;

	if (read(source->fd, &expirations, sizeof(expirations)) == sizeof(expirations) &&
	    virtio_queue_live(queue))
		virtio_serve(queue);
}

static const struct virtio_ops rng_ops = {.notify = rng_notify};

static void forget_timer(void *arg)
{
	struct rng *rng = arg;

	iothread_remove(rng->thread, &rng->timer);
}

static void rng_destroy(struct device *device)
{
	struct rng *rng = (struct rng *)device;

	iothread_call(rng->thread, forget_timer, rng);
	virtio_fini(&rng->virtio);
	close(rng->timer.fd);
	free(rng);
}

static int rng_create(struct vm *vm, struct err *err)
{
	_cleanup_free_ struct rng *rng = calloc(1, sizeof(*rng));
	int r;

	if (!rng)
		return err_set(err, -ENOMEM, "rng: no memory");
	r = pci_bus_thread(vm, &rng->thread, err);
	if (r < 0)
		return r;
	rng->bytes_total = stats_counter(vm->stats, "rng.bytes");
	rng->timer.ready = timer_ready;
	rng->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (rng->timer.fd < 0)
		return err_set(err, -errno, "rng: no timer");
	r = virtio_init(&rng->virtio, vm, &rng_ops, VIRTIO_ID_RNG, 1, QUEUE_SIZE, QUEUE_SIZE,
			&rng->thread, 1, "rng", err);
	if (r == 0) {
		r = virtio_pci_plug(&rng->virtio, PCI_SLOT_RNG, CLASS_CODE, err);
		if (r == 0)
			r = iothread_add(rng->thread, &rng->timer, false);
		if (r < 0)
			virtio_fini(&rng->virtio);
	}
	if (r < 0) {
		close(rng->timer.fd);
		return err_prefix(err, "rng");
	}
	device_add(vm, &take_ptr(rng)->virtio.dev, &virtio_rng_device, "rng");
	return 0;
}

const struct device_ops virtio_rng_device = {
    .name = "rng",
    .create = rng_create,
    .destroy = rng_destroy,
    .pause = virtio_pause,
    .resume = virtio_resume,
    .state_version = 1,
    .state = virtio_state,
};
