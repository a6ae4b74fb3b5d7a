/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_HOLD_EXTENTS_H
#define FV_VMM_HOLD_EXTENTS_H
/*
 * Which bytes of which file a guest's memory is made of, when some of its pages are not as in
 * the files it began with: those go to a new file. Pure computation.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/vmm_proto.h"

#define HOLD_PAGE 4096u

/* A piece of RAM. */
struct hold_region {
	uint64_t gpa, bytes;
	uint8_t *host;
};

/* A bit for each page below the top of RAM, holes included. */
struct hold_pages {
	uint64_t *words;
	uint64_t n; /* pages */
};

/* All bits 0. -ENOMEM. */
int hold_pages_new(struct hold_pages *pages, uint64_t bytes);
void hold_pages_free(struct hold_pages *pages);
static inline bool hold_pages_get(const struct hold_pages *p, uint64_t page)
{
	return p->words[page / 64] >> page % 64 & 1;
}
static inline void hold_pages_set(struct hold_pages *p, uint64_t page)
{
	p->words[page / 64] |= 1ull << page % 64;
}

/* Ascending, no overlap, whole pages, within @regions, of files below @n_files? */
bool hold_extents_valid(const struct vmm_extent *extents, unsigned n, unsigned n_files,
			const struct hold_region *regions, unsigned n_regions);
/*
 * Lays the pages that are set over @parent's extents: @out (VMM_EXTENTS_MAX) ascends, file 0 is
 * the new one, 1 + N the parent's N. Where that would be too many, near runs of pages become one,
 * and the pages between them are set in @pages, too. Their number.
 */
unsigned hold_extents_over(const struct vmm_extent *parent, unsigned n_parent,
			   const struct hold_region *regions, unsigned n_regions,
			   struct hold_pages *pages, struct vmm_extent *out);

#endif
