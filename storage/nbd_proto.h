/* SPDX-License-Identifier: ISC */
#ifndef FV_NBD_PROTO_H
#define FV_NBD_PROTO_H
/*
 * What goes over the socket between block_nbd.c and a filevisor-nbd. First the latter's
 * hello, once, in the host's byte order: both ends are of one build. Then NBD's
 * transmission phase with simple replies (the NBD project's proto.md), in network order.
 */
#include <assert.h>
#include <endian.h>
#include <stdint.h>

#include "storage/nbd.h"
#include "util/err.h"

#define NBD_LINK_FD 3 /* of filevisor-nbd: its end of the socket */

/* --- the hello ---------------------------------------------------------------------------- */

#define NBD_HELLO_MAGIC 0x4642564eu
#define NBD_EXPORTS_MAX 4096 /* that are listed */

struct nbd_hello {
	uint32_t magic;
	int32_t error; /* 0, or -errno with words in ->text */
	uint64_t bytes;
	uint32_t flags;	    /* as in struct nbd_link */
	uint32_t n_exports; /* --list: so many struct nbd_export follow */
	char text[ERR_TEXT_MAX];
};

/* --- transmission ------------------------------------------------------------------------- */

#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_REPLY_MAGIC	  0x67446698u
#define NBD_PAYLOAD_MAX	  (32u << 20)

enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_WRITE_ZEROES = 6,
};

enum {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
};

enum {
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
};

/*
 * The flags of a link hold NBD's transmission flags, 16 bits, and above them what requests
 * must be like: log2 of the block of which they are multiples, log2 of their greatest payload.
 */
#define NBD_LINK_BLOCK_SHIFT   16
#define NBD_LINK_PAYLOAD_SHIFT 24

static inline unsigned nbd_link_block(uint32_t flags)
{
	unsigned shift = flags >> NBD_LINK_BLOCK_SHIFT & 0xff;

	return 1u << (shift < 12 ? shift : 12);
}

static inline uint32_t nbd_link_payload(uint32_t flags)
{
	unsigned shift = flags >> NBD_LINK_PAYLOAD_SHIFT;

	return shift < 12 || shift > 25 ? NBD_PAYLOAD_MAX : 1u << shift;
}

struct nbd_request {
	uint32_t magic;
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
} __attribute__((packed));

struct nbd_reply {
	uint32_t magic;
	uint32_t error; /* as below */
	uint64_t cookie;
} __attribute__((packed));

static_assert(sizeof(struct nbd_request) == 28, "as on the wire");
static_assert(sizeof(struct nbd_reply) == 16, "as on the wire");

/* Errors of replies have Linux's numbers; these are all there are. */
enum {
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

#endif
