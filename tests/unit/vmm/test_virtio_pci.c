// SPDX-License-Identifier: ISC
/* The virtio status machine and its PCI registers, with a device that echoes what it is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"
#include "util/cleanup.h"

#define SLOT	  7
#define SIZE	  16
#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define EVENT_IDX (1ull << 29)

/* Two queues: one answers at once, one holds its chains until it is told (or drained). */
struct echo {
	struct virtio_device virtio;
	struct iovec iov[SIZE];
	uint16_t held[SIZE];
	unsigned n_held;
	bool may_drain; /* else a drain waits for it; atomic */
	unsigned resets, activations, drains;
	uint32_t config[2];
	uint64_t written;
};

static void echo_notify(struct virtio_queue *queue)
{
	struct echo *echo = (struct echo *)queue->dev;
	struct virtqueue_chain chain;

	while (virtio_pop(queue, echo->iov, &chain) == 0) {
		if (queue->index == 1)
			echo->held[echo->n_held++] = chain.head;
		else
			virtqueue_push(&queue->ring, chain.head, chain.in_bytes);
	}
	virtio_notify_on(queue);
	virtio_publish(queue);
}

static bool may_drain(void *arg)
{
	return __atomic_load_n(&((struct echo *)arg)->may_drain, __ATOMIC_SEQ_CST);
}

static void echo_drain(struct virtio_lane *lane)
{
	struct echo *echo = (struct echo *)lane->dev;

	if (echo->n_held && !fake_wait(may_drain, echo))
		abort();
	while (echo->n_held)
		virtqueue_push(&lane->dev->queues[1].ring, echo->held[--echo->n_held], 0);
	virtio_publish(&lane->dev->queues[1]);
	echo->drains++;
}

static void echo_activated(struct virtio_device *dev)
{
	((struct echo *)dev)->activations++;
}

static void echo_reset(struct virtio_device *dev)
{
	((struct echo *)dev)->resets++;
}

static void echo_config_written(struct virtio_device *dev, uint64_t offset, unsigned size,
				uint64_t value)
{
	((struct echo *)dev)->written = offset << 32 | size << 24 | (value & 0xffffff);
}

static const struct virtio_ops echo_ops = {.notify = echo_notify,
					   .drain = echo_drain,
					   .activated = echo_activated,
					   .reset = echo_reset,
					   .config_written = echo_config_written};

struct world {
	struct fake_vm *f;
	struct iothread *thread;
	struct echo *echo;
	struct driver d;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->f = fake_vm_new();
	w->echo = calloc(1, sizeof(*w->echo));
	w->echo->may_drain = true;
	w->echo->config[0] = 0x11223344;
	w->echo->config[1] = 0x55667788;
	w->echo->virtio.config = w->echo->config;
	w->echo->virtio.config_len = sizeof(w->echo->config);
	assert_int_equal(iothread_new(&w->thread, "io/echo", NULL), 0);
	assert_int_equal(virtio_init(&w->echo->virtio, &w->f->vm, &echo_ops, VIRTIO_ID_RNG, 2, SIZE,
				     SIZE, &w->thread, 1, "echo", NULL),
			 0);
	assert_int_equal(virtio_pci_plug(&w->echo->virtio, SLOT, 0xff0000, NULL), 0);
	driver_open(&w->d, w->f, SLOT);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	virtio_fini(&w->echo->virtio);
	iothread_free(w->thread);
	free(w->echo);
	fake_vm_free(w->f);
	free(w);
	return 0;
}

static uint64_t counter(struct world *w, const char *name)
{
	return *stats_counter(w->f->vm.stats, "echo.%s", name);
}

/* One chain with one writable buffer through queue 0. */
static void echo_works(struct world *w)
{
	const struct driver_buffer buf = {0x100000, 5, true};
	struct driver_used used;
	uint16_t head = driver_chain(&w->d, 0, &buf, 1);

	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.id, head);
	assert_int_equal(used.len, 5);
}

static void identity_is_modern(void **state)
{
	struct world *w = *state;

	assert_int_equal(fake_config_read(w->f, SLOT, 0, 4), 0x10401af4 + (VIRTIO_ID_RNG << 16));
	assert_true(fake_config_read(w->f, SLOT, PCI_REVISION_ID, 1) >= 1);
	assert_true(w->d.common && w->d.isr && w->d.config && w->d.notify);
	assert_int_equal(w->d.notify_mult, 4);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	assert_true(driver_offered(&w->d) & VERSION_1);
}

static void the_whole_way_works(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, EVENT_IDX, 2));
	assert_int_equal(driver_status(&w->d), 15);
	assert_int_equal(w->echo->activations, 1);
	assert_int_equal(w->f->n_kicks, 2);
	echo_works(w);
	assert_int_equal(counter(w, "ring_errors"), 0);
}

