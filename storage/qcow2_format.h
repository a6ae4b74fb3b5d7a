/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_FORMAT_H
#define FV_QCOW2_FORMAT_H
/*
 * The qcow2 format on disk, as docs/interop/qcow2.txt of QEMU specifies it. All
 * numbers are big endian; names follow the specification.
 */
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define QCOW2_MAGIC 0x514649fbu

struct qcow2_disk_header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_file_offset;
	uint32_t backing_file_size;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_size;
	uint64_t l1_table_offset;
	uint64_t refcount_table_offset;
	uint32_t refcount_table_clusters;
	uint32_t nb_snapshots;
	uint64_t snapshots_offset;
	/* version 3 */
	uint64_t incompatible_features;
	uint64_t compatible_features;
	uint64_t autoclear_features;
	uint32_t refcount_order;
	uint32_t header_length;
	/* additional fields */
	uint8_t compression_type;
	uint8_t padding[7];
} __attribute__((packed));

#define QCOW2_V2_HEADER_BYTES  72
#define QCOW2_V3_HEADER_BYTES  104
#define QCOW2_OUR_HEADER_BYTES 112
_Static_assert(sizeof(struct qcow2_disk_header) == QCOW2_OUR_HEADER_BYTES, "header layout");

enum {
	QCOW2_INCOMPAT_DIRTY = 1 << 0,
	QCOW2_INCOMPAT_CORRUPT = 1 << 1,
	QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
	QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
	QCOW2_INCOMPAT_EXTENDED_L2 = 1 << 4,
	QCOW2_INCOMPAT_KNOWN = (1 << 5) - 1,

	QCOW2_COMPAT_LAZY_REFCOUNTS = 1 << 0,

	QCOW2_AUTOCLEAR_BITMAPS = 1 << 0,
	QCOW2_AUTOCLEAR_RAW_DATA = 1 << 1,
	QCOW2_AUTOCLEAR_KNOWN = (1 << 2) - 1,
};

enum { QCOW2_COMPRESSION_ZLIB = 0, QCOW2_COMPRESSION_ZSTD = 1 };

#define QCOW2_EXT_END		 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES	 0x6803f857u
#define QCOW2_EXT_BITMAPS	 0x23852875u
#define QCOW2_EXT_ENCRYPTION	 0x0537be77u
#define QCOW2_EXT_DATA_FILE	 0x44415441u

struct qcow2_disk_feature {
	uint8_t type; /* 0 incompatible, 1 compatible, 2 autoclear */
	uint8_t bit;
	char name[46];
} __attribute__((packed));

struct qcow2_disk_bitmaps {
	uint32_t nb_bitmaps;
	uint32_t reserved;
	uint64_t directory_size;
	uint64_t directory_offset;
} __attribute__((packed));

struct qcow2_disk_bitmap {
	uint64_t table_offset;
	uint32_t table_size;
	uint32_t flags;
	uint8_t type;
	uint8_t granularity_bits;
	uint16_t name_size;
	uint32_t extra_data_size;
} __attribute__((packed));

enum { QCOW2_BITMAP_IN_USE = 1, QCOW2_BITMAP_AUTO = 2 };

struct qcow2_disk_snapshot {
	uint64_t l1_table_offset;
	uint32_t l1_size;
	uint16_t id_size;
	uint16_t name_size;
	uint32_t date_sec;
	uint32_t date_nsec;
	uint64_t vm_clock_nsec;
	uint32_t vm_state_size;
	uint32_t extra_data_size;
	/* extra data: of which are defined */
	uint64_t vm_state_size_large;
	uint64_t disk_size;
} __attribute__((packed));

#define QCOW2_SNAPSHOT_FIXED_BYTES 40

/* L1, L2 and refcount table entries. */
#define QCOW2_COPIED	   (1ull << 63)
#define QCOW2_COMPRESSED   (1ull << 62)
#define QCOW2_ZERO	   1ull
#define QCOW2_OFFSET_MASK  0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED  0x7f000000000001ffull
#define QCOW2_L2_RESERVED  0x3f000000000001feull
#define QCOW2_REF_RESERVED 0x1ffull

/* Limits that QEMU has too: an image beyond them is refused. */
#define QCOW2_CLUSTER_BITS_MIN	  9
#define QCOW2_CLUSTER_BITS_MAX	  21
#define QCOW2_L1_BYTES_MAX	  (32u << 20)
#define QCOW2_REFTABLE_BYTES_MAX  (8u << 20)
#define QCOW2_SNAPSHOTS_MAX	  65536
#define QCOW2_SNAPSHOTS_BYTES_MAX (64u << 20)
#define QCOW2_BITMAPS_MAX	  65535
#define QCOW2_BITMAP_DIR_MAX	  (64u << 20)
#define QCOW2_NAME_MAX		  1023
#define QCOW2_HOST_MAX		  (1ull << 56)

static inline uint64_t get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline void put_be64(void *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint32_t get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline void put_be32(void *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

#endif
