// SPDX-License-Identifier: ISC
/*
 * vsock under a driver that keeps no rules: any header, chains of any shape, packets in any state,
 * answers that nobody hears, more connections than there may be. The device answers by RST or asks
 * for a reset, and works afterwards.
 */
#include "vsock_world.h"

static int setup(void **state)
{
	*state = world_new(CID);
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

/* After a reset all is as it was. */
static void begin_again(struct world *w)
{
	assert_true(driver_reset(&w->d));
	memset(w->d.queues, 0, sizeof(w->d.queues));
	w->d.heap = 0x10000;
	begin(w, 8);
	works(w);
}

/* --- packets -------------------------------------------------------------------------------- */

static void packets_of_no_connection_are_refused(void **state)
{
	struct world *w = *state;
	header h, got;

	begin(w, 8);
	for (uint16_t op = 0; op < 20; op++) {
		if (op == VIRTIO_VSOCK_OP_REQUEST || op == VIRTIO_VSOCK_OP_RST)
			continue;
		say(w, packet(op, 5, 6), NULL, 0);
		got = expect(w, VIRTIO_VSOCK_OP_RST, NULL);
		assert_int_equal(got.src_port, 6);
		assert_int_equal(got.dst_port, 5);
	}
	h = packet(VIRTIO_VSOCK_OP_REQUEST, 5, 6);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	say(w, h, NULL, 0);
	assert_int_equal(hear(w, NULL).type, VIRTIO_VSOCK_TYPE_SEQPACKET);
	h = packet(VIRTIO_VSOCK_OP_REQUEST, 5, 6);
	h.dst_cid = 0x100000002;
	say(w, h, NULL, 0);
	got = hear(w, NULL);
	assert_int_equal(got.op, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(got.src_cid, 0x100000002);
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, 5, UINT32_MAX), NULL, 0);
	expect(w, VIRTIO_VSOCK_OP_RST, NULL);
	/* From somebody else, and a RST: no answer. */
	h = packet(VIRTIO_VSOCK_OP_RW, 5, 6);
	h.src_cid = CID + 1;
	say(w, h, NULL, 0);
	say(w, packet(VIRTIO_VSOCK_OP_RST, 5, 6), NULL, 0);
	works(w);
}

static void what_may_not_come_now_ends_the_connection(void **state)
{
	struct world *w = *state;

	begin(w, 8);
	for (uint16_t op = 0; op < 12; op++) { /* instead of RESPONSE */
		int fd = host_connect(w);
		header h = expect(w, VIRTIO_VSOCK_OP_REQUEST, NULL);

		say(w, reply(op, &h), NULL, 0);
		if (op != VIRTIO_VSOCK_OP_RST && op != VIRTIO_VSOCK_OP_RESPONSE)
			expect(w, VIRTIO_VSOCK_OP_RST, NULL);
		if (op == VIRTIO_VSOCK_OP_RESPONSE)
			say(w, reply(VIRTIO_VSOCK_OP_RST, &h), NULL, 0);
		assert_true(host_ended(fd));
		close(fd);
	}
	static const uint16_t wrong[] = {VIRTIO_VSOCK_OP_INVALID, VIRTIO_VSOCK_OP_REQUEST,
					 VIRTIO_VSOCK_OP_RESPONSE, 8, 0xffff};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) { /* once it is open */
		header h;
		int fd = connected(w, &h, ROOMY);

		say(w, reply(wrong[i], &h), NULL, 0);
		expect(w, VIRTIO_VSOCK_OP_RST, NULL);
		assert_true(host_ended(fd));
		close(fd);
	}
	/* Bytes after their end. */
	header h, end;
	int fd = connected(w, &h, ROOMY);

	end = reply(VIRTIO_VSOCK_OP_SHUTDOWN, &h);
	end.flags = VIRTIO_VSOCK_SHUTDOWN_SEND | 0xfffffff0;
	say(w, end, NULL, 0);
	say(w, reply(VIRTIO_VSOCK_OP_RW, &h), "x", 1);
	expect(w, VIRTIO_VSOCK_OP_RST, NULL);
	close(fd);
	works(w);
	assert_int_equal(counter(w, "connections"), 0);
}

