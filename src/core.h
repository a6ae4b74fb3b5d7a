/* SPDX-License-Identifier: ISC */
#ifndef FV_CORE_H
#define FV_CORE_H
/* An ELF core of a guest, wherever its memory and registers are: see core.c. */
#include "content.h"
#include "machine.h"
#include "vmm_proto.h"

struct core_params {
	struct content *memory; /* offset = guest physical address */
	const struct vmm_vcpu_state *states;
	unsigned cpus;	    /* at least 1 */
	const char *kernel; /* as the definition names it */
	const char *name;   /* the machine's */
};

/* Its size, of memory whose last byte is before that address. */
uint64_t core_size(uint64_t memory_bytes, unsigned cpus);
/* Takes the memory, also on error; all else is copied. To be closed with machine_core_close(). */
int core_make(const struct core_params *p, struct machine_core **core, struct err *err);

#endif
