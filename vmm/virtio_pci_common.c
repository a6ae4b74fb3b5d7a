// SPDX-License-Identifier: ISC
/*
 * The common configuration structure of virtio over PCI (virtio 1.2 §4.1.4.3): a
 * register file with two selectors. A read of any size and place is cut out of an
 * image of the whole; a write must hit a field in its own width, as the
 * driver has to (§4.1.3.1), or nothing happens. All under dev->lock.
 */
#include <string.h>

#include "util/cleanup.h"
#include "vmm/virtio_pci.h"

static struct virtio_queue *selected(const struct virtio_pci *vp)
{
	return vp->queue_select < vp->dev->n_queues ? &vp->dev->queues[vp->queue_select] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? features >> 32 * select : 0;
}

static void put(uint8_t *image, unsigned at, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		image[at + i] = value >> 8 * i;
}

static void queue_image(const struct virtio_pci *vp, const struct virtio_queue *q, uint8_t *image)
{
	put(image, VIRTIO_PCI_COMMON_Q_SIZE, q->size, 2);
	put(image, VIRTIO_PCI_COMMON_Q_MSIX, vp->queue_vectors[q->index], 2);
	put(image, VIRTIO_PCI_COMMON_Q_ENABLE, q->enabled, 2);
	put(image, VIRTIO_PCI_COMMON_Q_NOFF, q->index, 2);
	put(image, VIRTIO_PCI_COMMON_Q_DESCLO, q->desc, 8);
	put(image, VIRTIO_PCI_COMMON_Q_AVAILLO, q->avail, 8);
	put(image, VIRTIO_PCI_COMMON_Q_USEDLO, q->used, 8);
	put(image, VIRTIO_PCI_COMMON_Q_NDATA, q->index, 2);
}

/* The whole register file as it reads now, so that any size and offset can be cut out of it. */
static void common_image(const struct virtio_pci *vp, uint8_t image[VIRTIO_PCI_COMMON_BYTES + 8])
{
	const struct virtio_device *dev = vp->dev;
	const struct virtio_queue *q = selected(vp);

	memset(image, 0, VIRTIO_PCI_COMMON_BYTES + 8);
	put(image, VIRTIO_PCI_COMMON_DFSELECT, vp->feature_select, 4);
	put(image, VIRTIO_PCI_COMMON_DF, feature_word(dev->offered, vp->feature_select), 4);
	put(image, VIRTIO_PCI_COMMON_GFSELECT, vp->driver_feature_select, 4);
	put(image, VIRTIO_PCI_COMMON_GF, feature_word(dev->accepted, vp->driver_feature_select), 4);
	put(image, VIRTIO_PCI_COMMON_MSIX, vp->config_vector, 2);
	put(image, VIRTIO_PCI_COMMON_NUMQ, dev->n_queues, 2);
	put(image, VIRTIO_PCI_COMMON_STATUS, dev->status, 1);
	put(image, VIRTIO_PCI_COMMON_CFGGENERATION, dev->generation, 1);
	put(image, VIRTIO_PCI_COMMON_Q_SELECT, vp->queue_select, 2);
	if (q)
		queue_image(vp, q, image);
}

static void write_feature_select(struct virtio_pci *vp, uint32_t value)
{
	vp->feature_select = value;
}

static void write_driver_feature_select(struct virtio_pci *vp, uint32_t value)
{
	vp->driver_feature_select = value;
}

static void write_driver_feature(struct virtio_pci *vp, uint32_t value)
{
	virtio_features_write(vp->dev, vp->driver_feature_select, value);
}

void virtio_pci_set_vector(const struct virtio_pci *vp, uint16_t *vector, uint32_t value)
{
	__atomic_store_n(vector, value < vp->pci.msix.n ? value : VIRTIO_VECTOR_NONE,
			 __ATOMIC_RELAXED);
}

static void write_config_vector(struct virtio_pci *vp, uint32_t value)
{
	virtio_pci_set_vector(vp, &vp->config_vector, value);
}

static void write_queue_vector(struct virtio_pci *vp, uint32_t value)
{
	if (selected(vp))
		virtio_pci_set_vector(vp, &vp->queue_vectors[vp->queue_select], value);
}

