// SPDX-License-Identifier: ISC
/*
 * One thread, one poll(2): the client's socket and up to CONNS connections to the server.
 *
 *	UP	  requests go to the server, over the connection with the fewest
 *	DRAINING  a connection broke: nothing new is started; the others may still answer
 *	AWAY	  all are closed; the next attempt follows after 100 ms … 5 s
 *	TRYING	  the first connection is in its handshake
 *
 * One broken connection counts as a lost server, as it looks the same. While DRAINING those
 * that live on are let finish, so that no server has a write of ours under way that we send again
 * elsewhere. A server that comes back must be what it was: at least as large, and able to do
 * what the client was told it can; otherwise we say so once and go on trying.
 */
#define LOG_MODULE "nbd"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "storage/nbd/client.h"
#include "storage/nbd/conn.h"
#include "storage/nbd/serve.h"
#include "util/cleanup.h"
#include "util/log.h"

#define CONNS	     4
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define HANDSHAKE_MS 30000
#define DRAIN_MS     5000
#define LEAVE_MS     10000
#define CHECK_MS     5000
#define OWN_FLUSH_MS 5000 /* what was written and not flushed is, then, by us */
#define MUST_NOT_LOSE                                                                              \
	(NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES)

enum link_state { LINK_UP, LINK_DRAINING, LINK_AWAY, LINK_TRYING };

