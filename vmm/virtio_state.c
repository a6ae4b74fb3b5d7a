// SPDX-License-Identifier: ISC
/*
 * A virtio device and its PCI side, saved and loaded: features, status, rings, vectors.
 * Its lanes are paused, so all that was taken from a ring has been put back into it (but for what
 * the device itself keeps, and saves): of a ring no more is to be kept than how far either side is.
 * What is in the rings is memory.
 *
 * Loading, a ring is checked as when its driver describes it. Lanes are started, but being
 * paused look at nothing; when they go on they look at all queues, and raise each one's
 * interrupt once: one that was under way when the machine was saved may be nowhere (save.c).
 */
#include <errno.h>

#include "util/cleanup.h"
#include "vmm/state.h"
#include "vmm/virtio_pci.h"

static void ring_state(struct virtio_queue *queue, struct state *st)
{
	struct virtqueue *ring = &queue->ring;

	if (state_loading(st) && state_ok(st) &&
	    virtqueue_init(ring, &queue->dev->dev.vm->mem, queue->size, queue->desc, queue->avail,
			   queue->used) < 0)
		state_fail(st, -EINVAL, "queue %u: %s", queue->index, ring->broken_why);
	if (!state_loading(st) && ring->in_flight && !queue->dev->ops->saves_requests)
		state_fail(st, -EBUSY, "a request is under way");
	state_u16(st, &ring->next_avail);
	state_u16(st, &ring->next_used);
	state_u16(st, &ring->published);
	state_bool(st, &ring->broken);
	if (state_loading(st) && ring->broken)
		ring->broken_why = "it was so when it was saved";
}

static void queue_state(struct virtio_queue *queue, struct state *st)
{
	state_same(st, "entries of a queue", queue->max);
	state_u16(st, &queue->size);
	state_u64(st, &queue->desc);
	state_u64(st, &queue->avail);
	state_u64(st, &queue->used);
	state_bool(st, &queue->enabled);
	if (queue->size > queue->max && queue->enabled)
		state_fail(st, -EINVAL, "queue %u: its size", queue->index);
	if (queue->enabled)
		ring_state(queue, st);
}

/* Under dev->lock. */
static void common_state(struct virtio_device *dev, struct state *st)
{
	state_same(st, "kind of virtio device", dev->id);
	state_u64(st, &dev->accepted);
	state_u8(st, &dev->status);
	state_u8(st, &dev->generation);
	if (state_loading(st) && dev->status & VIRTIO_CONFIG_S_FEATURES_OK &&
	    dev->accepted & ~dev->offered)
		state_fail(st, -EOPNOTSUPP, "its driver uses features that it has no more (%#llx)",
			   (unsigned long long)(dev->accepted & ~dev->offered));
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK && !(dev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		state_fail(st, -EINVAL, "its status");
	state_same(st, "queues", dev->n_queues);
	for (unsigned i = 0; i < dev->n_queues && state_ok(st); i++)
		queue_state(&dev->queues[i], st);
}

static void vector_state(struct virtio_pci *vp, uint16_t *vector, struct state *st)
{
	uint16_t value = __atomic_load_n(vector, __ATOMIC_RELAXED);

	state_u16(st, &value);
	virtio_pci_set_vector(vp, vector, value);
}

/* Under dev->lock. */
static void transport_state(struct virtio_pci *vp, struct state *st)
{
	state_u32(st, &vp->feature_select);
	state_u32(st, &vp->driver_feature_select);
	state_u16(st, &vp->queue_select);
	vector_state(vp, &vp->config_vector, st);
	for (unsigned i = 0; i < vp->dev->n_queues; i++)
		vector_state(vp, &vp->queue_vectors[i], st);
	LOCK_SCOPE(&vp->irq_lock);
	state_u8(st, &vp->isr);
	if (state_loading(st) && state_ok(st))
		pci_intx_set(&vp->pci, vp->isr != 0);
}

void virtio_state(struct device *device, struct state *st)
{
	struct virtio_device *dev = (struct virtio_device *)device;
	struct virtio_pci *vp = dev->transport_data;

	/* Before dev->lock is taken: pci.lock comes before it. */
	pci_device_state(&vp->pci, st);
	LOCK_SCOPE(&dev->lock);
	common_state(dev, st);
	transport_state(vp, st);
	if (!state_loading(st))
		return;
	if (!state_ok(st))
		dev->status = 0;
	else if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_activate(dev, true);
}
