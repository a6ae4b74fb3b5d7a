// SPDX-License-Identifier: ISC
/* vsock as drivers and hosts use it: connections from either side, their ends, credit, resets. */
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

/* --- from the host -------------------------------------------------------------------------- */

static void its_address_is_in_its_configuration(void **state)
{
	struct world *w = *state;

	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config, 4), CID);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 4, 4), 0);
}

static void bytes_go_both_ways_and_each_half_ends_by_itself(void **state)
{
	struct world *w = *state;
	char data[BUFFER];
	header h, end;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	assert_int_equal(write(fd, "hello", 5), 5);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 5);
	assert_memory_equal(data, "hello", 5);
	shutdown(fd, SHUT_WR);
	end = expect(w, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
	assert_int_equal(end.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say(w, reply(VIRTIO_VSOCK_OP_RW, &h), "and more", 8);
	assert_int_equal(host_reads(fd, data, 8), 8);
	assert_memory_equal(data, "and more", 8);
	end = reply(VIRTIO_VSOCK_OP_SHUTDOWN, &h);
	end.flags = SHUT_ALL;
	say(w, end, NULL, 0);
	expect(w, VIRTIO_VSOCK_OP_RST, NULL);
	assert_true(host_ended(fd));
	close(fd);
	works(w);
}

static void the_guest_ends_its_half_first(void **state)
{
	struct world *w = *state;
	char data[BUFFER];
	header h, end;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	say(w, reply(VIRTIO_VSOCK_OP_RW, &h), "last", 4);
	end = reply(VIRTIO_VSOCK_OP_SHUTDOWN, &h);
	end.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	say(w, end, NULL, 0);
	assert_int_equal(host_reads(fd, data, sizeof(data)), 4);
	assert_int_equal(write(fd, "answer", 6), 6);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 6);
	close(fd);
	h = expect(w, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
	assert_true(h.flags & VIRTIO_VSOCK_SHUTDOWN_SEND);
	say(w, reply(VIRTIO_VSOCK_OP_RST, &h), NULL, 0);
	works(w);
	assert_int_equal(counter(w, "connections"), 0);
}

static void a_host_that_hangs_up_ends_both_halves(void **state)
{
	struct world *w = *state;
	char data[BUFFER];
	header h;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	assert_int_equal(write(fd, "bye", 3), 3);
	close(fd);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 3);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_SHUTDOWN, NULL).flags, SHUT_ALL);
	say(w, reply(VIRTIO_VSOCK_OP_RST, &h), NULL, 0);
	works(w);
}

static void a_refused_one_ends(void **state)
{
	struct world *w = *state;
	header h;
	int fd;

	begin(w, 8);
	fd = host_connect(w);
	h = expect(w, VIRTIO_VSOCK_OP_REQUEST, NULL);
	say(w, reply(VIRTIO_VSOCK_OP_RST, &h), NULL, 0);
	assert_true(host_ended(fd));
	close(fd);
	works(w);
}

static void without_a_driver_nobody_is_there(void **state)
{
	struct world *w = *state;
	int fd = host_connect(w);

	assert_true(host_ended(fd));
	close(fd);
}

static void a_pause_keeps_what_there_is(void **state)
{
	struct world *w = *state;
	char data[BUFFER];
	int fd, later;
	header h;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	w->dev->ops->pause(w->dev);
	assert_int_equal(write(fd, "meanwhile", 9), 9);
	later = host_connect(w);
	w->dev->ops->resume(w->dev);
	for (unsigned i = 0; i < 2; i++) {
		header got = hear(w, data);

		if (got.op == VIRTIO_VSOCK_OP_RW)
			assert_memory_equal(data, "meanwhile", 9);
		else
			assert_int_equal(got.op, VIRTIO_VSOCK_OP_REQUEST);
	}
	close(fd);
	close(later);
}

static void a_reset_ends_all(void **state)
{
	struct world *w = *state;
	header h;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	assert_true(driver_reset(&w->d));
	assert_true(host_ended(fd));
	close(fd);
	w->d.heap = 0x10000;
	begin(w, 8);
	works(w);
}

