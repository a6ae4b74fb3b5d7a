/* SPDX-License-Identifier: ISC */
#ifndef FV_BLOCK_NBD_H
#define FV_BLOCK_NBD_H
/*
 * A disk at the other end of a stream socket that speaks NBD, past the handshake:
 * transmission phase with simple replies (the NBD project's proto.md, "Transmission").
 * The other end is a filevisor-nbd (nbd.h), which keeps the connection to the server
 * proper: names, TLS and reconnection are its business, and what is not answered yet
 * waits there while the server is away.
 */
#include "storage/block.h"

struct block_nbd_params {
	uint64_t bytes; /* size of the export */
	uint32_t flags; /* its transmission flags (NBD_FLAG_…) */
	bool readonly;
};

/*
 * A node over @fd, which it takes, also on error. Makes a thread. Once the other end is gone every
 * request fails with -EIO.
 */
int block_nbd_open(struct block **block, int fd, const struct block_nbd_params *params,
		   struct err *err);

#endif
