// SPDX-License-Identifier: ISC
/*
 * The virtio device model: status, features, queues and their lanes, reset.
 * See virtio.h for the threads.
 */
#define LOG_MODULE "virtio"
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "vmm/virtio.h"

#define RESET_WAIT_NS	   (50ull * 1000 * 1000)
#define COMPLAINT_EVERY_NS (10ull * 1000 * 1000 * 1000)

#define STATUS_DRIVER_BITS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

/* <linux/virtio_ring.h> has more that would clash. */
enum { RING_F_INDIRECT_DESC = 28, RING_F_EVENT_IDX = 29 };

/* --- faults ------------------------------------------------------------------------------- */

/* One line in ten seconds: a guest can reset and fail for ever. */
static void complain(struct virtio_device *dev, const char *why)
{
	uint64_t now = now_ns();

	if (dev->last_complaint_ns && now - dev->last_complaint_ns < COMPLAINT_EVERY_NS) {
		dev->complaints_kept++;
		return;
	}
	log_warn("%s: the driver broke the rules (%s): the device needs a reset", dev->dev.name,
		 why);
	if (dev->complaints_kept)
		log_warn("%s: and %u times before that", dev->dev.name, dev->complaints_kept);
	dev->last_complaint_ns = now;
	dev->complaints_kept = 0;
}

static void fail(struct virtio_device *dev, const char *why)
{
	stats_add(dev->ring_errors, 1);
	complain(dev, why);
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK && dev->transport)
		dev->transport->interrupt_config(dev);
}

void virtio_queue_fail(struct virtio_queue *queue, const char *why)
{
	queue->ring.broken = true;
	queue->ring.broken_why = why;
	LOCK_SCOPE(&queue->dev->lock);
	fail(queue->dev, why);
}

/* --- lanes -------------------------------------------------------------------------------- */

bool virtio_queue_live(const struct virtio_queue *queue)
{
	return queue->lane->active && !queue->lane->paused && queue->enabled && !queue->ring.broken;
}

void virtio_serve(struct virtio_queue *queue)
{
	queue->budget = queue->ring.size;
	queue->dev->ops->notify(queue);
}

void virtio_kick(struct virtio_queue *queue)
{
	eventfd_write(queue->kick.fd, 1);
}

static void kicked(struct iothread_source *source)
{
	struct virtio_queue *queue = (struct virtio_queue *)source;

	if (!virtio_queue_live(queue))
		return;
	stats_add(queue->dev->notifications, 1);
	virtio_serve(queue);
}

/* What came while the lane did not look. */
static void lane_look(struct virtio_lane *lane)
{
	for (unsigned i = lane->first; i < lane->first + lane->n; i++) {
		struct virtio_queue *queue = &lane->dev->queues[i];

		if (virtio_queue_live(queue))
			virtio_serve(queue);
	}
}

static void lane_drain(struct virtio_lane *lane)
{
	if (lane->dev->ops->drain)
		lane->dev->ops->drain(lane);
}

static void run_start(struct iothread_task *task)
{
	struct virtio_lane *lane =
	    (struct virtio_lane *)((char *)task - offsetof(struct virtio_lane, start));

	lane->active = true;
	lane_look(lane);
}

static void reset_finish(struct virtio_device *dev);

static void run_stop(struct iothread_task *task)
{
	struct virtio_lane *lane =
	    (struct virtio_lane *)((char *)task - offsetof(struct virtio_lane, stop));
	struct virtio_device *dev = lane->dev;

	lane->active = false;
	lane_drain(lane);
	LOCK_SCOPE(&dev->lock);
	if (--dev->stopping == 0)
		reset_finish(dev);
}

static void lane_pause(void *arg)
{
	struct virtio_lane *lane = arg;

	lane->paused = true;
	lane_drain(lane);
}

static void lane_resume(void *arg)
{
	struct virtio_lane *lane = arg;

	lane->paused = false;
	for (unsigned i = lane->first; lane->loaded && i < lane->first + lane->n; i++)
		if (virtio_queue_live(&lane->dev->queues[i]))
			lane->dev->transport->interrupt_queue(lane->dev, i);
	lane->loaded = false;
	lane_look(lane);
}

static void lane_end(void *arg)
{
	struct virtio_lane *lane = arg;

	lane->active = false;
	lane_drain(lane);
	for (unsigned i = lane->first; i < lane->first + lane->n; i++)
		iothread_remove(lane->thread, &lane->dev->queues[i].kick);
}

