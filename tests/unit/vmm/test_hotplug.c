// SPDX-License-Identifier: ISC
/*
 * The hotplug ports: what a guest sees of what comes and goes, what it may write to them, and
 * that vcpus may be anywhere while a device ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_vm.h"
#include "util/cleanup.h"
#include "vmm/devices.h"
#include "vmm/hotplug.h"

#define CHECK	LAYOUT_PORT_HOTPLUG
#define ASK	(LAYOUT_PORT_HOTPLUG + 4)
#define EJECT	(LAYOUT_PORT_HOTPLUG + 8)
#define GPE_STS LAYOUT_PORT_GPE0
#define GPE_EN	(LAYOUT_PORT_GPE0 + 2)
#define GPE_BIT (1u << LAYOUT_GPE_HOTPLUG)
#define SLOT	(PCI_SLOT_DISKS + 2)
#define BIT	(1u << SLOT)
#define NOBODY	0xffffffff
#define SCI	lines[LAYOUT_IRQ_SCI]

/* --- a virtio device with a queue that swallows what it is given ---------------------------- */

struct sink {
	struct virtio_device virtio;
	struct iovec iov[16];
};

static void sink_notify(struct virtio_queue *queue)
{
	struct sink *sink = (struct sink *)queue->dev;
	struct virtqueue_chain chain;

	while (virtio_pop(queue, sink->iov, &chain) == 0)
		virtqueue_push(&queue->ring, chain.head, 0);
	virtio_notify_on(queue);
	virtio_publish(queue);
}

static const struct virtio_ops sink_ops = {.notify = sink_notify};

static void sink_destroy(struct device *dev)
{
	virtio_fini((struct virtio_device *)dev);
	free(dev);
}

static const struct device_ops sink_device = {.name = "sink", .destroy = sink_destroy};

struct world {
	struct fake_vm *f;
	struct iothread *thread;
};

static struct device *plug(struct world *w, unsigned slot)
{
	struct sink *sink = calloc(1, sizeof(*sink));

	assert_non_null(sink);
	assert_int_equal(virtio_init(&sink->virtio, &w->f->vm, &sink_ops, VIRTIO_ID_RNG, 1, 16, 16,
				     &w->thread, 1, "sink", NULL),
			 0);
	assert_int_equal(virtio_pci_plug(&sink->virtio, slot, 0xff0000, NULL), 0);
	device_add(&w->f->vm, &sink->virtio.dev, &sink_device, "sink");
	return &sink->virtio.dev;
}

static struct device *attach(struct world *w, unsigned slot)
{
	struct device *dev = plug(w, slot);

	hotplug_show(&w->f->vm, slot);
	return dev;
}

static void end(struct world *w, struct device *dev, unsigned slot)
{
	device_remove(dev);
	dev->ops->destroy(dev);
	hotplug_done(&w->f->vm, slot);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->f = fake_vm_new();
	assert_int_equal(iothread_new(&w->thread, "io/sink", NULL), 0);
	assert_non_null(fake_create(w->f, &pm_device));
	plug(w, PCI_SLOT_RNG);
	assert_non_null(fake_create(w->f, &hotplug_device));
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	fake_vm_free(w->f);
	iothread_free(w->thread);
	free(w);
	return 0;
}

static uint32_t in(struct world *w, uint16_t port)
{
	return fake_read(w->f, BUS_PIO, port, 4);
}

static void hear(struct world *w)
{
	fake_write(w->f, BUS_PIO, GPE_EN, 2, GPE_BIT);
}

static uint32_t id(struct world *w, unsigned slot)
{
	return fake_config_read(w->f, slot, 0, 4);
}

/* --- coming ----------------------------------------------------------------------------------- */

static void what_comes_is_hidden_until_it_is_whole(void **state)
{
	struct world *w = *state;

	plug(w, SLOT);
	assert_int_equal(id(w, SLOT), NOBODY);
	assert_int_equal(in(w, CHECK), 0);
	hotplug_show(&w->f->vm, SLOT);
	assert_int_equal(id(w, SLOT), 0x10441af4);
	assert_int_equal(in(w, CHECK), BIT);
}

