// SPDX-License-Identifier: ISC
/* Own addresses in ARP and neighbour discovery. See sender.h. */
#include <string.h>

#include "net/sender.h"

#define ETH	 14
#define ARP_LEN	 28 /* of IPv4 over Ethernet */
#define IP6	 40
#define SOLICIT	 135 /* of ICMPv6 */
#define ADVERT	 136
#define ND_LEN	 24 /* without options */
#define NEXT	 6  /* in the IPv6 header: what follows it */
#define HOPS	 7
#define SOURCE	 8
#define ICMPV6	 58
#define MAX_HOPS 255 /* what was not routed has them all */

bool net_sender_address_good(const uint8_t *addr, size_t len)
{
	static const uint8_t none[16];

	if (len == 4) /* 0/8 loopback, groups, class E with everybody */
		return addr[0] != 0 && addr[0] != 127 && addr[0] < 224;
	/* ::/96 has "none", loopback, and embedded IPv4 that nobody uses */
	return len == 16 && addr[0] != 0xff && memcmp(addr, none, 12) != 0;
}

static bool arp_find(const uint8_t *arp, const uint8_t mac[6], struct net_sender *sender)
{
	static const uint8_t ethernet_ipv4[6] = {0, 1, 8, 0, 6, 4};

	if (memcmp(arp, ethernet_ipv4, 6) != 0 || arp[6] != 0 || (arp[7] != 1 && arp[7] != 2) ||
	    memcmp(arp + 8, mac, 6) != 0)
		return false;
	sender->len = 4;
	memcpy(sender->addr, arp + 14, 4);
	return true;
}

/*
 * A solicitation is sent from an own address; one from no address asks whether the target, which
 * is to become one, is free (RFC 4862 §5.4), and that is most often the only word of it. Who
 * advertises a target has it.
 */
static bool nd_find(const uint8_t *ip, struct net_sender *sender)
{
	static const uint8_t none[16];
	const uint8_t *icmp = ip + IP6;
	const uint8_t *own = icmp + 8;

	if (ip[0] >> 4 != 6 || ip[NEXT] != ICMPV6 || ip[HOPS] != MAX_HOPS || icmp[1] != 0)
		return false;
	if (icmp[0] == SOLICIT && memcmp(ip + SOURCE, none, 16) != 0)
		own = ip + SOURCE;
	else if (icmp[0] != SOLICIT && icmp[0] != ADVERT)
		return false;
	sender->len = 16;
	memcpy(sender->addr, own, 16);
	return true;
}

bool net_sender_find(const uint8_t *frame, size_t len, const uint8_t mac[6],
		     struct net_sender *sender)
{
	bool found = false;

	memset(sender, 0, sizeof(*sender));
	if (len < ETH || !net_sender_may(frame, len) || memcmp(frame + 6, mac, 6) != 0)
		return false;
	if (frame[12] == 0x08)
		found = len >= ETH + ARP_LEN && arp_find(frame + ETH, mac, sender);
	else
		found = len >= ETH + IP6 + ND_LEN && nd_find(frame + ETH, sender);
	return found && net_sender_address_good(sender->addr, sender->len);
}
