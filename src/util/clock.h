/* SPDX-License-Identifier: ISC */
#ifndef FV_CLOCK_H
#define FV_CLOCK_H
/* Time that only goes forward: CLOCK_MONOTONIC as one number. */
#include <stdint.h>
#include <time.h>

/* Nanoseconds since some moment in the past. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
