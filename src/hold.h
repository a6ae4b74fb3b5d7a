/* SPDX-License-Identifier: ISC */
#ifndef FV_HOLD_H
#define FV_HOLD_H
/*
 * An instant of a guest, taken by its VMM (VMM_SNAPSHOT), and who holds its memory since (enum
 * vmm_hold_type). What a holder says is as little believed as what a VMM says.
 */
#include "memory_map.h"
#include "vmm.h"

struct hold; /* the holder's socket */

struct instant {
	struct hold *hold; /* NULL: without memory */
	struct vmm_snapshot_done done;
};

/*
 * Takes one. @state, @registers: empty files, borrowed, written when this returns (not synced).
 * @flags: VMM_SNAPSHOT_…. -errno with words; the guest is then as it was.
 */
int instant_take(struct vmm *vmm, uint32_t flags, int state, int registers, struct instant *instant,
		 struct cancel *cancel, struct err *err);

/*
 * Has the memory written to @fd, an empty file, borrowed; with @parent (RAW; may be NULL) only
 * what differs from it. @map (its `bytes` and kind filled in) then says what it is made of: file
 * 0 of it is the new one, whose id is @id; files that nothing refers to are left out. Progress
 * goes to @job where there is one. -ECANCELED, -ENOSPC … with words.
 */
int hold_write(struct hold *hold, enum vmm_memory_kind kind, int fd, const char *id,
	       const struct memory_map *parent, const int parent_fds[VMM_MEMORY_FILES_MAX],
	       struct memory_map *map, struct vmm_hold_done *done, struct job *job,
	       struct cancel *cancel, struct err *err);
/* Has it fork a VMM which serves @listening; both are borrowed. */
int hold_clone(struct hold *hold, int listening, int log, struct cancel *cancel, struct err *err);
/* Lets it end. NULL is fine. */
void hold_end(struct hold *hold);

#endif