static void another_listener_takes_the_place(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;
	int fd;

	begin(w, 8);
	w->dev->ops->pause(w->dev);
	w->dev->ops->resume(w->dev);
	fd = host_connect(w); /* at the old one */
	assert_int_equal(virtio_vsock_listen(w->config, w->dev, PORT, listen_at(w->dir), &err), 0);
	expect(w, VIRTIO_VSOCK_OP_REQUEST, NULL);
	works(w);
	close(fd);
	for (uint32_t port = 1000; port < 1000 + VSOCK_LISTENERS_MAX - 1; port++)
		assert_int_equal(
		    virtio_vsock_listen(w->config, w->dev, port, listen_at(w->dir), &err), 0);
	assert_int_equal(virtio_vsock_listen(w->config, w->dev, 7, listen_at(w->dir), &err),
			 -ENOSPC);
}

/* --- from the guest ------------------------------------------------------------------------- */

static bool has_ask(void *arg)
{
	struct world *w = arg;

	return __atomic_load_n(&w->f->wakes, __ATOMIC_SEQ_CST) > 0;
}

static struct vsock_ask asked(struct world *w)
{
	struct vsock_ask ask = {0};

	assert_true(fake_wait(has_ask, w));
	__atomic_store_n(&w->f->wakes, 0, __ATOMIC_SEQ_CST);
	assert_true(virtio_vsock_next_ask(w->dev, &ask));
	return ask;
}

static void the_guest_connects(void **state)
{
	struct world *w = *state;
	struct vsock_ask ask;
	char data[BUFFER];
	int fds[2];
	header h;

	begin(w, 8);
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, ANY_PORT, 1234), NULL, 0);
	ask = asked(w);
	assert_int_equal(ask.port, 1234);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	virtio_vsock_answer(w->dev, ask.id + 1, -ECONNREFUSED); /* nobody's */
	virtio_vsock_answer(w->dev, ask.id, fds[0]);
	h = expect(w, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	assert_int_equal(h.src_port, 1234);
	assert_int_equal(h.dst_port, ANY_PORT);
	assert_int_equal(h.buf_alloc, VSOCK_BUFFER);
	say(w, reply(VIRTIO_VSOCK_OP_RW, &h), "ping", 4);
	assert_int_equal(host_reads(fds[1], data, 4), 4);
	assert_int_equal(write(fds[1], "pong", 4), 4);
	expect(w, VIRTIO_VSOCK_OP_RW, data);
	assert_memory_equal(data, "pong", 4);
	close(fds[1]);
	expect(w, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
}

static void the_guest_is_refused(void **state)
{
	struct world *w = *state;
	struct vsock_ask ask;
	int fds[2];

	begin(w, 8);
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, ANY_PORT, 1234), NULL, 0);
	virtio_vsock_answer(w->dev, asked(w).id, -ECONNREFUSED);
	expect(w, VIRTIO_VSOCK_OP_RST, NULL);
	/* One that it gave up itself. */
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, ANY_PORT, 1235), NULL, 0);
	ask = asked(w);
	say(w, packet(VIRTIO_VSOCK_OP_RST, ANY_PORT, 1235), NULL, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	virtio_vsock_answer(w->dev, ask.id, fds[0]);
	assert_true(host_ended(fds[1]));
	close(fds[1]);
	/* Whoever was asked is gone. */
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, ANY_PORT, 1236), NULL, 0);
	say(w, packet(VIRTIO_VSOCK_OP_REQUEST, ANY_PORT, 1237), NULL, 0);
	virtio_vsock_answer(w->dev, 0, -ECONNREFUSED);
	expect(w, VIRTIO_VSOCK_OP_RST, NULL);
	expect(w, VIRTIO_VSOCK_OP_RST, NULL);
	assert_int_equal(counter(w, "connections"), 0);
}

/* --- credit --------------------------------------------------------------------------------- */

