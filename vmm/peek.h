/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_PEEK_H
#define FV_VMM_PEEK_H
/*
 * Something of the guest's that is read by the daemon: struct vmm_peek over a socket of its own
 * (src/vmm_proto.h), served by a thread of its own, so that no reader ever holds up the guest or
 * the control thread. It ends when the peer closes its side or breaks the protocol, or
 * with peek_server_free(). Control thread only, but for the ops.
 */
#include <stdbool.h>
#include <stdint.h>

#include "src/vmm_proto.h"
#include "util/err.h"

#define PEEK_ROOM_BYTES (4u << 20)

struct peek_server;

/* On the thread. */
struct peek_ops {
	const char *thread; /* its name */
	/* All of it, to @to; 0 or -errno. At most PEEK_ROOM_BYTES. */
	int (*read)(void *arg, uint64_t offset, uint64_t bytes, void *to);
	/* Makes bytes and flags what the extent at offset is, within bytes. 0 or -errno. */
	int (*status)(void *arg, struct vmm_peek *peek);
};

/*
 * Takes @sock, also on error. @wake_fd (borrowed, may be -1) is an eventfd, written when it is
 * over. *@room_fd is the memfd for the data, the caller's. -errno with words.
 */
int peek_server_new(struct peek_server **server, const struct peek_ops *ops, void *arg, int sock,
		    int wake_fd, int *room_fd, struct err *err);
/* The peer has gone. */
bool peek_server_over(const struct peek_server *server);
/* Returns when what it is at is over. Any thread. */
void peek_server_pass(struct peek_server *server);
/* Ends it; waits for what it is at. NULL is fine. */
void peek_server_free(struct peek_server *server);

#endif
