// SPDX-License-Identifier: ISC
/*
 * What filevisor-nbd keeps and does again. A disk of a few blocks is written and read at random
 * through the real ops, at a server that answers in any order, and that forgets at each death any
 * part of what was not flushed; also what it was asked and did not answer may have been done.
 * However it goes: what was answered is there for every later read, and at the end.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>

#include "storage/nbd/ops.h"

#define BLOCKS 24
#define FLYING 16

struct model {
	struct ops ops;
	uint64_t random;
	uint8_t stable[BLOCKS], cached[BLOCKS]; /* the server's */
	struct op *flying[FLYING];		/* at the server, in no order */
	unsigned n_flying;
	uint8_t expected[BLOCKS]; /* by what was answered */
	unsigned n_client, n_reads, n_deaths, n_again;
};

static uint32_t rnd(struct model *m, uint32_t below)
{
	return test_random(&m->random) % below;
}

/* --- the server ------------------------------------------------------------------------------- */

static void carry_out(struct model *m, struct op *op)
{
	if (op->cmd == NBD_CMD_FLUSH)
		memcpy(m->stable, m->cached, BLOCKS);
	for (uint32_t i = 0; i < op->length; i++) {
		uint8_t *cached = &m->cached[op->offset + i];

		if (op->cmd == NBD_CMD_READ)
			op->data[i] = *cached;
		else if (op->cmd == NBD_CMD_WRITE)
			*cached = op->data[i];
		else if (op->cmd == NBD_CMD_WRITE_ZEROES)
			*cached = 0;
		if (op->flags & NBD_CMD_FLAG_FUA)
			m->stable[op->offset + i] = *cached;
	}
}

static void die(struct model *m)
{
	for (unsigned i = 0; i < m->n_flying; i++)
		if (m->flying[i]->cmd != NBD_CMD_READ && rnd(m, 2))
			carry_out(m, m->flying[i]);
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (rnd(m, 2))
			m->stable[i] = m->cached[i]; /* it wrote that back by itself */
		m->cached[i] = m->stable[i];
	}
	m->n_flying = 0;
	m->n_deaths++;
	ops_lost(&m->ops);
}

/* --- the client ---------------------------------------------------------------------------------
 */

static void request(struct model *m)
{
	static const uint16_t cmds[] = {NBD_CMD_READ,  NBD_CMD_READ,	     NBD_CMD_WRITE,
					NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLUSH};
	struct op *op = calloc(1, sizeof(*op));

	op->cmd = cmds[rnd(m, nitems(cmds))];
	if (op->cmd != NBD_CMD_FLUSH) {
		op->length = 1 + rnd(m, 5);
		op->offset = rnd(m, BLOCKS - op->length + 1);
		op->data = op->cmd == NBD_CMD_WRITE_ZEROES ? NULL : malloc(op->length);
		if (op->cmd == NBD_CMD_WRITE)
			memset(op->data, 1 + (int)rnd(m, 255), op->length);
		if (op->cmd != NBD_CMD_READ && !rnd(m, 4))
			op->flags = NBD_CMD_FLAG_FUA;
	}
	m->n_client++;
	ops_add(&m->ops, op);
}

static void replied(struct model *m, struct op *op)
{
	m->n_client--;
	for (uint32_t i = 0; i < op->length; i++) {
		uint8_t *expected = &m->expected[op->offset + i];

		if (op->cmd == NBD_CMD_READ)
			assert_int_equal(op->data[i], *expected);
		else
			*expected = op->cmd == NBD_CMD_WRITE ? op->data[i] : 0;
	}
	m->n_reads += op->cmd == NBD_CMD_READ;
	if (!op->on)
		op_free(op);
}

/* --- what happens
 * --------------------------------------------------------------------------------- */

static void start_some(struct model *m)
{
	while (m->n_flying < FLYING) {
		struct op *op = ops_start(&m->ops);

		if (!op)
			return;
		/* nothing flies beside what it could disturb */
		for (unsigned i = 0; i < m->n_flying && op->length; i++) {
			const struct op *o = m->flying[i];

			if (op->cmd != NBD_CMD_READ || o->cmd != NBD_CMD_READ)
				assert_true(op->offset >= o->offset + o->length ||
					    o->offset >= op->offset + op->length);
		}
		m->n_again += op->kept;
		m->flying[m->n_flying++] = op;
	}
}

static void answer_one(struct model *m)
{
	unsigned i = rnd(m, m->n_flying);
	struct op *op = m->flying[i];

	m->flying[i] = m->flying[--m->n_flying];
	carry_out(m, op);
	if (ops_done(&m->ops, op, 0) == OPS_REPLY)
		replied(m, op);
}

static void finish(struct model *m)
{
	while (m->n_client || !ops_caught_up(&m->ops)) {
		start_some(m);
		assert_true(m->n_flying > 0);
		answer_one(m);
	}
}

static void run(uint64_t seed, unsigned deaths)
{
	struct model m = {.random = seed};

	ops_init(&m.ops, true);
	for (unsigned i = 0; i < 4000; i++) {
		if (m.n_client < 12 && rnd(&m, 2))
			request(&m);
		start_some(&m);
		if (m.n_flying && rnd(&m, 3))
			answer_one(&m);
		if (!rnd(&m, deaths))
			die(&m);
	}
	finish(&m);
	assert_memory_equal(m.cached, m.expected, BLOCKS);
	/* and it can be left: what was written is flushed */
	ops_abandon(&m.ops);
	while (!ops_idle(&m.ops)) {
		start_some(&m);
		answer_one(&m);
	}
	assert_memory_equal(m.stable, m.expected, BLOCKS);
	assert_true(m.n_reads > 100 && m.n_deaths > 10 && m.n_again > 10);
	ops_free(&m.ops);
}

