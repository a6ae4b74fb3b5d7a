// SPDX-License-Identifier: ISC
/*
 * A whole disk as a guest meets it: configuration space, registers, rings and
 * request headers, on a machine without KVM. The machine is kept between inputs;
 * each begins and ends with a reset of the device, after which it must work.
 *
 * Input: operations, a byte each with its operands: see LLVMFuzzerTestOneInput().
 */
#include <sys/mman.h>

#include <linux/virtio_blk.h>

#include "tests/unit/vmm/fake_driver.h"
#include "util/log.h"
#include "vmm/disk.h"

#define DISK_BYTES (64 * 1024)
#define HEAP	   0x10000
#define DATA	   0x40000

struct input {
	const uint8_t *data;
	size_t len;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->len; i++, in->len--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

static struct fake_vm *machine(void)
{
	static struct fake_vm *f;
	struct disk_layer layer = {.kind = VMM_LAYER_RAW, .data_fd = -1};
	struct disk_config disk = {
	    .name = "fuzz", .queues = 2, .layers = &layer, .n_layers = 1, .wake_fd = -1};
	struct err err = ERR_INIT;

	if (f)
		return f;
	log_set_levels("error"); /* the guest is at fault all the time */
	f = fake_vm_new();
	layer.fd = memfd_create("disk", MFD_CLOEXEC);
	if (ftruncate(layer.fd, DISK_BYTES) < 0 ||
	    disk_open(&f->config.disks[0], &disk, &err) < 0 || !fake_create(f, &virtio_blk_device))
		abort();
	return f;
}

/* A request in the usual framing with any type, sector and length. */
static void offer(struct driver *d, struct input *in)
{
	struct virtio_blk_outhdr header = {.type = take(in, 1), .sector = take(in, 1)};
	uint64_t at = HEAP + 0x8000 + (take(in, 1) << 6);
	uint32_t len = take(in, 2);
	unsigned queue = header.type & 1, kind = take(in, 1);
	const struct driver_buffer bufs[] = {{at, kind & 1 ? 16 : kind, false},
					     {DATA, len, kind & 2},
					     {at + 32, 1 + (kind & 4), !(kind & 8)}};

	if (kind & 16)
		header.sector <<= 56;
	if (!d->queues[queue].size)
		return;
	memcpy(fake_ram(d->f, at), &header, sizeof(header));
	driver_chain(d, queue, bufs, kind & 32 ? 2 : 3);
}

/* Any write into the memory of rings and headers. */
static void scribble(struct driver *d, struct input *in)
{
	uint64_t at = HEAP + take(in, 2);
	unsigned n = take(in, 1) % 32;

	for (unsigned i = 0; i < n; i++)
		*fake_ram(d->f, at + i) = take(in, 1);
}

static void begin(struct driver *d, struct input *in)
{
	uint8_t shape = take(in, 1);

	d->heap = HEAP;
	if (!driver_negotiate(d, (uint64_t)take(in, 4) | 1ull << VIRTIO_F_VERSION_1))
		return;
	driver_queue(d, 0, 1 << (shape & 7));
	if (shape & 8)
		driver_queue(d, 1, 1 << (shape >> 4 & 7));
	driver_ok(d);
}

/* A working disk: a sector is read. */
static void works(struct driver *d)
{
	struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
	const struct driver_buffer bufs[] = {
	    {DATA, 16, false}, {DATA + 0x1000, 512, true}, {DATA + 16, 1, true}};
	struct driver_used used;

	d->heap = HEAP;
	memcpy(fake_ram(d->f, DATA), &header, sizeof(header));
	if (!driver_start(d, 0, 2))
		abort();
	driver_chain(d, 0, bufs, 3);
	driver_kick(d, 0);
	if (!driver_wait(d, 0, &used) || used.len != 513 || *fake_ram(d->f, DATA + 16))
		abort();
	if (!driver_reset(d))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t original[PCI_CONFIG_BYTES];
	static uint64_t runs;
	struct fake_vm *f = machine();
	struct input in = {data, len};
	struct driver d;
	uint64_t bar;

	if (!original[0]) {
		for (unsigned i = 0; i < sizeof(original); i++)
			original[i] = fake_config_read(f, PCI_SLOT_DISKS, i, 1);
	}
	driver_open(&d, f, PCI_SLOT_DISKS);
	bar = fake_bar(f, PCI_SLOT_DISKS, 0);
	begin(&d, &in);
	while (in.len) {
		unsigned op = take(&in, 1), size = 1 << (op >> 4 & 3);

		switch (op & 15) {
		case 0:
		case 1:
		case 2:
			offer(&d, &in);
			break;
		case 3:
		case 4:
			scribble(&d, &in);
			break;
		case 5:
		case 6:
		case 7:
			fake_write(f, BUS_MMIO, d.notify + 4 * (op >> 4 & 1), 2, 0);
			break;
		case 8:
			fake_write(f, BUS_MMIO, bar + (take(&in, 1) & 63), size, take(&in, size));
			break;
		case 9:
			fake_write(f, BUS_MMIO, bar + (take(&in, 2) & 0x3fff), size,
				   take(&in, size));
			break;
		case 10:
			fake_read(f, BUS_MMIO, bar + (take(&in, 2) & 0x3fff), size);
			break;
		case 11:
			fake_write(f, BUS_MMIO, fake_config_at(PCI_SLOT_DISKS, take(&in, 1)), size,
				   take(&in, size));
			break;
		case 12:
			fake_write(f, BUS_MMIO, fake_bar(f, PCI_SLOT_DISKS, 2) + take(&in, 1), size,
				   take(&in, size));
			break;
		case 13:
			common_set(&d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
			break;
		case 14:
			begin(&d, &in);
			break;
		case 15:
			f->vm.devices->next->ops->pause(f->vm.devices->next);
			f->vm.devices->next->ops->resume(f->vm.devices->next);
			break;
		}
	}
	for (unsigned i = 0; i < sizeof(original); i++) {
		/* the window's data is left out: writing it writes a register */
		if (i < PCI_STD_HEADER_SIZEOF ||
		    original[i] != fake_config_read(f, PCI_SLOT_DISKS, i, 1))
			fake_config_write(f, PCI_SLOT_DISKS, i, 1, original[i]);
	}
	fake_config_write(f, PCI_SLOT_DISKS, PCI_COMMAND, 2, 0);
	fake_config_write(f, PCI_SLOT_DISKS, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	if (!driver_reset(&d))
		abort();
	if (runs++ % 64 == 0)
		works(&d);
	return 0;
}