static void features_must_be_offered_and_modern(void **state)
{
	struct world *w = *state;

	assert_false(driver_negotiate(&w->d, 0)); /* no VERSION_1 */
	assert_true(driver_reset(&w->d));
	assert_false(driver_negotiate(&w->d, VERSION_1 | 1ull << 50));
	/* without FEATURES_OK there is no DRIVER_OK */
	driver_ok(&w->d);
	assert_int_equal(driver_status(&w->d) & VIRTIO_CONFIG_S_DRIVER_OK, 0);
	assert_int_equal(w->echo->activations, 0);
	assert_true(driver_reset(&w->d));
	assert_true(driver_negotiate(&w->d, VERSION_1));
	/* what was agreed stays agreed */
	common_set(&w->d, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_set(&w->d, VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_GF, 4), 0);
}

static void status_bits_only_come(void **state)
{
	struct world *w = *state;

	driver_set_status(&w->d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(driver_status(&w->d), 3);
	/* NEEDS_RESET is the device's to set */
	common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, 0x7f);
	assert_int_equal(driver_status(&w->d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}

static void nothing_happens_before_driver_ok(void **state)
{
	struct world *w = *state;
	const struct driver_buffer buf = {0x100000, 5, true};
	struct driver_used used;

	driver_kick(&w->d, 0);
	assert_true(driver_negotiate(&w->d, VERSION_1));
	driver_queue(&w->d, 0, 0);
	driver_chain(&w->d, 0, &buf, 1);
	driver_kick(&w->d, 0);
	virtio_pause(&w->echo->virtio.dev);
	virtio_resume(&w->echo->virtio.dev);
	assert_false(driver_has_used(&w->d, 0));
	/* what was offered before is served without another kick */
	driver_ok(&w->d);
	assert_true(driver_wait(&w->d, 0, &used));
	/* DRIVER_OK with a queue that was never enabled: its kicks do nothing */
	driver_kick(&w->d, 1);
	driver_kick(&w->d, 5);
	echo_works(w);
}

static void driver_ok_without_queues_is_harmless(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, 0, 0));
	driver_kick(&w->d, 0);
	driver_kick(&w->d, 1);
	assert_true(driver_start(&w->d, 0, 2));
	echo_works(w);
}

static void queues_are_described_once(void **state)
{
	struct world *w = *state;
	uint64_t desc;

	assert_true(driver_negotiate(&w->d, VERSION_1));
	driver_queue(&w->d, 0, 8);
	desc = common_get(&w->d, VIRTIO_PCI_COMMON_Q_DESCLO, 8);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	/* enabled: neither again nor otherwise nor off */
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0xdead0000);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_DESCLO, 8), desc);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	driver_ok(&w->d);
	/* after DRIVER_OK no more come */
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	echo_works(w);
	/* a queue that is none */
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_DESCLO, 8, ~0ull);
}

static void bad_queues_need_a_reset(void **state)
{
	struct world *w = *state;
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
	} bad[] = {
	    {0, 0x1000, 0x2000, 0x3000},
	    {3, 0x1000, 0x2000, 0x3000},
	    {2 * SIZE, 0x1000, 0x2000, 0x3000},
	    {SIZE, 0x1008, 0x2000, 0x3000},
	    {SIZE, 0x1000, 0x2001, 0x3000},
	    {SIZE, 0x1000, 0x2000, 0x3002},
	    {SIZE, FAKE_RAM_BYTES, 0x2000, 0x3000},
	    {SIZE, 0x1000, ~1ull, 0x3000},
	    {SIZE, 0x1000, 0x2000, 1ull << 63},
	};

	for (size_t i = 0; i < nitems(bad); i++) {
		assert_true(driver_reset(&w->d));
		assert_true(driver_negotiate(&w->d, VERSION_1));
		common_set(&w->d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
		common_set(&w->d, VIRTIO_PCI_COMMON_Q_SIZE, 2, bad[i].size);
		common_set(&w->d, VIRTIO_PCI_COMMON_Q_DESCLO, 8, bad[i].desc);
		common_set(&w->d, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, bad[i].avail);
		common_set(&w->d, VIRTIO_PCI_COMMON_Q_USEDLO, 8, bad[i].used);
		common_set(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_true(driver_needs_reset(&w->d));
		driver_ok(&w->d);
		assert_int_equal(driver_status(&w->d) & VIRTIO_CONFIG_S_DRIVER_OK, 0);
		assert_int_equal(counter(w, "ring_errors"), i + 1);
	}
	assert_true(driver_start(&w->d, 0, 2));
	echo_works(w);
}

static void a_broken_ring_needs_a_reset(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, 0, 2));
	driver_msix_on(&w->d, 3);
	common_set(&w->d, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	driver_offer(&w->d, 0, 0xffff);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(driver_needs_reset, &w->d));
	assert_int_equal(counter(w, "ring_errors"), 1);
	/* again and again: no more of it */
	for (unsigned i = 0; i < 100; i++)
		driver_kick(&w->d, 0);
	virtio_pause(&w->echo->virtio.dev);
	virtio_resume(&w->echo->virtio.dev);
	assert_int_equal(counter(w, "ring_errors"), 1);
	assert_true(driver_start(&w->d, 0, 2));
	assert_false(driver_needs_reset(&w->d));
	echo_works(w);
}

