/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_STATS_H
#define FV_VMM_STATS_H
/* Counters in the memory shared with the daemon (src/vmm_proto.h): reading them asks nobody. */
#include <stdint.h>

struct stats;

/* Makes the memfd and maps it; -errno. */
int stats_new(struct stats **stats);
void stats_free(struct stats *stats);
/* Borrowed: to be sent to the daemon. */
int stats_fd(const struct stats *stats);
/*
 * The counter of that name, made at 0 if new. Never NULL: where the page is
 * full, a counter that nobody sees. Add with stats_add().
 */
uint64_t *stats_counter(struct stats *stats, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static inline void stats_add(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

#endif
