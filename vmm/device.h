/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_DEVICE_H
#define FV_VMM_DEVICE_H
/*
 * A device: one .c file that ends in one `const struct device_ops`, and one
 * row in devices.c. Its own state begins with a struct device. The list of a machine's
 * devices is the control thread's; devices may come and go while vcpus run (hotplug.h).
 */
#include "vmm/vm.h"

struct device {
	const struct device_ops *ops;
	struct vm *vm;
	char name[VMM_NAME_MAX]; /* "serial", "disk.root" */
	struct device *next;
};

struct state;

struct device_ops {
	const char *name;
	/*
	 * Makes the devices of this kind that vm->config asks for (none is fine)
	 * and gives each to device_add(). 0, or -errno with words; what was added
	 * before a failure is destroyed by the caller.
	 */
	int (*create)(struct vm *vm, struct err *err);
	/* Ends its threads and frees it; vcpus are gone, or it was hidden from them before. */
	void (*destroy)(struct device *dev);
	/* Optional: stand still: touch no guest memory and raise no interrupt from return on, until
	 * resume. Vcpus already stand still. */
	void (*pause)(struct device *dev);
	void (*resume)(struct device *dev);
	/* Optional: before pause, while vcpus may still run: ends what is under way and may wait
	 * long for the host, and begins nothing new until resume. The guest's pause is the
	 * shorter for it. */
	void (*settle)(struct device *dev);
	/* Optional: the host wants the guest to switch off (ACPI power button). */
	void (*power_button)(struct device *dev);
	/*
	 * Saves all that the guest can tell, or loads it (state.h), in a section of the
	 * device's name and this version, while all stands still. Loading: the device is as
	 * create() left it, vcpus and chips are loaded. A machine that has one without
	 * cannot be saved.
	 */
	uint32_t state_version;
	bool state_may_lack; /* states from before there was this device have no such section */
	void (*state)(struct device *dev, struct state *state);
};

/* Appends to vm->devices. */
void device_add(struct vm *vm, struct device *dev, const struct device_ops *ops, const char *name);

/* Takes it out again, for its destruction. */
void device_remove(struct device *dev);
/* The first of that kind, or NULL. */
struct device *device_find(struct vm *vm, const struct device_ops *ops);

/* Every kind there is, in order of creation; ends with NULL. */
extern const struct device_ops *const devices[];

int devices_create(struct vm *vm, struct err *err);
void devices_destroy(struct vm *vm); /* in reverse order */
void devices_settle(struct vm *vm);
void devices_pause(struct vm *vm);
void devices_resume(struct vm *vm);
void devices_power_button(struct vm *vm);

#endif
