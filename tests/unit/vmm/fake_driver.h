/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_FAKE_DRIVER_H
#define FV_TEST_FAKE_DRIVER_H
/*
 * A guest's virtio driver over PCI, on a fake_vm: finds the structures by their
 * capabilities, negotiates, describes queues, offers chains and waits for
 * interrupts, by registers and rings alone.
 */
#include <linux/virtio_pci.h>

#include "fake_vm.h"

enum { FD_NEXT = 1, FD_WRITE = 2, FD_INDIRECT = 4 };

#define DRIVER_QUEUES 8

struct driver_queue {
	uint16_t size, avail_idx, used_seen;
	uint64_t desc, avail, used;
	unsigned next_desc;
};

struct driver {
	struct fake_vm *f;
	unsigned slot;
	uint64_t common, isr, config, notify;
	uint32_t notify_mult;
	struct driver_queue queues[DRIVER_QUEUES];
	uint64_t heap; /* guest memory not yet given out */
};

static inline uint64_t driver_alloc(struct driver *d, uint64_t bytes)
{
	uint64_t at = d->heap;

	d->heap = (d->heap + bytes + 15) & ~15ull;
	assert(d->heap <= FAKE_RAM_BYTES);
	return at;
}

static inline uint64_t driver_structure(struct driver *d, uint8_t type, unsigned *cap)
{
	for (unsigned nth = 0;; nth++) {
		unsigned at = fake_cap(d->f, d->slot, PCI_CAP_ID_VNDR, nth);

		if (!at)
			return 0;
		if (fake_config_read(d->f, d->slot, at + VIRTIO_PCI_CAP_CFG_TYPE, 1) != type)
			continue;
		if (cap)
			*cap = at;
		return fake_bar(d->f, d->slot,
				fake_config_read(d->f, d->slot, at + VIRTIO_PCI_CAP_BAR, 1)) +
		       fake_config_read(d->f, d->slot, at + VIRTIO_PCI_CAP_OFFSET, 4);
	}
}

