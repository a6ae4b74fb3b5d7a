// SPDX-License-Identifier: ISC
/*
 * A connection to an NBD server. libnbd's state machine is run by hand: poll(2) as it says,
 * then nbd_aio_notify_*(). The handshake stops at option negotiation ("opt mode"), where the
 * export is asked for by name, so that a refusal can be told from a broken connection.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "storage/nbd/conn.h"
#include "util/cleanup.h"

#define SILENCE_MS 30000

/* --- words ------------------------------------------------------------------------------------ */

int conn_error(struct err *err)
{
	const char *text = nbd_get_error();
	int code = nbd_get_errno();

	if (!text)
		text = "the server was lost";
	/* "nbd_aio_notify_read: …" is of no use to a reader */
	while (strncmp(text, "nbd_", 4) == 0 && strstr(text, ": "))
		text = strstr(text, ": ") + 2;
	if (strncmp(text, "gnutls_", strlen("gnutls_")) == 0)
		return err_set(err, -EPROTO, "TLS: %s", text);
	return err_set(err, code ? -code : -EIO, "%s", text);
}

static void die(struct conn *conn)
{
	if (conn->state == CONN_DEAD)
		return;
	conn_error(&conn->err);
	conn->state = CONN_DEAD;
}

static void die_saying(struct conn *conn, int code, const char *text)
{
	err_set(&conn->err, code, "%s", text);
	conn->state = CONN_DEAD;
}

/* --- the handshake -----------------------------------------------------------------------------
 */

struct nbd_handle *conn_handle(struct err *err)
{
	struct nbd_handle *nbd = nbd_create();

	if (!nbd) {
		conn_error(err);
		return NULL;
	}
	/* We run with the rights of whom we work for: he may name his own keys. */
	if (nbd_set_opt_mode(nbd, true) < 0 || nbd_set_uri_allow_local_file(nbd, true) < 0 ||
	    nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP |
						  LIBNBD_ALLOW_TRANSPORT_UNIX) < 0 ||
	    nbd_set_pread_initialize(nbd, false) < 0) {
		conn_error(err);
		nbd_close(nbd);
		return NULL;
	}
	return nbd;
}

/*
 * A host that went without a word is noticed where nothing was sent to it, by probes. Where
 * something was, conn_check() looks. (TCP_USER_TIMEOUT would do both, but break also with a
 * server that is only stopped, and may carry out what it has received later than what we
 * would send again.)
 */
static void watch_host(struct conn *conn)
{
	int fd = nbd_aio_get_fd(conn->nbd), on = 1, idle_s = 15, every_s = 5, times = 3;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
}

/*
 * A connection that is given up must take with it what the kernel has not delivered yet: it
 * would come to the server behind the same requests, sent again, and undo what followed.
 */
