// SPDX-License-Identifier: ISC
/*
 * The hotplug ports; see hotplug.h for what they are. Registers change under the lock; a
 * slot that is ejected is off the bus before the guest's write returns, so that it does not
 * find the device again. The rest of the device's end is the control thread's.
 */
#include <errno.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "vmm/devices.h"
#include "vmm/hotplug.h"
#include "vmm/state.h"

enum { REG_CHECK = 0, REG_ASK = 4, REG_EJECT = 8, PORTS = 12 };

/* Free slots of each kind that a machine has in its DSDT. */
#define SPARE_DISKS 6
#define SPARE_NICS  2

struct hotplug {
	struct device dev;
	struct device *pm; /* has the event */
	uint32_t slots;	   /* that the guest knows; constant, but for a load */
	pthread_mutex_t
	    lock; /* before the bus's and pm's; guards all that follows, a bit for each slot */
	uint32_t check, ask; /* as the guest reads them */
	uint32_t asked;	     /* for these; until they are done */
	uint32_t ejected;    /* these are off the bus; until they are done */
	uint32_t torn;	     /* these were taken by force: an eject of them is to come */
};

static struct hotplug *find(struct vm *vm)
{
	return (struct hotplug *)device_find(vm, &hotplug_device);
}

/* Under lock. */
static void update(struct hotplug *h)
{
	pm_gpe_set(h->pm, LAYOUT_GPE_HOTPLUG, h->check || h->ask);
}

static bool hears(const struct hotplug *h, unsigned slot)
{
	return h->slots >> slot & 1 && pm_gpe_used(h->pm, LAYOUT_GPE_HOTPLUG);
}

/* --- ports -------------------------------------------------------------------------------- */

static uint32_t take(struct hotplug *h, uint32_t *bits)
{
	uint32_t value;

	LOCK_SCOPE(&h->lock);
	value = *bits;
	*bits = 0;
	update(h);
	return value;
}

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
	struct hotplug *h = opaque;

	if (size != 4)
		return 0;
	return offset == REG_CHECK ? take(h, &h->check) : offset == REG_ASK ? take(h, &h->ask) : 0;
}

static void eject(struct hotplug *h, unsigned slot)
{
	const uint32_t bit = 1u << slot;

	/* Under the lock: once control has taken a slot, no eject of what was there is to come. */
	LOCK_SCOPE(&h->lock);
	if (h->torn & bit) {
		h->torn &= ~bit; /* that was not about what is there now */
		return;
	}
	if (!pci_slot_hide(h->dev.vm, slot))
		return;
	h->check &= ~bit;
	h->ask &= ~bit;
	h->ejected |= bit;
	update(h);
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct hotplug *h = opaque;
	bool any = false;

	if (size != 4 || offset != REG_EJECT)
		return;
	for (unsigned slot = 0; slot < LAYOUT_PCI_SLOTS; slot++) {
		if (!(value & h->slots & 1u << slot))
			continue;
		eject(h, slot);
		any = true;
	}
	if (any)
		vm_wake(h->dev.vm);
}

static const struct bus_ops ports_ops = {.read = ports_read, .write = ports_write};

/* --- the control thread's side ------------------------------------------------------------ */

static void tell(struct hotplug *h, unsigned slot)
{
	LOCK_SCOPE(&h->lock);
	h->check |= 1u << slot & h->slots;
	update(h);
}

void hotplug_show(struct vm *vm, unsigned slot)
{
	pci_slot_show(vm, slot);
	tell(find(vm), slot);
}

