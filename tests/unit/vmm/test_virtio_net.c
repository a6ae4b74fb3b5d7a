// SPDX-License-Identifier: ISC
/* The network card: frames both ways in all framings, the control queue, live changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cmocka.h>

#include <linux/virtio_net.h>

#include "fake_driver.h"
#include "vmm/virtio_net_int.h"

#define BIT(n)	(1ull << (n))
#define SLOT	20
#define BUFFERS 0x200000 /* where receive buffers lie */
#define FRAMES	0x300000 /* and frames to be sent */

enum { RX, TX, CTRL };

struct world {
	struct fake_vm *f;
	struct nic_config config;
	struct driver d;
	int peer;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err = ERR_INIT;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	w->peer = fds[1];
	w->f = fake_vm_new();
	w->config = (struct nic_config){.name = "lan",
					.mac = {2, 0, 0, 0, 0, 1},
					.mtu = 1400,
					.link = true,
					.cable = {.kind = NIC_STREAM, .fds = {fds[0]}, .n_fds = 1}};
	assert_int_equal(virtio_net_attach(&w->f->vm, &w->config, SLOT, &err), 0);
	driver_open(&w->d, w->f, SLOT);
	*state = w;
	return 0;
}

/* What one piece has received, into all of them. */
static ssize_t receive_into(struct net_port *port, unsigned queue, const struct iovec *iov,
			    unsigned n)
{
	uint8_t *frame = malloc(NET_BUFFER_MAX);
	ssize_t len = port->ops->receive(port, queue, frame, NET_BUFFER_MAX);
	size_t done = 0, room = 0;

	for (unsigned i = 0; i < n; i++) {
		room += iov[i].iov_len;
		for (size_t k = 0; k < iov[i].iov_len && (ssize_t)done < len; k++)
			((uint8_t *)iov[i].iov_base)[k] = frame[done++];
	}
	assert_int_equal(room, NET_BUFFER_MAX);
	free(frame);
	return len;
}

/* The same with a port that receives into many pieces, as a tap does. */
static int setup_scattering(void **state)
{
	static struct net_port_ops ops;
	struct net_port *port;
	int r = setup(state);

	port = ((struct nic *)virtio_net_find(&((struct world *)*state)->f->vm, "lan"))->port;
	ops = *port->ops;
	ops.receive_into = receive_into;
	port->ops = &ops;
	return r;
}

static int teardown(void **state)
{
	struct world *w = *state;

	fake_vm_free(w->f);
	close(w->config.cable.fds[0]);
	close(w->peer);
	free(w);
	return 0;
}

static uint64_t counter(struct world *w, const char *name)
{
	return *stats_counter(w->f->vm.stats, "nic.lan.%s", name);
}

static struct device *card(struct world *w)
{
	struct device *dev = virtio_net_find(&w->f->vm, "lan");

	assert_non_null(dev);
	return dev;
}

/* --- the peer's side ---------------------------------------------------------------------- */

static void peer_sends_to(struct world *w, uint8_t last, uint8_t fill, uint32_t len)
{
	uint32_t length = htonl(len);
	uint8_t *frame = malloc(len);

	memset(frame, fill, len);
	memcpy(frame, (const uint8_t[]){2, 0, 0, 0, 0, last}, 6);
	memcpy(frame + 12, "\x08\x00", 2);
	assert_int_equal(write(w->peer, &length, 4), 4);
	assert_int_equal(write(w->peer, frame, len), len);
	free(frame);
}

static void peer_sends(struct world *w, uint8_t fill, uint32_t len)
{
	peer_sends_to(w, 1, fill, len);
}

/* The next frame that came out; its length, 0 where none came in time. */
static uint32_t peer_gets(struct world *w, void *buf, int ms)
{
	struct pollfd p = {.fd = w->peer, .events = POLLIN};
	uint32_t length;

	if (poll(&p, 1, ms) != 1)
		return 0;
	assert_int_equal(recv(w->peer, &length, 4, MSG_WAITALL), 4);
	length = ntohl(length);
	assert_int_equal(recv(w->peer, buf, length, MSG_WAITALL), length);
	return length;
}

