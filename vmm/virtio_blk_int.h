/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_BLK_INT_H
#define FV_VMM_VIRTIO_BLK_INT_H
/* Inside virtio-blk: what the device (virtio_blk.c) and its data path (virtio_blk_io.c) share. */
#include "storage/block.h"
#include "vmm/disk.h"
#include "vmm/virtio.h"
#include "vmm/virtio_blk.h"

#define BLK_QUEUE_SIZE	    128
#define BLK_SLOTS	    (BLK_QUEUE_SIZE + 1) /* one is held while the ring is looked at */
#define BLK_SEGMENTS_MAX    126
#define BLK_CHAIN_MAX	    (BLK_SEGMENTS_MAX + 2) /* and header and status */
#define BLK_QUEUES_MAX	    16
#define BLK_QUEUES_PER_LANE 4
#define BLK_LANES_MAX	    (BLK_QUEUES_MAX / BLK_QUEUES_PER_LANE)

struct blk;
struct blk_queue;

/* One request under way. Belongs to its queue's lane. */
struct blk_slot {
	struct block_req block; /* first */
	struct blk_queue *queue;
	struct blk_request req;
	struct virtqueue_chain chain;
	uint64_t taken_ns;
	struct blk_slot *next_kept;
	bool lost; /* kept, and what it was for has gone */
	struct iovec iov[BLK_CHAIN_MAX];
};

struct blk_queue {
	struct virtio_queue *virtio;
	struct blk_slot *slots;
	/* Slots given back, the warmest last; those from n_touched on were never used. */
	uint16_t free[BLK_SLOTS];
	unsigned n_free, n_touched;
	bool watched; /* its driver was asked not to kick */
	/* Loaded: heads of requests that had failed, and are to be tried again. */
	uint16_t again[BLK_QUEUE_SIZE];
};

struct blk_lane {
	struct blk *blk;
	struct virtio_lane *virtio;
	struct iothread *thread;
	struct block_queue *io;
	char name[VMM_NAME_MAX + 16]; /* of the thread */
	struct iothread_source completions;
	/* the thread's own */
	struct disk_graph *graph; /* NULL: no contents */
	struct blk_limits limits;
	struct blk_slot *kept; /* failed, and to be tried again at resume */
	uint64_t watch_ns;     /* how long it looks for more before it sleeps */
	uint64_t asleep_ns;    /* since when it sleeps */
};

enum { BLK_OPS, BLK_BYTES, BLK_NS, BLK_STATS };
#define BLK_KINDS (BLK_GET_ID + 1)
#define BLK_SPANS 5

struct blk {
	struct virtio_device virtio;
	struct disk *disk; /* borrowed */
	/* control's */
	bool paused, changed;		 /* changed while paused: the driver is yet to be told */
	struct virtio_blk_config config; /* ->wce under virtio.lock */
	bool write_through;		 /* atomic: what lanes see of wce, F_FLUSH and cache mode */
	unsigned n_queues, n_lanes;
	struct blk_queue queues[BLK_QUEUES_MAX];
	struct blk_lane lanes[BLK_LANES_MAX];
	uint64_t *stats[BLK_KINDS][BLK_STATS];	/* by enum blk_kind */
	uint64_t *spread[BLK_KINDS][BLK_SPANS]; /* how many took how long */
	uint64_t *errors, *in_flight, *throttled_ns;
	uint64_t uncounted; /* where those go that make no sense */
};

/* --- the data path (virtio_blk_io.c), on lanes ------------------------------------------------ */

/* virtio_ops.notify and .drain */
void blk_notify(struct virtio_queue *queue);
void blk_drain(struct virtio_lane *lane);
/* The lane's thread goes to sleep: publishes what completed, submits what was gathered. */
void blk_lane_idle(void *lane);
/* Storage has completed something: iothread_source.ready */
void blk_lane_completions(struct iothread_source *source);
/* Answers: @written bytes of data went into guest memory, and the status does. */
void blk_finish(struct blk_slot *slot, uint8_t status, uint32_t written);
/* Hands slot->block to storage. */
void blk_submit(struct blk_slot *slot);
struct blk_lane *blk_slot_lane(const struct blk_slot *slot);

/* --- failures (virtio_blk_fail.c), on lanes ----------------------------------------------------
 */

/*
 * Storage failed with @result (< 0). True: the request ends, with what is in *@result then.
 * False: it is kept.
 */
bool blk_failed(struct blk_slot *slot, int *result);
/* What is kept fails when it is tried again: the contents have gone. */
void blk_kept_lose(struct blk_lane *lane);
/* Answers all that is kept with an error: the driver has reset the device. */
void blk_kept_drop(struct blk_lane *lane);
/* Tries again what is kept; as a function for iothread_call(). */
void blk_kept_retry(void *lane);
struct state;
/* All that is kept, of a device that stands still: behind virtio's own in its section. */
void blk_kept_state(struct blk *blk, struct state *st);

#endif
