// SPDX-License-Identifier: ISC
/*
 * Readers of a disk's past: peek.c serves them, with a synchronous queue for what they read.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/block_filter.h"
#include "util/cleanup.h"
#include "vmm/disk_snapshot.h"
#include "vmm/peek.h"

struct disk_snapshot {
	struct disk_snapshot *next;
	struct block *block;
	struct block_queue *queue;
	struct peek_server *server;
};

static int peek_read(void *arg, uint64_t offset, uint64_t bytes, void *to)
{
	struct disk_snapshot *s = arg;

	return block_pread(s->queue, s->block, to, bytes, offset);
}

static int peek_status(void *arg, struct vmm_peek *peek)
{
	struct disk_snapshot *s = arg;
	struct block_extent extent;
	int ret = block_status(s->block, peek->offset, peek->bytes, &extent);

	if (ret < 0)
		return ret;
	peek->bytes = extent.bytes;
	peek->flags = (extent.data ? VMM_PEEK_DATA : 0) | (extent.zero ? VMM_PEEK_ZERO : 0);
	return 0;
}

static const struct peek_ops ops = {.thread = "snapshot", .read = peek_read, .status = peek_status};

static void snapshot_free(struct disk_snapshot *s)
{
	peek_server_free(s->server);
	block_queue_free(s->queue);
	block_close(s->block);
	free(s);
}

int disk_snapshot_new(struct disk_graph *graph, int keep_fd, int sock, int wake_fd,
		      struct vmm_snapshot_info *info, int *room_fd, struct err *err)
{
	_cleanup_close_ int own_sock = sock;
	struct disk_snapshot *s = calloc(1, sizeof(*s));
	struct block_info what;
	int ret;

	*room_fd = -1;
	if (!s) {
		close(keep_fd);
		return err_set(err, -ENOMEM, "no memory");
	}
	ret = block_fleece_snapshot(&s->block, graph->fleece, keep_fd, err);
	if (ret == 0)
		ret = block_queue_new_sync(&s->queue, err);
	if (ret == 0)
		ret =
		    peek_server_new(&s->server, &ops, s, take_fd(&own_sock), wake_fd, room_fd, err);
	if (ret < 0) {
		snapshot_free(s);
		return ret;
	}
	block_info_get(s->block, &what);
	*info = (struct vmm_snapshot_info){.bytes = what.bytes, .room_bytes = PEEK_ROOM_BYTES};
	s->next = graph->snapshots;
	graph->snapshots = s;
	return 0;
}

void disk_snapshots_pass(struct disk_graph *graph)
{
	for (struct disk_snapshot *s = graph->snapshots; s; s = s->next)
		peek_server_pass(s->server);
}

void disk_snapshots_reap(struct disk_graph *graph)
{
	struct disk_snapshot **at = &graph->snapshots;

	while (*at) {
		struct disk_snapshot *s = *at;

		if (!peek_server_over(s->server)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		snapshot_free(s);
	}
}

void disk_snapshots_end(struct disk_graph *graph)
{
	while (graph->snapshots) {
		struct disk_snapshot *s = graph->snapshots;

		graph->snapshots = s->next;
		snapshot_free(s);
	}
}
