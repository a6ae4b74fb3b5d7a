// SPDX-License-Identifier: ISC
/*
 * Hostile ends of the socket between block_nbd and filevisor-nbd. The first byte says whose:
 * even, the rest are replies to a block_nbd with requests under way; odd, it is what a
 * filevisor-nbd receives from its client, with the server's answers now and then. Nothing
 * may crash, hang or leak, and every request ends.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/block_nbd.h"
#include "storage/nbd/client.h"

#define DISK (1u << 20)
#define N    12
#define FLAGS                                                                                      \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |       \
	 NBD_FLAG_SEND_WRITE_ZEROES)

static void make_pair(int *pair)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
}

static void feed(int fd, const uint8_t *data, size_t size)
{
	send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
}

/* --- replies -------------------------------------------------------------------------------- */

static unsigned ended;

static void count(struct block_req *req, int result)
{
	(void)req;
	if (result > 0)
		abort();
	ended++;
}

static void replies(const uint8_t *data, size_t size)
{
	static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH,
					    BLOCK_WRITE_ZEROES, BLOCK_DISCARD};
	struct block_nbd_params params = {.bytes = DISK,
					  .flags = FLAGS | 12u << NBD_LINK_PAYLOAD_SHIFT};
	static uint8_t buf[N][10000];
	struct block_req reqs[N];
	struct block_queue *queue;
	struct iovec iov[N][2];
	struct block *block;
	int pair[2];

	make_pair(pair);
	if (block_queue_new_sync(&queue, NULL) < 0 ||
	    block_nbd_open(&block, pair[0], &params, NULL) < 0)
		abort();
	ended = 0;
	for (unsigned i = 0; i < N; i++) {
		uint64_t bytes = i < 6 ? 32 : 10000;

		iov[i][0] = (struct iovec){buf[i], 7};
		iov[i][1] = (struct iovec){buf[i] + 7, bytes - 7};
		reqs[i] = (struct block_req){.op = ops[i % 5],
					     .flags = i % 2 ? BLOCK_FUA : 0,
					     .offset = i * 512,
					     .bytes = bytes,
					     .iov = iov[i],
					     .n_iov = 2,
					     .done = count};
		block_submit(queue, block, &reqs[i]);
	}
	feed(pair[1], data, size);
	block_queue_drain(queue);
	if (ended != N)
		abort();
	block_queue_free(queue);
	block_close(block);
	close(pair[1]);
}

/* --- requests -----------------------------------------------------------------------------------
 */

/* A server that answers all, and is lost in between. */
static void answer(struct client *client, struct ops *ops, uint8_t how)
{
	struct op *op, *flying[8];
	unsigned n = 0;

	while (n < 8 && (op = ops_start(ops)))
		flying[n++] = op;
	if (how % 4 == 3) {
		ops_lost(ops);
		return;
	}
	while (n) {
		op = flying[--n];
		if (op->cmd == NBD_CMD_READ)
			memset(op->data, 1, op->length);
		switch (ops_done(ops, op, how % 4 == 2 ? EIO : 0)) {
		case OPS_REPLY:
			client_reply(client, op);
			break;
		case OPS_SILENT:
			break;
		case OPS_AGAIN_FAILED:
			ops_lost(ops);
			return;
		}
	}
}

static void requests(const uint8_t *data, size_t size)
{
	struct client *client = malloc(sizeof(*client));
	char sink[4096];
	struct ops ops;
	int pair[2];

	make_pair(pair);
	client_init(client, pair[0], DISK, FLAGS | (data[0] & 2 ? NBD_FLAG_READ_ONLY : 0));
	ops_init(&ops, true);
	feed(pair[1], data + 1, size - 1);
	for (unsigned i = 0; client_receive(client, &ops) == 0 && i < 100000; i++) {
		answer(client, &ops, i < size ? data[i] : 0);
		if (client_send(client) < 0 || client_take(client, &ops) < 0)
			break;
		while (recv(pair[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	client_free(client);
	ops_free(&ops);
	free(client);
	close(pair[0]);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > 100000)
		return 0;
	if (data[0] % 2)
		requests(data, size);
	else
		replies(data + 1, size - 1);
	return 0;
}