static void what_comes_has_no_addresses(void **state)
{
	struct world *w = *state;
	uint64_t at = LAYOUT_PCI_MMIO_END - 0x10000;

	attach(w, SLOT);
	assert_int_equal(fake_config_read(w->f, SLOT, PCI_COMMAND, 2), 0);
	assert_int_equal(fake_bar(w->f, SLOT, 0), 0);
	assert_int_equal(fake_bar(w->f, SLOT, 2), 0);
	assert_int_equal(fake_config_read(w->f, SLOT, PCI_INTERRUPT_LINE, 1), pci_slot_gsi(SLOT));
	/* what was there from the beginning has */
	assert_true(fake_bar(w->f, PCI_SLOT_RNG, 0) >= LAYOUT_PCI_MMIO);
	assert_int_equal(fake_config_read(w->f, PCI_SLOT_RNG, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY,
			 PCI_COMMAND_MEMORY);
	/* the guest gives it one: num_queues and the rest of the registers are there */
	fake_config_write(w->f, SLOT, PCI_BASE_ADDRESS_0, 4, at);
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 18, 2), 1);
}

static void the_event_is_a_level(void **state)
{
	struct world *w = *state;

	attach(w, SLOT);
	assert_int_equal(fake_read(w->f, BUS_PIO, GPE_STS, 2), GPE_BIT);
	assert_int_equal(w->f->SCI, 0);
	assert_false(hotplug_heard(&w->f->vm, SLOT));
	hear(w);
	assert_true(hotplug_heard(&w->f->vm, SLOT));
	assert_int_equal(w->f->SCI, 1);
	/* not by writing to its status: only by reading what it is about */
	fake_write(w->f, BUS_PIO, GPE_STS, 2, 0xffff);
	assert_int_equal(w->f->SCI, 1);
	attach(w, SLOT + 1);
	assert_int_equal(in(w, CHECK), BIT | BIT << 1);
	assert_int_equal(w->f->SCI, 0);
	assert_int_equal(fake_read(w->f, BUS_PIO, GPE_STS, 2), 0);
	assert_int_equal(in(w, CHECK), 0);
	/* masked while it is handled, as guests do */
	fake_write(w->f, BUS_PIO, GPE_EN, 2, 0);
	attach(w, SLOT + 2);
	assert_int_equal(w->f->SCI, 0);
	hear(w);
	assert_int_equal(w->f->SCI, 1);
}

static void the_power_button_and_the_event_share_a_line(void **state)
{
	struct world *w = *state;

	fake_write(w->f, BUS_PIO, LAYOUT_PORT_PM_EVT + 2, 2, 0x100);
	hear(w);
	attach(w, SLOT);
	pm_device.power_button(device_find(&w->f->vm, &pm_device));
	in(w, CHECK);
	assert_int_equal(w->f->SCI, 1);
	fake_write(w->f, BUS_PIO, LAYOUT_PORT_PM_EVT, 2, 0x100);
	assert_int_equal(w->f->SCI, 0);
}

/* --- going ------------------------------------------------------------------------------------ */

static void a_guest_that_does_not_listen_is_not_asked(void **state)
{
	struct world *w = *state;
	struct err err = ERR_INIT;

	attach(w, SLOT);
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "ACPI hotplug"));
	assert_int_equal(in(w, ASK), 0);
	hear(w);
	fake_write(w->f, BUS_PIO, GPE_EN, 2,
		   0); /* once is enough: it masks it while it handles it */
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, NULL), 0);
	assert_int_equal(in(w, ASK), BIT);
}

