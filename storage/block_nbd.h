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
	uint32_t flags; /* as nbd_attach() gave them (struct nbd_link) */
	bool readonly;
};

/*
 * A node over @fd, a stream socket, which it takes, also on error. Makes a thread. Once the
 * other end is gone, or says what it may not, every request fails with -EIO. -EINVAL for a
 * size or flags that cannot be, -EROFS where it is to be written and the flags forbid it.
 */
int block_nbd_open(struct block **block, int fd, const struct block_nbd_params *params,
		   struct err *err);

#endif
