/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_BLK_H
#define FV_VMM_VIRTIO_BLK_H
/*
 * virtio-blk (virtio 1.2 §5.2): how a disk is shown to the guest; and its requests
 * (§5.2.6), read out of a chain and checked: the part of the device that meets the
 * guest's bytes, which knows no threads and no disks.
 */
#include <linux/virtio_blk.h>

#include "util/err.h"
#include "vmm/virtqueue.h"

struct disk;
struct disk_graph;
struct vm;

#define BLK_SECTOR	      512
#define BLK_RANGES_MAX	      32	 /* of one DISCARD or WRITE_ZEROES */
#define BLK_RANGE_SECTORS_MAX (1u << 22) /* of one range: 2 GiB */

/* What the disk permits. */
struct blk_limits {
	uint64_t sectors;
	bool readonly, discard, write_zeroes;
};

enum blk_kind { BLK_IN, BLK_OUT, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_GET_ID };

struct blk_request {
	enum blk_kind kind;
	uint8_t *status; /* where the answer goes, in guest memory */
	/* IN and OUT: the range, and the data's buffers (chain->in or chain->out) */
	uint64_t offset, bytes;
	const struct iovec *iov;
	unsigned n_iov;
	/* DISCARD, WRITE_ZEROES: ranges that blk_request_range() has yet to give */
	unsigned ranges;
};

struct blk_range {
	uint64_t offset, bytes;
	bool unmap;
};

/*
 * Reads the request in @chain (which is consumed). 0: carry it out;
 * VIRTIO_BLK_S_IOERR or _UNSUPP: answer that; -EPROTO: there is not even room for an answer.
 */
int blk_request_parse(struct blk_request *req, struct virtqueue_chain *chain,
		      const struct blk_limits *limits);
/* The next range of a DISCARD or WRITE_ZEROES; 0 or the status that ends the request. */
int blk_request_range(struct blk_request *req, struct virtqueue_chain *chain,
		      const struct blk_limits *limits, struct blk_range *range);

/*
 * Makes the device "disk.NAME" that shows @disk (borrowed: it outlives the device) in a
 * free PCI slot, and adds it to vm->devices; disk->device is it until it is destroyed by its
 * ops, which the caller has it taken from the list for. Control thread; vcpus may
 * run. -errno with words; then nothing remains.
 */
int virtio_blk_attach(struct vm *vm, struct disk *disk, unsigned slot, struct err *err);
/*
 * From when it returns the device, where there is one, uses @graph (NULL: no contents), and
 * nothing is under way in another. With the graph that it uses already: its size has changed.
 * Waits for what is under way; a job's thread, or control while no job works.
 */
void virtio_blk_use(struct disk *disk, struct disk_graph *graph);
/* The driver is told of disk->graph's size. Control thread. */
void virtio_blk_changed(struct disk *disk);

#endif