static void any_header_at_all(void **state)
{
	struct world *w = *state;
	uint64_t seed = 0x9e3779b97f4a7c15;
	int fds[8];
	header h;

	begin(w, 64);
	for (unsigned i = 0; i < 8; i++)
		fds[i] = connected(w, &h, ROOMY);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t bytes[sizeof(header)];
		header odd = reply(i % 10, &h);

		for (unsigned k = 0; k < sizeof(bytes); k++) {
			seed = seed * 6364136223846793005 + 1442695040888963407;
			bytes[k] = (uint8_t)(seed >> 56);
		}
		/* One field of it is anything. */
		switch (i % 7) {
		case 0:
			memcpy(&odd.flags, bytes, 4);
			break;
		case 1:
			memcpy(&odd.buf_alloc, bytes, 4);
			break;
		case 2:
			memcpy(&odd.fwd_cnt, bytes, 4);
			break;
		case 3:
			memcpy(&odd.type, bytes, 2);
			break;
		case 4:
			memcpy(&odd.op, bytes, 2);
			break;
		case 5:
			memcpy(&odd.src_port, bytes, 4);
			break;
		default:
			memcpy(&odd, bytes, sizeof(odd));
			break;
		}
		say(w, odd, bytes, i % 3 ? 0 : 32);
		while (driver_has_used(&w->d, VSOCK_RX))
			hear(w, NULL);
	}
	assert_false(driver_needs_reset(&w->d));
	for (unsigned i = 0; i < 8; i++)
		close(fds[i]);
	begin_again(w);
}

/* --- chains --------------------------------------------------------------------------------- */

static void sends(struct world *w, const struct driver_buffer *bufs, unsigned n, uint32_t len)
{
	header h = packet(VIRTIO_VSOCK_OP_RW, 5, 6);

	h.len = len;
	memcpy(fake_ram(w->f, PACKETS), &h, HEADER);
	driver_chain(&w->d, VSOCK_TX, bufs, n);
	driver_kick(&w->d, VSOCK_TX);
	assert_true(fake_wait(driver_needs_reset, &w->d));
	begin_again(w);
}

static void packets_that_are_not_whole(void **state)
{
	struct world *w = *state;
	const struct driver_buffer little = {PACKETS, HEADER - 1, false},
				   whole = {PACKETS, HEADER, false},
				   more = {PACKETS + 64, 10, false},
				   wrong_way = {PACKETS + 64, 10, true};

	begin(w, 8);
	sends(w, &little, 1, 0);
	sends(w, &whole, 1, 1);
	sends(w, &whole, 1, UINT32_MAX);
	sends(w, (const struct driver_buffer[]){whole, more}, 2, 11);
	sends(w, (const struct driver_buffer[]){whole, wrong_way}, 2, 0);
	sends(w, &wrong_way, 1, 0);
}

static void packets_in_any_framing(void **state)
{
	struct world *w = *state;
	struct driver_buffer bufs[20];
	struct driver_used used;
	char data[BUFFER];
	header h, sent;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	sent = reply(VIRTIO_VSOCK_OP_RW, &h);
	sent.len = 12;
	memcpy(fake_ram(w->f, PACKETS), &sent, HEADER);
	memcpy(fake_ram(w->f, PACKETS + HEADER), "twelve bytes", 12);
	for (unsigned i = 0; i < 20; i++) /* 60 bytes of which 56 count */
		bufs[i] = (struct driver_buffer){PACKETS + 3 * i, 3, false};
	driver_chain(&w->d, VSOCK_TX, bufs, 20);
	driver_kick(&w->d, VSOCK_TX);
	assert_true(driver_wait(&w->d, VSOCK_TX, &used));
	assert_int_equal(host_reads(fd, data, 12), 12);
	assert_memory_equal(data, "twelve bytes", 12);
	close(fd);
}

static void buffers_that_hold_nothing(void **state)
{
	struct world *w = *state;
	const struct driver_buffer bad[] = {
	    {BUFFERS, HEADER, true}, {BUFFERS, 1, true}, {BUFFERS, BUFFER, false}};

	for (unsigned i = 0; i < 3; i++) {
		int fd;

		begin(w, 0);
		driver_chain(&w->d, VSOCK_RX, &bad[i], 1);
		fd = host_connect(w);
		assert_true(fake_wait(driver_needs_reset, &w->d));
		close(fd);
		begin_again(w);
		assert_true(driver_reset(&w->d));
		memset(w->d.queues, 0, sizeof(w->d.queues));
		w->d.heap = 0x10000;
	}
}

