// SPDX-License-Identifier: ISC
/*
 * MSI-X: the table of messages, the pending bits, and who may fire.
 *
 * The table and the PBA have a BAR of their own, half a page or more each. A
 * vector reaches KVM's routing table when it is first able to fire, not when its
 * address is written: drivers write address and data while it is masked, and
 * every change of KVM's routes costs. Raising a vector that is masked (by itself
 * or all together) sets its pending bit, and unmasking fires it then.
 */
#define LOG_MODULE "pci"
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "vmm/pci.h"

#define ENTRY_BYTES PCI_MSIX_ENTRY_SIZE
#define PBA_OFFSET  (ENTRY_BYTES * PCI_MSIX_MAX)
#define BAR_BYTES   4096

_Static_assert(PBA_OFFSET + PCI_MSIX_MAX / 8 <= BAR_BYTES, "table and PBA fit the BAR");

int pci_msix_add(struct pci_device *dev, unsigned bar, unsigned n)
{
	const uint16_t flags = n - 1;
	const uint32_t table = bar, pba = PBA_OFFSET | bar;
	uint8_t cap[PCI_CAP_MSIX_SIZEOF] = {PCI_CAP_ID_MSIX};
	struct pci_msix *msix = &dev->msix;

	if (n < 1 || n > PCI_MSIX_MAX)
		return -EINVAL;
	msix->entries = calloc(n, sizeof(*msix->entries));
	if (!msix->entries)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++)
		msix->entries[i].masked = true;
	msix->n = n;
	msix->bar = bar;
	memcpy(cap + PCI_MSIX_FLAGS, &flags, sizeof(flags));
	memcpy(cap + PCI_MSIX_TABLE, &table, sizeof(table));
	memcpy(cap + PCI_MSIX_PBA, &pba, sizeof(pba));
	msix->cap = pci_cap_add(dev, cap, sizeof(cap));
	dev->writable[msix->cap + PCI_MSIX_FLAGS + 1] =
	    (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	pci_bar_add(dev, bar, BAR_BYTES, false);
	return 0;
}

void pci_msix_fini(struct pci_device *dev)
{
	struct pci_msix *msix = &dev->msix;

	for (unsigned i = 0; i < msix->n; i++) {
		if (msix->entries[i].msi)
			irq_msi_free(dev->vm, msix->entries[i].msi);
	}
	msix->n = 0;
	free(take_ptr(msix->entries));
	pthread_mutex_destroy(&msix->lock);
}

/* Tells KVM where the vector goes, if it does not know. Under msix->lock. */
static int route(struct pci_device *dev, struct pci_msix_entry *e)
{
	int r;

	if (!e->msi)
		r = irq_msi_new(dev->vm, &e->msi);
	else if (e->routed_address == e->address && e->routed_data == e->data)
		return 0;
	else
		r = 0;
	if (r == 0)
		r = irq_msi_route(dev->vm, e->msi, e->address, e->data);
	if (r < 0) {
		if (!dev->msix.complained)
			log_warn("PCI slot %u: an MSI-X vector cannot be routed: %s", dev->slot,
				 err_name(r));
		dev->msix.complained = true;
		return r;
	}
	e->routed_address = e->address;
	e->routed_data = e->data;
	return 0;
}

/* After anything changed: routes what may fire now and fires what waited. Under msix->lock. */
static void entry_update(struct pci_device *dev, struct pci_msix_entry *e)
{
	if (!dev->msix.enabled || dev->msix.all_masked || e->masked)
		return;
	if (route(dev, e) < 0 || !e->pending)
		return;
	e->pending = false;
	irq_msi_raise(e->msi);
}

void pci_msix_control(struct pci_device *dev, uint16_t control)
{
	struct pci_msix *msix = &dev->msix;

	LOCK_SCOPE(&msix->lock);
	msix->enabled = control & PCI_MSIX_FLAGS_ENABLE;
	msix->all_masked = control & PCI_MSIX_FLAGS_MASKALL;
	for (unsigned i = 0; i < msix->n; i++)
		entry_update(dev, &msix->entries[i]);
}

bool pci_msix_enabled(struct pci_device *dev)
{
	LOCK_SCOPE(&dev->msix.lock);
	return dev->msix.enabled;
}

bool pci_msix_raise(struct pci_device *dev, unsigned vector)
{
	struct pci_msix *msix = &dev->msix;
	struct pci_msix_entry *e;

	LOCK_SCOPE(&msix->lock);
	if (!msix->enabled)
		return false;
	if (vector >= msix->n)
		return true; /* VIRTIO_MSI_NO_VECTOR and such: no interrupt */
	e = &msix->entries[vector];
	if (msix->all_masked || e->masked)
		e->pending = true;
	else if (e->msi)
		irq_msi_raise(e->msi);
	return true;
}

/* --- the BAR ------------------------------------------------------------------------------ */

static uint32_t table_dword(const struct pci_msix_entry *e, unsigned at)
{
	switch (at) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return e->address;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return e->address >> 32;
	case PCI_MSIX_ENTRY_DATA:
		return e->data;
	default:
		return e->masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0;
	}
}

static uint32_t bar_dword(const struct pci_msix *msix, uint64_t offset)
{
	uint32_t bits = 0;

	if (offset < PBA_OFFSET) {
		unsigned vector = offset / ENTRY_BYTES;

		return vector < msix->n ? table_dword(&msix->entries[vector], offset % ENTRY_BYTES)
					: 0;
	}
	for (unsigned i = 0; i < 32; i++) {
		uint64_t vector = (offset - PBA_OFFSET) * 8 + i;

		if (vector < msix->n && msix->entries[vector].pending)
			bits |= 1u << i;
	}
	return bits;
}

/* Any size and alignment: the dwords that hold it, shifted. */
uint64_t pci_msix_read(struct pci_device *dev, uint64_t offset, unsigned size)
{
	uint64_t start = offset & ~3ull, value = 0;

	LOCK_SCOPE(&dev->msix.lock);
	value = bar_dword(&dev->msix, start) | (uint64_t)bar_dword(&dev->msix, start + 4) << 32;
	value >>= 8 * (offset - start);
	return size == 8 ? value : value & ((1ull << 8 * size) - 1);
}

static void table_write(struct pci_device *dev, uint64_t offset, uint32_t value)
{
	unsigned vector = offset / ENTRY_BYTES;
	struct pci_msix_entry *e;

	if (vector >= dev->msix.n)
		return;
	e = &dev->msix.entries[vector];
	switch (offset % ENTRY_BYTES) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		e->address = (e->address & ~0xffffffffull) | (value & ~3u);
		break;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		e->address = (e->address & 0xffffffffull) | (uint64_t)value << 32;
		break;
	case PCI_MSIX_ENTRY_DATA:
		e->data = value;
		break;
	case PCI_MSIX_ENTRY_VECTOR_CTRL:
		e->masked = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
		break;
	}
	entry_update(dev, e);
}

/* Whole dwords and qwords only (§6.8.2); the PBA is read-only. */
void pci_msix_write(struct pci_device *dev, uint64_t offset, unsigned size, uint64_t value)
{
	if (size < 4 || offset % size || offset >= PBA_OFFSET)
		return;
	LOCK_SCOPE(&dev->msix.lock);
	table_write(dev, offset, value);
	if (size == 8)
		table_write(dev, offset + 4, value >> 32);
}
