// SPDX-License-Identifier: ISC
/* What is done to all devices of a machine. See device.h. */
#include <stdio.h>

#include "vmm/device.h"

void device_add(struct vm *vm, struct device *dev, const struct device_ops *ops, const char *name)
{
	struct device **at = &vm->devices;

	while (*at)
		at = &(*at)->next;
	dev->ops = ops;
	dev->vm = vm;
	dev->next = NULL;
	snprintf(dev->name, sizeof(dev->name), "%s", name);
	*at = dev;
}

void device_remove(struct device *dev)
{
	struct device **at = &dev->vm->devices;

	while (*at && *at != dev)
		at = &(*at)->next;
	if (*at)
		*at = dev->next;
}

struct device *device_find(struct vm *vm, const struct device_ops *ops)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops == ops)
			return dev;
	return NULL;
}

int devices_create(struct vm *vm, struct err *err)
{
	for (unsigned i = 0; devices[i]; i++) {
		int ret = devices[i]->create(vm, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

void devices_destroy(struct vm *vm)
{
	struct device *reversed = NULL;

	while (vm->devices) {
		struct device *dev = vm->devices;

		vm->devices = dev->next;
		dev->next = reversed;
		reversed = dev;
	}
	while (reversed) {
		struct device *dev = reversed;

		reversed = dev->next;
		dev->ops->destroy(dev);
	}
}

void devices_settle(struct vm *vm)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops->settle)
			dev->ops->settle(dev);
}

void devices_pause(struct vm *vm)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops->pause)
			dev->ops->pause(dev);
}

void devices_resume(struct vm *vm)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops->resume)
			dev->ops->resume(dev);
}

void devices_power_button(struct vm *vm)
{
	for (struct device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops->power_button)
			dev->ops->power_button(dev);
}
