// SPDX-License-Identifier: ISC
/*
 * Requests are received into a buffer, many at once; what of a write's payload is not in it
 * goes straight to its place. Input stops while too much is unanswered: so memory is bounded
 * whatever the other end does, and however long the server is away.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "storage/nbd/client.h"
#include "util/cleanup.h"

#define REPLIES_AT_ONCE 32

void client_init(struct client *client, int fd, uint64_t bytes, uint32_t flags)
{
	*client = (struct client){.fd = fd, .bytes = bytes, .flags = flags};
	client->last_reply = &client->first_reply;
}

static void forget_first_reply(struct client *client)
{
	struct op *op = client->first_reply;

	client->first_reply = op->next_reply;
	if (!client->first_reply)
		client->last_reply = &client->first_reply;
	client->reply_sent = 0;
	client->n_ops--;
	client->op_bytes -= op->data ? op->length : 0;
	op->replying = false;
	if (!op->on)
		op_free(op);
}

void client_free(struct client *client)
{
	op_free(client->into);
	while (client->first_reply)
		forget_first_reply(client);
}

static bool has_room(const struct client *client)
{
	return client->n_ops < CLIENT_OPS_MAX && client->op_bytes < CLIENT_BYTES_MAX;
}

short client_events(const struct client *client)
{
	return (has_room(client) || client->into ? POLLIN : 0) |
	       (client->first_reply ? POLLOUT : 0);
}

/* --- requests -----------------------------------------------------------------------------------
 */

/* Which commands there are, and what they are offered by. */
static const struct command {
	uint16_t cmd;
	uint16_t flags; /* that it may have */
	bool writes, range, payload;
	uint32_t needs; /* of the link's flags */
} commands[] = {
    {NBD_CMD_READ, 0, false, true, false, 0},
    {NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, true, true, true, 0},
    {NBD_CMD_FLUSH, 0, false, false, false, NBD_FLAG_SEND_FLUSH},
    {NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, true, true, false, NBD_FLAG_SEND_TRIM},
    {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE, true, true, false,
     NBD_FLAG_SEND_WRITE_ZEROES},
};

static const struct command *command_of(uint16_t cmd)
{
	for (unsigned i = 0; i < nitems(commands); i++)
		if (commands[i].cmd == cmd)
			return &commands[i];
	return NULL;
}

/* What a request is to be answered with at once; 0: it is good. */
static int check(const struct client *client, const struct op *op)
{
	const struct command *c = command_of(op->cmd);

	if (!c || (op->flags & ~c->flags) || (client->flags & c->needs) != c->needs)
		return NBD_EINVAL;
	if ((op->flags & NBD_CMD_FLAG_FUA) && !(client->flags & NBD_FLAG_SEND_FUA))
		return NBD_EINVAL;
	if (c->writes && (client->flags & NBD_FLAG_READ_ONLY))
		return NBD_EPERM;
	if (!c->range)
		return op->offset || op->length ? NBD_EINVAL : 0;
	if (!op->length || op->offset > client->bytes || op->length > client->bytes - op->offset)
		return c->writes ? NBD_ENOSPC : NBD_EINVAL;
	if (op->cmd == NBD_CMD_READ && op->length > nbd_link_payload(client->flags))
		return NBD_EINVAL;
	return 0;
}

/* The request is here wholly. */
static void taken(struct client *client, struct ops *ops, struct op *op)
{
	if (op->error)
		client_reply(client, op);
	else
		ops_add(ops, op);
}

static bool needs_data(const struct op *op)
{
	return op->length && (op->cmd == NBD_CMD_WRITE || (op->cmd == NBD_CMD_READ && !op->error));
}

/* A request's header. 0; -EPROTO, -EPIPE or -ENOMEM: no more of this client. */
static int take_header(struct client *client, struct ops *ops, const struct nbd_request *rq)
{
	uint32_t length = be32toh(rq->length);
	struct op *op;

	if (be32toh(rq->magic) != NBD_REQUEST_MAGIC)
		return -EPROTO;
	if (be16toh(rq->type) == NBD_CMD_DISC)
		return -EPIPE;
	if (be16toh(rq->type) == NBD_CMD_WRITE && length > nbd_link_payload(client->flags))
		return -EPROTO;
	op = calloc(1, sizeof(*op));
	if (!op)
		return -ENOMEM;
	op->cookie = rq->cookie; /* as it came: only the client reads it */
	op->cmd = be16toh(rq->type);
	op->flags = be16toh(rq->flags);
	op->offset = be64toh(rq->offset);
	op->length = length;
	op->error = check(client, op);
	if (needs_data(op)) {
		op->data = malloc(length);
		if (!op->data) {
			op_free(op);
			return -ENOMEM;
		}
		client->op_bytes += length;
	}
	client->n_ops++;
	if (op->cmd == NBD_CMD_WRITE && length) {
		client->into = op;
		client->into_n = 0;
	} else {
		taken(client, ops, op);
	}
	return 0;
}