/* --- the driver's side -------------------------------------------------------------------- */

static void offer_buffer(struct world *w, unsigned n, uint32_t len)
{
	const struct driver_buffer b = {BUFFERS + n * 0x1000, len, true};

	driver_chain(&w->d, RX, &b, 1);
}

static void send_frame(struct world *w, uint8_t fill, uint32_t len)
{
	const struct driver_buffer b = {FRAMES, 12 + len, false};

	memset(fake_ram(w->f, FRAMES), 0, 12);
	memset(fake_ram(w->f, FRAMES + 12), fill, len);
	driver_chain(&w->d, TX, &b, 1);
	driver_kick(&w->d, TX);
}

static uint8_t command(struct world *w, uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	uint64_t at = driver_alloc(&w->d, 2 + len + 1);
	const struct driver_buffer b[] = {
	    {at, 2, false}, {at + 2, len, false}, {at + 2 + len, 1, true}};
	struct driver_used used;

	ram_put(w->f, at, class, 1);
	ram_put(w->f, at + 1, cmd, 1);
	memcpy(fake_ram(w->f, at + 2), data, len);
	*fake_ram(w->f, at + 2 + len) = 0xee;
	driver_chain(&w->d, CTRL, b, 3);
	driver_kick(&w->d, CTRL);
	assert_true(driver_wait(&w->d, CTRL, &used));
	return *fake_ram(w->f, at + 2 + len);
}

#define PLAIN (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS))
#define CONTROL                                                                                    \
	(PLAIN | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |                           \
	 BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_CTRL_VLAN) |                           \
	 BIT(VIRTIO_NET_F_CTRL_MAC_ADDR))

/* --- tests -------------------------------------------------------------------------------- */

static void test_describes_itself(void **state)
{
	struct world *w = *state;
	uint64_t offered = driver_offered(&w->d);

	assert_int_equal(offered & (CONTROL | BIT(VIRTIO_NET_F_MTU)),
			 CONTROL | BIT(VIRTIO_NET_F_MTU));
	assert_int_equal(offered & (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_MQ)), 0);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + i, 1), w->config.mac[i]);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 6, 2), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 10, 2), 1400);
}

static void test_frames_go_out(void **state)
{
	struct world *w = *state;
	struct driver_used used;
	uint8_t got[2000];

	assert_true(driver_start(&w->d, PLAIN, 2));
	for (uint32_t len = 14; len < 1500; len += 97) {
		send_frame(w, (uint8_t)len, len);
		assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), len);
		assert_int_equal(got[len - 1], (uint8_t)len);
		assert_true(driver_wait(&w->d, TX, &used));
		assert_int_equal(used.len, 0);
	}
	assert_int_equal(counter(w, "tx_dropped"), 0);
}

static void test_frames_in_pieces_go_out(void **state)
{
	struct world *w = *state;
	struct driver_buffer b[] = {
	    {FRAMES, 7, false}, {FRAMES + 0x1000, 5 + 10, false}, {FRAMES + 0x2000, 50, false}};
	uint8_t got[2000];

	assert_true(driver_start(&w->d, PLAIN, 2));
	memset(fake_ram(w->f, FRAMES), 0, 0x3000);
	memset(fake_ram(w->f, FRAMES + 0x2000), 9, 50);
	driver_chain(&w->d, TX, b, 3);
	driver_kick(&w->d, TX);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 60);
	assert_int_equal(got[10], 9);
}

static void test_frames_come_in(void **state)
{
	struct world *w = *state;
	struct driver_used used;

	assert_true(driver_start(&w->d, PLAIN, 2));
	for (unsigned i = 0; i < 600; i++) {
		offer_buffer(w, i % 8, 1600);
		driver_kick(&w->d, RX);
		peer_sends(w, (uint8_t)i, 60 + i);
		assert_true(driver_wait(&w->d, RX, &used));
		assert_int_equal(used.len, 12 + 60 + i);
		assert_int_equal(*fake_ram(w->f, BUFFERS + i % 8 * 0x1000 + 12 + 59), (uint8_t)i);
		assert_int_equal(ram_idx(w->f, BUFFERS + i % 8 * 0x1000 + 10), 1);
	}
}

