// SPDX-License-Identifier: ISC
/*
 * What the guest has written into the PCI bus and its functions, saved and loaded.
 *
 * Loading, the registers that a guest cannot change must be what they were: a driver
 * would find another device under its hands. All BARs go off the bus first (pci_bus_state),
 * then each device's come where they were, so that none is in another's way.
 */
#include <errno.h>
#include <string.h>

#include "util/cleanup.h"
#include "vmm/pci.h"
#include "vmm/state.h"

static void msix_state(struct pci_msix *msix, struct state *st)
{
	LOCK_SCOPE(&msix->lock);
	state_same(st, "MSI-X vectors", msix->n);
	for (unsigned i = 0; i < msix->n && state_ok(st); i++) {
		struct pci_msix_entry *e = &msix->entries[i];

		state_u64(st, &e->address);
		state_u32(st, &e->data);
		state_bool(st, &e->masked);
		state_bool(st, &e->pending);
	}
}

static void config_load(struct pci_device *dev, struct state *st)
{
	uint8_t config[PCI_CONFIG_BYTES];

	state_bytes(st, config, sizeof(config));
	for (unsigned i = 0; i < sizeof(config) && state_ok(st); i++) {
		if ((config[i] ^ dev->config[i]) & ~dev->writable[i])
			state_fail(st, -EINVAL,
				   "PCI slot %u: register %#x is %#x, it was %#x when saved",
				   dev->slot, i, dev->config[i], config[i]);
	}
	if (state_ok(st))
		memcpy(dev->config, config, sizeof(config));
}

void pci_device_state(struct pci_device *dev, struct state *st)
{
	LOCK_SCOPE(&dev->lock);
	state_same(st, "PCI slot", dev->slot);
	if (state_loading(st))
		config_load(dev, st);
	else
		state_bytes(st, dev->config, sizeof(dev->config));
	if (dev->msix.n)
		msix_state(&dev->msix, st);
	if (state_loading(st) && state_ok(st))
		pci_config_follow(dev);
}

void pci_bus_state(struct device *device, struct state *st)
{
	struct pci_bus *bus = (struct pci_bus *)device;
	uint32_t address = __atomic_load_n(&bus->address, __ATOMIC_RELAXED);

	state_u32(st, &address);
	__atomic_store_n(&bus->address, address, __ATOMIC_RELAXED);
	for (unsigned i = 0; state_loading(st) && i < nitems(bus->taken); i++) {
		if (!bus->taken[i])
			continue;
		LOCK_SCOPE(&bus->taken[i]->lock);
		pci_bars_unmap(bus->taken[i]);
	}
	pci_device_state(&bus->host, st);
}
