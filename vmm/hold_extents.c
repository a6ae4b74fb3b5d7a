// SPDX-License-Identifier: ISC
/*
 * Runs of pages over extents. Runs are found again and again with growing gaps between pages that
 * count as one run, until all fits. With gaps as large as RAM there is one run for each piece of
 * it: so it ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hold_extents.h"

int hold_pages_new(struct hold_pages *pages, uint64_t bytes)
{
	pages->n = bytes / HOLD_PAGE;
	pages->words = calloc(pages->n / 64 + 1, sizeof(uint64_t));
	return pages->words ? 0 : -ENOMEM;
}

void hold_pages_free(struct hold_pages *pages)
{
	free(pages->words);
	pages->words = NULL;
}

static bool within(uint64_t gpa, uint64_t bytes, const struct hold_region *regions, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (gpa >= regions[i].gpa && gpa - regions[i].gpa <= regions[i].bytes &&
		    bytes <= regions[i].bytes - (gpa - regions[i].gpa))
			return true;
	return false;
}

bool hold_extents_valid(const struct vmm_extent *extents, unsigned n, unsigned n_files,
			const struct hold_region *regions, unsigned n_regions)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct vmm_extent *e = &extents[i];

		if (e->bytes == 0 || (e->gpa | e->bytes | e->offset) % HOLD_PAGE != 0 ||
		    e->gpa < end || e->file >= n_files ||
		    !within(e->gpa, e->bytes, regions, n_regions) || e->offset > INT64_MAX ||
		    e->bytes > INT64_MAX - e->offset)
			return false;
		end = e->gpa + e->bytes;
	}
	return true;
}

/* The first page from @from on, below @end, whose bit is @value; @end: none. */
static uint64_t next(const struct hold_pages *p, uint64_t from, uint64_t end, bool value)
{
	while (from < end) {
		uint64_t word = p->words[from / 64];

		word = (value ? word : ~word) >> from % 64;
		if (word) {
			from += (uint64_t)__builtin_ctzll(word);
			return from < end ? from : end;
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

struct overlay {
	const struct vmm_extent *parent;
	unsigned n_parent, at; /* at: the first that may be above what was done */
	struct vmm_extent *out;
	unsigned n;
};

static bool put(struct overlay *o, uint64_t gpa, uint64_t bytes, uint64_t offset, uint32_t file)
{
	if (o->n == VMM_EXTENTS_MAX)
		return false;
	o->out[o->n++] = (struct vmm_extent){gpa, bytes, offset, file, 0};
	return true;
}

/* What the parent has of @from to @to. */
static bool put_parent(struct overlay *o, uint64_t from, uint64_t to)
{
	for (; o->at < o->n_parent; o->at++) {
		const struct vmm_extent *e = &o->parent[o->at];
		uint64_t start = e->gpa > from ? e->gpa : from;
		uint64_t end = e->gpa + e->bytes < to ? e->gpa + e->bytes : to;

		if (e->gpa >= to)
			return true;
		if (start < end &&
		    !put(o, start, end - start, e->offset + (start - e->gpa), e->file + 1))
			return false;
		if (e->gpa + e->bytes > to)
			return true; /* the rest of it is for later */
	}
	return true;
}

/* Runs of one piece of RAM, with at most @gap pages that are not set within one. */
static bool lay(struct overlay *o, const struct hold_region *region, const struct hold_pages *pages,
		uint64_t gap)
{
	uint64_t page = region->gpa / HOLD_PAGE, end = (region->gpa + region->bytes) / HOLD_PAGE;
	uint64_t done = page;

	while ((page = next(pages, page, end, true)) < end) {
		uint64_t stop = next(pages, page, end, false), again;

		while ((again = next(pages, stop, end, true)) < end && again - stop <= gap)
			stop = next(pages, again, end, false);
		if (!put_parent(o, done * HOLD_PAGE, page * HOLD_PAGE) ||
		    !put(o, page * HOLD_PAGE, (stop - page) * HOLD_PAGE, page * HOLD_PAGE, 0))
			return false;
		done = page = stop;
	}
	return put_parent(o, done * HOLD_PAGE, end * HOLD_PAGE);
}

static void set_runs(const struct vmm_extent *extents, unsigned n, struct hold_pages *pages)
{
	for (unsigned i = 0; i < n; i++)
		for (uint64_t at = 0; extents[i].file == 0 && at < extents[i].bytes;
		     at += HOLD_PAGE)
			hold_pages_set(pages, (extents[i].gpa + at) / HOLD_PAGE);
}

unsigned hold_extents_over(const struct vmm_extent *parent, unsigned n_parent,
			   const struct hold_region *regions, unsigned n_regions,
			   struct hold_pages *pages, struct vmm_extent *out)
{
	for (uint64_t gap = 0;; gap = gap ? gap * 2 : 1) {
		struct overlay o = {.parent = parent, .n_parent = n_parent, .out = out};
		bool fits = true;

		for (unsigned i = 0; i < n_regions && fits; i++)
			fits = lay(&o, &regions[i], pages, gap);
		if (!fits)
			continue;
		set_runs(out, o.n, pages);
		return o.n;
	}
}
