// SPDX-License-Identifier: ISC
/*
 * What becomes of a request that storage failed (enum vmm_on_error). One that is to be
 * tried again is kept in its slot, with the guest's buffers and its place in the ring:
 * to the driver it is under way. The control thread is told, and pauses the machine;
 * resume submits again what is kept. A driver's reset answers it with an error, and so
 * does the exchange of the disk's contents, at resume.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
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
