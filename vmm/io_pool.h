/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_IO_POOL_H
#define FV_VMM_IO_POOL_H
/*
 * Device threads with their block queues, kept over resets of the guest. A ring
 * of io_uring belongs to the thread that first used it, and once the process
 * is locked in no new one can be made: so a disk that is destroyed puts its
 * pairs back, and the disk that is made next takes them. Control thread only.
 */
#include "storage/block.h"
#include "vmm/iothread.h"

struct io_pool;

/* -ENOMEM. */
int io_pool_new(struct io_pool **pool);
/* Ends the threads of all pairs that were put back. NULL is fine. */
void io_pool_free(struct io_pool *pool);
/*
 * A thread of that name and a queue of @depth for it: one that was put back under
 * the same name, else new. With @pool NULL always new.
 */
int io_pool_take(struct io_pool *pool, const char *name, unsigned depth, struct iothread **thread,
		 struct block_queue **queue, struct err *err);
/*
 * Gives a pair back: the thread waits for nothing of the caller's any more, the queue has
 * nothing under way. With @pool NULL it is freed. NULLs are fine.
 */
void io_pool_put(struct io_pool *pool, const char *name, unsigned depth, struct iothread *thread,
		 struct block_queue *queue);

#endif
