// SPDX-License-Identifier: ISC
/*
 * What a fork leaves: while a holder had the memory, too, each page that the guest wrote became
 * one of its own, and what was a huge page is 512 small ones. Put together again, the next
 * fork is as short as the first (1 GiB, all of it written: 46 ms before, 1 ms after; the
 * work itself takes half a second of a processor). The kernel's own thread would take hours.
 *
 * It is done 2 MiB at a time with pauses between, four times as long as the work just took, during
 * which the guest has the processor. A lower priority would be a system call more that its process
 * could make.
 *
 * Only where most of the pages are there, and all of them are nobody else's: memory must not grow
 * by it. So nothing is done to what clones, forked by the holder, still have in common with it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define PAGE	     4096ull
#define HUGE_PAGE    (2ull << 20)
#define PAGES	     (HUGE_PAGE / PAGE)
#define PAUSE_MAX_NS 20000000
#define COLLAPSE     25 /* MADV_COLLAPSE of Linux 6.1 */

/* Of a page map's entry: Documentation/admin-guide/mm/pagemap.rst */
#define PRESENT	  (1ull << 63)
#define SWAPPED	  (1ull << 62)
#define FILES	  (1ull << 61)
#define EXCLUSIVE (1ull << 56)

struct collapse {
	const struct memory *memory;
	atomic_bool stop;
	pthread_t thread;
};

/* At least three quarters of the huge page at @host are there, all of them ours alone. */
static bool worth_it(const struct memory *m, const uint8_t *host)
{
	uint64_t entries[PAGES], held = 0;
	off_t at = (off_t)((uintptr_t)host / PAGE * sizeof(entries[0]));

	if (pread(m->pagemap_fd, entries, sizeof(entries), at) != (ssize_t)sizeof(entries))
		return false;
	for (unsigned i = 0; i < PAGES; i++) {
		if (entries[i] & (SWAPPED | FILES))
			return false;
		if (!(entries[i] & PRESENT))
			continue;
		if (!(entries[i] & EXCLUSIVE))
			return false;
		held++;
	}
	return held >= PAGES / 4 * 3;
}

static void rest(uint64_t worked_ns)
{
	uint64_t ns = worked_ns * 4 < PAUSE_MAX_NS ? worked_ns * 4 : PAUSE_MAX_NS;
	const struct timespec pause = {.tv_nsec = (long)ns};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* -errno: there is no use in going on. */
static int collapse_piece(const struct memory *m, uint64_t bytes, uint8_t *host,
			  const atomic_bool *stop)
{
	for (uint64_t at = 0; at + HUGE_PAGE <= bytes; at += HUGE_PAGE) {
		uint64_t since = now_ns();

		if (atomic_load(stop))
			return -ECANCELED;
		if (!worth_it(m, host + at))
			continue;
		/* Others (a page that a disk is just writing to) concern this one alone. */
		if (madvise(host + at, HUGE_PAGE, COLLAPSE) < 0 && errno == ENOMEM)
			return -ENOMEM;
		rest(now_ns() - since);
	}
	return 0;
}

static bool possible(const struct memory *m)
{
	return m->low && !m->huge && memory_large(m) && memory_tells(m);
}

void memory_collapse(const struct memory *m, const atomic_bool *stop)
{
	if (!possible(m))
		return;
	if (collapse_piece(m, m->low_bytes, m->low, stop) == 0 && m->high_bytes)
		collapse_piece(m, m->high_bytes, m->high, stop);
}

/* --- by a thread ------------------------------------------------------------------------------ */

static void *run(void *arg)
{
	struct collapse *c = arg;

	prctl(PR_SET_NAME, "memory/huge", 0, 0, 0);
	memory_collapse(c->memory, &c->stop);
	return NULL;
}

void memory_collapse_start(struct memory *m)
{
	struct collapse *c;

	memory_collapse_stop(m);
	if (!possible(m))
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->memory = m;
	if (pthread_create(&c->thread, NULL, run, c) == 0)
		m->collapse = c;
	else
		free(c);
}

void memory_collapse_stop(struct memory *m)
{
	struct collapse *c = take_ptr(m->collapse);

	if (!c)
		return;
	atomic_store(&c->stop, true);
	pthread_join(c->thread, NULL);
	free(c);
}
