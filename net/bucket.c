// SPDX-License-Identifier: ISC
/* A token bucket. See bucket.h. */
#include "net/bucket.h"

#define NS_PER_S 1000000000ull

/* How long @amount takes at that rate; never over 2^62 ns. */
static uint64_t time_of(const struct net_bucket *b, uint64_t amount)
{
	unsigned __int128 ns = (unsigned __int128)amount * NS_PER_S / b->per_s;

	return ns >> 62 ? 1ull << 62 : (uint64_t)ns;
}

static uint64_t full_ns(const struct net_bucket *b)
{
	return b->burst ? time_of(b, b->burst) : NS_PER_S / 10;
}

uint64_t net_bucket_wait(struct net_bucket *b, uint64_t now_ns)
{
	uint64_t full;

	if (!b->per_s)
		return 0;
	full = full_ns(b);
	if (now_ns > full && b->empty_at_ns < now_ns - full)
		b->empty_at_ns = now_ns - full;
	return b->empty_at_ns > now_ns ? b->empty_at_ns - now_ns : 0;
}

void net_bucket_take(struct net_bucket *b, uint64_t amount)
{
	if (b->per_s)
		b->empty_at_ns += time_of(b, amount);
}

void net_bucket_set(struct net_bucket *b, uint64_t per_s, uint64_t burst, uint64_t now_ns)
{
	uint64_t full;

	*b = (struct net_bucket){.per_s = per_s, .burst = burst};
	full = per_s ? full_ns(b) : 0;
	b->empty_at_ns = now_ns > full ? now_ns - full : 0;
}
