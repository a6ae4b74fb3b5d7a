/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_PCI_H
#define FV_VMM_PCI_H
/*
 * One PCI bus of 32 slots behind a host bridge, conventional PCI (PCI 3.0)
 * with configuration access by ports 0xcf8/0xcfc and by ECAM.
 *
 * As there is no firmware, BARs have their addresses and memory decoding is on
 * before the first instruction; a guest may move them within the windows of
 * layout.h. A BAR elsewhere, or over another one, is simply not there.
 *
 * Once the machine is made (pci_bus.hot) a device that comes has neither
 * addresses nor decoding, as after power-on of a slot: who hears of it assigns them.
 * It is plugged in hidden, shown when it is whole, hidden again before
 * it is destroyed; vcpus may run all the while.
 *
 * Locks, in this order: who is in which slot (pci_bus.slots_lock; held for reading
 * during each configuration access), a device's configuration (pci_device.lock), what the
 * device takes in its bar ops, the MSI-X table (pci_msix.lock), the bus's
 * lines. So code under bar ops and interrupts never touch configuration space.
 */
#include <linux/pci_regs.h>
#include <pthread.h>

#include "vmm/device.h"
#include "vmm/iothread.h"
#include "vmm/irq.h"
#include "vmm/layout.h"

#define PCI_CONFIG_BYTES 256
#define PCI_MSIX_MAX	 64

struct pci_bus;
struct pci_device;

struct pci_device_ops {
	/* @offset within the BAR; @size 1, 2, 4 or 8. Any vcpu's thread. */
	uint64_t (*bar_read)(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size);
	void (*bar_write)(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size,
			  uint64_t value);
	/* Optional: the BAR now answers at @addr (0: nowhere). Under dev->lock. */
	void (*bar_mapped)(struct pci_device *dev, unsigned bar, uint64_t addr);
	/* Optional: a register is about to be read, was written. Under dev->lock. */
	void (*config_read)(struct pci_device *dev, unsigned reg, unsigned size);
	void (*config_written)(struct pci_device *dev, unsigned reg, unsigned size);
};

struct pci_bar {
	struct pci_device *dev;
	uint64_t bytes; /* 0: no such BAR; a power of two from 4 KiB */
	uint64_t at;	/* where the bus has it; 0: nowhere. Under dev->lock */
	bool is_64;
};

struct pci_msix_entry {
	uint64_t address;
	uint32_t data;
	bool masked, pending;
	/* what KVM was told: */
	uint64_t routed_address;
	uint32_t routed_data;
	struct irq_msi *msi; /* made at the first unmasking */
};

struct pci_msix {
	pthread_mutex_t lock;
	struct pci_msix_entry *entries;
	unsigned n, bar, cap; /* constant */
	bool enabled, all_masked;
	bool complained; /* of KVM refusing a route: once */
};

struct pci_device {
	struct vm *vm;
	const struct pci_device_ops *ops;
	unsigned slot;
	pthread_mutex_t lock; /* config, bars */
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* which bits the guest may change; constant */
	unsigned cap_end;		    /* first byte behind the capabilities */
	unsigned last_cap;
	struct pci_bar bars[6];
	struct pci_msix msix;
	/* under the bus's line lock: */
	bool intx_level, intx_off;
	bool hidden; /* raises no line any more */
};

struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision;
	uint32_t class_code; /* 24 bits */
};

/* --- for devices (pci_config.c) ----------------------------------------------------------- */

/* Fills in @dev, without BARs and capabilities; it has INTA#. Not yet on the bus. */
void pci_device_init(struct pci_device *dev, struct vm *vm, const struct pci_device_ops *ops,
		     const struct pci_id *id);
/* A memory BAR of @bytes; 64-bit ones take the next BAR's place too. */
void pci_bar_add(struct pci_device *dev, unsigned bar, uint64_t bytes, bool is_64);
/* Appends a capability of @len bytes (its header filled in here); the offset. */
unsigned pci_cap_add(struct pci_device *dev, const void *cap, unsigned len);
/*
 * Puts it into @slot. While the machine is being made its BARs get addresses and it
 * shows; later it waits for pci_slot_show(). -EEXIST, -ENOSPC.
 */
int pci_device_plug(struct pci_device *dev, unsigned slot, struct err *err);
/*
 * Takes it off the bus, if it still shows, and frees what is inside. For failed inits too.
 * Nobody raises its interrupts any more.
 */
void pci_device_fini(struct pci_device *dev);
/* Raises or lowers INTA#; shared lines are the bus's business. Any thread. */
void pci_intx_set(struct pci_device *dev, bool level);
/* An access to a BAR as the bus would do it, for windows in configuration space. */
uint64_t pci_bar_read(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size);
void pci_bar_write(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned size,
		   uint64_t value);

