// SPDX-License-Identifier: ISC
/* pcapng blocks. See pcapng.h. */
#include <endian.h>
#include <string.h>

#include "net/pcapng.h"

enum { SECTION_HEADER = 0x0a0d0d0a, INTERFACE = 1, ENHANCED_PACKET = 6 };
enum { OPTION_END = 0, IF_NAME = 2, IF_TSRESOL = 9, EPB_FLAGS = 2 };
#define BYTE_ORDER_MAGIC  0x1a2b3c4d
#define LINKTYPE_ETHERNET 1
#define RESOLUTION_NS	  9 /* 10^-9 */

struct out {
	uint8_t *at;
};

static void put16(struct out *o, uint16_t v)
{
	v = htole16(v);
	memcpy(o->at, &v, 2);
	o->at += 2;
}

static void put32(struct out *o, uint32_t v)
{
	v = htole32(v);
	memcpy(o->at, &v, 4);
	o->at += 4;
}

/* An option, padded to 32 bits. */
static void put_option(struct out *o, uint16_t code, const void *value, uint16_t len)
{
	put16(o, code);
	put16(o, len);
	memset(o->at, 0, (len + 3u) & ~3u);
	memcpy(o->at, value, len);
	o->at += (len + 3u) & ~3u;
}

/* The length of the block from @start on, which ends here, at both of its places. */
static void end_block(struct out *o, uint8_t *start)
{
	struct out length = {start + 4};

	put32(&length, (uint32_t)(o->at - start) + 4);
	put32(o, (uint32_t)(o->at - start) + 4);
}

size_t pcapng_begin(uint8_t *buf, const char *interface)
{
	const uint8_t resolution = RESOLUTION_NS;
	struct out o = {buf};
	uint8_t *start = o.at;

	put32(&o, SECTION_HEADER);
	put32(&o, 0);
	put32(&o, BYTE_ORDER_MAGIC);
	put16(&o, 1);
	put16(&o, 0);
	put32(&o, UINT32_MAX); /* length of the section: not known */
	put32(&o, UINT32_MAX);
	end_block(&o, start);
	start = o.at;
	put32(&o, INTERFACE);
	put32(&o, 0);
	put16(&o, LINKTYPE_ETHERNET);
	put16(&o, 0);
	put32(&o, 0); /* frames are whole */
	put_option(&o, IF_NAME, interface, (uint16_t)strnlen(interface, PCAPNG_NAME_MAX));
	put_option(&o, IF_TSRESOL, &resolution, 1);
	put_option(&o, OPTION_END, "", 0);
	end_block(&o, start);
	return (size_t)(o.at - buf);
}

void pcapng_packet(uint8_t *before, size_t *n_before, uint8_t *behind, size_t *n_behind, size_t len,
		   size_t original, uint64_t time_ns, enum pcapng_direction direction)
{
	const uint32_t flags = htole32(direction);
	struct out o = {before}, end = {behind};
	size_t pad = -len & 3;
	uint32_t total;

	memset(end.at, 0, pad);
	end.at += pad;
	put_option(&end, EPB_FLAGS, &flags, 4);
	put_option(&end, OPTION_END, "", 0);
	*n_behind = (size_t)(end.at - behind) + 4;
	*n_before = 28;
	total = (uint32_t)(*n_before + len + *n_behind);
	put32(&end, total);
	put32(&o, ENHANCED_PACKET);
	put32(&o, total);
	put32(&o, 0); /* the interface */
	put32(&o, (uint32_t)(time_ns >> 32));
	put32(&o, (uint32_t)time_ns);
	put32(&o, (uint32_t)len);
	put32(&o, (uint32_t)original);
}
