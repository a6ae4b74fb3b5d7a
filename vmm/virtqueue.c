// SPDX-License-Identifier: ISC
/*
 * Split virtqueue arithmetic, device side.
 *
 * Order of memory accesses. The driver fills descriptors and the avail ring,
 * then stores avail->idx: we load idx with acquire before reading either. We
 * fill buffers and used elements, then store used->idx. In two places a store
 * must be seen before a following load is done, so both are sequentially
 * consistent: used->idx is published before we look whether the driver wants an
 * interrupt; and notifications are asked for before we look whether something
 * came. Either we see the other side's store or it sees ours; with less
 * both could miss, and the queue would stall.
 *
 * Indices are 16 bits wide and wrap freely; an entry's place is index % size.
 */
#include <errno.h>
#include <string.h>

#include "vmm/virtqueue.h"

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

struct used_elem {
	uint32_t id, len;
};

/* avail: flags, idx, ring[size], used_event. used: flags, idx, ring[size], avail_event. */
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4 };
enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };

static uint64_t avail_bytes(uint16_t size)
{
	return RING_ENTRIES + 2ull * size + 2;
}

static uint64_t used_bytes(uint16_t size)
{
	return RING_ENTRIES + sizeof(struct used_elem) * size + 2;
}

static int fault(struct virtqueue *vq, const char *why)
{
	vq->broken = true;
	vq->broken_why = why;
	return -EPROTO;
}

static const char *description_fault(const struct virtqueue *vq)
{
	if (!vq->size || vq->size > VIRTQUEUE_SIZE_MAX || (vq->size & (vq->size - 1)))
		return "queue size";
	if (vq->desc % 16 || vq->avail % 2 || vq->used % 4)
		return "queue alignment";
	if (!gmem_ptr(vq->mem, vq->desc, sizeof(struct desc) * vq->size) ||
	    !gmem_ptr(vq->mem, vq->avail, avail_bytes(vq->size)) ||
	    !gmem_ptr(vq->mem, vq->used, used_bytes(vq->size)))
		return "queue outside of memory";
	return NULL;
}

int virtqueue_init(struct virtqueue *vq, const struct gmem *mem, uint16_t size, uint64_t desc,
		   uint64_t avail, uint64_t used)
{
	*vq = (struct virtqueue){.mem = mem,
				 .size = size,
				 .chain_max = size,
				 .desc = desc,
				 .avail = avail,
				 .used = used};
	vq->broken_why = description_fault(vq);
	vq->broken = vq->broken_why;
	return vq->broken ? -EINVAL : 0;
}

/* A 16-bit field of a ring. Checked by virtqueue_init(), and by gmem again: NULL never follows. */
static uint16_t *field(const struct virtqueue *vq, uint64_t gpa)
{
	return gmem_ptr(vq->mem, gpa, sizeof(uint16_t));
}

static uint16_t load(const struct virtqueue *vq, uint64_t gpa)
{
	const uint16_t *p = field(vq, gpa);

	return p ? __atomic_load_n(p, __ATOMIC_SEQ_CST) : 0;
}

static void store(const struct virtqueue *vq, uint64_t gpa, uint16_t value)
{
	uint16_t *p = field(vq, gpa);

	if (p)
		__atomic_store_n(p, value, __ATOMIC_SEQ_CST);
}

static uint64_t used_event_at(const struct virtqueue *vq)
{
	return vq->avail + RING_ENTRIES + 2ull * vq->size;
}

static uint64_t avail_event_at(const struct virtqueue *vq)
{
	return vq->used + RING_ENTRIES + sizeof(struct used_elem) * vq->size;
}

/* One buffer into the chain; out buffers come first (§2.7.4.2). */
static int add_buffer(struct virtqueue *vq, struct virtqueue_chain *chain, struct iovec *iov,
		      const struct desc *d)
{
	unsigned n = chain->n_out + chain->n_in;
	void *buf;

	if (!d->len)
		return fault(vq, "empty descriptor");
	if (n == vq->chain_max)
		return fault(vq, "chain too long");
	buf = gmem_ptr(vq->mem, d->addr, d->len);
	if (!buf)
		return fault(vq, "buffer outside of memory");
	iov[n] = (struct iovec){.iov_base = buf, .iov_len = d->len};
	if (d->flags & DESC_WRITE) {
		chain->n_in++;
		chain->in_bytes += d->len;
	} else {
		if (chain->n_in)
			return fault(vq, "readable descriptor behind a writable one");
		chain->n_out++;
		chain->out_bytes += d->len;
	}
	return 0;
}

/*
 * Walks @n descriptors at @table from number @at. A chain visits each of them
 * at most once: more steps than entries is a loop.
 */
static int walk(struct virtqueue *vq, struct virtqueue_chain *chain, struct iovec *iov,
		uint64_t table, uint32_t n, uint16_t at, bool in_indirect)
{
	for (uint32_t steps = 0;; steps++) {
		struct desc d;
		int r;

		if (at >= n)
			return fault(vq, "descriptor number out of range");
		if (steps >= n)
			return fault(vq, "loop of descriptors");
		if (gmem_read(vq->mem, table + (uint64_t)at * sizeof(d), &d, sizeof(d)) < 0)
			return fault(vq, "descriptor table outside of memory");
		if (d.flags & DESC_INDIRECT) {
			/* §2.7.5.3.1: one table ends the chain, and holds no further table */
			if (!vq->indirect || in_indirect || d.flags & DESC_NEXT)
				return fault(vq, "indirect descriptor not allowed here");
			if (!d.len || d.len % sizeof(d) || d.len / sizeof(d) > UINT16_MAX)
				return fault(vq, "length of indirect table");
			if (!gmem_ptr(vq->mem, d.addr, d.len))
				return fault(vq, "indirect table outside of memory");
			return walk(vq, chain, iov, d.addr, d.len / sizeof(d), 0, true);
		}
		r = add_buffer(vq, chain, iov, &d);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_NEXT))
			return 0;
		at = d.next;
	}
}

