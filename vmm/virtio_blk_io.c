// SPDX-License-Identifier: ISC
/*
 * virtio-blk's data path: from the ring to storage and back. See virtio_blk.c for
 * threads and order; all here runs on a lane.
 *
 * A kick takes everything that the ring has, each request into a slot, and
 * hands it to storage; a completion answers it. Neither tells anybody: that is done once for the
 * whole batch, when the lane's thread is about to sleep (blk_lane_idle()).
 */
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "vmm/virtio_blk_int.h"

/* A lane watches the rings at most so long before it sleeps; the first time, so long. */
#define WATCH_MAX_NS 32000
#define WATCH_MIN_NS 8000

static struct blk *queue_blk(const struct blk_queue *queue)
{
	return (struct blk *)queue->virtio->dev;
}

/* --- slots -------------------------------------------------------------------------------- */

/* Never fails: a ring cannot have more under way than it has entries. */
static struct blk_slot *slot_take(struct blk_queue *queue)
{
	unsigned number = queue->n_free ? queue->free[--queue->n_free] : queue->n_touched++;
	struct blk_slot *slot = &queue->slots[number];

	slot->queue = queue;
	return slot;
}

static void slot_give_back(struct blk_slot *slot)
{
	struct blk_queue *queue = slot->queue;

	queue->free[queue->n_free++] = slot - queue->slots;
}

/* --- the way of a request ----------------------------------------------------------------- */

struct blk_lane *blk_slot_lane(const struct blk_slot *slot)
{
	struct blk *blk = queue_blk(slot->queue);

	return &blk->lanes[slot->queue->virtio->lane - blk->virtio.lanes];
}

static unsigned span_of(uint64_t ns)
{
	static const uint64_t ends[BLK_SPANS - 1] = {100000, 1000000, 10000000, 100000000};
	unsigned span = 0;

	while (span < nitems(ends) && ns > ends[span])
		span++;
	return span;
}

void blk_finish(struct blk_slot *slot, uint8_t status, uint32_t written)
{
	struct blk *blk = queue_blk(slot->queue);
	enum blk_kind kind = slot->req.kind;

	if (status == VIRTIO_BLK_S_OK) {
		uint64_t ns = now_ns() - slot->taken_ns;

		stats_add(blk->stats[kind][BLK_OPS], 1);
		stats_add(blk->stats[kind][BLK_NS], ns);
		stats_add(blk->spread[kind][span_of(ns)], 1);
	} else {
		stats_add(blk->errors, 1);
	}
	stats_add(blk->in_flight, -1);
	*slot->req.status = status;
	virtqueue_push(&slot->queue->virtio->ring, slot->chain.head, written + 1);
	slot_give_back(slot);
}

static void io_done(struct block_req *block, int result)
{
	struct blk_slot *slot = (struct blk_slot *)block;
	bool is_in = slot->req.kind == BLK_IN;

	if (result < 0 && !blk_failed(slot, &result))
		return;
	if (result == 0)
		stats_add(queue_blk(slot->queue)->stats[slot->req.kind][BLK_BYTES], block->bytes);
	blk_finish(slot, result ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK,
		   is_in && result == 0 ? slot->req.bytes : 0);
}

void blk_submit(struct blk_slot *slot)
{
	struct blk_lane *lane = blk_slot_lane(slot);

	block_submit(lane->io, __atomic_load_n(&lane->graph->top, __ATOMIC_ACQUIRE), &slot->block);
}

static void submit(struct blk_slot *slot, const struct block_req *what)
{
	slot->block = *what;
	slot->block.user = slot->taken_ns;
	blk_submit(slot);
}

static unsigned write_flags(const struct blk *blk)
{
	return __atomic_load_n(&blk->write_through, __ATOMIC_RELAXED) ? BLOCK_FUA : 0;
}

static void range_done(struct block_req *block, int result);

/* Ranges are carried out one after the other. */
static void submit_range(struct blk_slot *slot)
{
	struct blk *blk = queue_blk(slot->queue);
	const struct blk_limits *limits = &blk_slot_lane(slot)->limits;
	bool zeroes = slot->req.kind == BLK_WRITE_ZEROES;
	struct blk_range range;
	int status = blk_request_range(&slot->req, &slot->chain, limits, &range);

	if (status) {
		blk_finish(slot, status, 0);
		return;
	}
	submit(slot, &(struct block_req){.op = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD,
					 .flags = (zeroes ? write_flags(blk) : 0) |
						  (range.unmap ? BLOCK_UNMAP : 0),
					 .offset = range.offset,
					 .bytes = range.bytes,
					 .done = range_done});
}

static void range_done(struct block_req *block, int result)
{
	struct blk_slot *slot = (struct blk_slot *)block;

	if (result < 0 && !blk_failed(slot, &result))
		return;
	if (result == 0)
		stats_add(queue_blk(slot->queue)->stats[slot->req.kind][BLK_BYTES], block->bytes);
	if (result || !slot->req.ranges)
		blk_finish(slot, result ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK, 0);
	else
		submit_range(slot);
}

