/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_BUCKET_H
#define FV_NET_BUCKET_H
/*
 * A token bucket: a rate, and how much may go at once after a quiet time. It is kept as a
 * moment, when it was empty: filling it needs no code. Takes amounts that exceed
 * what is there, and is in debt then: so a frame of any size goes, and the next ones wait.
 */
#include <stdbool.h>
#include <stdint.h>

struct net_bucket {
	uint64_t per_s; /* 0: no limit */
	uint64_t burst; /* 0: a tenth of a second's worth */
	uint64_t empty_at_ns;
};

/* 0, or how many ns it takes until something may go. */
uint64_t net_bucket_wait(struct net_bucket *bucket, uint64_t now_ns);
/* @amount goes. */
void net_bucket_take(struct net_bucket *bucket, uint64_t amount);
/* Another rate from now on; full at first. */
void net_bucket_set(struct net_bucket *bucket, uint64_t per_s, uint64_t burst, uint64_t now_ns);

#endif