static void test_random_deaths(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++)
		run(seed, 5 + seed % 60);
}

static struct op *make(uint16_t cmd, uint64_t offset, uint32_t length)
{
	struct op *op = calloc(1, sizeof(*op));

	op->cmd = cmd;
	op->offset = offset;
	op->length = length;
	if (cmd == NBD_CMD_WRITE)
		op->data = calloc(1, length);
	return op;
}

/* Writes as many as are let; returns how many were answered. */
static unsigned write_until_held(struct ops *ops, uint32_t length, struct op **flush)
{
	struct op *op;
	unsigned n = 0;

	for (*flush = NULL; n < 100000; n++) {
		ops_add(ops, make(NBD_CMD_WRITE, n, length));
		while ((op = ops_start(ops)) && op->cmd == NBD_CMD_FLUSH)
			*flush = op;
		if (!op)
			return n;
		assert_int_equal(ops_done(ops, op, 0), OPS_REPLY);
		if (!op->on)
			op_free(op);
		assert_true(ops->kept_bytes <= OPS_KEEP_MAX);
	}
	return n;
}

static void test_bound(void **state)
{
	static const uint32_t lengths[] = {1, 4096, 1 << 20, 32 << 20};

	(void)state;
	for (unsigned i = 0; i < nitems(lengths); i++) {
		struct op *flush, *op;
		struct ops ops;

		ops_init(&ops, true);
		assert_in_range(write_until_held(&ops, lengths[i], &flush), 1, 99999 * 3);
		if (lengths[i] > 1)
			assert_non_null(flush);
		/* a flush frees what waits */
		if (flush) {
			assert_true(flush->internal);
			assert_int_equal(ops_done(&ops, flush, 0), OPS_SILENT);
			op = ops_start(&ops);
			assert_non_null(op);
			assert_int_equal(op->cmd, NBD_CMD_WRITE);
		}
		ops_free(&ops);
	}
}

static void test_server_without_flush(void **state)
{
	struct op *flush;
	struct ops ops;

	(void)state;
	ops_init(&ops, false);
	assert_int_equal(ops.kept_bytes, 0);
	assert_int_equal(write_until_held(&ops, 4096, &flush), 100000);
	assert_null(flush);
	assert_int_equal(ops.kept_bytes, 0);
	ops_free(&ops);
}

/* A flush of our own that fails is told with the next of the client's, once. */
static void test_failed_flush_is_told(void **state)
{
	struct op *op;
	struct ops ops;

	(void)state;
	ops_init(&ops, true);
	ops_add(&ops, make(NBD_CMD_WRITE, 0, 512));
	ops_done(&ops, ops_start(&ops), 0);
	assert_non_null(ops.kept.first);
	ops.want_flush = true;
	op = ops_start(&ops);
	assert_true(op->internal);
	ops_done(&ops, op, EIO);
	assert_null(ops.kept.first);
	for (int want = EIO; want >= 0; want = want ? 0 : -1) {
		ops_add(&ops, make(NBD_CMD_FLUSH, 0, 0));
		op = ops_start(&ops);
		assert_int_equal(ops_done(&ops, op, 0), OPS_REPLY);
		assert_int_equal(op->error, want);
		op_free(op);
	}
	ops_free(&ops);
}

static void test_failure_to_do_again(void **state)
{
	struct op *op;
	struct ops ops;

	(void)state;
	ops_init(&ops, true);
	ops_add(&ops, make(NBD_CMD_WRITE, 0, 512));
	ops_done(&ops, ops_start(&ops), 0);
	ops_lost(&ops);
	ops_add(&ops, make(NBD_CMD_READ, 0, 512));
	for (unsigned i = 0; i < 3; i++) {
		op = ops_start(&ops);
		assert_int_equal(op->cmd, NBD_CMD_WRITE);
		assert_null(ops_start(&ops)); /* the read waits for it */
		assert_int_equal(ops_done(&ops, op, ENOSPC), OPS_AGAIN_FAILED);
		ops_lost(&ops);
	}
	op = ops_start(&ops);
	assert_int_equal(ops_done(&ops, op, 0), OPS_SILENT);
	assert_true(ops_caught_up(&ops));
	assert_int_equal(ops_start(&ops)->cmd, NBD_CMD_READ);
	ops_free(&ops);
}

/* Errors are the client's to see, and nothing of them is kept. */
static void test_errors(void **state)
{
	struct op *op;
	struct ops ops;

	(void)state;
	ops_init(&ops, true);
	ops_add(&ops, make(NBD_CMD_WRITE, 0, 512));
	op = ops_start(&ops);
	assert_int_equal(ops_done(&ops, op, ENOSPC), OPS_REPLY);
	assert_int_equal(op->error, ENOSPC);
	assert_true(ops_idle(&ops));
	op_free(op);
	ops_free(&ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_deaths),
	    cmocka_unit_test(test_bound),
	    cmocka_unit_test(test_server_without_flush),
	    cmocka_unit_test(test_failed_flush_is_told),
	    cmocka_unit_test(test_failure_to_do_again),
	    cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