static inline void driver_open(struct driver *d, struct fake_vm *f, unsigned slot)
{
	unsigned cap = 0;

	*d = (struct driver){.f = f, .slot = slot, .heap = 0x10000};
	d->common = driver_structure(d, VIRTIO_PCI_CAP_COMMON_CFG, NULL);
	d->isr = driver_structure(d, VIRTIO_PCI_CAP_ISR_CFG, NULL);
	d->config = driver_structure(d, VIRTIO_PCI_CAP_DEVICE_CFG, NULL);
	d->notify = driver_structure(d, VIRTIO_PCI_CAP_NOTIFY_CFG, &cap);
	d->notify_mult = fake_config_read(f, slot, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
}

static inline uint64_t common_get(struct driver *d, unsigned reg, unsigned size)
{
	return fake_read(d->f, BUS_MMIO, d->common + reg, size);
}

static inline void common_set(struct driver *d, unsigned reg, unsigned size, uint64_t value)
{
	fake_write(d->f, BUS_MMIO, d->common + reg, size, value);
}

static inline uint8_t driver_status(struct driver *d)
{
	return common_get(d, VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void driver_set_status(struct driver *d, uint8_t bits)
{
	common_set(d, VIRTIO_PCI_COMMON_STATUS, 1, driver_status(d) | bits);
}

static inline bool driver_is_reset(void *arg)
{
	return driver_status(arg) == 0;
}

static inline bool driver_reset(struct driver *d)
{
	common_set(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	return fake_wait(driver_is_reset, d);
}

static inline uint64_t driver_offered(struct driver *d)
{
	uint64_t features;

	common_set(d, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	features = common_get(d, VIRTIO_PCI_COMMON_DF, 4);
	common_set(d, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return features | common_get(d, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

/* Up to FEATURES_OK; false if the device does not agree. */
static inline bool driver_negotiate(struct driver *d, uint64_t features)
{
	driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_set_status(d, VIRTIO_CONFIG_S_DRIVER);
	for (unsigned word = 0; word < 2; word++) {
		common_set(d, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
		common_set(d, VIRTIO_PCI_COMMON_GF, 4, features >> 32 * word & 0xffffffff);
	}
	driver_set_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
	return driver_status(d) & VIRTIO_CONFIG_S_FEATURES_OK;
}

/* Describes and enables queue @n with @size entries (0: as many as offered). */
static inline void driver_queue(struct driver *d, unsigned n, uint16_t size)
{
	struct driver_queue *q = &d->queues[n];

	common_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, n);
	q->size = size ? size : common_get(d, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	q->avail_idx = q->used_seen = 0;
	q->next_desc = 0;
	q->desc = driver_alloc(d, 16 * q->size);
	q->avail = driver_alloc(d, 6 + 2 * q->size);
	q->used = driver_alloc(d, 6 + 8 * q->size);
	memset(fake_ram(d->f, q->desc), 0, d->heap - q->desc);
	common_set(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, q->size);
	common_set(d, VIRTIO_PCI_COMMON_Q_DESCLO, 4, q->desc);
	common_set(d, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0);
	common_set(d, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, q->avail);
	common_set(d, VIRTIO_PCI_COMMON_Q_USEDLO, 4, q->used);
	common_set(d, VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0);
	common_set(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static inline void driver_ok(struct driver *d)
{
	driver_set_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

/* All in one: reset, @features (and VERSION_1), @n queues of the size offered, DRIVER_OK. */
static inline bool driver_start(struct driver *d, uint64_t features, unsigned n)
{
	if (!driver_reset(d) || !driver_negotiate(d, features | 1ull << VIRTIO_F_VERSION_1))
		return false;
	for (unsigned i = 0; i < n; i++)
		driver_queue(d, i, 0);
	driver_ok(d);
	return driver_status(d) & VIRTIO_CONFIG_S_DRIVER_OK;
}

/* --- rings -------------------------------------------------------------------------------- */

static inline void ram_put(struct fake_vm *f, uint64_t at, uint64_t value, unsigned size)
{
	memcpy(fake_ram(f, at), &value, size);
}

static inline uint16_t ram_idx(struct fake_vm *f, uint64_t at)
{
	return __atomic_load_n((uint16_t *)(void *)fake_ram(f, at), __ATOMIC_ACQUIRE);
}

static inline void driver_desc(struct driver *d, unsigned n, unsigned i, uint64_t addr,
			       uint32_t len, uint16_t flags, uint16_t next)
{
	uint64_t at = d->queues[n].desc + 16 * i;

	ram_put(d->f, at, addr, 8);
	ram_put(d->f, at + 8, len, 4);
	ram_put(d->f, at + 12, flags, 2);
	ram_put(d->f, at + 14, next, 2);
}

/* Makes @head available, without telling. */
static inline void driver_offer(struct driver *d, unsigned n, uint16_t head)
{
	struct driver_queue *q = &d->queues[n];

	ram_put(d->f, q->avail + 4 + 2 * (q->avail_idx % q->size), head, 2);
	__atomic_store_n((uint16_t *)(void *)fake_ram(d->f, q->avail + 2), ++q->avail_idx,
			 __ATOMIC_RELEASE);
}

static inline void driver_kick(struct driver *d, unsigned n)
{
	fake_write(d->f, BUS_MMIO, d->notify + (uint64_t)d->notify_mult * n, 2, n);
}

struct driver_buffer {
	uint64_t addr;
	uint32_t len;
	bool write;
};

/* One chain of @count buffers, offered; its head. Descriptors are used round and round. */
static inline uint16_t driver_chain(struct driver *d, unsigned n, const struct driver_buffer *bufs,
				    unsigned count)
{
	struct driver_queue *q = &d->queues[n];
	unsigned head = q->next_desc;

	for (unsigned i = 0; i < count; i++) {
		unsigned at = q->next_desc;

		q->next_desc = (q->next_desc + 1) % q->size;
		driver_desc(d, n, at, bufs[i].addr, bufs[i].len,
			    (bufs[i].write ? FD_WRITE : 0) | (i + 1 < count ? FD_NEXT : 0),
			    q->next_desc);
	}
	driver_offer(d, n, head);
	return head;
}

struct driver_used {
	uint32_t id, len;
};

static inline bool driver_has_used(struct driver *d, unsigned n)
{
	return ram_idx(d->f, d->queues[n].used + 2) != d->queues[n].used_seen;
}

/* Waits for the next used element; false after the deadline. */
static inline bool driver_wait(struct driver *d, unsigned n, struct driver_used *used)
{
	struct driver_queue *q = &d->queues[n];

	for (unsigned i = 0; !driver_has_used(d, n); i++) {
		if (i == FAKE_DEADLINE_MS * 10)
			return false;
		usleep(100);
	}
	memcpy(used, fake_ram(d->f, q->used + 4 + 8 * (q->used_seen % q->size)), sizeof(*used));
	q->used_seen++;
	return true;
}

/* Has the device asked to be reset (by another thread's doing)? */
static inline bool driver_needs_reset(void *arg)
{
	return driver_status(arg) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* --- MSI-X -------------------------------------------------------------------------------- */

/* Enables MSI-X; vector n of the table goes to 0xfee00000 with data 0x4000 + n. */
static inline void driver_msix_on(struct driver *d, unsigned vectors)
{
	unsigned cap = fake_cap(d->f, d->slot, PCI_CAP_ID_MSIX, 0);
	uint64_t table = fake_bar(d->f, d->slot, 2);

	fake_config_write(d->f, d->slot, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < vectors; i++) {
		fake_write(d->f, BUS_MMIO, table + 16 * i, 4, 0xfee00000);
		fake_write(d->f, BUS_MMIO, table + 16 * i + 4, 4, 0);
		fake_write(d->f, BUS_MMIO, table + 16 * i + 8, 4, 0x4000 + i);
		fake_write(d->f, BUS_MMIO, table + 16 * i + 12, 4, 0);
	}
}

#endif
