/* SPDX-License-Identifier: ISC */
#ifndef FV_NBD_CLIENT_H
#define FV_NBD_CLIENT_H
/*
 * The server of NBD's transmission phase at the socket that a block_nbd holds the other end
 * of: requests in, checked, and replies out. The machine behind it may be hostile.
 */
#include "storage/nbd/ops.h"

#define CLIENT_OPS_MAX	 256	     /* taken and not answered */
#define CLIENT_BYTES_MAX (64u << 20) /* of their data; the last may go beyond */
#define CLIENT_RX_BYTES	 (64 << 10)

struct client {
	int fd;
	uint64_t bytes; /* of the export */
	uint32_t flags; /* what it was told: struct nbd_link */
	/* requests */
	uint8_t rx[CLIENT_RX_BYTES];
	size_t rx_n;
	struct op *into; /* a WRITE whose payload is being received */
	uint32_t into_n;
	unsigned n_ops;
	size_t op_bytes;
	/* replies */
	struct op *first_reply, **last_reply;
	size_t reply_sent; /* of the first */
};

void client_init(struct client *client, int fd, uint64_t bytes, uint32_t flags);
void client_free(struct client *client);
/* For poll(2). */
short client_events(const struct client *client);
/* Receives once; hands whole requests to @ops. 0, or -errno: the client is gone or to be left. */
int client_receive(struct client *client, struct ops *ops);
/* Takes what was received when there was no room for it: after replies were sent. As above. */
int client_take(struct client *client, struct ops *ops);
/* Queues the reply to @op, by its ->error. Frees @op in the end, unless it is on a list then. */
void client_reply(struct client *client, struct op *op);
/* Sends replies as far as there is room. 0 or -errno as above. */
int client_send(struct client *client);

#endif
