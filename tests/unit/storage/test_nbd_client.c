// SPDX-License-Identifier: ISC
/*
 * What filevisor-nbd takes from its client: each request that is wrong is answered with the right
 * error and goes nowhere, what breaks the stream ends it, however it is cut into pieces; and
 * however much is sent, only so much is taken.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "storage/nbd/client.h"

#define DISK (1u << 20)
#define ALL                                                                                        \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |       \
	 NBD_FLAG_SEND_WRITE_ZEROES)

struct fixture {
	struct client client;
	struct ops ops;
	int peer;
};

static struct fixture *begin(uint32_t flags)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2], room = 4 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	f->peer = pair[1];
	client_init(&f->client, pair[0], DISK, flags);
	ops_init(&f->ops, true);
	return f;
}

static void end(struct fixture *f)
{
	client_free(&f->client);
	ops_free(&f->ops);
	close(f->client.fd);
	close(f->peer);
	free(f);
}

static void ask(struct fixture *f, uint16_t cmd, uint16_t flags, uint64_t offset, uint32_t length)
{
	struct nbd_request rq = {htobe32(NBD_REQUEST_MAGIC),
				 htobe16(flags),
				 htobe16(cmd),
				 77,
				 htobe64(offset),
				 htobe32(length)};
	static const uint8_t payload[4096];

	assert_int_equal(send(f->peer, &rq, sizeof(rq), 0), sizeof(rq));
	if (cmd == NBD_CMD_WRITE && length <= sizeof(payload))
		assert_int_equal(send(f->peer, payload, length, 0), length);
}

/* What it is answered with: an error at once, or 0 if it is let through. */
static uint32_t answer(struct fixture *f, uint16_t cmd, uint16_t flags, uint64_t offset,
		       uint32_t length)
{
	struct nbd_reply reply;
	struct op *op;

	ask(f, cmd, flags, offset, length);
	assert_int_equal(client_receive(&f->client, &f->ops), 0);
	op = ops_start(&f->ops);
	if (op) {
		assert_null(f->client.first_reply);
		assert_int_equal(op->cmd, cmd);
		assert_int_equal(op->flags, flags);
		assert_int_equal(op->offset, offset);
		assert_int_equal(op->length, length);
		assert_int_equal(ops_done(&f->ops, op, 0), OPS_REPLY);
		client_reply(&f->client, op);
	}
	assert_int_equal(client_send(&f->client), 0);
	assert_int_equal(recv(f->peer, &reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
	assert_int_equal(be32toh(reply.magic), NBD_REPLY_MAGIC);
	assert_int_equal(reply.cookie, 77);
	assert_int_equal(!op, reply.error != 0);
	if (cmd == NBD_CMD_READ && !reply.error) {
		uint8_t data[4096];

		assert_int_equal(recv(f->peer, data, length, MSG_WAITALL), length);
	}
	assert_int_equal(f->client.n_ops, 0);
	assert_int_equal(f->client.op_bytes, 0);
	return be32toh(reply.error);
}

static void test_checks(void **state)
{
	struct fixture *f = begin(ALL);

	(void)state;
	assert_int_equal(answer(f, NBD_CMD_READ, 0, 0, 4096), 0);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, DISK - 1, 1), 0);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, DISK - 1, 2), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, UINT64_MAX, 1), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, UINT64_MAX - 1, 512), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, 0, 0), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, 0, UINT32_MAX), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 1), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 5, 10), 0);
	assert_int_equal(answer(f, NBD_CMD_WRITE, NBD_CMD_FLAG_NO_HOLE, 5, 10), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_WRITE, 0, DISK, 10), NBD_ENOSPC);
	assert_int_equal(answer(f, NBD_CMD_WRITE, 0, 0, 0), NBD_ENOSPC);
	assert_int_equal(answer(f, NBD_CMD_FLUSH, 0, 0, 0), 0);
	assert_int_equal(answer(f, NBD_CMD_FLUSH, 0, 1, 0), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_TRIM, 0, 0, DISK), 0);
	assert_int_equal(answer(f, NBD_CMD_TRIM, 0, 1, DISK), NBD_ENOSPC);
	assert_int_equal(answer(f, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, DISK), 0);
	assert_int_equal(answer(f, NBD_CMD_WRITE_ZEROES, 1 << 4, 0, DISK), NBD_EINVAL);
	assert_int_equal(answer(f, 5, 0, 0, 512), NBD_EINVAL); /* CACHE */
	assert_int_equal(answer(f, 7, 0, 0, 512), NBD_EINVAL); /* BLOCK_STATUS */
	assert_int_equal(answer(f, UINT16_MAX, UINT16_MAX, 0, 512), NBD_EINVAL);
	end(f);
}