static void asked_and_ejected(void **state)
{
	struct world *w = *state;
	struct device *dev = attach(w, SLOT);

	hear(w);
	assert_int_equal(in(w, CHECK), BIT);
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, NULL), 0);
	assert_int_equal(w->f->SCI, 1);
	assert_int_equal(in(w, ASK), BIT);
	assert_int_equal(in(w, ASK), 0);
	assert_int_equal(w->f->SCI, 0);
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, NULL), 0); /* again: one that was refused */
	assert_int_equal(in(w, ASK), BIT);
	assert_int_equal(hotplug_asked(&w->f->vm), BIT);
	assert_int_equal(hotplug_ejected(&w->f->vm), 0);
	assert_int_equal(w->f->wakes, 0);
	fake_write(w->f, BUS_PIO, EJECT, 4, BIT);
	assert_int_equal(w->f->wakes, 1);
	assert_int_equal(id(w, SLOT), NOBODY);
	assert_int_equal(hotplug_ejected(&w->f->vm), BIT);
	/* asked while it is on its way: nothing is left to ask */
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, NULL), 0);
	assert_int_equal(in(w, ASK), 0);
	end(w, dev, SLOT);
	assert_int_equal(hotplug_asked(&w->f->vm) | hotplug_ejected(&w->f->vm), 0);
	/* and the slot takes another */
	attach(w, SLOT);
	assert_int_equal(id(w, SLOT), 0x10441af4);
}

static void registers_end_with_the_eject(void **state)
{
	struct world *w = *state;
	uint64_t at = LAYOUT_PCI_MMIO_END - 0x10000;
	struct device *dev = attach(w, SLOT);

	fake_config_write(w->f, SLOT, PCI_BASE_ADDRESS_0, 4, at);
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	pci_intx_set(w->f->vm.pci->slots[SLOT], true);
	assert_int_equal(w->f->lines[pci_slot_gsi(SLOT)], 1);
	fake_write(w->f, BUS_PIO, EJECT, 4, BIT);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 18, 2), 0xffff);
	assert_int_equal(w->f->lines[pci_slot_gsi(SLOT)], 0);
	end(w, dev, SLOT);
}

static void unasked_and_by_force(void **state)
{
	struct world *w = *state;
	struct device *dev = attach(w, SLOT);

	hear(w);
	in(w, CHECK);
	fake_write(w->f, BUS_PIO, EJECT, 4, BIT);
	assert_int_equal(hotplug_asked(&w->f->vm), 0);
	assert_int_equal(hotplug_ejected(&w->f->vm), BIT);
	end(w, dev, SLOT);
	/* by force: the guest is asked to end with what is gone; its eject is not the next one's */
	dev = attach(w, SLOT);
	in(w, CHECK);
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, NULL), 0);
	hotplug_take(&w->f->vm, SLOT);
	assert_int_equal(id(w, SLOT), NOBODY);
	assert_int_equal(in(w, ASK), BIT);
	end(w, dev, SLOT);
	assert_int_equal(hotplug_asked(&w->f->vm), 0);
	dev = attach(w, SLOT);
	fake_write(w->f, BUS_PIO, EJECT, 4, BIT);
	assert_int_equal(hotplug_ejected(&w->f->vm), 0);
	assert_int_not_equal(id(w, SLOT), NOBODY);
	/* asked again before it has read of the first: one answer does for both */
	hotplug_take(&w->f->vm, SLOT);
	end(w, dev, SLOT);
	dev = attach(w, SLOT);
	assert_int_equal(hotplug_ask(&w->f->vm, SLOT, NULL), 0);
	assert_int_equal(in(w, ASK), BIT);
	fake_write(w->f, BUS_PIO, EJECT, 4, BIT);
	assert_int_equal(hotplug_ejected(&w->f->vm), BIT);
	end(w, dev, SLOT);
}

static void what_is_torn_out_reads_as_zero(void **state)
{
	struct world *w = *state;
	uint64_t at = LAYOUT_PCI_MMIO_END - 0x10000;
	struct device *dev = attach(w, SLOT);

	fake_config_write(w->f, SLOT, PCI_BASE_ADDRESS_0, 4, at);
	fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake_write(w->f, BUS_MMIO, at + 20, 1, 1);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 20, 1), 1);
	hotplug_take(&w->f->vm, SLOT);
	end(w, dev, SLOT);
	/* its driver resets it, and sees that done */
	fake_write(w->f, BUS_MMIO, at + 20, 1, 0);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 20, 1), 0);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 0x4000, 1), 0xff);
	/* and another may have the place, or a part of it */
	attach(w, SLOT + 1);
	fake_config_write(w->f, SLOT + 1, PCI_BASE_ADDRESS_0 + 8, 4, at + 0x1000);
	fake_config_write(w->f, SLOT + 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 0x1000 + 12, 4), 1); /* masked */
	assert_int_equal(fake_read(w->f, BUS_MMIO, at + 20, 1), 0xff);
}

