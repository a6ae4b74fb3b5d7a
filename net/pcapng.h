/* SPDX-License-Identifier: ISC */
#ifndef FV_NET_PCAPNG_H
#define FV_NET_PCAPNG_H
/*
 * Frames as tcpdump and wireshark read them: blocks of a pcapng file
 * (draft-ietf-opsawg-pcapng §4), little endian, one Ethernet interface whose times are in ns.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define PCAPNG_BEGIN_MAX  256 /* bytes of pcapng_begin() */
#define PCAPNG_PACKET_MAX 64  /* bytes around a packet */
#define PCAPNG_NAME_MAX	  64

/* Section header and interface description into @buf of PCAPNG_BEGIN_MAX bytes; their length. */
size_t pcapng_begin(uint8_t *buf, const char *interface);

enum pcapng_direction { PCAPNG_IN = 1, PCAPNG_OUT = 2 }; /* as the guest sees it */

/*
 * An enhanced packet block around @len bytes of a frame of @original bytes: what goes before
 * it into @before and what goes behind it (with padding) into @behind, of PCAPNG_PACKET_MAX bytes
 * each; their lengths in *@n_before and *@n_behind. @time_ns: since 1970.
 */
void pcapng_packet(uint8_t *before, size_t *n_before, uint8_t *behind, size_t *n_behind, size_t len,
		   size_t original, uint64_t time_ns, enum pcapng_direction direction);

#endif
