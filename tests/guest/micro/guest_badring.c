// SPDX-License-Identifier: ISC
/*
 * A hostile driver: on the first virtio disk it sets up rings that loop, lead
 * beyond RAM, overflow and contradict themselves, and rings the bell. After each
 * case the disk is reset and must serve an honest request. Cases of which the device
 * takes no notice are fine, and so is NEEDS_RESET; a VMM that dies or hangs is not.
 * case=N runs one only; with "direct" indirect descriptors are not agreed on.
 */
#include "guest_virtio.h"

#define BEYOND	0x10000000000ull /* 1 TiB: no RAM there */
#define TRIES	200		 /* looks at the status before a case counts as ignored */
#define SECTORS 8u

#define F_INDIRECT (1ull << 28)

static struct virtio_queue queue __attribute__((aligned(4096)));
static struct virtio_desc table[VIRTIO_QUEUE_MAX] __attribute__((aligned(16)));
static uint8_t data[SECTORS * 512] __attribute__((aligned(4096)));
static struct {
	uint32_t type, reserved;
	uint64_t sector;
} head;
static uint8_t status;
static struct virtio_dev dev;

/* An honest read, to be spoilt by a case. */
static void honest(void)
{
	head.type = BLK_IN;
	head.sector = 0;
	virtio_desc(&queue, 0, &head, sizeof(head), DESC_NEXT, 1);
	virtio_desc(&queue, 1, data, sizeof(data), DESC_NEXT | DESC_WRITE, 2);
	virtio_desc(&queue, 2, &status, 1, DESC_WRITE, 0);
}

static void submit(void)
{
	virtio_offer(&queue, 0);
	virtio_kick(&queue);
}

static void loop_two(void)
{
	queue.desc[2] = queue.desc[1];
	queue.desc[2].next = 1;
	submit();
}

static void loop_self(void)
{
	queue.desc[0].next = 0;
	submit();
}

static void next_beyond(void)
{
	queue.desc[0].next = 0xffff;
	submit();
}

static void next_at_size(void)
{
	queue.desc[0].next = queue.size;
	submit();
}

static void head_beyond(void)
{
	virtio_offer(&queue, 0xffff);
	virtio_kick(&queue);
}

static void avail_far(void)
{
	queue.avail.idx = (uint16_t)(queue.avail.idx + 1000);
	virtio_kick(&queue);
}

static void avail_back(void)
{
	submit();
	queue.avail.idx = (uint16_t)(queue.avail.idx - 5);
	virtio_kick(&queue);
}

static void used_bogus(void)
{
	queue.used.idx = 0x8000;
	submit();
}

static void same_twice(void)
{
	virtio_offer(&queue, 0);
	virtio_offer(&queue, 0);
	virtio_offer(&queue, 1);
	virtio_kick(&queue);
}

static void data_beyond(void)
{
	queue.desc[1].addr = BEYOND;
	submit();
}

static void data_wraps(void)
{
	queue.desc[1].addr = 0xfffffffffffff000;
	queue.desc[1].len = 0x2000;
	submit();
}

static void data_huge(void)
{
	queue.desc[1].len = 0xffffffff;
	submit();
}

static void data_huge_thrice(void)
{
	queue.desc[1].len = 0x80000000;
	queue.desc[2] = queue.desc[1];
	queue.desc[2].next = 3;
	virtio_desc(&queue, 3, &status, 1, DESC_WRITE, 0);
	submit();
}

static void data_in_hole(void)
{
	queue.desc[1].addr = LAYOUT_PCI_MMIO;
	submit();
}

static void data_is_device(void)
{
	queue.desc[1].addr = (uintptr_t)dev.common;
	submit();
}

static void data_is_ring(void)
{
	queue.desc[1].addr = (uintptr_t)&queue; /* the device overwrites what it reads */
	submit();
}

static void data_crosses_end(void)
{
	queue.desc[1].addr = guest_number("ram", 64) << 20;
	queue.desc[1].addr -= 512;
	submit();
}

static void data_empty(void)
{
	queue.desc[1].len = 0;
	submit();
}

static void data_odd(void)
{
	queue.desc[1].len = 513;
	submit();
}

static void head_beyond_ram(void)
{
	queue.desc[0].addr = BEYOND;
	submit();
}

static void head_short(void)
{
	queue.desc[0].len = 3;
	submit();
}

