/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_DISK_SNAPSHOT_H
#define FV_VMM_DISK_SNAPSHOT_H
/*
 * A disk as it was at a moment, served to the daemon over a socket (struct vmm_peek) by
 * a thread of its own, so that no backup ever holds up the guest's requests or the
 * control thread. It ends when the peer closes its side, breaks the protocol, or
 * the contents go (disk_graph_close()); guests' resets leave it alone. Control
 * thread only.
 */
#include "vmm/disk.h"

/*
 * Takes @keep_fd (an empty file for what the guest overwrites) and @sock, also on error. In *@info
 * is what the daemon is told; *@room_fd is the memfd for the data, the caller's. -EBUSY:
 * too many; -EINVAL with words; -ENOMEM.
 */
int disk_snapshot_new(struct disk_graph *graph, int keep_fd, int sock, int wake_fd,
		      struct vmm_snapshot_info *info, int *room_fd, struct err *err);
/*
 * Returns when what each reader was at is over. On a job's thread, while control leaves the list
 * as it is.
 */
void disk_snapshots_pass(struct disk_graph *graph);
/* Frees those whose peer has gone; they wrote to wake_fd. */
void disk_snapshots_reap(struct disk_graph *graph);
/* Ends all of them; waits for the read that each may be at. */
void disk_snapshots_end(struct disk_graph *graph);

#endif