/* The head of the chain that is next: 0, -EAGAIN or -EPROTO. */
static int next_head(struct virtqueue *vq, uint16_t *head)
{
	uint16_t ready = load(vq, vq->avail + RING_IDX) - vq->next_avail;

	if (!vq->n_again && !ready)
		return -EAGAIN;
	/* No more can be under way than the ring has entries. */
	if (ready > vq->size || vq->in_flight >= vq->size)
		return fault(vq, "more chains available than the queue holds");
	if (vq->n_again)
		*head = vq->again[vq->n_again - 1];
	else
		*head = load(vq, vq->avail + RING_ENTRIES + 2ull * (vq->next_avail % vq->size));
	return 0;
}

/* It is taken, or (@by -1) put back. */
static void step(struct virtqueue *vq, int by)
{
	if (vq->popped_again)
		vq->n_again -= by;
	else
		vq->next_avail += by;
	vq->in_flight += by;
}

int virtqueue_pop(struct virtqueue *vq, struct iovec *iov, struct virtqueue_chain *chain)
{
	uint16_t head = 0;
	int r = vq->broken ? -EPROTO : next_head(vq, &head);

	if (r < 0)
		return r;
	*chain = (struct virtqueue_chain){.head = head};
	r = walk(vq, chain, iov, vq->desc, vq->size, head, false);
	if (r < 0)
		return r;
	chain->out = iov;
	chain->in = iov + chain->n_out;
	vq->popped_again = vq->n_again > 0;
	step(vq, 1);
	return 0;
}

void virtqueue_unpop(struct virtqueue *vq)
{
	step(vq, -1);
}

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t len)
{
	const struct used_elem elem = {.id = head, .len = len};
	uint64_t at = vq->used + RING_ENTRIES + sizeof(elem) * (vq->next_used % vq->size);

	vq->in_flight--;
	if (vq->broken)
		return;
	gmem_write(vq->mem, at, &elem, sizeof(elem));
	vq->next_used++;
}

bool virtqueue_publish(struct virtqueue *vq)
{
	uint16_t from = vq->published, to = vq->next_used, event;

	if (from == to)
		return false;
	store(vq, vq->used + RING_IDX, to);
	vq->published = to;
	if (!vq->event_idx)
		return !(load(vq, vq->avail + RING_FLAGS) & AVAIL_NO_INTERRUPT);
	event = load(vq, used_event_at(vq));
	/* §2.7.7.1: did the index step over used_event? */
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

void virtqueue_notify_off(struct virtqueue *vq)
{
	/* With EVENT_IDX an avail_event that is left behind does it. */
	if (!vq->event_idx)
		store(vq, vq->used + RING_FLAGS, USED_NO_NOTIFY);
}

bool virtqueue_pending(const struct virtqueue *vq)
{
	return !vq->broken && (vq->n_again || load(vq, vq->avail + RING_IDX) != vq->next_avail);
}

bool virtqueue_notify_on(struct virtqueue *vq)
{
	if (vq->broken)
		return false;
	if (vq->event_idx)
		store(vq, avail_event_at(vq), vq->next_avail);
	else
		store(vq, vq->used + RING_FLAGS, 0);
	return vq->n_again || load(vq, vq->avail + RING_IDX) != vq->next_avail;
}

/* Copies between @buf and the front of (*iov)[*n], which moves on; how many bytes. */
static size_t copy_front(struct iovec **iov, unsigned *n, uint64_t *left, void *buf, size_t len,
			 bool to_guest)
{
	size_t done = 0;

	while (done < len && *n) {
		struct iovec *v = *iov;
		size_t part = len - done < v->iov_len ? len - done : v->iov_len;

		if (to_guest)
			memcpy(v->iov_base, (uint8_t *)buf + done, part);
		else
			memcpy((uint8_t *)buf + done, v->iov_base, part);
		done += part;
		v->iov_base = (uint8_t *)v->iov_base + part;
		v->iov_len -= part;
		if (!v->iov_len) {
			(*iov)++;
			(*n)--;
		}
	}
	*left -= done;
	return done;
}

size_t virtqueue_chain_read(struct virtqueue_chain *chain, void *buf, size_t len)
{
	return copy_front(&chain->out, &chain->n_out, &chain->out_bytes, buf, len, false);
}

size_t virtqueue_chain_write(struct virtqueue_chain *chain, const void *buf, size_t len)
{
	return copy_front(&chain->in, &chain->n_in, &chain->in_bytes, (void *)buf, len, true);
}

uint8_t *virtqueue_chain_last(struct virtqueue_chain *chain)
{
	struct iovec *v;
	uint8_t *last;

	if (!chain->n_in)
		return NULL;
	v = &chain->in[chain->n_in - 1];
	last = (uint8_t *)v->iov_base + v->iov_len - 1;
	if (!--v->iov_len)
		chain->n_in--;
	chain->in_bytes--;
	return last;
}
