/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_SENDER_H
#define FV_NET_SENDER_H
/*
 * Which address whoever sent a frame says is its own: by ARP (RFC 826) and neighbour discovery
 * (RFC 4861 §4.3, §4.4). Of no other frame: what is merely sent may be routed for others.
 * Everything in a frame may be a lie; who asks decides what to make of it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_SENDER_BYTES 78 /* of a frame from its start on: as many as are ever looked at */

struct net_sender {
	unsigned len;	  /* of the address: 4 or 16 bytes */
	uint8_t addr[16]; /* network order; what is behind ->len is zero */
};

/*
 * Could a frame with these @len first bytes say so? Cheap, for each frame: ARP, or IPv6 with
 * ICMPv6 in it, or too little to tell.
 */
static inline bool net_sender_may(const uint8_t *frame, size_t len)
{
	if (len < 14 || (frame[12] == 0x08 && frame[13] == 0x06))
		return true;
	return frame[12] == 0x86 && frame[13] == 0xdd && (len <= 20 || frame[20] == 58);
}

/*
 * Looks at the first @len bytes of a frame (NET_SENDER_BYTES, or all that it has) of the card
 * with the address @mac: false where it says nothing of the card's own address, or one that no
 * card has (0.0.0.0, loopback, groups, everybody).
 */
bool net_sender_find(const uint8_t *frame, size_t len, const uint8_t mac[6],
		     struct net_sender *sender);
/* Whether an address of @len bytes may be a card's own. */
bool net_sender_address_good(const uint8_t *addr, size_t len);

#endif
