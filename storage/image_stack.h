/* SPDX-License-Identifier: ISC */
#ifndef FV_IMAGE_STACK_H
#define FV_IMAGE_STACK_H
/*
 * A disk's chain of images that changes while the disk is in use. Three things can happen to it:
 *
 *	switch   an empty image, opened before (staged), becomes the top; what was the top goes
 *		 below it and is never written again
 *	freeze   what went below reaches stable storage, and its locks become a reader's, so that
 *		 others may open it
 *	rebase   other files that read alike take the place of the lower part
 *
 * A switch is one store, and reads that are under way may go either way. Until the freeze a FLUSH
 * goes to what went below, too: it has what the guest wrote before.
 *
 * One call at a time but for requests; those that wait are not for a queue's own thread.
 */
#include "storage/image.h"

/*
 * A node that passes requests on to the top of a chain. Takes @chain, also on error. @flags:
 * IMAGE_DIRECT, IMAGE_NO_FLUSH and IMAGE_ASYNC, for what is opened later.
 */
int image_stack_open(struct block **stack, struct block *chain, unsigned flags, struct err *err);
/*
 * Opens @fd, a qcow2 image of the disk's size (less what is no whole sector) that holds
 * nothing, says that there is something below it (what, is not looked at), and has neither
 * snapshots, bitmaps nor a data file. Takes @fd, also on error. -EINVAL, -ENOTSUP, -ELOOP (too
 * many layers), -EROFS (the disk or @fd), with words.
 */
int image_stack_stage(struct block *stack, int fd, struct block **staged, struct err *err);
/* Closes one that was not switched to, without writing to it. NULL is fine. Never waits. */
void image_stack_unstage(struct block *staged);
/* Nothing but reads may be under way. Takes @staged. Never waits, cannot fail. */
void image_stack_switch(struct block *stack, struct block *staged);
/* On failure (-errno with words) all stays as it is, and it may be tried again. */
int image_stack_freeze(struct block *stack, struct err *err);
/*
 * Below the top @keep layers there are @chain and, below that, @bottom (NULL: none) from now
 * on, opened for reading; both are taken, also on error. What was there is in *@old: for
 * block_close() once no other thread's read is under way that began before the last switch. -EBUSY:
 * what would go is not frozen; -EINVAL with words: it cannot be.
 */
int image_stack_rebase(struct block *stack, unsigned keep, struct image_chain *chain,
		       struct block *bottom, struct block **old, struct err *err);

#endif