static void write_status(struct virtio_pci *vp, uint32_t value)
{
	virtio_status_write(vp->dev, value);
}

static void write_queue_select(struct virtio_pci *vp, uint32_t value)
{
	vp->queue_select = value;
}

static void write_queue_size(struct virtio_pci *vp, uint32_t value)
{
	struct virtio_queue *q = selected(vp);

	if (q && virtio_queue_open(q))
		q->size = value;
}

static void write_queue_enable(struct virtio_pci *vp, uint32_t value)
{
	struct virtio_queue *q = selected(vp);

	if (q && value == 1)
		virtio_queue_enable(q);
}

/* Half of one of a queue's addresses. */
static void write_half(struct virtio_pci *vp, size_t field, bool high, uint32_t value)
{
	struct virtio_queue *q = selected(vp);
	uint64_t *addr;

	if (!q || !virtio_queue_open(q))
		return;
	addr = (uint64_t *)((char *)q + field);
	*addr =
	    high ? (*addr & 0xffffffff) | (uint64_t)value << 32 : (*addr & ~0xffffffffull) | value;
}

#define WRITE_HALVES(name)                                                                         \
	static void write_##name##_low(struct virtio_pci *vp, uint32_t value)                      \
	{                                                                                          \
		write_half(vp, offsetof(struct virtio_queue, name), false, value);                 \
	}                                                                                          \
	static void write_##name##_high(struct virtio_pci *vp, uint32_t value)                     \
	{                                                                                          \
		write_half(vp, offsetof(struct virtio_queue, name), true, value);                  \
	}
WRITE_HALVES(desc)
WRITE_HALVES(avail)
WRITE_HALVES(used)

/* What can be written, each only in its own width (§4.1.3.1); 64-bit fields are two halves. */
static const struct {
	uint8_t at, size;
	void (*write)(struct virtio_pci *vp, uint32_t value);
} common_fields[] = {
    {VIRTIO_PCI_COMMON_DFSELECT, 4, write_feature_select},
    {VIRTIO_PCI_COMMON_GFSELECT, 4, write_driver_feature_select},
    {VIRTIO_PCI_COMMON_GF, 4, write_driver_feature},
    {VIRTIO_PCI_COMMON_MSIX, 2, write_config_vector},
    {VIRTIO_PCI_COMMON_STATUS, 1, write_status},
    {VIRTIO_PCI_COMMON_Q_SELECT, 2, write_queue_select},
    {VIRTIO_PCI_COMMON_Q_SIZE, 2, write_queue_size},
    {VIRTIO_PCI_COMMON_Q_MSIX, 2, write_queue_vector},
    {VIRTIO_PCI_COMMON_Q_ENABLE, 2, write_queue_enable},
    {VIRTIO_PCI_COMMON_Q_DESCLO, 4, write_desc_low},
    {VIRTIO_PCI_COMMON_Q_DESCHI, 4, write_desc_high},
    {VIRTIO_PCI_COMMON_Q_AVAILLO, 4, write_avail_low},
    {VIRTIO_PCI_COMMON_Q_AVAILHI, 4, write_avail_high},
    {VIRTIO_PCI_COMMON_Q_USEDLO, 4, write_used_low},
    {VIRTIO_PCI_COMMON_Q_USEDHI, 4, write_used_high},
};

void virtio_pci_common_write(struct virtio_pci *vp, uint64_t offset, unsigned size, uint64_t value)
{
	if (size == 8) {
		virtio_pci_common_write(vp, offset, 4, value & 0xffffffff);
		virtio_pci_common_write(vp, offset + 4, 4, value >> 32);
		return;
	}
	for (size_t i = 0; i < nitems(common_fields); i++) {
		if (common_fields[i].at == offset && common_fields[i].size == size)
			common_fields[i].write(vp, value);
	}
}

uint64_t virtio_pci_common_read(const struct virtio_pci *vp, uint64_t offset, unsigned size)
{
	uint8_t image[VIRTIO_PCI_COMMON_BYTES + 8];
	uint64_t value = 0;

	if (offset >= VIRTIO_PCI_COMMON_BYTES)
		return 0;
	common_image(vp, image);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)image[offset + i] << 8 * i;
	return value;
}