static void head_split(void)
{
	virtio_desc(&queue, 0, &head, 1, DESC_NEXT, 3);
	virtio_desc(&queue, 3, (uint8_t *)&head + 1, 7, DESC_NEXT, 4);
	virtio_desc(&queue, 4, (uint8_t *)&head + 8, 8, DESC_NEXT, 1);
	submit();
}

static void head_only(void)
{
	queue.desc[0].flags = 0;
	submit();
}

static void head_writable(void)
{
	queue.desc[0].flags = DESC_NEXT | DESC_WRITE;
	submit();
}

static void status_readonly(void)
{
	queue.desc[2].flags = 0;
	submit();
}

static void status_empty(void)
{
	queue.desc[2].len = 0;
	submit();
}

static void status_beyond(void)
{
	queue.desc[2].addr = BEYOND;
	submit();
}

static void wrong_direction(void)
{
	head.type = BLK_OUT;
	submit();
}

static void unknown_type(void)
{
	head.type = 0xdeadbeef;
	submit();
}

static void sector_beyond(void)
{
	head.sector = 1ull << 40;
	submit();
}

static void sector_wraps(void)
{
	head.sector = UINT64_MAX - 1;
	submit();
}

static void sector_shift_wraps(void)
{
	head.sector = 1ull << 55; /* times 512: 0 */
	submit();
}

static void long_chain(void)
{
	for (uint16_t i = 1; i < queue.size; i++)
		virtio_desc(&queue, i, data, 512, DESC_NEXT | DESC_WRITE, (uint16_t)(i + 1));
	queue.desc[queue.size - 1].flags = DESC_WRITE;
	submit();
}

static void indirect(const struct virtio_desc *at, uint32_t len, uint16_t flags)
{
	for (unsigned i = 0; i < 3; i++)
		table[i] = queue.desc[i];
	virtio_desc(&queue, 0, at, len, (uint16_t)(DESC_INDIRECT | flags), 1);
	submit();
}

static void indirect_plain(void)
{
	indirect(table, 48, 0);
}

static void indirect_beyond(void)
{
	indirect((const struct virtio_desc *)BEYOND, 48, 0);
}

static void indirect_odd(void)
{
	indirect(table, 47, 0);
}

static void indirect_empty(void)
{
	indirect(table, 0, 0);
}

static void indirect_huge(void)
{
	indirect(table, 0xfffffff0, 0);
}

static void indirect_next(void)
{
	indirect(table, 48, DESC_NEXT);
}

static void indirect_unaligned(void)
{
	indirect((const struct virtio_desc *)((uintptr_t)table + 3), 48, 0);
}

static void indirect_nested(void)
{
	queue.desc[1] = (struct virtio_desc){(uintptr_t)table, 48, DESC_INDIRECT, 0};
	indirect(table, 48, 0);
}

static void indirect_loop(void)
{
	queue.desc[2] = (struct virtio_desc){(uintptr_t)data, 512, DESC_NEXT | DESC_WRITE, 1};
	indirect(table, 48, 0);
}

static void indirect_next_beyond(void)
{
	queue.desc[1].next = 1000;
	indirect(table, 48, 0);
}

/* The queue is live: moving it, resizing it, enabling it again. */
static void queue_moves(void)
{
	volatile struct virtio_common *c = dev.common;

	c->queue_select = 0;
	c->desc_lo = 0xfffffff0;
	c->desc_hi = 0xffffffff;
	c->queue_size = 1;
	c->queue_enable = 1;
	c->queue_enable = 0;
	submit();
}

static void bells(void)
{
	for (unsigned i = 0; i < 0x1000; i += 2)
		*(volatile uint16_t *)(dev.notify + i) = (uint16_t)(i * 257);
	*(volatile uint32_t *)dev.notify = 0xffffffff;
	*(volatile uint8_t *)dev.notify = 0xff;
}

static void reset_in_flight(void)
{
	for (unsigned i = 0; i < 20; i++) {
		honest();
		submit();
		dev.common->status = 0;
		if (!virtio_begin(&dev, 0) || !virtio_queue_setup(&dev, &queue, 0))
			return;
		queue.avail.idx = 0;
		queue.used.idx = 0;
		virtio_ok(&dev);
	}
}

static void features_late(void)
{
	dev.common->driver_feature_select = 0;
	dev.common->driver_feature = 0xffffffff;
	dev.common->driver_feature_select = 0xffffffff;
	dev.common->driver_feature = 0xffffffff;
	dev.common->status = 0xff;
	submit();
}