/* --- MSI-X (pci_msix.c; PCI 3.0 §6.8.2) --------------------------------------------------- */

/* A table of @n vectors and its PBA in BAR @bar, which is made here. -ENOMEM. */
int pci_msix_add(struct pci_device *dev, unsigned bar, unsigned n);
void pci_msix_fini(struct pci_device *dev);
/* False where MSI-X is off (use INTA# then). A masked vector stays pending. Any thread. */
bool pci_msix_raise(struct pci_device *dev, unsigned vector);
bool pci_msix_enabled(struct pci_device *dev);

/* --- inside ------------------------------------------------------------------------------- */

uint64_t pci_msix_read(struct pci_device *dev, uint64_t offset, unsigned size);
void pci_msix_write(struct pci_device *dev, uint64_t offset, unsigned size, uint64_t value);
/* Message control changed; under dev->lock. */
void pci_msix_control(struct pci_device *dev, uint16_t control);
uint64_t pci_config_read(struct pci_device *dev, unsigned reg, unsigned size);
void pci_config_write(struct pci_device *dev, unsigned reg, unsigned size, uint64_t value);
/* The registers were loaded: BARs, MSI-X and INTx follow. Under dev->lock. */
void pci_config_follow(struct pci_device *dev);
void pci_intx_enable(struct pci_device *dev, bool on);
/* BARs answer nowhere. Under dev->lock. */
void pci_bars_unmap(struct pci_device *dev);
/* What was taken away makes room in the range. */
void pci_ghosts_drop(struct pci_bus *bus, uint64_t at, uint64_t bytes);

/* --- saved and loaded (pci_state.c; device_ops.state) ------------------------------------------
 */

struct state;
/* A function's registers and MSI-X table, for the state of the device that has it. */
void pci_device_state(struct pci_device *dev, struct state *state);
/* The bus's. */
void pci_bus_state(struct device *device, struct state *state);

/* --- the bus (pci.c) ---------------------------------------------------------------------- */

enum {
	PCI_SLOT_HOST,
	PCI_SLOT_CONSOLE,
	PCI_SLOT_RNG,
	PCI_SLOT_DISKS,			      /* and up, in the order of the configuration */
	PCI_SLOT_NICS = LAYOUT_PCI_SLOTS - 1, /* and down */
	PCI_SLOT_VSOCK = PCI_SLOT_NICS - VMM_NICS_MAX,
};

/* Where a BAR was whose device was taken away under its driver; 0 bytes: nowhere. */
struct pci_ghost {
	uint64_t at, bytes;
};

struct pci_bus {
	struct device dev;
	struct pci_device host;
	pthread_rwlock_t slots_lock;
	struct pci_device *slots[LAYOUT_PCI_SLOTS]; /* who shows; under slots_lock */
	struct pci_device *taken[LAYOUT_PCI_SLOTS]; /* and who waits, or is hidden; the same */
	pthread_mutex_t ghosts_lock;
	struct pci_ghost ghosts[LAYOUT_PCI_SLOTS][6]; /* by slot and BAR; under ghosts_lock */
	bool hot;				      /* the machine is made; control thread */
	uint32_t address;			      /* CONFIG_ADDRESS, atomic */
	uint64_t next_bar;			      /* where the next BAR goes when plugged */
	pthread_mutex_t lines;	 /* guards line_slots and the devices' intx fields */
	uint32_t line_slots[4];	 /* who raises GSI LAYOUT_IRQ_PCI_BASE + n, by slot */
	struct iothread *thread; /* pci_bus_thread() */
};

/* The GSI of a slot's INTA#. */
static inline unsigned pci_slot_gsi(unsigned slot)
{
	return LAYOUT_IRQ_PCI_BASE + slot % 4;
}

extern const struct device_ops pci_host_device;

/*
 * The thread "io/devices", for devices that do too little to have one of
 * their own; started for the first that asks, ends with the bus. When devices are created.
 */
int pci_bus_thread(struct vm *vm, struct iothread **thread, struct err *err);

/* Lets the device that was plugged into @slot show. */
void pci_slot_show(struct vm *vm, unsigned slot);
/*
 * Takes the device in @slot off the bus: from return on no vcpu is in its registers, and none
 * gets there. It is still to be destroyed. False if none shows there. Any thread.
 */
bool pci_slot_hide(struct vm *vm, unsigned slot);
/*
 * The same for a device that its driver has not let go of: where its BARs were reads as zero
 * until something else comes there, so that a driver which waits for the device to be reset
 * (virtio 1.2 §4.1.4.3.2: until device_status is 0) comes to an end. All ones would be
 * a status that never is.
 */
bool pci_slot_tear(struct vm *vm, unsigned slot);

/* May a BAR be here? */
bool pci_window_has(const struct vm *vm, uint64_t addr, uint64_t bytes);

#endif
