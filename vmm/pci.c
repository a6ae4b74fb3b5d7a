// SPDX-License-Identifier: ISC
/*
 * The PCI bus: the host bridge, the two ways into configuration space, and the
 * four interrupt lines that slots share.
 *
 * Ports 0xcf8–0xcff: a 32-bit write to 0xcf8 chooses device and register, an
 * access to 0xcfc–0xcff moves data. A byte written to 0xcf9 is something else,
 * the reset control register (chipsets put it there; ACPI's RESET_REG):
 * bit 2 resets the machine.
 *
 * INTA# of slot n is GSI 16 + n % 4, level triggered, so several devices may
 * hold the same line: it is up while any of them raises it.
 */
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "vmm/pci.h"

#define ADDRESS_ENABLE (1u << 31)
#define RESET_OFFSET   (LAYOUT_PORT_RESET - LAYOUT_PORT_PCI)
#define DATA_OFFSET    4

static uint64_t all_ones(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << 8 * size) - 1;
}

/* Function 0 of each slot is all there is. Under slots_lock. */
static struct pci_device *find(struct pci_bus *bus, unsigned bus_number, unsigned devfn)
{
	if (bus_number || devfn % 8 || devfn / 8 >= nitems(bus->slots))
		return NULL;
	return bus->slots[devfn / 8];
}

static uint64_t config_read(struct pci_bus *bus, unsigned bus_number, unsigned devfn, unsigned reg,
			    unsigned size)
{
	struct pci_device *dev;
	uint64_t value;

	pthread_rwlock_rdlock(&bus->slots_lock);
	dev = find(bus, bus_number, devfn);
	value = dev ? pci_config_read(dev, reg, size) : all_ones(size);
	pthread_rwlock_unlock(&bus->slots_lock);
	return value;
}

static void config_write(struct pci_bus *bus, unsigned bus_number, unsigned devfn, unsigned reg,
			 unsigned size, uint64_t value)
{
	struct pci_device *dev;

	pthread_rwlock_rdlock(&bus->slots_lock);
	dev = find(bus, bus_number, devfn);
	if (dev)
		pci_config_write(dev, reg, size, value);
	pthread_rwlock_unlock(&bus->slots_lock);
}

/* --- ports -------------------------------------------------------------------------------- */

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_bus *bus = opaque;
	uint32_t address = __atomic_load_n(&bus->address, __ATOMIC_RELAXED);

	if (offset < DATA_OFFSET) {
		if (offset == 0 && size == 4)
			return address;
		return offset == RESET_OFFSET && size == 1 ? 0 : all_ones(size);
	}
	if (!(address & ADDRESS_ENABLE))
		return all_ones(size);
	return config_read(bus, address >> 16 & 0xff, address >> 8 & 0xff,
			   (address & 0xfc) + (offset - DATA_OFFSET), size);
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_bus *bus = opaque;
	uint32_t address = __atomic_load_n(&bus->address, __ATOMIC_RELAXED);

	if (offset < DATA_OFFSET) {
		if (offset == 0 && size == 4)
			__atomic_store_n(&bus->address, value, __ATOMIC_RELAXED);
		else if (offset == RESET_OFFSET && size == 1 && value & 4)
			vm_end(bus->dev.vm, VM_END_RESET, "the guest reset itself (port 0xcf9)");
		return;
	}
	if (address & ADDRESS_ENABLE)
		config_write(bus, address >> 16 & 0xff, address >> 8 & 0xff,
			     (address & 0xfc) + (offset - DATA_OFFSET), size, value);
}

static const struct bus_ops ports_ops = {.read = ports_read, .write = ports_write};

/* --- ECAM (PCI Firmware 3.2 §4.1) --------------------------------------------------------- */

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
	return config_read(opaque, offset >> 20, offset >> 12 & 0xff, offset & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	config_write(opaque, offset >> 20, offset >> 12 & 0xff, offset & 0xfff, size, value);
}

static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};

/* --- lines -------------------------------------------------------------------------------- */

/* Under bus->lines: KVM hears of a line only when it changes. */
static void line_update(struct pci_bus *bus, struct pci_device *dev)
{
	uint32_t *slots = &bus->line_slots[dev->slot % 4];
	uint32_t before = *slots, bit = 1u << dev->slot;

	*slots = dev->intx_level && !dev->intx_off && !dev->hidden ? before | bit : before & ~bit;
	if (!before != !*slots)
		irq_line_set(dev->vm, pci_slot_gsi(dev->slot), *slots != 0);
}

void pci_intx_set(struct pci_device *dev, bool level)
{
	struct pci_bus *bus = dev->vm->pci;

	LOCK_SCOPE(&bus->lines);
	if (dev->intx_level == level)
		return;
	__atomic_store_n(&dev->intx_level, level, __ATOMIC_RELAXED);
	line_update(bus, dev);
}