static void test_frames_wait_for_buffers(void **state)
{
	struct world *w = *state;
	struct driver_used used;

	assert_true(driver_start(&w->d, PLAIN, 2));
	for (unsigned i = 0; i < 5; i++)
		peer_sends(w, (uint8_t)(i + 1), 100);
	for (unsigned i = 0; i < 5; i++) {
		offer_buffer(w, i, 1600);
		driver_kick(&w->d, RX);
		assert_true(driver_wait(&w->d, RX, &used));
		assert_int_equal(*fake_ram(w->f, BUFFERS + i * 0x1000 + 60), i + 1);
	}
}

static void test_big_frames_are_merged(void **state)
{
	struct world *w = *state;
	struct driver_used used;
	uint32_t len = 0;

	assert_true(driver_start(&w->d, PLAIN | BIT(VIRTIO_NET_F_MRG_RXBUF), 2));
	peer_sends(w, 3, 10000);
	for (unsigned i = 0; i < 5; i++) { /* one after the other: it waits for the last */
		assert_false(driver_has_used(&w->d, RX));
		offer_buffer(w, i, 2048);
		driver_kick(&w->d, RX);
		usleep(1000);
	}
	for (unsigned i = 0; i < 5; i++) {
		assert_true(driver_wait(&w->d, RX, &used));
		len += used.len;
	}
	assert_int_equal(len, 10012);
	assert_int_equal(ram_idx(w->f, BUFFERS + 10), 5);
	assert_int_equal(*fake_ram(w->f, BUFFERS + 4 * 0x1000 + 100), 3);
}

/* Lengths that differ, so that buffers are too few, and too many. */
static void test_frames_of_any_length_follow(void **state)
{
	static const uint16_t lengths[] = {60, 9000, 14, 2036, 2037, 30000, 100, 15000, 60};
	const unsigned n_lengths = sizeof(lengths) / sizeof(lengths[0]);
	struct world *w = *state;
	struct driver_used used;
	unsigned at = 0;

	assert_true(driver_start(&w->d, PLAIN | BIT(VIRTIO_NET_F_MRG_RXBUF), 2));
	for (unsigned i = 0; i < 40; i++)
		offer_buffer(w, i, 2048);
	driver_kick(&w->d, RX);
	for (unsigned i = 0; i < n_lengths; i++) {
		uint32_t len = lengths[i] + NET_HEADER, n = (len + 2047) / 2048;

		peer_sends(w, (uint8_t)(i + 1), lengths[i]);
		for (unsigned k = 0; k < n; k++, at++) {
			uint32_t part = len < 2048 ? len : 2048;

			assert_true(driver_wait(&w->d, RX, &used));
			assert_int_equal(used.len, part);
			if (k == 0)
				assert_int_equal(ram_idx(w->f, BUFFERS + at * 0x1000 + 10), n);
			if (part > 26)
				assert_int_equal(*fake_ram(w->f, BUFFERS + at * 0x1000 + part - 1),
						 i + 1);
			len -= part;
		}
	}
	assert_int_equal(counter(w, "rx_packets"), n_lengths);
}

static void test_too_big_without_merging_is_lost(void **state)
{
	struct world *w = *state;
	struct driver_used used;

	assert_true(driver_start(&w->d, PLAIN, 2));
	offer_buffer(w, 0, 1526);
	driver_kick(&w->d, RX);
	peer_sends(w, 3, 4000);
	peer_sends(w, 4, 400);
	assert_true(driver_wait(&w->d, RX, &used));
	assert_int_equal(used.len, 412);
	assert_int_equal(counter(w, "rx_dropped"), 1);
}

