/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_PACK_INT_H
#define FV_VMM_PACK_INT_H
/* The packed form's bytes: pack.h says what they are. */
#include <endian.h>
#include <string.h>
#include <zlib.h>

#include "vmm/pack.h"

#define PACK_MAGIC	"FVPACK\r\n"
#define PACK_VERSION	1
#define PACK_CHUNK	65536u
#define PACK_HEADER	64
#define PACK_ENTRY	16
#define PACK_FRAME_MAX	(2 * PACK_CHUNK) /* more than ZSTD_compressBound() of a chunk */
#define PACK_MEMORY_MAX (1ull << 46)

struct pack_entry {
	uint64_t offset;
	uint32_t bytes;
};

static inline void pack_put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof(v));
}

static inline void pack_put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof(v));
}

static inline uint32_t pack_get32(const uint8_t *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof(v));
	return le32toh(v);
}

static inline uint64_t pack_get64(const uint8_t *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof(v));
	return le64toh(v);
}

static inline uint64_t pack_chunks(uint64_t memory)
{
	return (memory + PACK_CHUNK - 1) / PACK_CHUNK;
}

#endif
