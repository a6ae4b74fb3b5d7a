/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_FILTER_H
#define FV_NET_FILTER_H
/*
 * Which frames a network card passes to its driver (virtio 1.2 §5.1.6.5.1 to .3): by receive
 * mode, tables of addresses, and VLANs. Plain data: its owner guards it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_MAC	     6
#define NET_MACS_MAX 64 /* in one table; more than that: all of them pass */

struct net_macs {
	uint8_t addresses[NET_MACS_MAX][NET_MAC];
	unsigned n;
	bool overflow;
};

struct net_filter {
	uint8_t mac[NET_MAC]; /* the card's own */
	bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
	struct net_macs unicast, multicast;
	bool vlans_filtered; /* the driver wants only those of ->vlans; untagged ones pass always */
	uint64_t vlans[4096 / 64];
};

/* As after a reset: everything that is for @mac, and all multicast and broadcast. */
void net_filter_reset(struct net_filter *filter, const uint8_t mac[NET_MAC]);
/* @frame has at least NET_ETH_HEADER bytes. */
bool net_filter_wants(const struct net_filter *filter, const uint8_t *frame, size_t len);
/* Adds to a table that was emptied. */
void net_macs_add(struct net_macs *macs, const uint8_t mac[NET_MAC]);
/* @id below 4096. */
void net_filter_vlan(struct net_filter *filter, unsigned id, bool add);

static inline bool net_mac_is_group(const uint8_t *mac)
{
	return mac[0] & 1;
}

#endif
