/* SPDX-License-Identifier: ISC */
#ifndef FV_CORE_PAGES_H
#define FV_CORE_PAGES_H
/* What a guest's page tables map, as few long runs: for the segments of a core. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm_proto.h"

#define CORE_RUNS_MAX 61

struct content;

/* Guest RAM: [0, low) and [4 GiB, 4 GiB + high), at these offsets of the content. */
struct core_ram {
	struct content *memory;
	uint64_t low, high;
};

/* Virtual to physical, contiguous in both, all of it RAM. */
struct core_run {
	uint64_t vaddr, paddr, len;
};

/* Whether the vcpu has 64-bit paging on. */
bool core_pages_on(const struct vmm_vcpu_state *state);
/*
 * Walks the page tables of the vcpu's CR3: the longest runs, those of the
 * kernel's half of addresses before others, sorted by address. Returns their
 * number; 0 without 64-bit paging. The tables are the guest's: hostile; the
 * walk is bounded by a number of tables, whatever they refer to.
 */
size_t core_pages_walk(const struct core_ram *ram, const struct vmm_vcpu_state *state,
		       struct core_run runs[CORE_RUNS_MAX]);

#endif
