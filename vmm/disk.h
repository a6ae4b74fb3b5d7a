/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_DISK_H
#define FV_VMM_DISK_H
/*
 * What a disk is made of: the layers that the daemon sent, opened into a graph
 * of block nodes,
 *
 *	limits (where there ever were any) → fleece (snapshots for readers) → stack → image chain
 *
 * The stack (storage/image_stack.h) lets the chain change below all the rest: a staged image
 * becomes its top, the lower part is exchanged (disk_stage.c).
 *
 * A disk outlives resets of the guest; the device that shows it (virtio_blk.h) comes and
 * goes with each. Its graph may be exchanged for another while it is shown.
 *
 * Threads. The control thread owns the struct, but for what is said below. What waits for
 * storage runs on a thread of its own, one at a time for a disk (disk_job.h). Lanes
 * of the device submit to graph->top and tell news.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/vmm_proto.h"
#include "storage/block.h"

struct device;
struct disk_job;
struct disk_snapshot;

struct disk_layer {
	enum vmm_layer_kind kind;
	int fd, data_fd; /* data_fd -1: none */
	uint64_t bytes;	 /* NBD: size of the export */
	uint32_t nbd_flags;
};

struct disk_config {
	char name[VMM_NAME_MAX];
	char serial[VMM_SERIAL_MAX + 1]; /* empty: the name */
	bool readonly;
	unsigned queues; /* 0: as many as there are vcpus, at most 4 */
	enum vmm_cache cache;
	enum vmm_on_error on_error;
	struct vmm_limits limits;
	struct disk_layer *layers; /* the top first; the caller's, its descriptors are taken */
	unsigned n_layers;
	int wake_fd; /* borrowed eventfd, written when there is news; -1: nobody wants to know */
};

/* One set of contents. */
struct disk_graph {
	struct block *fleece;
	struct block *stack;	  /* below it, and its own */
	struct block *staged;	  /* may become the top of the stack; NULL: nothing is staged */
	struct block *throttle;	  /* over it; NULL: there never were limits */
	struct block *top;	  /* one of both; atomic */
	struct block_info info;	  /* of the whole; written by a job that resizes it */
	enum vmm_layer_kind kind; /* of its top layer; control's */
	struct disk_snapshot *snapshots; /* control thread's */
	/* Counts how long limits held requests up; what submits puts the time into req->user (ns of
	 * CLOCK_MONOTONIC). Atomic; NULL: nobody counts. */
	uint64_t *throttled_ns;
};

/* What control is to hear of; see disk_news_take(). */
struct disk_news {
	bool attached;	  /* the guest began to use it */
	bool failed;	  /* error and text say how */
	bool wants_pause; /* requests were kept; they are tried again at resume */
	int error;
	char text[128];
};

struct disk {
	char name[VMM_NAME_MAX];
	char serial[VMM_SERIAL_MAX];
	bool readonly; /* as it is shown */
	unsigned queues;
	enum vmm_cache cache;
	enum vmm_on_error on_error;
	struct vmm_limits limits;
	struct device *device; /* that shows it just now; NULL: none */
	struct disk_job *job;  /* NULL: none is under way or unanswered */
	int64_t told_ms;       /* when the daemon last heard of a failure; control's own */

	pthread_mutex_t lock;
	pthread_cond_t settled;
	/* under the lock */
	struct disk_graph *graph; /* NULL: ejected. Written by control, or a job with the lock */
	bool working;		  /* a job's thread runs: graph and device stay as they are */
	bool was_attached;
	struct disk_news news;
	int wake_fd;
};

/*
 * Opens @config's layers. Their descriptors are taken, also on error. -EINVAL with words
 * for layers that cannot be, and what opening an image gives.
 */
int disk_open(struct disk **disk, const struct disk_config *config, struct err *err);
/* No device shows it, no job runs. NULL is fine. */
void disk_close(struct disk *disk);
/* Closes the descriptors that are left in @layers. */
void disk_layers_close(struct disk_layer *layers, unsigned n);

/* The graph of @config's layers, taken as above, with its limits. May wait. */
int disk_graph_open(struct disk_graph **graph, const struct disk_config *config, struct err *err);
/* Ends its snapshots. Nothing is under way in it. May wait; NULL is fine. */
void disk_graph_close(struct disk_graph *graph);

struct image_chain;
/*
 * @config's layers as storage has them: images in @chain, and in *@bottom an NBD export that is
 * below them, opened (NULL: none). Their descriptors are taken, also on error (-EINVAL with
 * words, and what block_nbd_open() gives).
 */
int disk_layers_take(struct image_chain *chain, struct block **bottom,
		     const struct disk_config *config, struct err *err);

/* --- a new layer, while it is in use (disk_stage.c; VMM_DISK_STAGE, …) ------------------------ */

/* True where disk_switch() may be called: an image is staged, and no job is under way. Control. */
bool disk_staged(const struct disk *disk);
/*
 * The staged image is the top of the disk from now on, over all it had; those are read, and flushed
 * with it until they are frozen. Its device stands still, or there is none. Control thread;
 * never waits, cannot fail.
 */
void disk_switch(struct disk *disk);
/* Closes what is staged; not while a job is under way. */
void disk_unstage(struct disk *disk);

/* New limits for the graph it has and those to come. -errno with words where none can be set. */
int disk_set_limits(struct disk *disk, const struct vmm_limits *limits, struct err *err);
/*
 * Lets all that limits hold up go at once, until the next disk_hurry(false): around a wait for
 * requests to end. Any thread.
 */
void disk_hurry(struct disk *disk, bool hurry);
/* Waits until no job's thread runs on it. */
void disk_settle(struct disk *disk);

/* Any thread: the guest uses it; a request failed (@pause: and is kept, for control to pause). */
void disk_tell_attached(struct disk *disk);
void disk_tell_failed(struct disk *disk, int error, bool pause, const char *text);
/* What is kept is tried again: nobody need pause for it any more. */
void disk_news_no_pause(struct disk *disk);
/* What happened since the last call: true if anything did. */
bool disk_news_take(struct disk *disk, struct disk_news *news);

#endif
