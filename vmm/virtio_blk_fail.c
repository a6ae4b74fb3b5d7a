// SPDX-License-Identifier: ISC
/*
 * What becomes of a request that storage failed (enum vmm_on_error). One that is to be
 * tried again is kept in its slot, with the guest's buffers and its place in the ring:
 * to the driver it is under way. The control thread is told, and pauses the machine;
 * resume submits again what is kept. A driver's reset answers it with an error, and so
 * does the exchange of the disk's contents, at resume. Who goes on from a saved state takes it from
 * the ring once more.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "vmm/state.h"
#include "vmm/virtio_blk_int.h"

/* As enum blk_kind. */
static const char *const kinds[] = {
    [BLK_IN] = "read",
    [BLK_OUT] = "write",
    [BLK_FLUSH] = "flush",
    [BLK_DISCARD] = "discard",
    [BLK_WRITE_ZEROES] = "write of zeroes",
    [BLK_GET_ID] = "name",
};

enum verdict { REPORT, KEEP, IGNORE };

static enum verdict judge(enum vmm_on_error on_error, enum blk_kind kind, int error)
{
	switch (on_error) {
	case VMM_ON_ERROR_AUTO:
		return error == -ENOSPC || error == -EDQUOT ? KEEP : REPORT;
	case VMM_ON_ERROR_REPORT:
		return REPORT;
	case VMM_ON_ERROR_PAUSE:
		return KEEP;
	case VMM_ON_ERROR_IGNORE:
		return kind == BLK_IN ? REPORT : IGNORE;
	}
	return REPORT;
}

static void describe(const struct blk_slot *slot, int error, char *text, size_t len)
{
	const struct block_req *req = &slot->block;

	if (req->op == BLOCK_FLUSH)
		snprintf(text, len, "flush: %s", strerror(-error));
	else
		snprintf(text, len, "%s of %llu bytes at %llu: %s", kinds[slot->req.kind],
			 (unsigned long long)req->bytes, (unsigned long long)req->offset,
			 strerror(-error));
}

bool blk_failed(struct blk_slot *slot, int *result)
{
	struct blk *blk = (struct blk *)slot->queue->virtio->dev;
	struct blk_lane *lane = blk_slot_lane(slot);
	enum vmm_on_error on_error = __atomic_load_n(&blk->disk->on_error, __ATOMIC_RELAXED);
	enum verdict verdict = judge(on_error, slot->req.kind, *result);
	char text[128];

	/* The guest asked for what is not there (any more): none of the host's troubles. */
	if (*result == -ERANGE || *result == -EROFS)
		return true;
	describe(slot, *result, text, sizeof(text));
	disk_tell_failed(blk->disk, *result, verdict == KEEP, text);
	switch (verdict) {
	case REPORT:
		break;
	case KEEP:
		stats_add(blk->errors, 1);
		slot->lost = false;
		slot->next_kept = lane->kept;
		lane->kept = slot;
		return false;
	case IGNORE:
		stats_add(blk->errors, 1);
		*result = 0;
		break;
	}
	return true;
}

void blk_kept_lose(struct blk_lane *lane)
{
	for (struct blk_slot *slot = lane->kept; slot; slot = slot->next_kept)
		slot->lost = true;
}

static struct blk_slot *take_all(struct blk_lane *lane)
{
	return take_ptr(lane->kept);
}

void blk_kept_drop(struct blk_lane *lane)
{
	for (struct blk_slot *slot = take_all(lane), *next; slot; slot = next) {
		next = slot->next_kept;
		blk_finish(slot, VIRTIO_BLK_S_IOERR, 0);
	}
}

/* The heads of the chains of a queue that are to be tried again; how many. */
static uint16_t kept_heads(const struct blk *blk, unsigned index, uint16_t *heads, struct state *st)
{
	const struct virtqueue *ring = &blk->virtio.queues[index].ring;
	uint16_t n = ring->n_again; /* loaded, and not taken yet */

	memcpy(heads, ring->again ? ring->again : heads, n * sizeof(heads[0]));
	for (unsigned i = 0; i < blk->n_lanes; i++)
		for (struct blk_slot *s = blk->lanes[i].kept; s; s = s->next_kept) {
			if (s->queue != &blk->queues[index])
				continue;
			heads[n++] = s->chain.head;
			if (s->lost)
				state_fail(st, -EBUSY,
					   "requests that failed are of contents that it has no "
					   "more: resume it first");
		}
	return n;
}

static void queue_kept_state(struct blk *blk, unsigned index, struct state *st)
{
	struct virtqueue *ring = &blk->virtio.queues[index].ring;
	uint16_t heads[BLK_QUEUE_SIZE], n = 0;

	if (!state_loading(st))
		n = kept_heads(blk, index, heads, st);
	state_u16(st, &n);
	if (n > BLK_QUEUE_SIZE)
		state_fail(st, -EINVAL, "queue %u: %u requests", index, n);
	for (unsigned i = 0; i < n && state_ok(st); i++)
		state_u16(st, &heads[i]);
	if (!state_loading(st) || !state_ok(st))
		return;
	memcpy(blk->queues[index].again, heads, n * sizeof(heads[0]));
	ring->again = blk->queues[index].again;
	ring->n_again = n;
}

void blk_kept_state(struct blk *blk, struct state *st)
{
	if (state_version(st) < 2)
		return;
	for (unsigned i = 0; i < blk->n_queues; i++)
		queue_kept_state(blk, i, st);
}

void blk_kept_retry(void *arg)
{
	struct blk_lane *lane = arg;

	for (struct blk_slot *slot = take_all(lane), *next; slot; slot = next) {
		next = slot->next_kept;
		if (slot->lost || !lane->graph)
			blk_finish(slot, VIRTIO_BLK_S_IOERR, 0);
		else
			blk_submit(slot);
	}
}
