// SPDX-License-Identifier: ISC
/*
 * Virtio over PCI (virtio 1.2 §4.1), modern devices only.
 *
 * BAR 0 (64-bit) holds the four structures, a page each, that the vendor
 * capabilities point at: common configuration, ISR, device configuration, and
 * notifications, four bytes a queue. BAR 2 is the MSI-X table.
 *
 * A notification is an ioeventfd while the device is active (DRIVER_OK) and BAR
 * 0 is mapped: the vcpu does not leave the kernel. Where it does come here (through
 * the window in configuration space, or if KVM refused), the same eventfd is written.
 *
 * The registers of the common configuration are in virtio_pci_common.c.
 *
 * Locks: pci.lock before dev->lock (pci.h); irq_lock inside, for ISR and
 * INTA#, which must change together.
 */
#define LOG_MODULE "virtio"
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "vmm/virtio_pci.h"

enum { BAR_VIRTIO = 0, BAR_MSIX = 2 };

#define COMMON_OFFSET	  0x0000
#define ISR_OFFSET	  0x1000
#define CONFIG_OFFSET	  0x2000
#define NOTIFY_OFFSET	  0x3000
#define PAGE_BYTES	  0x1000
#define BAR_BYTES	  0x4000
#define NOTIFY_MULT	  4
#define ISR_QUEUE	  1
#define ISR_CONFIG	  2
#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_VIRTIO 0x1040

/* --- interrupts (§4.1.4.5, §4.1.5.1) ------------------------------------------------------ */

static void interrupt(struct virtio_pci *vp, uint16_t vector, uint8_t isr)
{
	if (pci_msix_raise(&vp->pci, vector))
		return;
	LOCK_SCOPE(&vp->irq_lock);
	vp->isr |= isr;
	pci_intx_set(&vp->pci, true);
}

static void interrupt_queue(struct virtio_device *dev, unsigned queue)
{
	struct virtio_pci *vp = dev->transport_data;

	interrupt(vp, __atomic_load_n(&vp->queue_vectors[queue], __ATOMIC_RELAXED), ISR_QUEUE);
}

static void interrupt_config(struct virtio_device *dev)
{
	struct virtio_pci *vp = dev->transport_data;

	interrupt(vp, __atomic_load_n(&vp->config_vector, __ATOMIC_RELAXED), ISR_CONFIG);
}

/* Reading takes it, and lowers the line. */
static uint8_t isr_take(struct virtio_pci *vp)
{
	LOCK_SCOPE(&vp->irq_lock);
	uint8_t isr = vp->isr;

	vp->isr = 0;
	pci_intx_set(&vp->pci, false);
	return isr;
}

/* --- kicks -------------------------------------------------------------------------------- */

/* Adds or removes the ioeventfds so that they are there while active and mapped. Under dev->lock.
 */
static void kicks_update(struct virtio_pci *vp)
{
	struct virtio_device *dev = vp->dev;
	bool want = vp->active && vp->bar_at;

	if (want == vp->kicks_bypass)
		return;
	for (unsigned i = 0; i < dev->n_queues; i++) {
		uint64_t at = vp->bar_at + NOTIFY_OFFSET + NOTIFY_MULT * i;
		int r = vm_ioeventfd(dev->dev.vm, BUS_MMIO, at, 0, false, 0, dev->queues[i].kick.fd,
				     want);

		if (r < 0)
			log_debug("%s: queue %u: ioeventfd: %s", dev->dev.name, i, err_name(r));
	}
	vp->kicks_bypass = want;
}

static void set_active(struct virtio_device *dev, bool active)
{
	struct virtio_pci *vp = dev->transport_data;

	vp->active = active;
	kicks_update(vp);
}

static void bar_mapped(struct pci_device *pci, unsigned bar, uint64_t addr)
{
	struct virtio_pci *vp = (struct virtio_pci *)pci;

	if (bar != BAR_VIRTIO)
		return;
	LOCK_SCOPE(&vp->dev->lock);
	/* A BAR that moves is unmapped first: the old kicks go while bar_at is still theirs. */
	if (!addr) {
		bool active = vp->active;

		vp->active = false;
		kicks_update(vp);
		vp->active = active;
	}
	vp->bar_at = addr;
	kicks_update(vp);
}