static void test_reset_while_a_frame_waits(void **state)
{
	struct world *w = *state;
	struct driver_used used;

	for (unsigned round = 0; round < 20; round++) {
		assert_true(driver_start(&w->d, PLAIN | BIT(VIRTIO_NET_F_MRG_RXBUF), 2));
		offer_buffer(w, 0, 512);
		driver_kick(&w->d, RX);
		peer_sends(w, 3, 3000);
		usleep(round * 100);
		w->d.heap = 0x10000;
	}
	assert_true(driver_start(&w->d, PLAIN | BIT(VIRTIO_NET_F_MRG_RXBUF), 2));
	for (unsigned i = 0; i < 8; i++)
		offer_buffer(w, i, 4096);
	driver_kick(&w->d, RX);
	peer_sends(w, 9, 77);
	do /* what lay in the socket comes too */
		assert_true(driver_wait(&w->d, RX, &used));
	while (used.len != 89);
}

static void test_pause_and_resume(void **state)
{
	struct world *w = *state;
	struct device *dev = card(w);
	struct driver_used used;
	uint8_t got[2000];

	assert_true(driver_start(&w->d, PLAIN, 2));
	dev->ops->pause(dev);
	offer_buffer(w, 0, 1600);
	driver_kick(&w->d, RX);
	peer_sends(w, 3, 60);
	send_frame(w, 4, 60);
	assert_int_equal(peer_gets(w, got, 20), 0);
	assert_false(driver_has_used(&w->d, RX));
	dev->ops->resume(dev);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 60);
	assert_true(driver_wait(&w->d, RX, &used));
}

static void test_filter_by_the_control_queue(void **state)
{
	struct world *w = *state;
	const uint8_t on = 1, off = 0;
	struct driver_used used;
	uint16_t vlan = 5000;
	uint8_t tables[4 + 6 + 4] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 7};

	assert_true(driver_start(&w->d, CONTROL, 3));
	for (unsigned i = 0; i < 8; i++)
		offer_buffer(w, i, 1600);
	driver_kick(&w->d, RX);
	peer_sends_to(w, 7, 1, 60);
	peer_sends_to(w, 1, 2, 61);
	assert_true(driver_wait(&w->d, RX, &used));
	assert_int_equal(used.len, 12 + 61);
	assert_int_equal(
	    command(w, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)),
	    VIRTIO_NET_OK);
	peer_sends_to(w, 7, 1, 62);
	assert_true(driver_wait(&w->d, RX, &used));
	assert_int_equal(used.len, 12 + 62);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
			 VIRTIO_NET_OK);
	peer_sends_to(w, 200, 1, 63);
	assert_true(driver_wait(&w->d, RX, &used));
	assert_int_equal(used.len, 12 + 63);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
			 VIRTIO_NET_OK);
	/* Nonsense of each kind. */
	assert_int_equal(command(w, VIRTIO_NET_CTRL_RX, 99, &on, 1), VIRTIO_NET_ERR);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_RX, 0, "\2", 1), VIRTIO_NET_ERR);
	assert_int_equal(command(w, 99, 0, &on, 1), VIRTIO_NET_ERR);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_VLAN, 0, &vlan, 2), VIRTIO_NET_ERR);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_VLAN, 0, &vlan, 1), VIRTIO_NET_ERR);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_MQ, 0, "\1\0", 2), VIRTIO_NET_ERR);
	memset(tables, 0xff, 4);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_MAC, 0, tables, sizeof(tables)),
			 VIRTIO_NET_ERR);
	assert_int_equal(command(w, VIRTIO_NET_CTRL_MAC, 1, "\1\0\0\0\0\0", 6), VIRTIO_NET_ERR);
}

static void test_link_goes_down_and_up(void **state)
{
	struct world *w = *state;
	struct driver_used used;
	uint8_t got[2000];

	assert_true(driver_start(&w->d, PLAIN, 2));
	virtio_net_set_link(card(w), false);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 6, 2), 0);
	send_frame(w, 1, 60);
	assert_true(driver_wait(&w->d, TX, &used));
	assert_int_equal(peer_gets(w, got, 20), 0);
	assert_int_equal(counter(w, "tx_dropped"), 1);
	virtio_net_set_link(card(w), true);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 6, 2), VIRTIO_NET_S_LINK_UP);
	send_frame(w, 1, 60);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 60);
}

