/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_DISK_JOB_H
#define FV_VMM_DISK_JOB_H
/*
 * What waits for a disk's storage (opening, closing, resizing) on a thread of its own,
 * so that the control thread goes on serving. At most one at a time for a disk: it holds
 * disk->job from its start until control has finished it. While the thread runs, the disk's
 * device stays (virtio_blk waits for the job before it goes). Control thread only, but
 * for run().
 */
#include "vmm/disk.h"

struct control;

struct disk_job {
	struct disk *disk;
	/* On the job's thread. */
	int (*run)(struct disk_job *job, struct err *err);
	/*
	 * When run() was successful, on the control thread, before the answer. @wanted: whoever
	 * asked is still there. May be NULL.
	 */
	void (*finish)(struct disk_job *job, bool wanted);
	/* Frees what run() left. On the control thread; may be NULL. */
	void (*clean)(struct disk_job *job);
	/* whom to answer */
	uint64_t connection;
	uint32_t seq;
	/* what is to be done, and what came of it */
	struct disk_config config;
	struct disk_layer layers[VMM_LAYERS_MAX];
	uint64_t bytes;
	bool tells_bytes; /* they are the answer */
	struct disk_graph *graph;
	int fd;	       /* -1: none */
	unsigned keep; /* layers that stay */
	struct block *block;
	int ret;
	struct err err;
	/* the job's own */
	pthread_t thread;
};

/*
 * A job for @disk, zeroed but for it; -EBUSY with words where it has one, -ENOMEM. Ends in
 * disk_job_start() or free().
 */
int disk_job_new(struct disk_job **job, struct disk *disk, struct err *err);
/* Starts it; on error (-errno with words) it is freed. wake_fd of the disk is written at its end.
 */
int disk_job_start(struct disk_job *job, struct err *err);
/* The job of @disk if its thread is at its end, which is joined; the caller ends it. Else NULL. */
struct disk_job *disk_job_take(struct disk *disk);
/* Frees it; the disk may have another. */
void disk_job_end(struct disk_job *job);

#endif
