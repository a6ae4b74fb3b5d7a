// SPDX-License-Identifier: ISC
/*
 * Port and MMIO dispatch: for each kind, a sorted array of ranges.
 *
 * A lookup takes the bus's lock for reading, only to find the range and to
 * count itself in; the device is called without the lock, because what it does may add
 * and remove ranges (a PCI BAR that moves). A range is born with one reference, the
 * table's. bus_remove() takes it out of the table and then waits until it is
 * the only one left, or, for a range that removes itself, leaves freeing it to
 * the last call that is still under way.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bus.h"
#include "util/cleanup.h"

struct range {
	uint64_t base, last; /* inclusive */
	const struct bus_ops *ops;
	void *opaque;
	unsigned refs; /* the table's or the remover's, and one for each call under way; atomic */
};

struct table {
	struct range **ranges; /* ascending */
	size_t n, cap;
};

struct bus {
	pthread_rwlock_t lock; /* guards tables */
	struct table tables[2];
	unsigned removers; /* threads that wait for calls to end; atomic */
	pthread_mutex_t drain_lock;
	pthread_cond_t drained;
};

void bus_rwlock_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int bus_new(struct bus **out)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	bus_rwlock_init(&bus->lock);
	pthread_mutex_init(&bus->drain_lock, NULL);
	pthread_cond_init(&bus->drained, NULL);
	*out = bus;
	return 0;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	for (unsigned kind = 0; kind < nitems(bus->tables); kind++) {
		for (size_t i = 0; i < bus->tables[kind].n; i++)
			free(bus->tables[kind].ranges[i]);
		free(bus->tables[kind].ranges);
	}
	pthread_rwlock_destroy(&bus->lock);
	pthread_mutex_destroy(&bus->drain_lock);
	pthread_cond_destroy(&bus->drained);
	free(bus);
}

/* The number of ranges that begin at @addr or below. */
static size_t count_up_to(const struct table *t, uint64_t addr)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (t->ranges[middle]->base <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert(struct table *t, struct range *r)
{
	size_t at = count_up_to(t, r->base);

	if (at > 0 && t->ranges[at - 1]->last >= r->base)
		return -EEXIST;
	if (at < t->n && t->ranges[at]->base <= r->last)
		return -EEXIST;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 16;
		struct range **ranges = realloc(t->ranges, cap * sizeof(struct range *));

		if (!ranges)
			return -ENOMEM;
		t->ranges = ranges;
		t->cap = cap;
	}
	memmove(t->ranges + at + 1, t->ranges + at, (t->n - at) * sizeof(struct range *));
	t->ranges[at] = r;
	t->n++;
	return 0;
}

int bus_add(struct bus *bus, enum bus_kind kind, uint64_t base, uint64_t len,
	    const struct bus_ops *ops, void *opaque)
{
	struct range *r;
	int ret;

	if (len == 0 || len - 1 > UINT64_MAX - base)
		return -EINVAL;
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct range){base, base + (len - 1), ops, opaque, 1};
	pthread_rwlock_wrlock(&bus->lock);
	ret = insert(&bus->tables[kind], r);
	pthread_rwlock_unlock(&bus->lock);
	if (ret < 0)
		free(r);
	return ret;
}

static struct range *take_out(struct bus *bus, enum bus_kind kind, uint64_t base)
{
	struct table *t = &bus->tables[kind];
	struct range *r = NULL;
	size_t at;

	pthread_rwlock_wrlock(&bus->lock);
	at = count_up_to(t, base);
	if (at > 0 && t->ranges[at - 1]->base == base) {
		r = t->ranges[at - 1];
		memmove(t->ranges + at - 1, t->ranges + at, (t->n - at) * sizeof(struct range *));
		t->n--;
	}
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

static void put(struct bus *bus, struct range *r)
{
	unsigned left = __atomic_sub_fetch(&r->refs, 1, __ATOMIC_SEQ_CST);

	/* With references left the remover may free it any moment: not touched again. */
	if (left == 0)
		free(r);
	else if (__atomic_load_n(&bus->removers, __ATOMIC_SEQ_CST)) {
		LOCK_SCOPE(&bus->drain_lock);
		pthread_cond_broadcast(&bus->drained);
	}
}

void bus_remove(struct bus *bus, enum bus_kind kind, uint64_t base, bool self)
{
	struct range *r = take_out(bus, kind, base);

	if (!r)
		return;
	if (!self) {
		__atomic_add_fetch(&bus->removers, 1, __ATOMIC_SEQ_CST);
		pthread_mutex_lock(&bus->drain_lock);
		while (__atomic_load_n(&r->refs, __ATOMIC_SEQ_CST) > 1)
			pthread_cond_wait(&bus->drained, &bus->drain_lock);
		pthread_mutex_unlock(&bus->drain_lock);
		__atomic_sub_fetch(&bus->removers, 1, __ATOMIC_SEQ_CST);
	}
	put(bus, r);
}

/* The range with @addr in it, counted in; else NULL and how far away the next one is. */
static struct range *get(struct bus *bus, enum bus_kind kind, uint64_t addr, uint64_t *gap)
{
	const struct table *t = &bus->tables[kind];
	struct range *r = NULL;
	size_t at;

	pthread_rwlock_rdlock(&bus->lock);
	at = count_up_to(t, addr);
	*gap = at < t->n ? t->ranges[at]->base - addr : UINT64_MAX;
	if (at > 0 && addr <= t->ranges[at - 1]->last) {
		r = t->ranges[at - 1];
		__atomic_add_fetch(&r->refs, 1, __ATOMIC_SEQ_CST);
	}
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

static void call(const struct range *r, uint64_t offset, uint8_t *data, unsigned size,
		 bool is_write)
{
	uint64_t value = 0;

	if (is_write) {
		memcpy(&value, data, size); /* little endian, as this host is */
		r->ops->write(r->opaque, offset, size, value);
		return;
	}
	value = r->ops->read(r->opaque, offset, size);
	memcpy(data, &value, size);
}

/* Of @len bytes, what one call may take: 1, 2, 4 or 8. */
static unsigned piece(unsigned len)
{
	return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

void bus_access(struct bus *bus, enum bus_kind kind, uint64_t addr, void *data, unsigned len,
		bool is_write)
{
	uint8_t *bytes = data;

	while (len > 0) {
		uint64_t gap;
		struct range *r = get(bus, kind, addr, &gap);
		unsigned n = len;

		if (r) {
			if (r->last - addr < n - 1)
				n = (unsigned)(r->last - addr) + 1;
			n = piece(n);
			call(r, addr - r->base, bytes, n, is_write);
			put(bus, r);
		} else {
			if (gap < n)
				n = (unsigned)gap;
			if (!is_write)
				memset(bytes, 0xff, n);
		}
		bytes += n;
		addr += n;
		len -= n;
	}
}