static void test_limits_hold_and_go(void **state)
{
	struct world *w = *state;
	const struct nic_limits slow = {.frames[NIC_FROM_GUEST] = {.per_s = 1, .burst = 1}},
				none = {0};
	uint8_t got[2000];

	assert_true(driver_start(&w->d, PLAIN, 2));
	virtio_net_set_limits(card(w), &slow);
	send_frame(w, 1, 60);
	send_frame(w, 1, 60);
	send_frame(w, 1, 60);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 60);
	virtio_net_set_limits(card(w), &none);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 60);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 60);
}

static void test_capture(void **state)
{
	struct world *w = *state;
	char path[] = "/tmp/fv-test-pcap-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct driver_used used;
	struct err err = ERR_INIT;
	uint8_t got[2000];
	struct stat before, after;

	unlink(path);
	assert_true(driver_start(&w->d, PLAIN, 2));
	assert_int_equal(virtio_net_capture(card(w), fd, 600, &err), 0);
	assert_int_equal(fstat(copy, &before), 0);
	send_frame(w, 1, 100);
	assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 100);
	offer_buffer(w, 0, 1600);
	driver_kick(&w->d, RX);
	peer_sends(w, 3, 102);
	assert_true(driver_wait(&w->d, RX, &used));
	assert_int_equal(fstat(copy, &after), 0);
	assert_int_equal(after.st_size, before.st_size + 100 + 28 + 16 + 104 + 28 + 16);
	for (unsigned i = 0; i < 4; i++) { /* never beyond the limit */
		send_frame(w, 1, 300);
		assert_int_equal(peer_gets(w, got, FAKE_DEADLINE_MS), 300);
	}
	assert_int_equal(fstat(copy, &after), 0);
	assert_true(after.st_size <= 600);
	close(copy);
}

static void test_hostile_rings(void **state)
{
	struct world *w = *state;
	const struct driver_buffer writable = {FRAMES, 100, true}, readable = {BUFFERS, 100, false},
				   tiny = {BUFFERS, 11, true}, headless = {FRAMES, 11, false};
	const struct {
		unsigned queue;
		const struct driver_buffer *buffer;
	} faults[] = {{TX, &writable}, {TX, &headless}, {RX, &readable}, {RX, &tiny}};

	for (unsigned i = 0; i < 4; i++) {
		w->d.heap = 0x10000;
		assert_true(driver_start(&w->d, PLAIN, 2));
		driver_chain(&w->d, faults[i].queue, faults[i].buffer, 1);
		driver_kick(&w->d, faults[i].queue);
		peer_sends(w, 1, 60);
		assert_true(fake_wait(driver_needs_reset, &w->d));
	}
	w->d.heap = 0x10000;
	assert_true(driver_start(&w->d, PLAIN, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_describes_itself, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_go_out, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_in_pieces_go_out, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_come_in, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_wait_for_buffers, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_big_frames_are_merged, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_too_big_without_merging_is_lost, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_reset_while_a_frame_waits, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pause_and_resume, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_filter_by_the_control_queue, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_link_goes_down_and_up, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_limits_hold_and_go, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_capture, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_hostile_rings, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_of_any_length_follow, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_come_in, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_wait_for_buffers, setup_scattering,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_big_frames_are_merged, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_too_big_without_merging_is_lost, setup_scattering,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_reset_while_a_frame_waits, setup_scattering,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_pause_and_resume, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_filter_by_the_control_queue, setup_scattering,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_link_goes_down_and_up, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_limits_hold_and_go, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_capture, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_hostile_rings, setup_scattering, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_of_any_length_follow, setup_scattering,
					    teardown),
	};

	return cmocka_run_group_tests_name("virtio-net", tests, NULL, NULL);
}
