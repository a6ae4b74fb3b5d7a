/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_MEMORY_PEEK_H
#define FV_VMM_MEMORY_PEEK_H
/* The daemon's readers of guest memory as it is (VMM_PEEK_MEMORY). Control thread. */
#include "vmm/memory.h"
#include "vmm/peek.h"

#define MEMORY_READERS_MAX 64

struct memory_readers {
	struct peek_server *servers[MEMORY_READERS_MAX]; /* NULL: free */
};

/* What peek_server_new() says of @sock and the others. -EBUSY: too many. */
int memory_reader_add(struct memory_readers *readers, const struct memory *memory, int sock,
		      int wake_fd, struct vmm_snapshot_info *info, int *room_fd, struct err *err);
/* Frees those whose peer has gone; they wrote to wake_fd. */
void memory_readers_reap(struct memory_readers *readers);
/* Ends all. */
void memory_readers_end(struct memory_readers *readers);

#endif