static void carry_out(struct blk_slot *slot)
{
	struct blk *blk = queue_blk(slot->queue);
	struct blk_request *req = &slot->req;

	if (!blk_slot_lane(slot)->graph && req->kind != BLK_GET_ID) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	switch (req->kind) {
	case BLK_IN:
	case BLK_OUT:
		submit(slot,
		       &(struct block_req){.op = req->kind == BLK_IN ? BLOCK_READ : BLOCK_WRITE,
					   .flags = req->kind == BLK_OUT ? write_flags(blk) : 0,
					   .offset = req->offset,
					   .bytes = req->bytes,
					   .iov = req->iov,
					   .n_iov = req->n_iov,
					   .done = io_done});
		break;
	case BLK_FLUSH:
		submit(slot, &(struct block_req){.op = BLOCK_FLUSH, .done = io_done});
		break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		submit_range(slot);
		break;
	case BLK_GET_ID:
		blk_finish(slot, VIRTIO_BLK_S_OK,
			   virtqueue_chain_write(&slot->chain, blk->disk->serial,
						 sizeof(blk->disk->serial)));
		break;
	}
}

/* Takes all that is there; submitted and published when the lane is idle. */
void blk_notify(struct virtio_queue *virtio)
{
	struct blk *blk = (struct blk *)virtio->dev;
	struct blk_queue *queue = &blk->queues[virtio->index];
	const struct blk_limits *limits = &blk->lanes[virtio->lane - blk->virtio.lanes].limits;
	struct blk_slot *slot = slot_take(queue);
	int r;

	virtqueue_notify_off(&virtio->ring);
	queue->watched = true;
	while (virtio_pop(virtio, slot->iov, &slot->chain) == 0) {
		slot->taken_ns = now_ns();
		r = blk_request_parse(&slot->req, &slot->chain, limits);
		if (r == -EPROTO) {
			virtio_queue_fail(virtio, "disk request without a status byte");
			virtqueue_unpop(&virtio->ring);
			break;
		}
		stats_add(blk->in_flight, 1);
		if (r)
			blk_finish(slot, r, 0);
		else
			carry_out(slot);
		slot = slot_take(queue);
	}
	slot_give_back(slot);
}

/* --- lanes -------------------------------------------------------------------------------- */

static void lane_publish(struct virtio_lane *lane)
{
	for (unsigned i = 0; i < lane->n; i++)
		virtio_publish(&lane->dev->queues[lane->first + i]);
}

/* Takes what has come, submits it, publishes what has completed. False: there was nothing. */
static bool lane_round(struct blk_lane *lane)
{
	struct virtio_lane *virtio = lane->virtio;
	bool any = false;

	for (unsigned i = virtio->first; i < virtio->first + virtio->n; i++) {
		struct virtio_queue *queue = &virtio->dev->queues[i];

		if (!virtio_queue_live(queue) || !virtqueue_pending(&queue->ring))
			continue;
		virtio_serve(queue);
		any = true;
	}
	any |= block_queue_run(lane->io) > 0;
	if (any && virtio->active)
		lane_publish(virtio);
	return any;
}

/* Drivers are to kick again; false: one has something already. */
static bool lane_rest(struct blk_lane *lane)
{
	struct virtio_lane *virtio = lane->virtio;
	bool quiet = true;

	for (unsigned i = virtio->first; i < virtio->first + virtio->n; i++) {
		struct virtio_queue *queue = &virtio->dev->queues[i];
		struct blk_queue *own = &lane->blk->queues[i];

		if (!own->watched || !virtio_queue_live(queue))
			continue;
		own->watched = false;
		queue->budget = queue->ring.size;
		if (virtio_notify_on(queue)) {
			own->watched = true;
			quiet = false;
		}
	}
	return quiet;
}

/*
 * Was the sleep that has just ended so short that watching would have been better? And was the
 * watch before it in vain?
 */
static void lane_learn(struct blk_lane *lane, uint64_t now)
{
	if (now - lane->asleep_ns < WATCH_MAX_NS)
		lane->watch_ns = lane->watch_ns ? WATCH_MAX_NS : WATCH_MIN_NS;
	else if (lane->watch_ns > WATCH_MIN_NS)
		lane->watch_ns /= 2;
	else
		lane->watch_ns = 0;
}

/*
 * A batch is over: what came is submitted, what completed is published, until there is nothing
 * more. Then, where that has proved worth it, rings are watched for a moment: a guest that
 * asks again at once need not leave guest mode for a kick, nor this thread be woken. Whoever
 * wants the thread for something else has it at once.
 */
void blk_lane_idle(void *arg)
{
	struct blk_lane *lane = arg;
	uint64_t since = now_ns();

	lane_learn(lane, since);
	/* What completed in this batch waits for nothing else. */
	if (lane->virtio->active)
		lane_publish(lane->virtio);
	for (;;) {
		if (iothread_wanted(lane->thread)) {
			lane_rest(lane);
			break;
		}
		if (lane_round(lane)) {
			since = now_ns();
			continue;
		}
		if (lane->watch_ns && now_ns() - since < lane->watch_ns) {
			__builtin_ia32_pause();
			continue;
		}
		if (lane_rest(lane))
			break;
	}
	lane->asleep_ns = now_ns();
}

void blk_lane_completions(struct iothread_source *source)
{
	struct blk_lane *lane =
	    (struct blk_lane *)((char *)source - offsetof(struct blk_lane, completions));

	block_queue_run(lane->io);
}

void blk_drain(struct virtio_lane *virtio)
{
	struct blk *blk = (struct blk *)virtio->dev;
	struct blk_lane *lane = &blk->lanes[virtio - blk->virtio.lanes];

	block_queue_kick(lane->io);
	block_queue_drain(lane->io);
	/* A pause leaves what is kept as it is. */
	if (!virtio->active)
		blk_kept_drop(lane);
	lane_publish(virtio);
}
