// SPDX-License-Identifier: ISC
/*
 * What a fork leaves: while a holder had the memory, too, each page that the guest wrote became
 * one of its own, and what was a huge page is 512 small ones. Put together again, the next
 * fork is as short as the first (1 GiB, all of it written: 46 ms before, 1 ms after; the
 * work itself takes half a second of a processor). The kernel's own thread would take hours.
 *
 * It is done 2 MiB at a time with pauses between, during which the guest has the processor,
 * and only where most of the pages are there: memory must not grow by it.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "util/cleanup.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define HUGE_PAGE (2ull << 20)
#define PAUSE_NS  2000000
#define COLLAPSE  25 /* MADV_COLLAPSE of Linux 6.1 */

/* Of the huge page at @gpa, at least three quarters are there, none of them a file's. */
static bool worth_it(const struct memory *m, uint64_t gpa)
{
	uint64_t at = gpa, end = gpa + HUGE_PAGE, held = 0, from, to;

	while (at < end && memory_next_data(m, at, &from, &to) && from < end) {
		from = from > at ? from : at;
		at = to < end ? to : end;
		held += at - from;
	}
	return held >= HUGE_PAGE / 4 * 3;
}

/* -errno: there is no use in going on. */
static int collapse_piece(const struct memory *m, uint64_t gpa, uint64_t bytes, uint8_t *host,
			  const atomic_bool *stop)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	for (uint64_t at = 0; at + HUGE_PAGE <= bytes; at += HUGE_PAGE) {
		if (atomic_load(stop))
			return -ECANCELED;
		if (!worth_it(m, gpa + at))
			continue;
		/* Mapped from a file: EINVAL, and the next may be another's. */
		if (madvise(host + at, HUGE_PAGE, COLLAPSE) < 0 && errno == ENOMEM)
			return -ENOMEM;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return 0;
}

void memory_collapse(const struct memory *m, const atomic_bool *stop)
{
	if (m->huge || !memory_large(m) || !memory_tells(m))
		return;
	if (collapse_piece(m, 0, m->low_bytes, m->low, stop) == 0 && m->high_bytes)
		collapse_piece(m, LAYOUT_HIGH_RAM, m->high_bytes, m->high, stop);
}
