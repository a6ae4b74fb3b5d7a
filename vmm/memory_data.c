// SPDX-License-Identifier: ISC
/*
 * Which of a guest's memory may hold something, without looking into it: reading a page that
 * was never touched would make one.
 *
 * The kernel's page map says which pages there are, or were before they were swapped out. What
 * is mapped from a file, or still to be read, has no page until it is touched, and is listed
 * (memory->runs).
 */
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define PAGE	 4096ull
#define PRESENT	 (1ull << 63) /* of an entry: Documentation/admin-guide/mm/pagemap.rst */
#define SWAPPED	 (1ull << 62)
#define AT_ONCE	 512		/* entries */
#define LONG_RUN (256ull << 20) /* is told of before its end is found */

/* A piece of RAM. */
struct piece {
	uint64_t gpa, bytes;
	const uint8_t *host;
};

bool memory_tells(const struct memory *m)
{
	return m->pagemap_fd >= 0 && m->pagemap_pid == getpid();
}

/* Is there a run at @gpa? *@end: how far that goes, at most as far as it says. */
static bool listed(const struct memory *m, uint64_t gpa, uint64_t *end)
{
	unsigned n = __atomic_load_n(&m->n_runs, __ATOMIC_ACQUIRE), low = 0, high = n;

	while (low < high) { /* the first that ends behind @gpa */
		unsigned middle = (low + high) / 2;

		if (m->runs[middle].gpa + m->runs[middle].bytes <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == n)
		return false;
	if (m->runs[low].gpa > gpa) {
		if (m->runs[low].gpa < *end)
			*end = m->runs[low].gpa;
		return false;
	}
	if (m->runs[low].gpa + m->runs[low].bytes < *end)
		*end = m->runs[low].gpa + m->runs[low].bytes;
	return true;
}

/* The same for pages; where the map does not answer there is one. */
static bool mapped(const struct memory *m, const struct piece *p, uint64_t gpa, uint64_t *end)
{
	uint64_t entries[AT_ONCE], page = (uintptr_t)(p->host + (gpa - p->gpa)) / PAGE;
	uint64_t n = (*end - gpa) / PAGE < AT_ONCE ? (*end - gpa) / PAGE : AT_ONCE, same = 1;
	ssize_t got = pread(m->pagemap_fd, entries, n * sizeof(entries[0]),
			    (off_t)(page * sizeof(entries[0])));
	bool first;

	if (got < (ssize_t)sizeof(entries[0]))
		return true;
	n = (uint64_t)got / sizeof(entries[0]);
	first = entries[0] & (PRESENT | SWAPPED);
	while (same < n && first == !!(entries[same] & (PRESENT | SWAPPED)))
		same++;
	*end = gpa + same * PAGE;
	return first;
}

static bool holds(const struct memory *m, const struct piece *p, uint64_t gpa, uint64_t *end)
{
	return listed(m, gpa, end) || mapped(m, p, gpa, end);
}

static bool next_in(const struct memory *m, const struct piece *p, uint64_t gpa, uint64_t *start,
		    uint64_t *end)
{
	uint64_t top = p->gpa + p->bytes, at = gpa > p->gpa ? gpa & ~(PAGE - 1) : p->gpa, to;

	for (to = top; at < top && !holds(m, p, at, &to); to = top)
		at = to;
	if (at >= top)
		return false;
	*start = at;
	do {
		at = to;
		to = top;
	} while (at < top && at - *start < LONG_RUN && holds(m, p, at, &to));
	*end = at;
	return true;
}

bool memory_next_data(const struct memory *m, uint64_t gpa, uint64_t *start, uint64_t *end)
{
	const struct piece pieces[] = {{0, m->low_bytes, m->low},
				       {LAYOUT_HIGH_RAM, m->high_bytes, m->high}};

	for (unsigned i = 0; i < nitems(pieces); i++) {
		const struct piece *p = &pieces[i];

		if (gpa >= p->gpa + p->bytes)
			continue;
		if (memory_tells(m)) {
			if (next_in(m, p, gpa, start, end))
				return true;
			continue;
		}
		*start = gpa > p->gpa ? gpa & ~(PAGE - 1) : p->gpa;
		*end = p->gpa + p->bytes;
		return true;
	}
	return false;
}
