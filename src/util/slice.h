/* SPDX-License-Identifier: ISC */
#ifndef FV_UTIL_SLICE_H
#define FV_UTIL_SLICE_H
/*
 * How long a thread may have a processor at a time. Who only ever passes things on asks for
 * little at a time, and gets it soon after it is woken, before who computes without a pause: a
 * guest that never halts keeps a processor for some milliseconds else, at each of the many
 * wakeups of a start. Nobody's share of the processors changes, and no privilege is needed.
 * Linux 6.12; an older one takes no notice.
 */
#include <stdbool.h>

/*
 * The calling thread, and with @inherited all threads and processes that it makes, which are
 * else as usual again.
 */
void slice_be_short(bool inherited);

#endif