static void set_abort(struct conn *conn, bool on)
{
	struct linger linger = {.l_onoff = on};

	setsockopt(nbd_aio_get_fd(conn->nbd), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void conn_check(struct conn *conn)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (conn->state == CONN_READY && conn->flying &&
	    getsockopt(nbd_aio_get_fd(conn->nbd), IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	    info.tcpi_unacked && info.tcpi_last_ack_recv > SILENCE_MS)
		die_saying(conn, -ETIMEDOUT, "the server's host does not answer");
}

static int asked(void *arg, int *error)
{
	struct conn *conn = arg;

	if (*error)
		conn->refused = *error;
	return 1;
}

const char *conn_hint(const struct target *target)
{
	return strncmp(target->uri, "nbds", 4) ? "; it may want TLS (nbds://)" : "";
}

/* Option negotiation: asks for the export, or hears that there is none. */
static void negotiate(struct conn *conn)
{
	nbd_completion_callback done = {.callback = asked, .user_data = conn};
	const char *export = conn->target->export;

	if (conn->refused) {
		char *name = nbd_get_export_name(conn->nbd);

		if (conn->refused == ENOENT)
			err_set(&conn->err, -ENOENT, "the server has no export \"%s\"",
				name ? name : "");
		else
			err_set(&conn->err, -conn->refused, "the server refuses export \"%s\"%s",
				name ? name : "", conn_hint(conn->target));
		free(name);
		conn->state = CONN_DEAD;
	} else if (!conn->asked) {
		conn->asked = true;
		if ((export && nbd_set_export_name(conn->nbd, export) < 0) ||
		    nbd_aio_opt_go(conn->nbd, done) < 0)
			die(conn);
	}
}

static unsigned log2_of(int64_t n, unsigned if_none)
{
	return n > 0 ? 63 - (unsigned)__builtin_clzll((unsigned long long)n) : if_none;
}

static uint32_t flags_of(struct nbd_handle *nbd)
{
	static const struct {
		int (*can)(struct nbd_handle *nbd);
		uint32_t flag;
	} flags[] = {
	    {nbd_is_read_only, NBD_FLAG_READ_ONLY},
	    {nbd_can_flush, NBD_FLAG_SEND_FLUSH},
	    {nbd_can_fua, NBD_FLAG_SEND_FUA},
	    {nbd_can_trim, NBD_FLAG_SEND_TRIM},
	    {nbd_can_zero, NBD_FLAG_SEND_WRITE_ZEROES},
	    {nbd_can_multi_conn, NBD_FLAG_CAN_MULTI_CONN},
	};
	uint32_t all = NBD_FLAG_HAS_FLAGS;
	unsigned payload = log2_of(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 25);

	for (unsigned i = 0; i < nitems(flags); i++)
		if (flags[i].can(nbd) == 1)
			all |= flags[i].flag;
	all |= log2_of(nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM), 0) << NBD_LINK_BLOCK_SHIFT;
	return all | (payload < 25 ? payload : 25) << NBD_LINK_PAYLOAD_SHIFT;
}

static void learn(struct conn *conn)
{
	const char *wanted = conn->target->export;
	char *name = nbd_get_export_name(conn->nbd);
	bool wrong = wanted && (!name || strcmp(name, wanted) != 0);
	int64_t bytes = nbd_get_size(conn->nbd);

	free(name);
	if (bytes < 0) {
		die(conn);
		return;
	}
	conn->bytes = (uint64_t)bytes;
	conn->flags = flags_of(conn->nbd);
	if (wrong) /* servers of old that know no names */
		die_saying(conn, -ENOENT, "the server has no exports with names");
	else if (!conn->target->readonly && (conn->flags & NBD_FLAG_READ_ONLY))
		die_saying(conn, -EROFS, "the server lets this export be read only");
	else if ((conn->flags >> NBD_LINK_BLOCK_SHIFT & 0xff) > 12)
		die_saying(conn, -EOPNOTSUPP, "the server wants blocks of more than 4096 bytes");
	else if (conn->flags >> NBD_LINK_PAYLOAD_SHIFT < 12)
		die_saying(conn, -EOPNOTSUPP, "the server takes less than 4096 bytes at once");
	else
		conn->state = CONN_READY;
	watch_host(conn);
	set_abort(conn, true);
	if (conn->target->readonly)
		conn->flags |= NBD_FLAG_READ_ONLY;
}

/* Looks where libnbd has got to; asking for the export may already bring the answer. */
static void look(struct conn *conn)
{
	if (conn->state == CONN_HANDSHAKE && nbd_aio_is_negotiating(conn->nbd))
		negotiate(conn);
	if (conn->state == CONN_HANDSHAKE && nbd_aio_is_negotiating(conn->nbd) && conn->refused)
		negotiate(conn);
	if (conn->state == CONN_HANDSHAKE && nbd_aio_is_ready(conn->nbd))
		learn(conn);
	if (conn->state == CONN_DEAD)
		return;
	if (nbd_aio_is_dead(conn->nbd))
		die(conn);
	else if (nbd_aio_is_closed(conn->nbd))
		die_saying(conn, -ECONNRESET, "the server closed the connection");
}

void conn_open(struct conn *conn, const struct target *target)
{
	*conn = (struct conn){.state = CONN_HANDSHAKE, .target = target};
	conn->nbd = conn_handle(&conn->err);
	if (!conn->nbd) {
		conn->state = CONN_DEAD;
		return;
	}
	if (nbd_aio_connect_uri(conn->nbd, target->uri) < 0) {
		die(conn);
		return;
	}
	look(conn);
}

/* --- in use -------------------------------------------------------------------------------------
 */

static void poll_of(struct nbd_handle *nbd, struct pollfd *p)
{
	unsigned way = nbd_aio_get_direction(nbd);

	*p = (struct pollfd){.fd = nbd_aio_get_fd(nbd),
			     .events = (way & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
				       (way & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0)};
}

/* A hangup is found out by doing what is due; the other thing would be out of order. */
static int notify(struct nbd_handle *nbd, short revents)
{
	unsigned way = nbd_aio_get_direction(nbd);

	if ((revents & (POLLIN | POLLHUP | POLLERR)) && (way & LIBNBD_AIO_DIRECTION_READ))
		return nbd_aio_notify_read(nbd);
	if ((revents & (POLLOUT | POLLHUP | POLLERR)) && (way & LIBNBD_AIO_DIRECTION_WRITE))
		return nbd_aio_notify_write(nbd);
	return 0;
}

static bool is_open(const struct conn *conn)
{
	return conn->state == CONN_HANDSHAKE || conn->state == CONN_READY;
}

void conn_poll(const struct conn *conn, struct pollfd *p)
{
	if (is_open(conn))
		poll_of(conn->nbd, p);
	else
		*p = (struct pollfd){.fd = -1};
}

void conn_event(struct conn *conn, short revents)
{
	if (!revents || !is_open(conn))
		return;
	if (notify(conn->nbd, revents) < 0) {
		conn_error(&conn->err); /* before another call changes it */
		if (nbd_aio_is_dead(conn->nbd))
			conn->state = CONN_DEAD;
	}
	look(conn);
}

int conn_connect(struct nbd_handle *nbd, const char *uri, struct err *err)
{
	if (nbd_aio_connect_uri(nbd, uri) < 0)
		return conn_error(err);
	while (nbd_aio_is_connecting(nbd)) {
		struct pollfd p;

		poll_of(nbd, &p);
		if (poll(&p, 1, -1) > 0 && notify(nbd, p.revents) < 0)
			return conn_error(err);
	}
	if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd))
		return err_set(err, -ECONNRESET, "the server closed the connection");
	return 0;
}

