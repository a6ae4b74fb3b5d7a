// SPDX-License-Identifier: ISC
/*
 * Disks that go over to a new layer while they run. What is slow is done before, by a job, and
 * what is left of it is in the graph until a snapshot's instant: that puts it on top, while
 * the device stands still.
 */
#include "storage/image_stack.h"
#include "util/cleanup.h"
#include "vmm/disk.h"

bool disk_staged(const struct disk *disk)
{
	return !disk->job && disk->graph && disk->graph->staged;
}

void disk_switch(struct disk *disk)
{
	struct disk_graph *graph = disk->graph;

	image_stack_switch(graph->stack, take_ptr(graph->staged));
	graph->kind = VMM_LAYER_QCOW2;
}

void disk_unstage(struct disk *disk)
{
	/* A job that exchanges the graph does so under the lock; it finds nothing staged. */
	LOCK_SCOPE(&disk->lock);
	if (disk->graph)
		image_stack_unstage(take_ptr(disk->graph->staged));
}