struct serve {
	const struct target *target;
	struct client client;
	struct ops ops;
	struct conn conns[CONNS];
	enum link_state state;
	int64_t deadline_ms; /* DRAINING, TRYING: patience; AWAY: the next attempt */
	unsigned retry_ms;
	bool told_loss;
	struct err told;     /* why it cannot be used: not to be told again */
	int64_t flush_at_ms; /* 0: nothing to flush */
	int64_t check_at_ms;
	bool leaving;
	int64_t leave_at_ms;
	struct op *done; /* answered, to be taken note of */
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static const char *export_name(const struct target *t)
{
	return t->export ? t->export : "";
}

/* --- the server lost and found -------------------------------------------------------------------
 */

static void try_later(struct serve *s)
{
	for (unsigned i = 0; i < CONNS; i++)
		conn_close(&s->conns[i]);
	s->done = NULL;
	ops_lost(&s->ops);
	s->state = LINK_AWAY;
	s->deadline_ms = now_ms() + s->retry_ms;
	s->retry_ms = s->retry_ms * 2 < RETRY_MAX_MS ? s->retry_ms * 2 : RETRY_MAX_MS;
}

static bool any_answer_due(const struct serve *s)
{
	for (unsigned i = 0; i < CONNS; i++)
		if (s->conns[i].state == CONN_READY && s->conns[i].flying)
			return true;
	return false;
}

static void lost(struct serve *s, const struct err *why)
{
	if (s->state != LINK_UP)
		return;
	if (!s->told_loss)
		log_warn("%s (export \"%s\"): lost: %s; waiting for it", s->target->uri,
			 export_name(s->target), why->text);
	s->told_loss = true;
	s->state = LINK_DRAINING;
	s->deadline_ms = now_ms() + DRAIN_MS;
}

/* Once all that was kept has been done again, and not before: then it is there as it was. */
static void caught_up(struct serve *s)
{
	if (s->told_loss)
		log_warn("%s (export \"%s\"): is back", s->target->uri, export_name(s->target));
	s->told_loss = false;
	s->told.code = 0;
	s->retry_ms = RETRY_MIN_MS;
}

static int same_as_before(const struct serve *s, const struct conn *c, struct err *err)
{
	uint32_t missing = s->client.flags & MUST_NOT_LOSE & ~c->flags;

	if (c->bytes < s->client.bytes)
		return err_set(err, -EIO, "the export is smaller now: %llu bytes, not %llu",
			       (unsigned long long)c->bytes, (unsigned long long)s->client.bytes);
	if (missing)
		return err_set(err, -EIO, "the server can do less now (flags %#x missing)",
			       missing);
	if (nbd_link_payload(c->flags) < nbd_link_payload(s->client.flags) ||
	    nbd_link_block(c->flags) > nbd_link_block(s->client.flags))
		return err_set(err, -EIO, "the server takes other sizes of requests now");
	return 0;
}

static void cannot_use(struct serve *s, const struct err *why)
{
	/* That nobody answers is what being lost means. */
	if (why->code != -ECONNREFUSED && why->code != -ENOENT && strcmp(s->told.text, why->text)) {
		log_warn("%s (export \"%s\"): %s", s->target->uri, export_name(s->target),
			 why->text);
		s->told = *why;
	}
	try_later(s);
}

static void open_others(struct serve *s)
{
	for (unsigned i = 1; i < CONNS && (s->conns[0].flags & NBD_FLAG_CAN_MULTI_CONN); i++)
		conn_open(&s->conns[i], s->target);
}

static void tried(struct serve *s)
{
	struct conn *c = &s->conns[0];
	struct err err = ERR_INIT;

	if (c->state == CONN_DEAD) {
		cannot_use(s, &c->err);
	} else if (c->state == CONN_READY) {
		if (same_as_before(s, c, &err) < 0) {
			cannot_use(s, &err);
			return;
		}
		s->state = LINK_UP;
		open_others(s);
		if (ops_caught_up(&s->ops))
			caught_up(s);
	}
}

/* Sees what became of the connections, and of time. */
static void look_after_server(struct serve *s)
{
	bool late = now_ms() >= s->deadline_ms;

	if (now_ms() >= s->check_at_ms) {
		s->check_at_ms = now_ms() + CHECK_MS;
		for (unsigned i = 0; i < CONNS; i++)
			conn_check(&s->conns[i]);
	}
	for (unsigned i = 0; i < CONNS && s->state == LINK_UP; i++) {
		struct conn *c = &s->conns[i];
		bool usable = c->state != CONN_READY || same_as_before(s, c, NULL) == 0;

		if (c->state != CONN_DEAD && usable)
			continue;
		if (i > 0 && !c->flying && (!c->bytes || !usable))
			conn_close(c); /* never was of use: others do without it */
		else
			lost(s, &c->err);
	}
	switch (s->state) {
	case LINK_UP:
		break;
	case LINK_DRAINING:
		if (late || !any_answer_due(s))
			try_later(s);
		break;
	case LINK_AWAY:
		if (!late)
			break;
		s->state = LINK_TRYING;
		s->deadline_ms = now_ms() + HANDSHAKE_MS;
		conn_open(&s->conns[0], s->target);
		tried(s);
		break;
	case LINK_TRYING:
		tried(s);
		if (s->state == LINK_TRYING && late)
			try_later(s);
		break;
	}
}

/* --- requests and answers ------------------------------------------------------------------------
 */

static void answered(struct op *op, int error)
{
	struct serve *s = op->serve;

	op->conn = NULL;
	if (error == ENOTCONN || error == ESHUTDOWN)
		return; /* no answer: it stays among what flies, and goes again */
	op->answer = error;
	op->next_done = s->done;
	s->done = op;
}

static void handle(struct serve *s, struct op *op, int error)
{
	struct err err = ERR_INIT;
	bool behind = !ops_caught_up(&s->ops);

	switch (ops_done(&s->ops, op, error)) {
	case OPS_REPLY:
		client_reply(&s->client, op);
		break;
	case OPS_SILENT:
		break;
	case OPS_AGAIN_FAILED:
		err_set(&err, -EIO, "a write could not be done again: %s", err_name(error));
		if (strcmp(s->told.text, err.text))
			log_warn("%s: %s; trying on", s->target->uri, err.text);
		s->told = err;
		lost(s, &err);
		try_later(s);
		return;
	}
	if (behind && ops_caught_up(&s->ops))
		caught_up(s);
	if (!s->ops.kept.first)
		s->flush_at_ms = 0;
	else if (!s->flush_at_ms)
		s->flush_at_ms = now_ms() + OWN_FLUSH_MS;
}

static void take_answers(struct serve *s)
{
	struct op *op, *next, *in_order = NULL;

	for (op = s->done; op; op = next) { /* they were put first */
		next = op->next_done;
		op->next_done = in_order;
		in_order = op;
	}
	s->done = NULL;
	for (op = in_order; op; op = next) {
		next = op->next_done;
		handle(s, op, op->answer);
		if (s->state == LINK_AWAY)
			return; /* all the others are to be done again */
	}
}

static struct conn *least_busy(struct serve *s)
{
	struct conn *best = NULL;