/* --- interrupts --------------------------------------------------------------------------- */

static const struct irq_msi *msi(struct world *w, unsigned vector)
{
	return ((struct pci_device *)w->echo->virtio.transport_data)->msix.entries[vector].msi;
}

static bool fires(const struct irq_msi *m)
{
	struct pollfd p = {.fd = m->fd, .events = POLLIN};
	eventfd_t n;

	return poll(&p, 1, FAKE_DEADLINE_MS) == 1 && eventfd_read(m->fd, &n) == 0;
}

static void messages_go_to_their_vectors(void **state)
{
	struct world *w = *state;

	driver_msix_on(&w->d, 3);
	assert_true(driver_start(&w->d, 0, 2));
	/* no vector yet: no interrupt, no line */
	echo_works(w);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_MSIX, 2), 2);
	common_set(&w->d, VIRTIO_PCI_COMMON_MSIX, 2, 1);
	echo_works(w);
	assert_true(fires(msi(w, 2)));
	assert_int_equal(msi(w, 2)->data, 0x4002);
	driver_offer(&w->d, 0, 0xffff);
	driver_kick(&w->d, 0);
	assert_true(fires(msi(w, 1))); /* configuration: it needs a reset */
	assert_int_equal(w->f->line_changes, 0);
	/* a vector that is none */
	common_set(&w->d, VIRTIO_PCI_COMMON_MSIX, 2, 3);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_VECTOR_NONE);
	/* a reset forgets them */
	assert_true(driver_reset(&w->d));
	common_set(&w->d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	assert_int_equal(common_get(&w->d, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_VECTOR_NONE);
}

static bool line_is_up(void *arg)
{
	struct world *w = arg;

	return __atomic_load_n(&w->f->lines[LAYOUT_IRQ_PCI_BASE + SLOT % 4], __ATOMIC_SEQ_CST);
}

static void the_line_falls_with_the_isr(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, 0, 2));
	echo_works(w);
	assert_true(fake_wait(line_is_up, w));
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.isr, 1), 1);
	assert_false(line_is_up(w));
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.isr, 1), 0);
	driver_offer(&w->d, 0, 0xffff);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(line_is_up, w));
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.isr, 1), 2);
	/* a reset lowers it too */
	assert_true(driver_start(&w->d, 0, 2));
	echo_works(w);
	assert_true(fake_wait(line_is_up, w));
	assert_true(driver_reset(&w->d));
	assert_false(line_is_up(w));
}

/* --- reset and pause with chains under way ------------------------------------------------ */

static void hold(struct world *w, unsigned n)
{
	const struct driver_buffer buf = {0x100000, 5, true};

	for (unsigned i = 0; i < n; i++)
		driver_chain(&w->d, 1, &buf, 1);
	driver_kick(&w->d, 1);
}

/* The lane has taken all that was offered. */
static bool all_is_taken(void *arg)
{
	struct world *w = arg;
	struct driver_queue *q = &w->d.queues[1];

	/* without EVENT_IDX the echo asks for notifications; with it, the place says how far it is
	 */
	return ram_idx(w->f, q->used + 4 + 8 * q->size) == q->avail_idx;
}

static void a_slow_reset_does_not_hold_the_vcpu(void **state)
{
	struct world *w = *state;

	assert_true(driver_start(&w->d, EVENT_IDX, 2));
	w->echo->may_drain = false;
	hold(w, 3);
	assert_true(fake_wait(all_is_taken, w));
	/* returns although nothing can drain; the status does not read 0 until it has */
	common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(driver_status(&w->d), 15);
	/* and nobody is heard meanwhile */
	common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, 15);
	common_set(&w->d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	driver_queue(&w->d, 0, 4);
	driver_kick(&w->d, 0);
	driver_kick(&w->d, 1);
	assert_int_equal(w->f->n_kicks, 0);
	__atomic_store_n(&w->echo->may_drain, true, __ATOMIC_SEQ_CST);
	assert_true(fake_wait(driver_is_reset, &w->d));
	assert_int_equal(w->echo->resets, 2); /* driver_start()'s and this */
	assert_true(driver_start(&w->d, EVENT_IDX, 2));
	echo_works(w);
}

