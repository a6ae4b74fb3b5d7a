// SPDX-License-Identifier: ISC
/*
 * A PCI function's configuration space (PCI 3.0 §6): registers with a mask of
 * writable bits, BARs that map and unmap themselves, the list of capabilities.
 *
 * A guest may write anything anywhere: bits outside the mask stay, and what
 * follows from a register (BARs, MSI-X, INTx) is worked out anew from the bytes
 * after each write, whatever its size and alignment. Sizing a BAR
 * needs no code: the address bits below its size are read-only zeroes.
 */
#include <string.h>

#include "util/cleanup.h"
#include "vmm/pci.h"

#define COMMAND_WRITABLE                                                                           \
	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |         \
	 PCI_COMMAND_INTX_DISABLE)

static uint16_t get16(const uint8_t *p)
{
	return p[0] | p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = v;
	p[1] = v >> 8;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v);
	put16(p + 2, v >> 16);
}

void pci_device_init(struct pci_device *dev, struct vm *vm, const struct pci_device_ops *ops,
		     const struct pci_id *id)
{
	*dev = (struct pci_device){.vm = vm, .ops = ops, .cap_end = PCI_STD_HEADER_SIZEOF};
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->msix.lock, NULL);
	put16(dev->config + PCI_VENDOR_ID, id->vendor);
	put16(dev->config + PCI_DEVICE_ID, id->device);
	put32(dev->config + PCI_CLASS_REVISION, id->class_code << 8 | id->revision);
	put16(dev->config + PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor);
	put16(dev->config + PCI_SUBSYSTEM_ID, id->subsystem);
	dev->config[PCI_INTERRUPT_PIN] = 1;
	put16(dev->writable + PCI_COMMAND, COMMAND_WRITABLE);
	dev->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	dev->writable[PCI_INTERRUPT_LINE] = 0xff;
	for (unsigned i = 0; i < nitems(dev->bars); i++)
		dev->bars[i].dev = dev;
}

void pci_bar_add(struct pci_device *dev, unsigned bar, uint64_t bytes, bool is_64)
{
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t mask = ~(bytes - 1);

	dev->bars[bar].bytes = bytes;
	dev->bars[bar].is_64 = is_64;
	put32(dev->config + reg, is_64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0);
	put32(dev->writable + reg, mask);
	if (is_64)
		put32(dev->writable + reg + 4, mask >> 32);
}

unsigned pci_cap_add(struct pci_device *dev, const void *cap, unsigned len)
{
	unsigned at = dev->cap_end;

	memcpy(dev->config + at, cap, len);
	dev->config[at + PCI_CAP_LIST_NEXT] = 0;
	dev->config[dev->last_cap ? dev->last_cap + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST] = at;
	dev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	dev->last_cap = at;
	dev->cap_end = (at + len + 3) & ~3u;
	return at;
}

/* --- BARs --------------------------------------------------------------------------------- */

uint64_t pci_bar_read(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size)
{
	if (dev->msix.n && bar == dev->msix.bar)
		return pci_msix_read(dev, offset, size);
	return dev->ops->bar_read(dev, bar, offset, size);
}

void pci_bar_write(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size,
		   uint64_t value)
{
	if (dev->msix.n && bar == dev->msix.bar)
		pci_msix_write(dev, offset, size, value);
	else
		dev->ops->bar_write(dev, bar, offset, size, value);
}

static uint64_t mapped_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_bar *bar = opaque;

	return pci_bar_read(bar->dev, bar - bar->dev->bars, offset, size);
}

static void mapped_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_bar *bar = opaque;

	pci_bar_write(bar->dev, bar - bar->dev->bars, offset, size, value);
}

static const struct bus_ops bar_ops = {.read = mapped_read, .write = mapped_write};

static void tell_mapped(struct pci_device *dev, unsigned i, uint64_t addr)
{
	if (dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev, i, addr);
}

static void bar_unmap(struct pci_device *dev, unsigned i)
{
	struct pci_bar *bar = &dev->bars[i];

	if (!bar->at)
		return;
	tell_mapped(dev, i, 0);
	bus_remove(dev->vm->bus, BUS_MMIO, bar->at, false);
	bar->at = 0;
}