/* --- BAR 0 -------------------------------------------------------------------------------- */

static uint64_t bar_read(struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size)
{
	struct virtio_pci *vp = (struct virtio_pci *)pci;
	uint64_t page = offset & ~(PAGE_BYTES - 1ull), in_page = offset - page;

	if (bar != BAR_VIRTIO)
		return 0;
	if (page == ISR_OFFSET)
		return in_page == 0 ? isr_take(vp) : 0;
	LOCK_SCOPE(&vp->dev->lock);
	if (page == COMMON_OFFSET)
		return virtio_pci_common_read(vp, in_page, size);
	if (page == CONFIG_OFFSET)
		return virtio_config_read(vp->dev, in_page, size);
	return 0;
}

static void notify_write(struct virtio_pci *vp, uint64_t in_page)
{
	if (in_page % NOTIFY_MULT == 0 && in_page / NOTIFY_MULT < vp->dev->n_queues)
		virtio_kick(&vp->dev->queues[in_page / NOTIFY_MULT]);
}

static void bar_write(struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size,
		      uint64_t value)
{
	struct virtio_pci *vp = (struct virtio_pci *)pci;
	uint64_t page = offset & ~(PAGE_BYTES - 1ull), in_page = offset - page;

	if (bar != BAR_VIRTIO)
		return;
	if (page == NOTIFY_OFFSET) {
		notify_write(vp, in_page);
		return;
	}
	LOCK_SCOPE(&vp->dev->lock);
	if (page == COMMON_OFFSET)
		virtio_pci_common_write(vp, in_page, size, value);
	else if (page == CONFIG_OFFSET)
		virtio_config_write(vp->dev, in_page, size, value);
}

/* --- the window in configuration space (§4.1.4.9) ----------------------------------------- */

static uint32_t window_get(const struct virtio_pci *vp, unsigned field)
{
	uint32_t value;

	memcpy(&value, vp->pci.config + vp->window + field, sizeof(value));
	return value;
}

/* Does a config access of @reg move the window's data, and where to? */
static bool window_target(const struct virtio_pci *vp, unsigned reg, unsigned size, unsigned *bar,
			  uint32_t *offset, uint32_t *len)
{
	unsigned data = vp->window + sizeof(struct virtio_pci_cap);

	if (reg + size <= data || reg >= data + 4)
		return false;
	*bar = vp->pci.config[vp->window + VIRTIO_PCI_CAP_BAR];
	*offset = window_get(vp, VIRTIO_PCI_CAP_OFFSET);
	*len = window_get(vp, VIRTIO_PCI_CAP_LENGTH);
	return *bar < nitems(vp->pci.bars) && (*len == 1 || *len == 2 || *len == 4) &&
	       *offset % *len == 0 && (uint64_t)*offset + *len <= vp->pci.bars[*bar].bytes;
}

static void config_read(struct pci_device *pci, unsigned reg, unsigned size)
{
	struct virtio_pci *vp = (struct virtio_pci *)pci;
	uint32_t offset, len, value;
	unsigned bar;

	if (!window_target(vp, reg, size, &bar, &offset, &len))
		return;
	value = pci_bar_read(pci, bar, offset, len);
	memcpy(pci->config + vp->window + sizeof(struct virtio_pci_cap), &value, sizeof(value));
}

static void config_written(struct pci_device *pci, unsigned reg, unsigned size)
{
	struct virtio_pci *vp = (struct virtio_pci *)pci;
	uint32_t offset, len, value;
	unsigned bar;

	if (!window_target(vp, reg, size, &bar, &offset, &len))
		return;
	value = window_get(vp, sizeof(struct virtio_pci_cap));
	if (len < 4)
		value &= (1u << 8 * len) - 1;
	pci_bar_write(pci, bar, offset, len, value);
}

static const struct pci_device_ops pci_ops = {
    .bar_read = bar_read,
    .bar_write = bar_write,
    .bar_mapped = bar_mapped,
    .config_read = config_read,
    .config_written = config_written,
};

