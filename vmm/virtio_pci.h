/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTIO_PCI_H
#define FV_VMM_VIRTIO_PCI_H
/* Inside virtio over PCI: what virtio_pci.c and virtio_pci_common.c share. Others have virtio.h. */
#include <linux/virtio_pci.h>

#include "vmm/pci.h"
#include "vmm/virtio.h"

#define VIRTIO_PCI_COMMON_BYTES (VIRTIO_PCI_COMMON_Q_RESET + 2)

struct virtio_pci {
	struct pci_device pci;
	struct virtio_device *dev;
	unsigned window; /* the PCI configuration access capability's offset; under pci.lock */
	uint16_t *queue_vectors, config_vector; /* atomic: lanes read them */
	/* under dev->lock */
	uint32_t feature_select, driver_feature_select;
	uint16_t queue_select;
	bool active;
	uint64_t bar_at; /* where BAR 0 is mapped; 0: nowhere */
	bool kicks_bypass;
	pthread_mutex_t irq_lock; /* isr, and INTA# with it */
	uint8_t isr;
};

/* The common configuration (§4.1.4.3), under dev->lock: any offset and size within the page. */
uint64_t virtio_pci_common_read(const struct virtio_pci *vp, uint64_t offset, unsigned size);
void virtio_pci_common_write(struct virtio_pci *vp, uint64_t offset, unsigned size, uint64_t value);
/* A vector that is none reads back as NO_VECTOR (§4.1.5.1.2.2). */
void virtio_pci_set_vector(const struct virtio_pci *vp, uint16_t *vector, uint32_t value);

#endif