/* Where the registers want it; 0 for nowhere. */
static uint64_t bar_wanted(const struct pci_device *dev, unsigned i)
{
	const struct pci_bar *bar = &dev->bars[i];
	const uint8_t *reg = dev->config + PCI_BASE_ADDRESS_0 + 4 * i;
	uint64_t addr;

	if (!bar->bytes || !(get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return 0;
	addr = get32(reg) & ~0xfu;
	if (bar->is_64)
		addr |= (uint64_t)get32(reg + 4) << 32;
	return pci_window_has(dev->vm, addr, bar->bytes) ? addr : 0;
}

/*
 * Brings the bus in line with the registers. All that move go before any
 * comes, so that two BARs may change places. One that overlaps another
 * is refused by the bus, and tried again at the next write.
 */
static void bars_update(struct pci_device *dev)
{
	for (unsigned i = 0; i < nitems(dev->bars); i++) {
		if (bar_wanted(dev, i) != dev->bars[i].at)
			bar_unmap(dev, i);
	}
	for (unsigned i = 0; i < nitems(dev->bars); i++) {
		struct pci_bar *bar = &dev->bars[i];
		uint64_t want = bar_wanted(dev, i);

		if (!want || want == bar->at)
			continue;
		pci_ghosts_drop(dev->vm->pci, want, bar->bytes);
		if (bus_add(dev->vm->bus, BUS_MMIO, want, bar->bytes, &bar_ops, bar) < 0)
			continue;
		bar->at = want;
		tell_mapped(dev, i, want);
	}
}

void pci_bars_unmap(struct pci_device *dev)
{
	for (unsigned i = 0; i < nitems(dev->bars); i++)
		bar_unmap(dev, i);
}

/* --- access ------------------------------------------------------------------------------- */

static bool touches(unsigned reg, unsigned size, unsigned first, unsigned len)
{
	return reg < first + len && reg + size > first;
}

uint64_t pci_config_read(struct pci_device *dev, unsigned reg, unsigned size)
{
	uint64_t value = 0;

	LOCK_SCOPE(&dev->lock);
	if (dev->ops->config_read)
		dev->ops->config_read(dev, reg, size);
	for (unsigned i = 0; i < size; i++) {
		/* Conventional PCI: nothing behind the first 256 bytes. */
		uint8_t byte = reg + i < PCI_CONFIG_BYTES ? dev->config[reg + i] : 0xff;

		if (reg + i == PCI_STATUS && __atomic_load_n(&dev->intx_level, __ATOMIC_RELAXED))
			byte |= PCI_STATUS_INTERRUPT;
		value |= (uint64_t)byte << 8 * i;
	}
	return value;
}

/* What a write changed beyond the bytes. */
static void follow_write(struct pci_device *dev, unsigned reg, unsigned size)
{
	bool command = touches(reg, size, PCI_COMMAND, 2);
	bool msix = dev->msix.n && touches(reg, size, dev->msix.cap + PCI_MSIX_FLAGS, 2);

	if (command || touches(reg, size, PCI_BASE_ADDRESS_0, 24))
		bars_update(dev);
	if (msix)
		pci_msix_control(dev, get16(dev->config + dev->msix.cap + PCI_MSIX_FLAGS));
	if (command || msix)
		pci_intx_enable(dev,
				!(get16(dev->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) &&
				    !pci_msix_enabled(dev));
	if (dev->ops->config_written)
		dev->ops->config_written(dev, reg, size);
}

void pci_config_write(struct pci_device *dev, unsigned reg, unsigned size, uint64_t value)
{
	LOCK_SCOPE(&dev->lock);
	for (unsigned i = 0; i < size && reg + i < PCI_CONFIG_BYTES; i++) {
		uint8_t *byte = &dev->config[reg + i], mask = dev->writable[reg + i];

		*byte = (*byte & ~mask) | (value >> 8 * i & mask);
	}
	follow_write(dev, reg, size);
}

void pci_config_follow(struct pci_device *dev)
{
	bars_update(dev);
	if (dev->msix.n)
		pci_msix_control(dev, get16(dev->config + dev->msix.cap + PCI_MSIX_FLAGS));
	pci_intx_enable(dev, !(get16(dev->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) &&
				 !pci_msix_enabled(dev));
}