/* --- beginning and end -------------------------------------------------------------------- */

static void transport_reset(struct virtio_device *dev)
{
	struct virtio_pci *vp = dev->transport_data;

	vp->feature_select = vp->driver_feature_select = 0;
	vp->queue_select = 0;
	virtio_pci_set_vector(vp, &vp->config_vector, VIRTIO_VECTOR_NONE);
	for (unsigned i = 0; i < dev->n_queues; i++)
		virtio_pci_set_vector(vp, &vp->queue_vectors[i], VIRTIO_VECTOR_NONE);
	isr_take(vp);
}

static void unplug(struct virtio_device *dev)
{
	struct virtio_pci *vp = take_ptr(dev->transport_data);

	pci_device_fini(&vp->pci);
	pthread_mutex_destroy(&vp->irq_lock);
	dev->transport = NULL;
	free(vp->queue_vectors);
	free(vp);
}

static const struct virtio_transport transport = {
    .interrupt_queue = interrupt_queue,
    .interrupt_config = interrupt_config,
    .set_active = set_active,
    .reset = transport_reset,
    .unplug = unplug,
};

static void add_structure(struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length)
{
	struct virtio_pci_notify_cap cap = {.cap = {.cap_vndr = PCI_CAP_ID_VNDR,
						    .cap_len = sizeof(cap.cap),
						    .cfg_type = type,
						    .bar = BAR_VIRTIO,
						    .offset = offset,
						    .length = length},
					    .notify_off_multiplier = NOTIFY_MULT};

	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		cap.cap.cap_len = sizeof(cap);
	pci_cap_add(&vp->pci, &cap, cap.cap.cap_len);
}

static void add_capabilities(struct virtio_pci *vp)
{
	const struct virtio_pci_cfg_cap window = {.cap = {.cap_vndr = PCI_CAP_ID_VNDR,
							  .cap_len = sizeof(window),
							  .cfg_type = VIRTIO_PCI_CAP_PCI_CFG}};
	uint8_t *writable;

	add_structure(vp, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, VIRTIO_PCI_COMMON_BYTES);
	add_structure(vp, VIRTIO_PCI_CAP_ISR_CFG, ISR_OFFSET, 1);
	if (vp->dev->config_len)
		add_structure(vp, VIRTIO_PCI_CAP_DEVICE_CFG, CONFIG_OFFSET, vp->dev->config_len);
	add_structure(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFFSET,
		      NOTIFY_MULT * vp->dev->n_queues);
	vp->window = pci_cap_add(&vp->pci, &window, sizeof(window));
	writable = vp->pci.writable + vp->window;
	writable[VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(writable + VIRTIO_PCI_CAP_OFFSET, 0xff, sizeof(window) - VIRTIO_PCI_CAP_OFFSET);
}

int virtio_pci_plug(struct virtio_device *dev, unsigned slot, uint32_t class_code, struct err *err)
{
	const struct pci_id id = {.vendor = PCI_VENDOR_VIRTIO,
				  .device = PCI_DEVICE_VIRTIO + dev->id,
				  .subsystem_vendor = PCI_VENDOR_VIRTIO,
				  .subsystem = 0x40 + dev->id,
				  .revision = 1,
				  .class_code = class_code};
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	int r;

	if (!vp)
		return err_set(err, -ENOMEM, "no memory for a PCI device");
	pci_device_init(&vp->pci, dev->dev.vm, &pci_ops, &id);
	pthread_mutex_init(&vp->irq_lock, NULL);
	vp->dev = dev;
	dev->transport_data = vp;
	dev->transport = &transport;
	vp->queue_vectors = calloc(dev->n_queues, sizeof(*vp->queue_vectors));
	r = vp->queue_vectors ? pci_msix_add(&vp->pci, BAR_MSIX, dev->n_queues + 1) : -ENOMEM;
	if (r < 0)
		return err_set(err, r, "no memory for a PCI device");
	transport_reset(dev);
	pci_bar_add(&vp->pci, BAR_VIRTIO, BAR_BYTES, true);
	add_capabilities(vp);
	return pci_device_plug(&vp->pci, slot, err);
}