/* What a command's completion calls; lives as long as the command. */
struct flight {
	struct conn *conn;
	struct op *op;
	void (*done)(struct op *op, int error);
};

static int landed(void *arg, int *error)
{
	struct flight *flight = arg;

	flight->conn->flying--;
	flight->done(flight->op, *error);
	return 1; /* the command needs no further care */
}

static int64_t send_op(struct nbd_handle *nbd, struct op *op, nbd_completion_callback done)
{
	uint32_t fua = op->flags & NBD_CMD_FLAG_FUA ? LIBNBD_CMD_FLAG_FUA : 0;
	uint32_t no_hole = op->flags & NBD_CMD_FLAG_NO_HOLE ? LIBNBD_CMD_FLAG_NO_HOLE : 0;

	switch (op->cmd) {
	case NBD_CMD_READ:
		return nbd_aio_pread(nbd, op->data, op->length, op->offset, done, 0);
	case NBD_CMD_WRITE:
		return nbd_aio_pwrite(nbd, op->data, op->length, op->offset, done, fua);
	case NBD_CMD_TRIM:
		return nbd_aio_trim(nbd, op->length, op->offset, done, fua);
	case NBD_CMD_WRITE_ZEROES:
		return nbd_aio_zero(nbd, op->length, op->offset, done, fua | no_hole);
	case NBD_CMD_FLUSH:
		return nbd_aio_flush(nbd, done, 0);
	}
	free(done.user_data);
	return -1;
}

int conn_start(struct conn *conn, struct op *op, void (*done)(struct op *op, int error))
{
	struct flight *flight = malloc(sizeof(*flight));
	nbd_completion_callback landing = {.callback = landed, .user_data = flight, .free = free};
	int r;

	if (!flight)
		return -ENOMEM;
	*flight = (struct flight){conn, op, done};
	conn->flying++;
	if (send_op(conn->nbd, op, landing) >= 0) {
		look(conn);
		return 0;
	}
	r = conn_error(NULL);
	conn->flying--; /* libnbd has called free(), and not landed() */
	if (nbd_aio_is_dead(conn->nbd) || nbd_aio_is_closed(conn->nbd)) {
		conn_error(&conn->err);
		conn->state = CONN_DEAD;
	}
	return r;
}

void conn_close(struct conn *conn)
{
	if (conn->nbd) {
		if (conn->state == CONN_READY && !conn->flying) {
			set_abort(conn, false);
			nbd_aio_disconnect(conn->nbd, 0);
		} else if (nbd_aio_is_negotiating(conn->nbd)) {
			nbd_aio_opt_abort(conn->nbd);
		}
		nbd_close(conn->nbd);
	}
	conn->nbd = NULL;
	conn->state = CONN_NONE;
	conn->flying = 0;
}