	for (unsigned i = 0; i < CONNS; i++)
		if (s->conns[i].state == CONN_READY && (!best || s->conns[i].flying < best->flying))
			best = &s->conns[i];
	return best;
}

static void start_requests(struct serve *s)
{
	struct op *op;

	if (s->flush_at_ms && now_ms() >= s->flush_at_ms) {
		s->ops.want_flush = true;
		s->flush_at_ms = 0;
	}
	while (s->state == LINK_UP && (op = ops_start(&s->ops))) {
		struct conn *c = least_busy(s);
		int r;

		if (!c)
			return; /* all broke at once: it flies, and will be taken back */
		op->serve = s;
		op->conn = c;
		r = conn_start(c, op, answered);
		if (c->state == CONN_DEAD)
			lost(s, &c->err);
		else if (r < 0)
			handle(s, op, -r);
	}
}

/* --- the loop
 * --------------------------------------------------------------------------------------- */

static int time_left(const struct serve *s)
{
	int64_t now = now_ms(), until = now + 60000;

	if (s->state != LINK_UP && s->deadline_ms < until)
		until = s->deadline_ms;
	if (s->flush_at_ms && s->flush_at_ms < until && s->state == LINK_UP)
		until = s->flush_at_ms;
	if (s->ops.flying.first && s->check_at_ms < until)
		until = s->check_at_ms;
	if (s->leaving && s->leave_at_ms < until)
		until = s->leave_at_ms;
	return until > now ? (int)(until - now) : 0;
}

static void leave(struct serve *s)
{
	s->leaving = true;
	s->leave_at_ms = now_ms() + LEAVE_MS;
	ops_abandon(&s->ops);
}

static bool may_end(const struct serve *s)
{
	if (!s->leaving || (s->state == LINK_UP && ops_idle(&s->ops)))
		return s->leaving;
	if (s->state == LINK_UP && now_ms() < s->leave_at_ms)
		return false;
	if (s->ops.kept.first)
		log_warn("%s (export \"%s\"): left while the server was away: what was written "
			 "without a flush may be lost",
			 s->target->uri, export_name(s->target));
	return true;
}

/* Sends replies; true if that made room for requests which had been received already. */
static bool talk(struct serve *s)
{
	uint64_t taken = s->ops.seq;

	if (s->leaving)
		return false;
	if (client_send(&s->client) < 0 || client_take(&s->client, &s->ops) < 0)
		leave(s);
	return s->ops.seq != taken;
}

static void one_round(struct serve *s)
{
	struct pollfd p[1 + CONNS];

	p[CONNS] = (struct pollfd){.fd = s->leaving ? -1 : s->client.fd,
				   .events = client_events(&s->client)};
	for (unsigned i = 0; i < CONNS; i++)
		conn_poll(&s->conns[i], &p[i]);
	if (poll(p, nitems(p), time_left(s)) < 0)
		return;
	for (unsigned i = 0; i < CONNS; i++)
		conn_event(&s->conns[i], p[i].revents);
	if (p[CONNS].revents & (POLLIN | POLLHUP | POLLERR)) {
		if (client_receive(&s->client, &s->ops) < 0)
			leave(s);
	}
	do {
		take_answers(s);
		look_after_server(s);
		start_requests(s);
	} while (talk(s) || s->done);
}

/* --- the beginning
 * ------------------------------------------------------------------------------------ */

static void say(int fd, const struct conn *c)
{
	struct nbd_hello hello = {.magic = NBD_HELLO_MAGIC,
				  .error = c->state == CONN_READY ? 0 : c->err.code,
				  .bytes = c->bytes,
				  .flags = c->flags};

	snprintf(hello.text, sizeof(hello.text), "%s", c->err.text);
	send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
}

/* The first handshake: ends also when the other end is closed, as nobody waits then. */
static void connect_first(struct conn *c, const struct target *target, int fd)
{
	conn_open(c, target);
	while (c->state == CONN_HANDSHAKE) {
		struct pollfd p[2];

		p[0] = (struct pollfd){.fd = fd, .events = POLLRDHUP};
		conn_poll(c, &p[1]);
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents)
			exit(0);
		conn_event(c, p[1].revents);
	}
}

void serve(const struct target *target, int fd)
{
	struct serve *s = calloc(1, sizeof(*s));
	struct conn *c;

	if (!s)
		exit(1);
	c = &s->conns[0];
	connect_first(c, target, fd);
	say(fd, c);
	if (c->state == CONN_READY) {
		s->target = target;
		s->retry_ms = RETRY_MIN_MS;
		client_init(&s->client, fd, c->bytes, c->flags);
		ops_init(&s->ops, c->flags & NBD_FLAG_SEND_FLUSH);
		open_others(s);
		while (!may_end(s))
			one_round(s);
	}
	for (unsigned i = 0; i < CONNS; i++)
		conn_close(&s->conns[i]);
	client_free(&s->client);
	ops_free(&s->ops);
	free(s);
}
