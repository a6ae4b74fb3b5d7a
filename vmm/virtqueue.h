/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VIRTQUEUE_H
#define FV_VMM_VIRTQUEUE_H
/*
 * The split virtqueue, device side (virtio 1.2 §2.7): arithmetic over guest
 * memory and nothing else. Knows no KVM, no PCI, no threads: a queue belongs to
 * one thread at a time.
 *
 * The guest writes the rings while we read them. So every value is read once,
 * into a local, and checked there; every address goes through gmem. What a
 * driver could only do by a fault or by malice gives -EPROTO, and the queue
 * gives nothing else from then on: its device then needs a reset.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/gmem.h"

#define VIRTQUEUE_SIZE_MAX 1024

struct virtqueue {
	const struct gmem *mem;
	uint64_t desc, avail, used; /* guest physical */
	uint16_t size;		    /* a power of two */
	uint16_t chain_max;	    /* descriptors in one chain, indirect ones included */
	bool event_idx;		    /* VIRTIO_RING_F_EVENT_IDX was negotiated */
	bool indirect;		    /* VIRTIO_RING_F_INDIRECT_DESC was negotiated */
	bool broken;
	uint16_t next_avail; /* the avail ring's entry to be taken next */
	uint16_t next_used;  /* the used ring's entry to be written next */
	uint16_t published;  /* used->idx as the guest sees it */
	uint16_t in_flight;  /* taken and not yet pushed */
	/* Heads of chains that were taken before the guest went on here: popped first. The array
	 * is whose who set it. */
	const uint16_t *again;
	uint16_t n_again;
	bool popped_again;	/* the last pop gave one of those */
	const char *broken_why; /* static words */
};

/* A request: buffers that the device reads (out), then those that it writes (in). */
struct virtqueue_chain {
	uint16_t head;
	unsigned n_out, n_in;
	struct iovec *out, *in; /* in the array given to virtqueue_pop() */
	uint64_t out_bytes, in_bytes;
};

/*
 * Takes a queue as the driver described it. -EINVAL with a reason in
 * ->broken_why: size 0, beyond VIRTQUEUE_SIZE_MAX or no power of two (§2.7),
 * parts misaligned (§2.7: 16, 2, 4) or not wholly in RAM.
 */
int virtqueue_init(struct virtqueue *vq, const struct gmem *mem, uint16_t size, uint64_t desc,
		   uint64_t avail, uint64_t used);

/*
 * The next available chain, with its buffers in @iov (room for ->chain_max
 * entries). -EAGAIN if there is none, -EPROTO for a guest's fault.
 */
int virtqueue_pop(struct virtqueue *vq, struct iovec *iov, struct virtqueue_chain *chain);
/* Is there a chain to pop, or a fault to find? */
bool virtqueue_pending(const struct virtqueue *vq);
/* Puts the chain that was popped last back: the next pop gives it again. */
void virtqueue_unpop(struct virtqueue *vq);
/* Writes a used element: @len bytes of the chain's in part were written. Not yet seen. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t len);
/*
 * Lets the guest see what was pushed. True if it wants an interrupt for it
 * (§2.7.7, §2.7.10); false too if nothing was pushed.
 */
bool virtqueue_publish(struct virtqueue *vq);

/* Asks the driver for no notifications (a hint; it may come with EVENT_IDX by itself). */
void virtqueue_notify_off(struct virtqueue *vq);
/* Asks for them again. True if chains have come meanwhile: look again before sleeping. */
bool virtqueue_notify_on(struct virtqueue *vq);

/* Copies the first bytes of the out part and takes them off it; how many there were, ≤ @len. */
size_t virtqueue_chain_read(struct virtqueue_chain *chain, void *buf, size_t len);
/* Writes to the beginning of the in part and takes that off it; how many went in. */
size_t virtqueue_chain_write(struct virtqueue_chain *chain, const void *buf, size_t len);
/* Takes the last byte off the in part and says where it is; NULL if there is none. */
uint8_t *virtqueue_chain_last(struct virtqueue_chain *chain);

#endif