uint32_t hotplug_slots(const struct vm_config *config)
{
	unsigned spare = SPARE_DISKS;
	uint32_t slots = 0;

	for (unsigned i = 0; i < VMM_DISKS_MAX; i++)
		if (config->disks[i])
			slots |= 1u << (PCI_SLOT_DISKS + i);
	for (unsigned i = 0; i < VMM_DISKS_MAX && spare > 0; i++) {
		spare -= !config->disks[i];
		slots |= 1u << (PCI_SLOT_DISKS + i);
	}
	for (unsigned i = 0; i < VMM_NICS_MAX; i++)
		if (config->nics[i])
			slots |= 1u << (PCI_SLOT_NICS - i);
	spare = SPARE_NICS;
	for (unsigned i = 0; i < VMM_NICS_MAX && spare > 0; i++) {
		spare -= !config->nics[i];
		slots |= 1u << (PCI_SLOT_NICS - i);
	}
	return config->vsock ? slots & ~(1u << PCI_SLOT_VSOCK) : slots;
}

bool hotplug_heard(struct vm *vm, unsigned slot)
{
	return hears(find(vm), slot);
}

int hotplug_ask(struct vm *vm, unsigned slot, struct err *err)
{
	struct hotplug *h = find(vm);

	if (!hotplug_heard(vm, slot))
		return err_set(err, -EOPNOTSUPP, "the guest has no ACPI hotplug for its slot");
	LOCK_SCOPE(&h->lock);
	if (h->ejected >> slot & 1)
		return 0;
	/* One answer will do for both, where the guest has not read of the first. */
	h->torn &= ~(h->ask & 1u << slot);
	h->ask |= 1u << slot;
	h->asked |= 1u << slot;
	update(h);
	return 0;
}

uint32_t hotplug_asked(struct vm *vm)
{
	struct hotplug *h = find(vm);

	LOCK_SCOPE(&h->lock);
	return h->asked;
}

uint32_t hotplug_ejected(struct vm *vm)
{
	struct hotplug *h = find(vm);

	LOCK_SCOPE(&h->lock);
	return h->ejected;
}

void hotplug_take(struct vm *vm, unsigned slot)
{
	struct hotplug *h = find(vm);

	LOCK_SCOPE(&h->lock);
	/* Where the guest has ejected it, it knows. */
	if (!pci_slot_tear(vm, slot))
		return;
	if (!hears(h, slot))
		return;
	h->ask |= 1u << slot;
	h->torn |= 1u << slot;
	update(h);
}

void hotplug_done(struct vm *vm, unsigned slot)
{
	struct hotplug *h = find(vm);

	LOCK_SCOPE(&h->lock);
	h->asked &= ~(1u << slot);
	h->ejected &= ~(1u << slot);
}

/* --- device ------------------------------------------------------------------------------- */

static void hotplug_destroy(struct device *dev)
{
	struct hotplug *h = (struct hotplug *)dev;

	bus_remove(dev->vm->bus, BUS_PIO, LAYOUT_PORT_HOTPLUG, false);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static void hotplug_state(struct device *dev, struct state *st)
{
	struct hotplug *h = (struct hotplug *)dev;

	LOCK_SCOPE(&h->lock);
	if (!state_loading(st) && (h->asked || h->ejected))
		state_fail(st, -EBUSY, "a device is being detached");
	state_u32(st, &h->slots);
	state_u32(st, &h->check);
	state_u32(st, &h->ask);
}

static int hotplug_create(struct vm *vm, struct err *err)
{
	struct hotplug *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return err_set(err, -ENOMEM, "no memory");
	h->dev.vm = vm;
	h->pm = device_find(vm, &pm_device);
	h->slots = hotplug_slots(vm->config);
	pthread_mutex_init(&h->lock, NULL);
	ret = bus_add(vm->bus, BUS_PIO, LAYOUT_PORT_HOTPLUG, PORTS, &ports_ops, h);
	if (ret < 0) {
		pthread_mutex_destroy(&h->lock);
		free(h);
		return err_set(err, ret, "no room for the hotplug ports");
	}
	device_add(vm, &h->dev, &hotplug_device, "hotplug");
	vm->pci->hot = true;
	return 0;
}

const struct device_ops hotplug_device = {
    .name = "hotplug",
    .create = hotplug_create,
    .destroy = hotplug_destroy,
    .state_version = 1,
    .state = hotplug_state,
};
