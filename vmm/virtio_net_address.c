// SPDX-License-Identifier: ISC
/*
 * Which addresses the guest has behind a card, as it says itself (net/sender.h): for the daemon,
 * which shows them. A few are remembered, the latest ones; the daemon is told of each once, and
 * of so many a second at most, whatever the guest says. One that was told and comes
 * again after another has been silent for a while is told again: it is the latest.
 */
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "vmm/virtio_net_int.h"

#define TOLD_PER_S 4
#define TOLD_BURST 16
#define SILENT_NS  60000000000ull

/* The first bytes of what the guest sends, of at most @n: how many there are. */
static size_t gather(const struct iovec *iov, unsigned n, uint8_t *to, size_t max)
{
	size_t len = 0;

	for (unsigned i = 0; i < n && len < max; i++) {
		size_t part = iov[i].iov_len < max - len ? iov[i].iov_len : max - len;

		memcpy(to + len, iov[i].iov_base, part);
		len += part;
	}
	return len;
}

/* Under the lock: the one that was heard of longest ago makes room. */
static struct nic_address *room_for_one(struct nic_addresses *a)
{
	struct nic_address *oldest = &a->list[0];

	if (a->n < NIC_ADDRESSES_MAX)
		return &a->list[a->n++];
	for (unsigned i = 1; i < a->n; i++)
		if (a->list[i].heard_ns < oldest->heard_ns)
			oldest = &a->list[i];
	return oldest;
}

/* Under the lock: the other one of its kind that was heard of last. */
static const struct nic_address *latest_other(const struct nic_addresses *a,
					      const struct nic_address *of)
{
	const struct nic_address *latest = NULL;

	for (unsigned i = 0; i < a->n; i++)
		if (&a->list[i] != of && a->list[i].sender.len == of->sender.len &&
		    (!latest || a->list[i].heard_ns > latest->heard_ns))
			latest = &a->list[i];
	return latest;
}

/* Under the lock: true: the daemon is to hear of it. */
static bool note(struct nic_addresses *a, const struct net_sender *sender, uint64_t now)
{
	struct nic_address *at = NULL;
	const struct nic_address *other;

	for (unsigned i = 0; i < a->n && !at; i++)
		if (memcmp(&a->list[i].sender, sender, sizeof(*sender)) == 0)
			at = &a->list[i];
	if (at) {
		other = latest_other(a, at);
		at->heard_ns = now;
		if (at->latest || !other || now - other->heard_ns < SILENT_NS)
			return false;
	}
	if (net_bucket_wait(&a->pace, now) > 0)
		return false;
	net_bucket_take(&a->pace, 1);
	if (!at)
		at = room_for_one(a);
	for (unsigned i = 0; i < a->n; i++)
		if (a->list[i].sender.len == sender->len)
			a->list[i].latest = false;
	*at = (struct nic_address){.sender = *sender, .heard_ns = now, .latest = true};
	return true;
}

void nic_listen(struct nic *nic, const struct iovec *iov, unsigned n)
{
	uint8_t head[NET_HEADER + NET_SENDER_BYTES];
	struct net_sender sender;
	uint8_t mac[NET_MAC];
	size_t len;
	bool news;

	/* most often all of it is in one piece */
	if (iov[0].iov_len > NET_HEADER &&
	    !net_sender_may((const uint8_t *)iov[0].iov_base + NET_HEADER,
			    iov[0].iov_len - NET_HEADER))
		return;
	len = gather(iov, n, head, sizeof(head));
	if (len < NET_HEADER + NET_ETH_HEADER ||
	    !net_sender_may(head + NET_HEADER, len - NET_HEADER))
		return;
	pthread_mutex_lock(&nic->filter_lock);
	memcpy(mac, nic->filter.mac, sizeof(mac)); /* its driver may have set another one */
	pthread_mutex_unlock(&nic->filter_lock);
	if (!net_sender_find(head + NET_HEADER, len - NET_HEADER, mac, &sender))
		return;
	pthread_mutex_lock(&nic->addresses.lock);
	news = note(&nic->addresses, &sender, now_ns());
	pthread_mutex_unlock(&nic->addresses.lock);
	if (news)
		vm_wake(nic->virtio.dev.vm);
}

void nic_addresses_init(struct nic_addresses *a)
{
	pthread_mutex_init(&a->lock, NULL);
	net_bucket_set(&a->pace, TOLD_PER_S, TOLD_BURST, now_ns());
}

/* The one that was heard of first: who hears of the latest last knows which that is. */
bool virtio_net_address_untold(struct device *dev, struct net_sender *sender)
{
	struct nic_addresses *a = &((struct nic *)dev)->addresses;
	const struct nic_address *first = NULL;

	LOCK_SCOPE(&a->lock);
	for (unsigned i = 0; i < a->n; i++)
		if (!a->list[i].told && (!first || a->list[i].heard_ns < first->heard_ns))
			first = &a->list[i];
	if (first)
		*sender = first->sender;
	return first;
}

void virtio_net_address_told(struct device *dev, const struct net_sender *sender)
{
	struct nic_addresses *a = &((struct nic *)dev)->addresses;

	LOCK_SCOPE(&a->lock);
	for (unsigned i = 0; i < a->n; i++)
		if (memcmp(&a->list[i].sender, sender, sizeof(*sender)) == 0)
			a->list[i].told = true;
}

void virtio_net_addresses_tell(struct device *dev)
{
	struct nic_addresses *a = &((struct nic *)dev)->addresses;

	LOCK_SCOPE(&a->lock);
	for (unsigned i = 0; i < a->n; i++)
		a->list[i].told = false;
}

void virtio_net_addresses_forget(struct device *dev)
{
	struct nic_addresses *a = &((struct nic *)dev)->addresses;

	LOCK_SCOPE(&a->lock);
	a->n = 0;
}
