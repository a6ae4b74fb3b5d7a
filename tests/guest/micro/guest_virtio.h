/* SPDX-License-Identifier: ISC */
#ifndef FV_GUEST_VIRTIO_H
#define FV_GUEST_VIRTIO_H
/*
 * A polling driver for virtio 1.x over PCI (virtio 1.2 §4.1), as small as it
 * gets: finds a device by its type, gives its BARs addresses if nobody did, sets
 * up one queue with one request in flight. No interrupts.
 */
#include "guest.h"

enum { VIRTIO_NET = 1, VIRTIO_BLK = 2, VIRTIO_CONSOLE = 3, VIRTIO_RNG = 4, VIRTIO_VSOCK = 19 };

#ifndef VIRTIO_QUEUE_MAX
#define VIRTIO_QUEUE_MAX 64
#endif

#define VIRTIO_ACKNOWLEDGE 1
#define VIRTIO_DRIVER	   2
#define VIRTIO_DRIVER_OK   4
#define VIRTIO_FEATURES_OK 8
#define VIRTIO_NEEDS_RESET 64
#define VIRTIO_FAILED	   128

#define DESC_NEXT     1
#define DESC_WRITE    2 /* the device writes */
#define DESC_INDIRECT 4

struct virtio_common { /* §4.1.4.3 */
	uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
	uint16_t msix_config, num_queues;
	uint8_t status, generation;
	uint16_t queue_select, queue_size, queue_msix, queue_enable, queue_notify_off;
	uint32_t desc_lo, desc_hi, avail_lo, avail_hi, used_lo, used_hi;
};

struct virtio_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct virtio_queue {
	struct virtio_desc desc[VIRTIO_QUEUE_MAX];
	struct {
		uint16_t flags, idx, ring[VIRTIO_QUEUE_MAX], used_event;
	} avail;
	struct {
		uint16_t flags, idx;
		struct {
			uint32_t id, len;
		} ring[VIRTIO_QUEUE_MAX];
		uint16_t avail_event;
	} used __attribute__((aligned(16)));
	uint16_t size;
	uint16_t seen; /* used entries taken */
	volatile uint16_t *doorbell;
	uint16_t index;
} __attribute__((aligned(4096)));

struct virtio_dev {
	unsigned slot;
	volatile struct virtio_common *common;
	volatile uint8_t *config, *notify, *isr;
	uint32_t notify_multiplier;
};

#define PCI_COMMAND	    0x04
#define PCI_BAR0	    0x10
#define PCI_CAP		    0x34
#define PCI_VENDOR_CAP	    9
#define VIRTIO_VENDOR	    0x1af4
#define VIRTIO_BAR_FALLBACK 0xd0000000u /* from here, for BARs without address */

/* The address of a memory BAR, below 4 GiB; sizes and sets it if it has none. */
static inline uint64_t virtio_bar(unsigned slot, unsigned bar)
{
	unsigned reg = PCI_BAR0 + 4 * bar;
	uint32_t low = pci_read(slot, reg), size;
	bool wide = (low & 6) == 4;
	uint64_t at = low & ~15u;

	if (wide)
		at |= (uint64_t)pci_read(slot, reg + 4) << 32;
	if (at && at < 1ull << 32)
		return at;
	pci_write(slot, reg, 0xffffffff);
	size = ~(pci_read(slot, reg) & ~15u) + 1;
	if (!size)
		return 0;
	at = VIRTIO_BAR_FALLBACK + ((slot * 6 + bar) << 16);
	at = (at + size - 1) & ~(uint64_t)(size - 1);
	pci_write(slot, reg, (uint32_t)at);
	if (wide)
		pci_write(slot, reg + 4, 0);
	return at;
}

static inline void virtio_take_cap(struct virtio_dev *dev, unsigned cap)
{
	unsigned type = pci_read(dev->slot, cap) >> 24, bar = pci_read(dev->slot, cap + 4) & 0xff;
	uint64_t at;

	if (type < 1 || type > 4 || bar > 5)
		return;
	at = virtio_bar(dev->slot, bar) + pci_read(dev->slot, cap + 8);
	if (type == 1) {
		dev->common = (void *)at;
	} else if (type == 2) {
		dev->notify = (void *)at;
		dev->notify_multiplier = pci_read(dev->slot, cap + 16);
	} else if (type == 3) {
		dev->isr = (void *)at;
	} else {
		dev->config = (void *)at;
	}
}

/* The @nth device of that type; false if there is none. */
static inline bool virtio_find(struct virtio_dev *dev, unsigned type, unsigned nth)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		if (pci_read(slot, 0) != ((0x1040 + type) << 16 | VIRTIO_VENDOR) || nth--)
			continue;
		*dev = (struct virtio_dev){.slot = slot};
		for (unsigned cap = pci_read(slot, PCI_CAP) & 0xfc, n = 0; cap && n < 48; n++) {
			if ((pci_read(slot, cap) & 0xff) == PCI_VENDOR_CAP)
				virtio_take_cap(dev, cap);
			cap = pci_read(slot, cap) >> 8 & 0xfc;
		}
		pci_write(slot, PCI_COMMAND, pci_read(slot, PCI_COMMAND) | 6); /* memory, DMA */
		return dev->common && dev->notify;
	}
	return false;
}