static void selects(void)
{
	for (unsigned i = 1; i < 0x10000; i = i * 2 + 1) {
		dev.common->queue_select = (uint16_t)i;
		dev.common->queue_size = 0xffff;
		dev.common->queue_size = 3;
		dev.common->queue_msix = 0x7777;
		dev.common->queue_enable = 1;
		dev.common->msix_config = 0x7777;
		dev.common->device_feature_select = i;
		(void)dev.common->device_feature;
	}
}

/* Each byte of every register area, in every width. */
static void registers(void)
{
	static const uint32_t areas[] = {0x1000, 0x1000, 0x100, 0x40};
	volatile uint8_t *at[] = {dev.config, dev.notify, dev.isr, (volatile uint8_t *)dev.common};

	for (unsigned a = 0; a < 4; a++)
		for (unsigned i = 0; at[a] && i + 8 < areas[a]; i += i < 0x80 ? 1 : 61) {
			(void)*(volatile uint64_t *)(at[a] + i);
			*(volatile uint8_t *)(at[a] + i) = 0xff;
			*(volatile uint16_t *)(at[a] + i) = 0xffff;
			*(volatile uint32_t *)(at[a] + i) = 0xffffffff;
			*(volatile uint64_t *)(at[a] + i) = 0x5a5a5a5a5a5a5a5a;
		}
}

/* MSI-X with messages to nowhere, switched on and off. */
static void messages(void)
{
	for (unsigned cap = pci_read(dev.slot, PCI_CAP) & 0xfc, n = 0; cap && n < 48; n++) {
		uint32_t word = pci_read(dev.slot, cap);

		if ((word & 0xff) == 0x11) {
			uint32_t where = pci_read(dev.slot, cap + 4);
			volatile uint32_t *entry =
			    (void *)(virtio_bar(dev.slot, where & 7) + (where & ~7u));

			for (unsigned i = 0; i < 64; i++)
				entry[i] = i % 4 == 3 ? 0 : 0xfffffff0 + i;
			pci_write(dev.slot, cap, word | 0x80000000);
			dev.common->queue_select = 0;
			dev.common->queue_msix = 0;
			queue.avail.flags = 0;
			submit();
			pci_write(dev.slot, cap, word | 0xc0000000);
			pci_write(dev.slot, cap, word & ~0xc0000000);
		}
		cap = word >> 8 & 0xfc;
	}
}

/* The memory or the device vanishes under the request. */
static void bus_off(void)
{
	uint32_t command = pci_read(dev.slot, PCI_COMMAND);

	submit();
	pci_write(dev.slot, PCI_COMMAND, command & ~6u);
	*(volatile uint16_t *)dev.notify = 0;
	pci_write(dev.slot, PCI_COMMAND, command);
}

/* Places of the queue's parts that cannot be; the queue is set up again by these. */
static void queue_at(uint64_t desc, uint64_t avail, uint64_t used, uint16_t size, bool ok)
{
	volatile struct virtio_common *c = dev.common;

	c->status = 0;
	virtio_begin(&dev, 0);
	c->queue_select = 0;
	c->queue_size = size;
	c->desc_lo = (uint32_t)desc;
	c->desc_hi = (uint32_t)(desc >> 32);
	c->avail_lo = (uint32_t)avail;
	c->avail_hi = (uint32_t)(avail >> 32);
	c->used_lo = (uint32_t)used;
	c->used_hi = (uint32_t)(used >> 32);
	c->queue_enable = 1;
	if (ok)
		virtio_ok(&dev);
	submit();
}

#define DESC  ((uintptr_t)queue.desc)
#define AVAIL ((uintptr_t)&queue.avail)
#define USED  ((uintptr_t)&queue.used)

static void desc_beyond(void)
{
	queue_at(BEYOND, AVAIL, USED, 64, true);
}

static void avail_beyond(void)
{
	queue_at(DESC, BEYOND, USED, 64, true);
}

static void used_beyond(void)
{
	queue_at(DESC, AVAIL, BEYOND, 64, true);
}

static void rings_wrap(void)
{
	queue_at(UINT64_MAX - 15, UINT64_MAX - 1, UINT64_MAX - 3, 64, true);
}

static void rings_unaligned(void)
{
	queue_at(DESC + 1, AVAIL + 1, USED + 1, 64, true);
}