static void a_pause_drains_and_holds(void **state)
{
	struct world *w = *state;
	struct driver_used used;

	assert_true(driver_start(&w->d, EVENT_IDX, 2));
	hold(w, 3);
	assert_true(fake_wait(all_is_taken, w));
	virtio_pause(&w->echo->virtio.dev);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(driver_has_used(&w->d, 1));
		assert_true(driver_wait(&w->d, 1, &used));
	}
	hold(w, 2);
	virtio_pause(&w->echo->virtio.dev);
	assert_false(all_is_taken(w));
	virtio_resume(&w->echo->virtio.dev);
	assert_true(fake_wait(all_is_taken, w));
	echo_works(w);
}

/* --- registers ---------------------------------------------------------------------------- */

static void a_bar_that_moves_takes_its_kicks_along(void **state)
{
	struct world *w = *state;
	uint64_t old = fake_bar(w->f, SLOT, 0);

	assert_true(driver_start(&w->d, 0, 2));
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(w->f->n_kicks, 0);
	fake_config_write(w->f, SLOT, 0x10, 4, 0x40000);
	fake_config_write(w->f, SLOT, 0x14, 4, 0x10);
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(w->f->n_kicks, 2);
	assert_true(fake_bar(w->f, SLOT, 0) == 0x1000040000);
	w->d.common += 0x1000040000 - old;
	w->d.notify += 0x1000040000 - old;
	echo_works(w);
}

static void the_window_reaches_every_register(void **state)
{
	struct world *w = *state;
	unsigned at = 0;

	driver_structure(&w->d, VIRTIO_PCI_CAP_PCI_CFG, &at);
	assert_true(at);
	fake_config_write(w->f, SLOT, at + 4, 1, 0);
	fake_config_write(w->f, SLOT, at + 8, 4, VIRTIO_PCI_COMMON_NUMQ);
	fake_config_write(w->f, SLOT, at + 12, 4, 2);
	assert_int_equal(fake_config_read(w->f, SLOT, at + 16, 2), 2);
	fake_config_write(w->f, SLOT, at + 8, 4, VIRTIO_PCI_COMMON_STATUS);
	fake_config_write(w->f, SLOT, at + 12, 4, 1);
	fake_config_write(w->f, SLOT, at + 16, 1, 1);
	assert_int_equal(driver_status(&w->d), 1);
	/* a wrong BAR, length, alignment or place: nothing */
	for (unsigned i = 0; i < 256; i++) {
		fake_config_write(w->f, SLOT, at + 4, 1, i);
		fake_config_write(w->f, SLOT, at + 12, 4, i);
		fake_config_write(w->f, SLOT, at + 8, 4, 0xfffffffc + i);
		fake_config_write(w->f, SLOT, at + 16, 4, 0);
		fake_config_read(w->f, SLOT, at + 16, 4);
	}
	assert_int_equal(driver_status(&w->d), 1);
}

static void device_configuration_is_bounded(void **state)
{
	struct world *w = *state;

	assert_true(fake_read(w->f, BUS_MMIO, w->d.config, 8) == 0x5566778811223344);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 6, 4), 0x5566);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 8, 4), 0);
	assert_int_equal(fake_read(w->f, BUS_MMIO, w->d.config + 0xffc, 4), 0);
	fake_write(w->f, BUS_MMIO, w->d.config + 3, 2, 0xabcd);
	assert_true(w->echo->written == (3ull << 32 | 2 << 24 | 0xabcd));
}

static void any_access_anywhere_is_harmless(void **state)
{
	struct world *w = *state;
	uint64_t bar = fake_bar(w->f, SLOT, 0);

	for (uint64_t at = 0; at < 0x4000; at += at % 0x1000 < 0x80 ? 1 : 61) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			fake_read(w->f, BUS_MMIO, bar + at, size);
			fake_write(w->f, BUS_MMIO, bar + at, size, 0xa5a5a5a5a5a5a5a5);
			fake_write(w->f, BUS_MMIO, bar + at, size, ~0ull);
		}
	}
	assert_true(driver_start(&w->d, 0, 2));
	echo_works(w);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(identity_is_modern),
	    T(the_whole_way_works),
	    T(features_must_be_offered_and_modern),
	    T(status_bits_only_come),
	    T(nothing_happens_before_driver_ok),
	    T(driver_ok_without_queues_is_harmless),
	    T(queues_are_described_once),
	    T(bad_queues_need_a_reset),
	    T(a_broken_ring_needs_a_reset),
	    T(messages_go_to_their_vectors),
	    T(the_line_falls_with_the_isr),
	    T(a_slow_reset_does_not_hold_the_vcpu),
	    T(a_pause_drains_and_holds),
	    T(a_bar_that_moves_takes_its_kicks_along),
	    T(the_window_reaches_every_register),
	    T(device_configuration_is_bounded),
	    T(any_access_anywhere_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
