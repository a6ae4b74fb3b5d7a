/* SPDX-License-Identifier: ISC */
#ifndef FV_STATS_H
#define FV_STATS_H
/* Counters of a VMM, as read from the memory that it shares (vmm_proto.h). */
#include <stddef.h>
#include <stdint.h>

struct vmm;

struct counter {
	char name[56]; /* checked: [A-Za-z0-9._-], NUL-terminated */
	uint64_t value;
};

struct counters {
	size_t n;
	struct counter list[]; /* in the order in which the VMM made them */
};

/* Those of now; NULL where there are none. Release with counters_free(). */
struct counters *counters_read(struct vmm *vmm);
void counters_free(struct counters *counters);
/* Takes those that are well-formed out of a page of @len bytes; NULL without memory. */
struct counters *counters_parse(const void *page, size_t len);

#endif