static void each_lane(struct virtio_device *dev, void (*run)(void *lane))
{
	for (unsigned i = 0; i < dev->n_lanes; i++)
		iothread_call(dev->lanes[i].thread, run, &dev->lanes[i]);
}

void virtio_pause(struct device *device)
{
	each_lane((struct virtio_device *)device, lane_pause);
}

void virtio_resume(struct device *device)
{
	each_lane((struct virtio_device *)device, lane_resume);
}

int virtio_pop(struct virtio_queue *queue, struct iovec *iov, struct virtqueue_chain *chain)
{
	if (queue->ring.broken || !queue->budget)
		return -EAGAIN;
	queue->budget--;
	if (virtqueue_pop(&queue->ring, iov, chain) == 0)
		return 0;
	if (queue->ring.broken)
		virtio_queue_fail(queue, queue->ring.broken_why);
	return -EAGAIN;
}

/*
 * A driver that makes chains available as fast as they are taken must not keep the
 * lane from its other queues, nor from being stopped: then the queue kicks itself.
 */
bool virtio_notify_on(struct virtio_queue *queue)
{
	if (!virtqueue_notify_on(&queue->ring))
		return false;
	if (queue->budget)
		return true;
	virtio_kick(queue);
	return false;
}

void virtio_publish(struct virtio_queue *queue)
{
	if (!virtqueue_publish(&queue->ring))
		return;
	stats_add(queue->dev->interrupts, 1);
	queue->dev->transport->interrupt_queue(queue->dev, queue->index);
}

/* --- status (§2.1, §3.1) ------------------------------------------------------------------ */

static void queue_forget(struct virtio_queue *queue)
{
	queue->enabled = false;
	queue->size = queue->max;
	queue->desc = queue->avail = queue->used = 0;
}

/* Everything as the driver found it; the lanes do not run. */
static void reset_finish(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->n_queues; i++)
		queue_forget(&dev->queues[i]);
	dev->active = false;
	dev->accepted = 0;
	dev->status = 0;
	if (dev->transport)
		dev->transport->reset(dev);
	if (dev->ops->reset)
		dev->ops->reset(dev);
	pthread_cond_broadcast(&dev->reset_done);
}

static void reset(struct virtio_device *dev)
{
	uint64_t end = now_ns() + RESET_WAIT_NS;
	struct timespec until = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};

	if (!dev->active) {
		reset_finish(dev);
		return;
	}
	if (!dev->stopping) {
		dev->transport->set_active(dev, false);
		dev->stopping = dev->n_lanes;
		for (unsigned i = 0; i < dev->n_lanes; i++)
			iothread_post(dev->lanes[i].thread, &dev->lanes[i].stop);
	}
	while (dev->stopping &&
	       pthread_cond_timedwait(&dev->reset_done, &dev->lock, &until) != ETIMEDOUT)
		;
}

static bool features_fine(const struct virtio_device *dev)
{
	return !(dev->accepted & ~dev->offered) && virtio_negotiated(dev, VIRTIO_F_VERSION_1);
}

void virtio_activate(struct virtio_device *dev, bool loaded)
{
	for (unsigned i = 0; i < dev->n_queues; i++) {
		struct virtqueue *ring = &dev->queues[i].ring;

		ring->chain_max = dev->queues[i].chain_max;
		ring->indirect = virtio_negotiated(dev, RING_F_INDIRECT_DESC);
		ring->event_idx = virtio_negotiated(dev, RING_F_EVENT_IDX);
	}
	dev->active = true;
	if (dev->ops->activated)
		dev->ops->activated(dev);
	dev->transport->set_active(dev, true);
	for (unsigned i = 0; i < dev->n_lanes; i++) {
		dev->lanes[i].loaded = loaded;
		iothread_post(dev->lanes[i].thread, &dev->lanes[i].start);
	}
}

