// SPDX-License-Identifier: ISC
/* A card's receive filter. See filter.h. */
#include <string.h>

#include "net/filter.h"

#define ETHERTYPE_AT   12
#define ETHERTYPE_VLAN 0x8100

void net_filter_reset(struct net_filter *filter, const uint8_t mac[NET_MAC])
{
	*filter = (struct net_filter){.all_multicast = true};
	memcpy(filter->mac, mac, NET_MAC);
}

void net_macs_add(struct net_macs *macs, const uint8_t mac[NET_MAC])
{
	if (macs->n == NET_MACS_MAX)
		macs->overflow = true;
	else
		memcpy(macs->addresses[macs->n++], mac, NET_MAC);
}

void net_filter_vlan(struct net_filter *filter, unsigned id, bool add)
{
	uint64_t bit = 1ull << id % 64;

	filter->vlans_filtered = true;
	if (add)
		filter->vlans[id / 64] |= bit;
	else
		filter->vlans[id / 64] &= ~bit;
}

static bool has(const struct net_macs *macs, const uint8_t *mac)
{
	for (unsigned i = 0; i < macs->n; i++)
		if (memcmp(macs->addresses[i], mac, NET_MAC) == 0)
			return true;
	return macs->overflow;
}

static bool vlan_passes(const struct net_filter *f, const uint8_t *frame, size_t len)
{
	unsigned type = frame[ETHERTYPE_AT] << 8 | frame[ETHERTYPE_AT + 1], id;

	if (!f->vlans_filtered || type != ETHERTYPE_VLAN || len < ETHERTYPE_AT + 4)
		return true;
	id = (frame[ETHERTYPE_AT + 2] << 8 | frame[ETHERTYPE_AT + 3]) & 0xfff;
	return !id || f->vlans[id / 64] >> id % 64 & 1; /* 0: a priority alone */
}

bool net_filter_wants(const struct net_filter *f, const uint8_t *frame, size_t len)
{
	static const uint8_t everybody[NET_MAC] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (f->promiscuous)
		return true;
	if (!vlan_passes(f, frame, len))
		return false;
	if (memcmp(frame, everybody, NET_MAC) == 0)
		return !f->no_broadcast;
	if (net_mac_is_group(frame))
		return !f->no_multicast && (f->all_multicast || has(&f->multicast, frame));
	if (f->no_unicast)
		return false;
	return f->all_unicast || memcmp(frame, f->mac, NET_MAC) == 0 || has(&f->unicast, frame);
}