static void tables_have_what_is_used_and_some_to_spare(void **state)
{
	static struct disk *const some = (struct disk *)&some;
	static struct nic_config *const card = (struct nic_config *)&card;
	struct vm_config config = {.cpus = 1};
	uint32_t none = hotplug_slots(&config), few, all;

	(void)state;
	assert_int_equal(none & 7, 0); /* the board's */
	assert_int_equal(__builtin_popcount(none), 8);
	config.disks[0] = config.disks[9] = some;
	few = hotplug_slots(&config);
	assert_int_equal(__builtin_popcount(few), 10);
	assert_true(few & 1u << (PCI_SLOT_DISKS + 9));
	for (unsigned i = 0; i < VMM_NICS_MAX; i++)
		config.nics[i] = card;
	for (unsigned i = 0; i < VMM_DISKS_MAX; i++)
		config.disks[i] = some;
	all = hotplug_slots(&config);
	assert_int_equal(all & 7, 0);
	assert_int_equal(__builtin_popcount(all), LAYOUT_PCI_SLOTS - PCI_SLOT_DISKS);
}

static void slots_that_no_table_has_are_for_those_who_look(void **state)
{
	struct world *w = *state;
	const unsigned slot = PCI_SLOT_DISKS + 12;
	struct err err = ERR_INIT;

	hear(w);
	attach(w, slot);
	assert_int_not_equal(id(w, slot), NOBODY);
	assert_int_equal(in(w, CHECK), 0);
	assert_false(hotplug_heard(&w->f->vm, slot));
	assert_int_equal(hotplug_ask(&w->f->vm, slot, &err), -EOPNOTSUPP);
	fake_write(w->f, BUS_PIO, EJECT, 4, 1u << slot);
	assert_int_not_equal(id(w, slot), NOBODY);
}

/* --- mischief --------------------------------------------------------------------------------- */

static void the_board_and_empty_slots_stay(void **state)
{
	struct world *w = *state;

	fake_write(w->f, BUS_PIO, EJECT, 4, ~0u);
	assert_int_equal(hotplug_ejected(&w->f->vm), 0);
	assert_int_not_equal(id(w, PCI_SLOT_HOST), NOBODY);
	assert_int_not_equal(id(w, PCI_SLOT_RNG), NOBODY);
	/* one that is plugged in, and does not show yet */
	plug(w, SLOT);
	fake_write(w->f, BUS_PIO, EJECT, 4, ~0u);
	assert_int_equal(hotplug_ejected(&w->f->vm), 0);
	hotplug_show(&w->f->vm, SLOT);
	assert_int_not_equal(id(w, SLOT), NOBODY);
}

static void only_whole_registers_are_there(void **state)
{
	struct world *w = *state;

	attach(w, SLOT);
	for (unsigned size = 1; size <= 2; size++)
		for (unsigned at = 0; at + size <= 12; at++) {
			assert_int_equal(fake_read(w->f, BUS_PIO, CHECK + at, size), 0);
			fake_write(w->f, BUS_PIO, CHECK + at, size, NOBODY);
		}
	fake_write(w->f, BUS_PIO, CHECK, 4, NOBODY);
	fake_write(w->f, BUS_PIO, ASK, 4, NOBODY);
	assert_int_equal(in(w, EJECT), 0);
	for (unsigned at = 1; at < 12; at++) {
		if (at % 4 == 0)
			continue;
		/* across two registers, and beyond the last */
		fake_read(w->f, BUS_PIO, CHECK + at, 4);
		fake_write(w->f, BUS_PIO, CHECK + at, 4, NOBODY);
	}
	assert_int_equal(in(w, CHECK), BIT);
	assert_int_not_equal(id(w, SLOT), NOBODY);
}