static void rings_at_zero(void)
{
	queue_at(0, 0, 0, 64, true);
}

static void rings_are_device(void)
{
	queue_at((uintptr_t)dev.common, (uintptr_t)dev.common, (uintptr_t)dev.notify, 64, true);
}

static void rings_the_same(void)
{
	queue_at(DESC, DESC, DESC, 64, true);
}

static void size_zero(void)
{
	queue_at(DESC, AVAIL, USED, 0, true);
}

static void size_odd(void)
{
	queue_at(DESC, AVAIL, USED, 3, true);
}

static void size_huge(void)
{
	queue_at(DESC, AVAIL, USED, 0xffff, true);
}

static void bell_before_ok(void)
{
	queue_at(DESC, AVAIL, USED, 64, false);
}

static void bell_after_reset(void)
{
	dev.common->status = 0;
	submit();
}

#define CASE(f)                                                                                    \
	{                                                                                          \
#f, f                                                                              \
	}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
    CASE(loop_two),
    CASE(loop_self),
    CASE(next_beyond),
    CASE(next_at_size),
    CASE(head_beyond),
    CASE(avail_far),
    CASE(avail_back),
    CASE(used_bogus),
    CASE(same_twice),
    CASE(data_beyond),
    CASE(data_wraps),
    CASE(data_huge),
    CASE(data_huge_thrice),
    CASE(data_in_hole),
    CASE(data_is_device),
    CASE(data_is_ring),
    CASE(data_crosses_end),
    CASE(data_empty),
    CASE(data_odd),
    CASE(head_beyond_ram),
    CASE(head_short),
    CASE(head_split),
    CASE(head_only),
    CASE(head_writable),
    CASE(status_readonly),
    CASE(status_empty),
    CASE(status_beyond),
    CASE(wrong_direction),
    CASE(unknown_type),
    CASE(sector_beyond),
    CASE(sector_wraps),
    CASE(sector_shift_wraps),
    CASE(long_chain),
    CASE(indirect_plain),
    CASE(indirect_beyond),
    CASE(indirect_odd),
    CASE(indirect_empty),
    CASE(indirect_huge),
    CASE(indirect_next),
    CASE(indirect_unaligned),
    CASE(indirect_nested),
    CASE(indirect_loop),
    CASE(indirect_next_beyond),
    CASE(queue_moves),
    CASE(bells),
    CASE(reset_in_flight),
    CASE(features_late),
    CASE(selects),
    CASE(registers),
    CASE(messages),
    CASE(bus_off),
    CASE(desc_beyond),
    CASE(avail_beyond),
    CASE(used_beyond),
    CASE(rings_wrap),
    CASE(rings_unaligned),
    CASE(rings_at_zero),
    CASE(rings_are_device),
    CASE(rings_the_same),
    CASE(size_zero),
    CASE(size_odd),
    CASE(size_huge),
    CASE(bell_before_ok),
    CASE(bell_after_reset),
};

/* A fresh start. */
static void set_up(void)
{
	memset(&queue, 0, sizeof(queue));
	status = 0xff;
	if (!virtio_begin(&dev, guest_has("direct") ? 0 : F_INDIRECT) ||
	    !virtio_queue_setup(&dev, &queue, 0))
		guest_end("badring: the disk refuses an honest driver");
	virtio_ok(&dev);
	honest();
}

static const char *outcome(void)
{
	for (unsigned i = 0; i < TRIES; i++) {
		if (dev.common->status & VIRTIO_NEEDS_RESET)
			return " needs reset";
		if (virtio_done(&queue))
			return status == 0xff ? " answered, no status"
			       : status	      ? " refused"
					      : " served";
	}
	return " ignored";
}

static void run(void)
{
	uint64_t only = guest_number("case", UINT64_MAX);

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (only != UINT64_MAX && only != i)
			continue;
		print("case ");
		print_dec(i);
		putch(' ');
		print(cases[i].name);
		set_up();
		cases[i].run();
		print(outcome());
		set_up();
		submit();
		virtio_wait(&queue);
		print(status ? ", then FAILED\n" : ", then fine\n");
		if (status)
			guest_end("badring: failed");
	}
	guest_end("badring: survived");
}

void guest_main(void *boot_params, void *pvh_info)
{
	guest_begin(boot_params, pvh_info);
	if (!virtio_find(&dev, VIRTIO_BLK, 0))
		guest_end("badring: no disk");
	run();
}