void virtio_status_write(struct virtio_device *dev, uint8_t value)
{
	uint8_t added = value & ~dev->status & STATUS_DRIVER_BITS;

	if (value == 0) {
		reset(dev);
		return;
	}
	if (dev->stopping)
		return;
	/* Bits only come; FEATURES_OK and DRIVER_OK that may not come stay away (§2.2.2, §3.1.1).
	 */
	if (added & VIRTIO_CONFIG_S_FEATURES_OK && !features_fine(dev))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((dev->status | added) & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	dev->status |= added;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_activate(dev, false);
}

void virtio_features_write(struct virtio_device *dev, unsigned word, uint32_t value)
{
	if (dev->status & VIRTIO_CONFIG_S_FEATURES_OK || dev->stopping || word > 1)
		return;
	dev->accepted &= ~(0xffffffffull << 32 * word);
	dev->accepted |= (uint64_t)value << 32 * word;
}

bool virtio_queue_open(const struct virtio_queue *queue)
{
	return !queue->enabled && !queue->dev->active && !queue->dev->stopping;
}

void virtio_queue_enable(struct virtio_queue *queue)
{
	if (!virtio_queue_open(queue))
		return;
	if (queue->size > queue->max) {
		fail(queue->dev, "queue size");
	} else if (virtqueue_init(&queue->ring, &queue->dev->dev.vm->mem, queue->size, queue->desc,
				  queue->avail, queue->used) < 0) {
		fail(queue->dev, queue->ring.broken_why);
	} else {
		queue->enabled = true;
	}
}

/* --- configuration ------------------------------------------------------------------------ */

uint64_t virtio_config_read(struct virtio_device *dev, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++) {
		if (offset + i < dev->config_len)
			value |= (uint64_t)((const uint8_t *)dev->config)[offset + i] << 8 * i;
	}
	return value;
}

void virtio_config_write(struct virtio_device *dev, uint64_t offset, unsigned size, uint64_t value)
{
	if (dev->ops->config_written)
		dev->ops->config_written(dev, offset, size, value);
}

/* --- beginning and end -------------------------------------------------------------------- */

static int init_queue(struct virtio_device *dev, unsigned index, unsigned n_queues, uint16_t size,
		      uint16_t chain_max)
{
	struct virtio_queue *queue = &dev->queues[index];
	struct virtio_lane *lane = &dev->lanes[index * dev->n_lanes / n_queues];
	int r;

	*queue = (struct virtio_queue){.dev = dev,
				       .lane = lane,
				       .index = index,
				       .max = size,
				       .size = size,
				       .chain_max = chain_max,
				       .kick = {.ready = kicked}};
	queue->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->kick.fd < 0)
		return -errno;
	if (!lane->n++)
		lane->first = index;
	r = iothread_add(lane->thread, &queue->kick, true);
	if (r < 0) {
		close(queue->kick.fd);
		lane->n--;
		return r;
	}
	dev->n_queues++;
	return 0;
}

static void init_locks(struct virtio_device *dev)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&dev->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&dev->reset_done, &attr);
	pthread_condattr_destroy(&attr);
}

int virtio_init(struct virtio_device *dev, struct vm *vm, const struct virtio_ops *ops, uint16_t id,
		unsigned n_queues, uint16_t size, uint16_t chain_max, struct iothread **threads,
		unsigned n_lanes, const char *stats_name, struct err *err)
{
	int r = 0;

	init_locks(dev);
	dev->dev.vm = vm;
	dev->ops = ops;
	dev->id = id;
	dev->offered |=
	    1ull << VIRTIO_F_VERSION_1 | 1ull << RING_F_INDIRECT_DESC | 1ull << RING_F_EVENT_IDX;
	dev->notifications = stats_counter(vm->stats, "%s.notifications", stats_name);
	dev->interrupts = stats_counter(vm->stats, "%s.interrupts", stats_name);
	dev->ring_errors = stats_counter(vm->stats, "%s.ring_errors", stats_name);
	dev->queues = calloc(n_queues, sizeof(*dev->queues));
	dev->lanes = calloc(n_lanes, sizeof(*dev->lanes));
	if (!dev->queues || !dev->lanes)
		r = -ENOMEM;
	for (unsigned i = 0; r == 0 && i < n_lanes; i++) {
		dev->lanes[i] = (struct virtio_lane){
		    .dev = dev, .thread = threads[i], .start.run = run_start, .stop.run = run_stop};
		dev->n_lanes++;
	}
	for (unsigned i = 0; r == 0 && i < n_queues; i++)
		r = init_queue(dev, i, n_queues, size, chain_max);
	if (r == 0)
		return 0;
	virtio_fini(dev);
	return err_set(err, r, "cannot make queues");
}

void virtio_fini(struct virtio_device *dev)
{
	each_lane(dev, lane_end);
	/* The transport goes when no lane can raise an interrupt any more, its kicks before their
	 * fds. */
	if (dev->transport)
		dev->transport->unplug(dev);
	for (unsigned i = 0; i < dev->n_queues; i++)
		close(dev->queues[i].kick.fd);
	dev->n_queues = dev->n_lanes = 0;
	free(take_ptr(dev->queues));
	free(take_ptr(dev->lanes));
	pthread_cond_destroy(&dev->reset_done);
	pthread_mutex_destroy(&dev->lock);
}
