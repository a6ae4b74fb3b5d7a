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
	struct iovec iov[BLK_CHAIN_MAX];
};

struct blk_queue {
	struct virtio_queue *virtio;
	struct blk_slot *slots;
	/* Slots given back, the warmest last; those from n_touched on were never used. */
	uint16_t free[BLK_SLOTS];
	unsigned n_free, n_touched;
};

struct blk_lane {
	struct blk *blk;
	struct virtio_lane *virtio;
	struct iothread *thread;
	struct block_queue *io;
	char name[VMM_NAME_MAX + 16]; /* of the thread */
	struct iothread_source completions;
};

enum { BLK_OPS, BLK_BYTES, BLK_NS, BLK_STATS };
#define BLK_KINDS (BLK_GET_ID + 1)

struct blk {
	struct virtio_device virtio;
	struct disk *disk;   /* borrowed */
	struct block *block; /* the disk's */
	struct blk_limits limits;
	struct virtio_blk_config config; /* ->wce under virtio.lock */
	bool write_through;		 /* atomic: what lanes see of wce and F_FLUSH */
	unsigned n_queues, n_lanes;
	struct blk_queue queues[BLK_QUEUES_MAX];
	struct blk_lane lanes[BLK_LANES_MAX];
	uint64_t *stats[BLK_KINDS][BLK_STATS]; /* by enum blk_kind */
	uint64_t *errors;
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

#endif
