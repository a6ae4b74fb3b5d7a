/* SPDX-License-Identifier: ISC */
#ifndef FV_NBD_CONN_H
#define FV_NBD_CONN_H
/*
 * One connection to an NBD server, by libnbd: the handshake, driven by poll(2), and
 * commands under way. The only file that knows libnbd but for list.c.
 */
#include <libnbd.h>
#include <poll.h>

#include "storage/nbd/ops.h"

/* What is connected to, and what the user wants of it. */
struct target {
	const char *uri;
	const char *export; /* NULL: as @uri says */
	bool readonly;
};

enum conn_state {
	CONN_NONE,
	CONN_HANDSHAKE,
	CONN_READY,
	CONN_DEAD, /* ->err says why; to be closed */
};

struct conn {
	enum conn_state state;
	struct nbd_handle *nbd;
	const struct target *target;
	bool asked;  /* for the export */
	int refused; /* and the server would not: an errno */
	unsigned flying;
	/* once ready */
	uint64_t bytes;
	uint32_t flags; /* as in struct nbd_link */
	struct err err;
};

/* Sets @err to libnbd's last error in this thread; returns the code, never 0. */
int conn_error(struct err *err);
/* What to say behind a refusal of the server. */
const char *conn_hint(const struct target *target);
/* A handle with what we allow a URI to say; NULL with words. */
struct nbd_handle *conn_handle(struct err *err);
/* Connects and waits, up to option negotiation. (nbd_connect_uri(3) trips over who hangs up.) */
int conn_connect(struct nbd_handle *nbd, const char *uri, struct err *err);

/* Begins to connect; looking up the server's address may wait. The state says how it went. */
void conn_open(struct conn *conn, const struct target *target);
/* What to wait for; a descriptor of -1 for nothing. */
void conn_poll(const struct conn *conn, struct pollfd *p);
/* Goes on after poll(2): completions are called from here. */
void conn_event(struct conn *conn, short revents);
/* To be called every few seconds while commands are under way: sees whether the host is there. */
void conn_check(struct conn *conn);
/*
 * Sends @op; @done(op, error) will be called from conn_event() or conn_close(), with ENOTCONN
 * when the connection was lost before the answer. 0, or -errno: the connection is dead (its
 * state says so), or would not send such a thing.
 */
int conn_start(struct conn *conn, struct op *op, void (*done)(struct op *op, int error));
/* Whatever the state; after this nothing is under way. */
void conn_close(struct conn *conn);

#endif