static void the_guest_is_sent_no_more_than_it_has_room_for(void **state)
{
	struct world *w = *state;
	char data[BUFFER] = "";
	header h, credit;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, 100);
	assert_int_equal(write(fd, data, 300), 300);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 100);
	expect(w, VIRTIO_VSOCK_OP_CREDIT_REQUEST, NULL);
	credit = reply(VIRTIO_VSOCK_OP_CREDIT_UPDATE, &h);
	credit.buf_alloc = 100;
	credit.fwd_cnt = 30;
	say(w, credit, NULL, 0);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 30);
	expect(w, VIRTIO_VSOCK_OP_CREDIT_REQUEST, NULL);
	/* More forwarded than it was sent: no room at all; then less room than is under way. */
	credit.fwd_cnt = 5000;
	say(w, credit, NULL, 0);
	credit.fwd_cnt = 130;
	credit.buf_alloc = 0;
	say(w, credit, NULL, 0);
	credit.buf_alloc = ROOMY;
	say(w, credit, NULL, 0);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 170);
	close(fd);
}

/* The connection that @h was the first packet of, while its thread stands still. */
static struct vsock_conn *conn_of(struct world *w, const header *h)
{
	return vsock_conn_find((struct vsock *)w->dev, h->dst_port, h->src_port);
}

static void counts_go_round(void **state)
{
	struct world *w = *state;
	char data[BUFFER] = "";
	struct vsock_conn *c;
	header h, more;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, 100);
	w->dev->ops->pause(w->dev);
	c = conn_of(w, &h);
	c->sent = c->peer_fwd = UINT32_MAX - 49;
	c->received = c->forwarded = c->forwarded_said = UINT32_MAX - 1;
	w->dev->ops->resume(w->dev);
	assert_int_equal(write(fd, data, 300), 300);
	assert_int_equal(expect(w, VIRTIO_VSOCK_OP_RW, data).len, 100);
	expect(w, VIRTIO_VSOCK_OP_CREDIT_REQUEST, NULL);
	more = reply(VIRTIO_VSOCK_OP_RW, &h);
	more.buf_alloc = 100;
	more.fwd_cnt = 50; /* all: 2^32 - 50 + 100 */
	say(w, more, "abcd", 4);
	h = expect(w, VIRTIO_VSOCK_OP_RW, data);
	assert_int_equal(h.len, 100);
	assert_int_equal(h.fwd_cnt, 2);
	assert_int_equal(host_reads(fd, data, 4), 4);
	close(fd);
}

static void the_guest_is_told_of_room(void **state)
{
	struct world *w = *state;
	char data[BUFFER] = "", got[BUFFER];
	uint32_t sent = 0, forwarded = 0;
	header h;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	/* As a driver does: as long as there is room; then it waits to be told. */
	while (sent < 8 * VSOCK_BUFFER) {
		if (sent - forwarded + sizeof(data) <= VSOCK_BUFFER) {
			memset(data, (int)(sent / sizeof(data)), sizeof(data));
			say(w, reply(VIRTIO_VSOCK_OP_RW, &h), data, sizeof(data));
			sent += sizeof(data);
			assert_int_equal(host_reads(fd, got, sizeof(got)), sizeof(got));
			assert_memory_equal(got, data, sizeof(data));
		} else {
			forwarded = expect(w, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL).fwd_cnt;
		}
	}
	close(fd);
}

