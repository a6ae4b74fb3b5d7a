/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_HOLD_INT_H
#define FV_VMM_HOLD_INT_H
/* Inside the holder: what serves its socket (hold.c), and what writes memory out (hold_write.c). */
#include <pthread.h>
#include <stdatomic.h>

#include "vmm/hold.h"
#include "vmm/hold_extents.h"

/* One WRITE: by a thread of its own, which has others to help. */
struct hold_write {
	const struct memory *memory;
	enum vmm_memory_kind kind;
	int level;
	int fd;
	/* the parent's memory */
	unsigned n_files, n_extents;
	int files[VMM_MEMORY_FILES_MAX];
	const uint8_t *mapped[VMM_MEMORY_FILES_MAX];
	struct vmm_extent *parent;

	/* any thread */
	_Atomic uint64_t looked, total; /* bytes */
	_Atomic uint64_t data_bytes, stored_bytes;
	/* what came of it, for who has joined the thread */
	struct vmm_hold_done done;
	struct vmm_extent extents[VMM_EXTENTS_MAX];
	struct err err; /* code 0: it is written */
};

#define HOLD_THREADS_MAX   4
#define HOLD_POPULATE_READ 22 /* MADV_POPULATE_READ of Linux 5.14 */

/* How many threads pay here. */
unsigned hold_threads(void);
bool hold_page_is_zero(const uint8_t *page);

/* Does it; the result is in @w. Runs until it is done: who cancels it ends the process. */
void hold_write_all(struct hold_write *w);

/* Pieces of guest memory, as a list. */
static inline unsigned hold_regions(const struct memory *m, struct hold_region regions[2])
{
	regions[0] = (struct hold_region){0, m->low_bytes, m->low};
	regions[1] = (struct hold_region){m->ram_top - m->high_bytes, m->high_bytes, m->high};
	return m->high_bytes ? 2 : 1;
}

#endif