static void test_what_was_not_offered(void **state)
{
	struct fixture *f = begin(NBD_FLAG_HAS_FLAGS);

	(void)state;
	assert_int_equal(answer(f, NBD_CMD_FLUSH, 0, 0, 0), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_TRIM, 0, 0, 512), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512), NBD_EINVAL);
	assert_int_equal(answer(f, NBD_CMD_WRITE, 0, 0, 512), 0);
	end(f);
	f = begin(ALL | NBD_FLAG_READ_ONLY);
	assert_int_equal(answer(f, NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM);
	assert_int_equal(answer(f, NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EPERM);
	assert_int_equal(answer(f, NBD_CMD_TRIM, 0, 0, 512), NBD_EPERM);
	assert_int_equal(answer(f, NBD_CMD_READ, 0, 0, 512), 0);
	end(f);
}

static void test_broken_streams(void **state)
{
	struct fixture *f = begin(ALL);

	(void)state;
	assert_int_equal(send(f->peer, "0123456789012345678901234567", 28, 0), 28);
	assert_int_equal(client_receive(&f->client, &f->ops), -EPROTO);
	end(f);
	f = begin(ALL);
	ask(f, NBD_CMD_WRITE, 0, 0, (32u << 20) + 1); /* of which nobody knows where it ends */
	assert_int_equal(client_receive(&f->client, &f->ops), -EPROTO);
	end(f);
	f = begin(ALL);
	ask(f, NBD_CMD_DISC, 0, 0, 0);
	assert_int_equal(client_receive(&f->client, &f->ops), -EPIPE);
	end(f);
	f = begin(ALL);
	ask(f, NBD_CMD_WRITE, 0, 0, 8192); /* and no payload */
	assert_int_equal(client_receive(&f->client, &f->ops), 0);
	shutdown(f->peer, SHUT_WR);
	assert_int_equal(client_receive(&f->client, &f->ops), -EPIPE);
	assert_null(ops_start(&f->ops));
	end(f);
}

/* Byte by byte it is the same as at once. */
static void test_pieces(void **state)
{
	struct fixture *f = begin(ALL), *bytes = begin(ALL);
	uint8_t stream[8192];
	ssize_t n;
	struct op *op;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		ask(f, NBD_CMD_WRITE, 0, 2000 * i, 1000 + i);
	n = recv(f->client.fd, stream, sizeof(stream), 0);
	assert_int_equal(n, 5 * 28 + 5010);
	for (ssize_t i = 0; i < n; i++) {
		assert_int_equal(send(bytes->peer, stream + i, 1, 0), 1);
		assert_int_equal(client_receive(&bytes->client, &bytes->ops), 0);
	}
	for (unsigned i = 0; i < 5; i++) {
		op = ops_start(&bytes->ops);
		assert_non_null(op);
		assert_int_equal(op->offset, 2000 * i);
		assert_int_equal(op->length, 1000 + i);
	}
	end(f);
	end(bytes);
}

static void take_all(struct fixture *f)
{
	unsigned had = ~0u;

	while ((client_events(&f->client) & POLLIN) && f->client.n_ops != had) {
		had = f->client.n_ops;
		assert_int_equal(client_receive(&f->client, &f->ops), 0);
	}
}

/* Answers one; what was received and had no room then has it, without a byte more. */
static void answer_one(struct fixture *f)
{
	unsigned had = f->client.n_ops;
	struct op *op = ops_start(&f->ops);
	char sink[16];

	assert_non_null(op);
	assert_int_equal(ops_done(&f->ops, op, EIO), OPS_REPLY);
	client_reply(&f->client, op);
	assert_int_equal(client_send(&f->client), 0);
	assert_int_equal(f->client.n_ops, had - 1);
	assert_int_equal(client_take(&f->client, &f->ops), 0);
	assert_int_equal(f->client.n_ops, had);
	assert_int_equal(recv(f->peer, sink, sizeof(sink), 0), sizeof(sink));
}

static void test_bounds(void **state)
{
	struct fixture *f = begin(ALL);

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		ask(f, NBD_CMD_FLUSH, 0, 0, 0);
	take_all(f);
	assert_int_equal(f->client.n_ops, CLIENT_OPS_MAX);
	assert_false(client_events(&f->client) & POLLIN);
	answer_one(f);
	end(f);
	f = begin(ALL);
	for (unsigned i = 0; i < 200; i++)
		ask(f, NBD_CMD_READ, 0, 0, DISK);
	take_all(f);
	assert_int_equal(f->client.op_bytes, CLIENT_BYTES_MAX);
	assert_false(client_events(&f->client) & POLLIN);
	answer_one(f);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_checks),	   cmocka_unit_test(test_what_was_not_offered),
	    cmocka_unit_test(test_broken_streams), cmocka_unit_test(test_pieces),
	    cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
