// SPDX-License-Identifier: ISC
/*
 * A walk of x86-64 page tables, 4 or 5 levels (Intel SDM vol. 3A, 4.5), in the
 * order of virtual addresses, so that what is contiguous comes in a row.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "core_pages.h"

#define CR0_PG	     (1ull << 31)
#define CR4_LA57     (1ull << 12)
#define EFER_LMA     (1ull << 10)
#define PTE_PRESENT  1ull
#define PTE_LARGE    (1ull << 7)
#define PTE_ADDRESS  0x000ffffffffff000ull
#define CR3_PTI_USER (1ull << 12) /* Linux: set in the page tables of user mode */
#define TABLES_MAX   4096
#define ENTRIES	     512
#define HIGH_RAM     0x100000000ull

struct walk {
	const struct core_ram *ram;
	unsigned tables; /* left to look at */
	struct core_run run;
	struct core_run *runs;
	size_t n;
};

bool core_pages_on(const struct vmm_vcpu_state *s)
{
	return s->cr0 & CR0_PG && s->efer & EFER_LMA;
}

/* --- runs ------------------------------------------------------------------------------------ */

/* Whether a is worth more than b. */
static bool better(const struct core_run *a, const struct core_run *b)
{
	bool a_kernel = a->vaddr >> 63, b_kernel = b->vaddr >> 63;

	return a_kernel != b_kernel ? a_kernel : a->len > b->len;
}

static void keep(struct walk *w)
{
	size_t worst = 0;

	if (!w->run.len)
		return;
	if (w->n < CORE_RUNS_MAX) {
		w->runs[w->n++] = w->run;
		return;
	}
	for (size_t i = 1; i < w->n; i++)
		if (better(&w->runs[worst], &w->runs[i]))
			worst = i;
	if (better(&w->run, &w->runs[worst]))
		w->runs[worst] = w->run;
}

/* Cuts the page to what is RAM: one part of it at most, for parts are gigabytes apart. */
static void add_page(struct walk *w, uint64_t vaddr, uint64_t paddr, uint64_t len)
{
	uint64_t start = paddr < w->ram->low ? 0 : HIGH_RAM;
	uint64_t end = start ? HIGH_RAM + w->ram->high : w->ram->low;

	if (paddr < start || paddr >= end)
		return;
	if (len > end - paddr)
		len = end - paddr;
	if (w->run.len && w->run.vaddr + w->run.len == vaddr &&
	    w->run.paddr + w->run.len == paddr) {
		w->run.len += len;
		return;
	}
	keep(w);
	w->run = (struct core_run){vaddr, paddr, len};
}

/* --- tables ---------------------------------------------------------------------------------- */

static bool read_table(struct walk *w, uint64_t paddr, uint64_t table[ENTRIES])
{
	bool low = paddr + sizeof(uint64_t) * ENTRIES <= w->ram->low;
	bool high = paddr >= HIGH_RAM && paddr - HIGH_RAM < w->ram->high;

	if (!w->tables || (!low && !high))
		return false;
	w->tables--;
	return content_read(w->ram->memory, table, sizeof(uint64_t) * ENTRIES, paddr) ==
	       (ssize_t)(sizeof(uint64_t) * ENTRIES);
}

/* @level 1: entries are pages of 4 KiB. Recursion is as deep as there are levels. */
static void walk_table(struct walk *w, uint64_t paddr, unsigned level, uint64_t base)
{
	unsigned shift = 12 + 9 * (level - 1);
	uint64_t table[ENTRIES];

	if (!read_table(w, paddr, table))
		return;
	for (uint64_t i = 0; i < ENTRIES; i++) {
		uint64_t vaddr = base + (i << shift), e = table[i];

		if (!(e & PTE_PRESENT))
			continue;
		if (level > 1 && !(e & PTE_LARGE && level <= 3))
			walk_table(w, e & PTE_ADDRESS, level - 1, vaddr);
		else
			add_page(w, vaddr, e & PTE_ADDRESS & ~((1ull << shift) - 1), 1ull << shift);
	}
}

/* The top level; its upper half has addresses that begin with ones. */
static void walk_top(struct walk *w, uint64_t cr3, unsigned levels)
{
	unsigned shift = 12 + 9 * (levels - 1);
	uint64_t table[ENTRIES];

	if (!read_table(w, cr3 & PTE_ADDRESS, table))
		return;
	/* the kernel's half first: the bound on tables must not be spent on a process */
	for (uint64_t n = 0; n < ENTRIES; n++) {
		uint64_t i = (n + ENTRIES / 2) % ENTRIES;
		uint64_t ones = i >= ENTRIES / 2 ? ~0ull << (shift + 9) : 0;

		if (table[i] & PTE_PRESENT)
			walk_table(w, table[i] & PTE_ADDRESS, levels - 1, ones | i << shift);
	}
	keep(w);
	w->run.len = 0;
}

static uint64_t total(const struct core_run *runs, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += runs[i].vaddr >> 63 ? runs[i].len : 0;
	return sum;
}

static int by_address(const void *a, const void *b)
{
	const struct core_run *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

size_t core_pages_walk(const struct core_ram *ram, const struct vmm_vcpu_state *state,
		       struct core_run runs[CORE_RUNS_MAX])
{
	unsigned levels = state->cr4 & CR4_LA57 ? 5 : 4;
	struct walk w = {.ram = ram, .tables = TABLES_MAX, .runs = runs};

	if (!core_pages_on(state))
		return 0;
	walk_top(&w, state->cr3, levels);
	if (state->cr3 & CR3_PTI_USER) {
		/* perhaps the tables of user mode, which lack the kernel: its own are beside them
		 */
		struct core_run others[CORE_RUNS_MAX] = {0};
		struct walk o = {.ram = ram, .tables = TABLES_MAX, .runs = others};

		walk_top(&o, state->cr3 & ~CR3_PTI_USER, levels);
		if (total(others, o.n) > total(runs, w.n)) {
			memcpy(runs, others, o.n * sizeof(*runs));
			w.n = o.n;
		}
	}
	qsort(runs, w.n, sizeof(*runs), by_address);
	return w.n;
}