void pci_intx_enable(struct pci_device *dev, bool on)
{
	struct pci_bus *bus = dev->vm->pci;

	LOCK_SCOPE(&bus->lines);
	dev->intx_off = !on;
	line_update(bus, dev);
}

/* --- windows and slots -------------------------------------------------------------------- */

bool pci_window_has(const struct vm *vm, uint64_t addr, uint64_t bytes)
{
	uint64_t end = addr + bytes - 1;
	uint64_t ram_top = vm->ram_top > LAYOUT_HIGH_RAM ? vm->ram_top : LAYOUT_HIGH_RAM;
	uint64_t high = (ram_top + LAYOUT_PCI_MMIO64_SIZE - 1) & ~(LAYOUT_PCI_MMIO64_SIZE - 1);

	if (end < addr)
		return false;
	return (addr >= LAYOUT_PCI_MMIO && end < LAYOUT_PCI_MMIO_END) ||
	       (addr >= high && end < high + LAYOUT_PCI_MMIO64_SIZE);
}

/* Naturally aligned, one behind the other, below 4 GiB whatever the BAR could do. */
static int place_bars(struct pci_bus *bus, struct pci_device *dev)
{
	for (unsigned i = 0; i < nitems(dev->bars); i++) {
		const struct pci_bar *bar = &dev->bars[i];
		unsigned reg = PCI_BASE_ADDRESS_0 + 4 * i;
		uint64_t at = (bus->next_bar + bar->bytes - 1) & ~(bar->bytes - 1);

		if (!bar->bytes)
			continue;
		if (at + bar->bytes > LAYOUT_PCI_MMIO_END)
			return -ENOSPC;
		bus->next_bar = at + bar->bytes;
		pci_config_write(dev, reg, 4, at);
	}
	return 0;
}

int pci_device_plug(struct pci_device *dev, unsigned slot, struct err *err)
{
	struct pci_bus *bus = dev->vm->pci;

	if (slot >= nitems(bus->slots))
		return err_set(err, -ENOSPC, "more devices than PCI slots");
	if (bus->taken[slot])
		return err_set(err, -EEXIST, "PCI slot %u is taken", slot);
	dev->slot = slot;
	dev->config[PCI_INTERRUPT_LINE] = pci_slot_gsi(slot);
	if (!bus->hot && place_bars(bus, dev) < 0)
		return err_set(err, -ENOSPC, "no room for the BARs of PCI slot %u", slot);
	bus->taken[slot] = dev;
	if (bus->hot)
		return 0;
	pci_slot_show(dev->vm, slot);
	pci_config_write(dev, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return 0;
}

void pci_slot_show(struct vm *vm, unsigned slot)
{
	struct pci_bus *bus = vm->pci;

	pthread_rwlock_wrlock(&bus->slots_lock);
	bus->slots[slot] = bus->taken[slot];
	pthread_rwlock_unlock(&bus->slots_lock);
}

/* --- what is left of a device that was torn out --------------------------------------------- */

static uint64_t ghost_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return 0;
}

static void ghost_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque, (void)offset, (void)size, (void)value;
}

static const struct bus_ops ghost_ops = {.read = ghost_read, .write = ghost_write};

void pci_ghosts_drop(struct pci_bus *bus, uint64_t at, uint64_t bytes)
{
	struct pci_ghost *ghosts = &bus->ghosts[0][0];

	LOCK_SCOPE(&bus->ghosts_lock);
	for (size_t i = 0; i < sizeof(bus->ghosts) / sizeof(*ghosts); i++) {
		struct pci_ghost *g = &ghosts[i];

		if (!g->bytes || g->at >= at + bytes || at >= g->at + g->bytes)
			continue;
		bus_remove(bus->dev.vm->bus, BUS_MMIO, g->at, false);
		g->bytes = 0;
	}
}

static void ghost_make(struct pci_bus *bus, struct pci_ghost *ghost, uint64_t at, uint64_t bytes)
{
	LOCK_SCOPE(&bus->ghosts_lock);
	if (ghost->bytes)
		bus_remove(bus->dev.vm->bus, BUS_MMIO, ghost->at, false);
	*ghost = (struct pci_ghost){at, bytes};
	if (!at || bus_add(bus->dev.vm->bus, BUS_MMIO, at, bytes, &ghost_ops, NULL) < 0)
		ghost->bytes = 0;
}

/* --- coming and going ------------------------------------------------------------------------- */

/* Under slots_lock for writing: nobody is in configuration space. Calls into BARs are waited for.
 */
static void hide(struct pci_bus *bus, struct pci_device *dev)
{
	bus->slots[dev->slot] = NULL;
	LOCK_SCOPE(&dev->lock);
	pci_bars_unmap(dev);
	LOCK_SCOPE(&bus->lines);
	dev->hidden = true;
	line_update(bus, dev);
}