/* --- too much ------------------------------------------------------------------------------- */

static void answers_that_nobody_hears_are_bounded(void **state)
{
	struct world *w = *state;
	unsigned heard = 0;
	header h;

	begin(w, 0);
	for (uint32_t i = 0; i < 4 * VSOCK_RSTS_MAX; i++)
		say(w, packet(VIRTIO_VSOCK_OP_RW, i, 6), NULL, 0);
	offer(w, 8);
	for (; heard < VSOCK_RSTS_MAX; heard++) {
		h = expect(w, VIRTIO_VSOCK_OP_RST, NULL);
		assert_int_equal(h.dst_port, heard);
	}
	works(w);
}

static void connections_are_bounded(void **state)
{
	enum { MORE = VSOCK_CONNS_MAX + 100 };
	struct world *w = *state;
	struct rlimit limit;
	int *fds = calloc(MORE, sizeof(*fds));
	unsigned ended = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < 4 * MORE)
		skip();
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	begin(w, 8);
	for (unsigned i = 0; i < MORE; i++)
		fds[i] = host_connect(w);
	for (unsigned i = VSOCK_CONNS_MAX; i < MORE; i++)
		ended += host_ended(fds[i]);
	assert_int_equal(ended, 100);
	assert_int_equal(counter(w, "connections"), VSOCK_CONNS_MAX);
	/* The guest's own are refused, too. */
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, 5, 6), NULL, 0);
	for (unsigned i = 0; i < MORE; i++)
		close(fds[i]);
	begin_again(w);
	free(fds);
}

static void asks_are_bounded(void **state)
{
	struct world *w = *state;
	unsigned refused = 0;
	struct vsock_ask ask;

	begin(w, 64);
	for (uint32_t i = 0; i < VSOCK_ASKS_MAX + 10; i++)
		say(w, packet(VIRTIO_VSOCK_OP_REQUEST, i, 6), NULL, 0);
	for (; refused < 10; refused++)
		assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RST, NULL).dst_port,
				 VSOCK_ASKS_MAX + refused);
	for (unsigned i = 0; i < VSOCK_ASKS_MAX; i++)
		assert_true(virtio_vsock_next_ask(w->dev, &ask));
	assert_false(virtio_vsock_next_ask(w->dev, &ask));
	assert_true(driver_reset(&w->d));
	assert_int_equal(counter(w, "connections"), 0);
}

/* Until its socket takes no more, and all the room there is for it here is filled. */
static void fill_up(struct world *w, const header *h)
{
	char data[BUFFER] = "";

	for (uint32_t held = 0; held <= VSOCK_BUFFER - sizeof(data);) {
		say(w, reply(VIRTIO_VSOCK_OP_RW, h), data, sizeof(data));
		w->dev->ops->pause(w->dev);
		held = vsock_conn_find((struct vsock *)w->dev, h->dst_port, h->src_port)->held;
		w->dev->ops->resume(w->dev);
	}
}

static void its_ports_are_free_while_the_host_still_reads(void **state)
{
	struct world *w = *state;
	struct vsock_ask ask;
	header h, got;
	int fd;

	begin(w, 64);
	fd = connected(w, &h, ROOMY);
	fill_up(w, &h);
	say(w, reply(VIRTIO_VSOCK_OP_RST, &h), NULL, 0);
	assert_int_equal(counter(w, "connections"), 1); /* nobody has read */
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, h.dst_port, h.src_port), NULL, 0);
	assert_true(virtio_vsock_next_ask(w->dev, &ask));
	virtio_vsock_answer(w->dev, ask.id, -ECONNREFUSED);
	do
		got = hear(w, NULL);
	while (got.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(got.op, VIRTIO_VSOCK_OP_RST);
	close(fd);
	works(w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(packets_of_no_connection_are_refused),
	    TEST(what_may_not_come_now_ends_the_connection),
	    TEST(any_header_at_all),
	    TEST(packets_that_are_not_whole),
	    TEST(packets_in_any_framing),
	    TEST(buffers_that_hold_nothing),
	    TEST(answers_that_nobody_hears_are_bounded),
	    TEST(connections_are_bounded),
	    TEST(asks_are_bounded),
	    TEST(its_ports_are_free_while_the_host_still_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
