// SPDX-License-Identifier: ISC
/*
 * Where a PC has its keyboard controller there is only the line to the
 * processor's reset: the command 0xfe pulses it.
 *
 * The status reads as ones, but for "input buffer full". A driver that looks
 * for a controller finds an output buffer that never empties and gives up
 * after a few reads, instead of waiting half a second for an answer; and one that
 * waits before it writes the reset command need not wait.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/devices.h"
#include "vmm/layout.h"

#define PORT_STATUS	  (LAYOUT_PORT_I8042 + 4)
#define STATUS_NOBODY	  0xfd
#define COMMAND_PULSE	  0xf0 /* the low four bits: lines that are not pulsed */
#define COMMAND_RESET_BIT 0x01

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return ~0xffull | STATUS_NOBODY;
}

static void command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct device *dev = opaque;

	(void)offset, (void)size;
	if ((value & COMMAND_PULSE) == COMMAND_PULSE && !(value & COMMAND_RESET_BIT))
		vm_end(dev->vm, VM_END_RESET, "the guest reset itself (keyboard controller)");
}

static const struct bus_ops command_ops = {status_read, command_write};

/* It has none. */
static void i8042_state(struct device *dev, struct state *st)
{
	(void)dev, (void)st;
}

static void i8042_destroy(struct device *dev)
{
	bus_remove(dev->vm->bus, BUS_PIO, PORT_STATUS, false);
	free(dev);
}

static int i8042_create(struct vm *vm, struct err *err)
{
	struct device *dev = calloc(1, sizeof(*dev));
	int ret;

	if (!dev)
		return err_set(err, -ENOMEM, "no memory");
	device_add(vm, dev, &i8042_device, "i8042");
	/* The data port (0x60) is nobody's, and so reads as ones. */
	ret = bus_add(vm->bus, BUS_PIO, PORT_STATUS, 1, &command_ops, dev);
	if (ret < 0)
		return err_set(err, ret, "no room for the keyboard controller");
	return 0;
}

const struct device_ops i8042_device = {
    .name = "i8042",
    .create = i8042_create,
    .destroy = i8042_destroy,
    .state_version = 1,
    .state = i8042_state,
};