static void advance(struct client *client, struct ops *ops, size_t n)
{
	client->into_n += (uint32_t)n;
	if (client->into_n == client->into->length)
		taken(client, ops, take_ptr(client->into));
}

int client_take(struct client *client, struct ops *ops)
{
	size_t at = 0;
	int r = 0;

	while (!r && at < client->rx_n) {
		size_t have = client->rx_n - at;

		if (client->into) {
			size_t left = client->into->length - client->into_n;
			size_t part = have < left ? have : left;

			memcpy(client->into->data + client->into_n, client->rx + at, part);
			at += part;
			advance(client, ops, part);
		} else if (have >= sizeof(struct nbd_request) && has_room(client)) {
			struct nbd_request rq;

			memcpy(&rq, client->rx + at, sizeof(rq));
			at += sizeof(rq);
			r = take_header(client, ops, &rq);
		} else {
			break;
		}
	}
	memmove(client->rx, client->rx + at, client->rx_n - at);
	client->rx_n -= at;
	return r;
}

int client_receive(struct client *client, struct ops *ops)
{
	struct iovec iov[2];
	struct msghdr msg = {.msg_iov = iov};
	size_t direct = 0;
	ssize_t n;

	if (client->into) {
		direct = client->into->length - client->into_n;
		iov[msg.msg_iovlen++] = (struct iovec){client->into->data + client->into_n, direct};
	}
	iov[msg.msg_iovlen++] =
	    (struct iovec){client->rx + client->rx_n, CLIENT_RX_BYTES - client->rx_n};
	n = recvmsg(client->fd, &msg, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	if (direct) {
		size_t part = (size_t)n < direct ? (size_t)n : direct;

		n -= (ssize_t)part;
		advance(client, ops, part);
	}
	client->rx_n += (size_t)n;
	return client_take(client, ops);
}

/* --- replies
 * -------------------------------------------------------------------------------------- */

/* An errno as NBD knows it. */
static uint32_t wire_error(int error)
{
	static const uint32_t known[] = {0,	     NBD_EPERM,	 NBD_EIO,	NBD_ENOMEM,
					 NBD_EINVAL, NBD_ENOSPC, NBD_EOVERFLOW, NBD_ENOTSUP};

	for (unsigned i = 0; i < nitems(known); i++)
		if (known[i] == (uint32_t)error)
			return known[i];
	return error == EROFS ? NBD_EPERM : NBD_EIO;
}

void client_reply(struct client *client, struct op *op)
{
	op->reply = (struct nbd_reply){.magic = htobe32(NBD_REPLY_MAGIC),
				       .error = htobe32(wire_error(op->error)),
				       .cookie = op->cookie};
	op->replying = true;
	op->next_reply = NULL;
	*client->last_reply = op;
	client->last_reply = &op->next_reply;
}

static size_t reply_data(const struct op *op)
{
	return op->cmd == NBD_CMD_READ && !op->reply.error ? op->length : 0;
}

/* Adds what is left of a reply of which @skip bytes are sent. */
static void add_reply(struct msghdr *msg, struct op *op, size_t skip)
{
	size_t data = reply_data(op), head = sizeof(op->reply);

	if (skip < head)
		msg->msg_iov[msg->msg_iovlen++] =
		    (struct iovec){(char *)&op->reply + skip, head - skip};
	skip = skip < head ? 0 : skip - head;
	if (skip < data)
		msg->msg_iov[msg->msg_iovlen++] = (struct iovec){op->data + skip, data - skip};
}

int client_send(struct client *client)
{
	while (client->first_reply) {
		struct iovec iov[2 * REPLIES_AT_ONCE];
		struct msghdr msg = {.msg_iov = iov};
		struct op *op = client->first_reply;
		ssize_t n;

		add_reply(&msg, op, client->reply_sent);
		while (msg.msg_iovlen + 2 <= nitems(iov) && (op = op->next_reply))
			add_reply(&msg, op, 0);
		n = sendmsg(client->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		client->reply_sent += (size_t)n;
		while ((op = client->first_reply)) {
			size_t whole = sizeof(op->reply) + reply_data(op),
			       sent = client->reply_sent;

			if (sent < whole)
				break;
			forget_first_reply(client);
			client->reply_sent = sent - whole;
		}
	}
	return 0;
}