bool pci_slot_hide(struct vm *vm, unsigned slot)
{
	struct pci_bus *bus = vm->pci;
	struct pci_device *dev;

	pthread_rwlock_wrlock(&bus->slots_lock);
	dev = bus->slots[slot];
	if (dev)
		hide(bus, dev);
	pthread_rwlock_unlock(&bus->slots_lock);
	return dev;
}

bool pci_slot_tear(struct vm *vm, unsigned slot)
{
	struct pci_bus *bus = vm->pci;
	struct pci_device *dev;
	uint64_t at[nitems(dev->bars)];

	pthread_rwlock_wrlock(&bus->slots_lock);
	dev = bus->slots[slot];
	if (dev) {
		/* Nobody else changes them while the lock is held. */
		for (unsigned i = 0; i < nitems(at); i++)
			at[i] = dev->bars[i].at;
		hide(bus, dev);
		for (unsigned i = 0; i < nitems(at); i++)
			ghost_make(bus, &bus->ghosts[slot][i], at[i], dev->bars[i].bytes);
	}
	pthread_rwlock_unlock(&bus->slots_lock);
	return dev;
}

void pci_device_fini(struct pci_device *dev)
{
	struct pci_bus *bus = dev->vm->pci;

	/* Also waits for a vcpu that is hiding it. */
	pthread_rwlock_wrlock(&bus->slots_lock);
	if (bus->slots[dev->slot] == dev)
		hide(bus, dev);
	if (bus->taken[dev->slot] == dev)
		bus->taken[dev->slot] = NULL;
	pthread_rwlock_unlock(&bus->slots_lock);
	pci_msix_fini(dev);
	pthread_mutex_destroy(&dev->lock);
}

/* --- the bridge as a device --------------------------------------------------------------- */

int pci_bus_thread(struct vm *vm, struct iothread **thread, struct err *err)
{
	struct pci_bus *bus = vm->pci;
	int r = 0;

	if (!bus->thread)
		r = iothread_new(&bus->thread, "io/devices", err);
	*thread = bus->thread;
	return r;
}

static void free_bus(struct pci_bus *bus, struct vm *vm)
{
	iothread_free(bus->thread);
	pci_device_fini(&bus->host);
	pthread_mutex_destroy(&bus->lines);
	pthread_mutex_destroy(&bus->ghosts_lock);
	pthread_rwlock_destroy(&bus->slots_lock);
	vm->pci = NULL;
	free(bus);
}

static void host_destroy(struct device *device)
{
	struct pci_bus *bus = (struct pci_bus *)device;
	struct vm *vm = device->vm;

	bus_remove(vm->bus, BUS_PIO, LAYOUT_PORT_PCI, false);
	bus_remove(vm->bus, BUS_MMIO, LAYOUT_ECAM, false);
	free_bus(bus, vm);
}

static const struct pci_device_ops host_pci_ops = {0};

static int host_attach(struct pci_bus *bus, struct vm *vm, struct err *err)
{
	int r = bus_add(vm->bus, BUS_PIO, LAYOUT_PORT_PCI, 8, &ports_ops, bus);

	if (r < 0)
		return err_set(err, r, "PCI: cannot take ports 0xcf8 to 0xcff");
	r = bus_add(vm->bus, BUS_MMIO, LAYOUT_ECAM, LAYOUT_ECAM_END - LAYOUT_ECAM, &ecam_ops, bus);
	if (r == 0)
		return pci_device_plug(&bus->host, PCI_SLOT_HOST, err);
	bus_remove(vm->bus, BUS_PIO, LAYOUT_PORT_PCI, false);
	return err_set(err, r, "PCI: cannot take the configuration window");
}

static int host_create(struct vm *vm, struct err *err)
{
	/* A generic host bridge; guests know it by its class. */
	static const struct pci_id id = {.vendor = 0x1b36,
					 .device = 0x0008,
					 .subsystem_vendor = 0x1af4,
					 .subsystem = 0x1100,
					 .class_code = 0x060000};
	struct pci_bus *bus = calloc(1, sizeof(*bus));
	int r;

	if (!bus)
		return err_set(err, -ENOMEM, "PCI: no memory");
	bus->next_bar = LAYOUT_PCI_MMIO;
	bus->dev.vm = vm;
	pthread_mutex_init(&bus->lines, NULL);
	pthread_mutex_init(&bus->ghosts_lock, NULL);
	bus_rwlock_init(&bus->slots_lock);
	vm->pci = bus;
	pci_device_init(&bus->host, vm, &host_pci_ops, &id);
	bus->host.config[PCI_INTERRUPT_PIN] = 0;
	r = host_attach(bus, vm, err);
	if (r < 0) {
		free_bus(bus, vm);
		return r;
	}
	device_add(vm, &bus->dev, &pci_host_device, "pci");
	return 0;
}

const struct device_ops pci_host_device = {
    .name = "pci",
    .create = host_create,
    .destroy = host_destroy,
    .state_version = 1,
    .state = pci_bus_state,
};