static void thousands_come_and_go(void **state)
{
	struct world *w = *state;
	const uint64_t at = LAYOUT_PCI_MMIO_END - 0x10000;

	/* more than there are addresses for, were they used up */
	for (unsigned i = 0; i < 30000; i++) {
		struct device *dev = attach(w, SLOT);

		fake_config_write(w->f, SLOT, PCI_BASE_ADDRESS_0, 4, at);
		fake_config_write(w->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		assert_int_equal(fake_read(w->f, BUS_MMIO, at + 18, 2), 1);
		if (i % 2)
			hotplug_take(&w->f->vm, SLOT);
		else
			fake_write(w->f, BUS_PIO, EJECT, 4, BIT);
		end(w, dev, SLOT);
	}
}

/* --- vcpus everywhere ---------------------------------------------------------------------------
 */

#define VCPUS 3

struct vcpu_arg {
	struct world *w;
	unsigned seed;
	int *stop;
};

/* Configuration space, registers, and the ports; one in a while it ejects. */
static void *vcpu(void *arg)
{
	struct vcpu_arg *v = arg;
	struct fake_vm *f = v->w->f;
	const uint64_t at = LAYOUT_PCI_MMIO_END - 0x10000;
	uint32_t seed = v->seed;

	while (!__atomic_load_n(v->stop, __ATOMIC_RELAXED)) {
		seed = seed * 1664525 + 1013904223;
		switch (seed >> 24 & 7) {
		case 0:
			fake_config_write(f, SLOT, PCI_BASE_ADDRESS_0, 4, at);
			fake_config_write(f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
			break;
		case 1:
			fake_config_read(f, SLOT, seed >> 16 & 0xfc, 4);
			break;
		case 2:
			/* the driver's whole life: status bits, DRIVER_OK too, and resets */
			fake_write(f, BUS_MMIO, at + 20, 1, seed >> 8 & 0xff);
			break;
		case 3:
			fake_write(f, BUS_MMIO, at + 20, 1, 0);
			break;
		case 4:
			fake_write(f, BUS_MMIO, at + 0x3000, 4, 0);
			break;
		case 5:
			fake_write(f, BUS_MMIO, at + (seed >> 8 & 0x3f), 4, 1);
			break;
		case 6:
			in(v->w, seed >> 8 & 1 ? CHECK : ASK);
			break;
		default:
			if ((seed >> 8 & 15) == 0)
				fake_write(f, BUS_PIO, EJECT, 4, NOBODY);
		}
	}
	return NULL;
}

static void vcpus_are_anywhere_when_it_ends(void **state)
{
	struct world *w = *state;
	struct vcpu_arg args[VCPUS];
	pthread_t threads[VCPUS];
	unsigned ejected = 0;
	int stop = 0;

	hear(w);
	for (unsigned i = 0; i < VCPUS; i++) {
		args[i] = (struct vcpu_arg){w, i + 1, &stop};
		assert_int_equal(pthread_create(&threads[i], NULL, vcpu, &args[i]), 0);
	}
	for (unsigned i = 0; i < 2000; i++) {
		struct device *dev = attach(w, SLOT);

		hotplug_ask(&w->f->vm, SLOT, NULL);
		for (unsigned k = 0; k < i % 64 && !hotplug_ejected(&w->f->vm); k++)
			sched_yield();
		ejected += hotplug_ejected(&w->f->vm) != 0;
		hotplug_take(&w->f->vm, SLOT);
		end(w, dev, SLOT);
		/* what a vcpu ejects is what is there now, not what was */
		assert_int_equal(hotplug_ejected(&w->f->vm), 0);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(threads[i], NULL);
	print_message("%u of 2000 were ejected by the guest\n", ejected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	    T(what_comes_is_hidden_until_it_is_whole),
	    T(what_comes_has_no_addresses),
	    T(the_event_is_a_level),
	    T(the_power_button_and_the_event_share_a_line),
	    T(a_guest_that_does_not_listen_is_not_asked),
	    T(asked_and_ejected),
	    T(registers_end_with_the_eject),
	    T(unasked_and_by_force),
	    T(what_is_torn_out_reads_as_zero),
	    T(tables_have_what_is_used_and_some_to_spare),
	    T(slots_that_no_table_has_are_for_those_who_look),
	    T(the_board_and_empty_slots_stay),
	    T(only_whole_registers_are_there),
	    T(thousands_come_and_go),
	    T(vcpus_are_anywhere_when_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
