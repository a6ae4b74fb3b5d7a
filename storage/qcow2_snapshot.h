/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_SNAPSHOT_H
#define FV_QCOW2_SNAPSHOT_H
/*
 * Snapshots inside a qcow2 image. The image may be in use by queues at the same
 * time: their requests wait. Those under way are waited for, so every queue in use must
 * be run by its thread or be drained. Not for a queue's own thread. A name is looked for
 * among names first, then among ids. -ENOTSUP for other formats and for images with
 * an external data file, -EROFS, -ENOENT, -EEXIST, -ERANGE (refcounts too
 * narrow), -ENOSPC, -EIO; a failed operation leaves the image as it was.
 */
#include <stdint.h>

#include "storage/block.h"

struct qcow2_snapshot_info {
	const char *id, *name;	  /* borrowed, until the next change */
	uint64_t time_s, time_ns; /* when it was taken, since 1970 */
	uint64_t vm_clock_ns;
	uint64_t vm_state_bytes;
	uint64_t bytes; /* the disk's size then */
};

int qcow2_snapshot_create(struct block *block, const char *name, struct err *err);
int qcow2_snapshot_delete(struct block *block, const char *name, struct err *err);
/* The disk becomes what it was; its size too. */
int qcow2_snapshot_apply(struct block *block, const char *name, struct err *err);
unsigned qcow2_snapshot_count(struct block *block);
/* -ENOENT beyond the last. Not while another thread changes snapshots. */
int qcow2_snapshot_info(struct block *block, unsigned i, struct qcow2_snapshot_info *info);

#endif