static void more_than_there_is_room_for_ends_it(void **state)
{
	struct world *w = *state;
	char data[BUFFER] = "";
	unsigned packets = 0;
	header h, got;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	do { /* nobody reads */
		say(w, reply(VIRTIO_VSOCK_OP_RW, &h), data, sizeof(data));
		assert_true(++packets < 4096);
	} while (counter(w, "connections"));
	do
		got = hear(w, NULL);
	while (got.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(got.op, VIRTIO_VSOCK_OP_RST);
	close(fd);
	works(w);
}

static void what_the_guest_had_sent_arrives_after_its_end(void **state)
{
	struct world *w = *state;
	char data[BUFFER], *all = calloc(1, ROOMY);
	struct vsock_conn *c;
	uint32_t sent = 0;
	header h, end;
	int fd;

	begin(w, 8);
	fd = connected(w, &h, ROOMY);
	for (uint32_t held = 0; held < VSOCK_BUFFER; sent += sizeof(data)) {
		memset(data, (int)(sent / sizeof(data)), sizeof(data));
		w->dev->ops->pause(w->dev);
		c = conn_of(w, &h);
		held = c->held;
		w->dev->ops->resume(w->dev);
		if (held > VSOCK_BUFFER - sizeof(data))
			break;
		say(w, reply(VIRTIO_VSOCK_OP_RW, &h), data, sizeof(data));
	}
	end = reply(VIRTIO_VSOCK_OP_SHUTDOWN, &h);
	end.flags = SHUT_ALL;
	say(w, end, NULL, 0);
	assert_int_equal(host_reads(fd, all, ROOMY), sent);
	for (uint32_t i = 0; i < sent; i += sizeof(data))
		assert_int_equal((uint8_t)all[i], (uint8_t)(i / sizeof(data)));
	close(fd);
	free(all);
}

/* --- saved and loaded ----------------------------------------------------------------------- */

static void a_guest_that_goes_on_elsewhere_is_told(void **state)
{
	struct world *a = *state, *b = world_new(CID + 1);
	struct state *st = state_new(), *loaded;
	struct driver_used used;
	struct err err = ERR_INIT;
	const void *data;
	int fd, later;
	size_t len;
	header h;

	begin(a, 8);
	fd = connected(a, &h, ROOMY);
	a->dev->ops->pause(a->dev);
	assert_true(state_begin(st, "vsock", 1));
	a->dev->ops->state(a->dev, st);
	state_end(st);
	assert_int_equal(state_finish(st, &data, &len, &err), 0);
	assert_int_equal(state_parse(&loaded, data, len, &err), 0);
	memcpy(fake_ram(b->f, 0), fake_ram(a->f, 0), FAKE_RAM_BYTES);
	b->dev->ops->pause(b->dev);
	assert_true(state_begin(loaded, "vsock", 1));
	b->dev->ops->state(b->dev, loaded);
	state_end(loaded);
	assert_int_equal(state_result(loaded, &err), 0);
	state_free(loaded);
	state_free(st);
	memcpy(b->d.queues, a->d.queues, sizeof(b->d.queues));
	later = host_connect(b); /* is let in when the guest knows */
	b->dev->ops->resume(b->dev);
	assert_true(driver_wait(&b->d, VSOCK_EVENT, &used));
	assert_int_equal(used.len, 4);
	assert_int_equal(fake_read(b->f, BUS_MMIO, b->d.config, 4), CID + 1);
	assert_int_equal(expect(b, VIRTIO_VSOCK_OP_REQUEST, NULL).dst_port, PORT);
	close(later);
	/* The one that was saved goes on as well, with what it had. */
	a->dev->ops->resume(a->dev);
	say(a, reply(VIRTIO_VSOCK_OP_RW, &h), "on", 2);
	assert_int_equal(host_reads(fd, &h, 2), 2);
	close(fd);
	world_free(b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(its_address_is_in_its_configuration),
	    TEST(bytes_go_both_ways_and_each_half_ends_by_itself),
	    TEST(the_guest_ends_its_half_first),
	    TEST(a_host_that_hangs_up_ends_both_halves),
	    TEST(a_refused_one_ends),
	    TEST(without_a_driver_nobody_is_there),
	    TEST(a_pause_keeps_what_there_is),
	    TEST(a_reset_ends_all),
	    TEST(another_listener_takes_the_place),
	    TEST(the_guest_connects),
	    TEST(the_guest_is_refused),
	    TEST(the_guest_is_sent_no_more_than_it_has_room_for),
	    TEST(counts_go_round),
	    TEST(the_guest_is_told_of_room),
	    TEST(more_than_there_is_room_for_ends_it),
	    TEST(what_the_guest_had_sent_arrives_after_its_end),
	    TEST(a_guest_that_goes_on_elsewhere_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