static inline uint64_t virtio_features(const struct virtio_dev *dev)
{
	uint64_t f;

	dev->common->device_feature_select = 0;
	f = dev->common->device_feature;
	dev->common->device_feature_select = 1;
	return f | (uint64_t)dev->common->device_feature << 32;
}

/* Resets it and agrees on VERSION_1 and what is in @wanted. False if it refuses. */
static inline bool virtio_begin(const struct virtio_dev *dev, uint64_t wanted)
{
	volatile struct virtio_common *c = dev->common;
	uint64_t f;

	c->status = 0;
	while (c->status)
		;
	c->status = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER;
	f = virtio_features(dev) & (1ull << 32 | wanted);
	c->driver_feature_select = 0;
	c->driver_feature = (uint32_t)f;
	c->driver_feature_select = 1;
	c->driver_feature = (uint32_t)(f >> 32);
	c->status = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK;
	return c->status & VIRTIO_FEATURES_OK;
}

/* Sets up queue @index in @q (zeroed by the caller if used before). False if there is none. */
static inline bool virtio_queue_setup(const struct virtio_dev *dev, struct virtio_queue *q,
				      uint16_t index)
{
	volatile struct virtio_common *c = dev->common;

	c->queue_select = index;
	if (!c->queue_size)
		return false;
	if (c->queue_size > VIRTIO_QUEUE_MAX)
		c->queue_size = VIRTIO_QUEUE_MAX;
	q->size = c->queue_size;
	q->index = index;
	q->seen = 0;
	q->avail.flags = 1; /* no interrupts, please */
	c->desc_lo = (uint32_t)(uintptr_t)q->desc;
	c->desc_hi = 0;
	c->avail_lo = (uint32_t)(uintptr_t)&q->avail;
	c->avail_hi = 0;
	c->used_lo = (uint32_t)(uintptr_t)&q->used;
	c->used_hi = 0;
	q->doorbell =
	    (volatile uint16_t *)(dev->notify + c->queue_notify_off * dev->notify_multiplier);
	c->queue_enable = 1;
	return true;
}

static inline void virtio_ok(const struct virtio_dev *dev)
{
	dev->common->status |= VIRTIO_DRIVER_OK;
}

static inline void virtio_kick(struct virtio_queue *q)
{
	barrier();
	*q->doorbell = q->index;
}

/* Offers the chain that begins at descriptor @head. */
static inline void virtio_offer(struct virtio_queue *q, uint16_t head)
{
	q->avail.ring[q->avail.idx % q->size] = head;
	barrier();
	*(volatile uint16_t *)&q->avail.idx = (uint16_t)(q->avail.idx + 1);
}

static inline bool virtio_done(struct virtio_queue *q)
{
	return *(volatile uint16_t *)&q->used.idx != q->seen;
}

/* Waits for the next used chain; returns the bytes that the device wrote. */
static inline uint32_t virtio_wait(struct virtio_queue *q)
{
	while (!virtio_done(q))
		__asm__ volatile("pause");
	barrier();
	return q->used.ring[q->seen++ % q->size].len;
}

static inline void virtio_desc(struct virtio_queue *q, uint16_t i, const void *p, uint32_t len,
			       uint16_t flags, uint16_t next)
{
	q->desc[i] = (struct virtio_desc){(uintptr_t)p, len, flags, next};
}

/* --- virtio-blk, §5.2 ------------------------------------------------------------------- */

enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8 };

#define BLK_F_RO    (1ull << 5)
#define BLK_F_FLUSH (1ull << 9)
#define BLK_F_MQ    (1ull << 12)

struct blk {
	struct virtio_dev dev;
	struct virtio_queue *queue;
	uint64_t features;
	uint64_t sectors;
};

static inline bool blk_open(struct blk *blk, struct virtio_queue *q, unsigned nth)
{
	if (!virtio_find(&blk->dev, VIRTIO_BLK, nth) ||
	    !virtio_begin(&blk->dev, BLK_F_RO | BLK_F_FLUSH) ||
	    !virtio_queue_setup(&blk->dev, q, 0))
		return false;
	blk->queue = q;
	blk->features = virtio_features(&blk->dev);
	blk->sectors = *(volatile uint64_t *)blk->dev.config;
	virtio_ok(&blk->dev);
	return true;
}

/* One request, waited for. Returns its status: 0 OK, 1 I/O error, 2 unsupported. */
static inline uint8_t blk_do(struct blk *blk, uint32_t type, uint64_t sector, void *data,
			     uint32_t len)
{
	static struct {
		uint32_t type, reserved;
		uint64_t sector;
	} head;
	static volatile uint8_t status;

	head.type = type;
	head.sector = sector;
	status = 0xff;
	virtio_desc(blk->queue, 0, &head, sizeof(head), DESC_NEXT, len ? 1 : 2);
	virtio_desc(blk->queue, 1, data, len, DESC_NEXT | (type == BLK_OUT ? 0 : DESC_WRITE), 2);
	virtio_desc(blk->queue, 2, (const void *)&status, 1, DESC_WRITE, 0);
	virtio_offer(blk->queue, 0);
	virtio_kick(blk->queue);
	virtio_wait(blk->queue);
	return status;
}

#endif
