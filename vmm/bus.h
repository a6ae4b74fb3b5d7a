/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_BUS_H
#define FV_VMM_BUS_H
/*
 * Dispatch of port and MMIO exits to devices. A range belongs to one device;
 * reads of what nobody has give all ones, writes to it vanish. Lookups come
 * from every vcpu thread at once while PCI BARs move: a range that
 * bus_remove() has returned for is not being called any more.
 * Knows no KVM: exits come in by bus_access().
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct bus;

enum bus_kind { BUS_PIO, BUS_MMIO };

/* @offset within the range; @size 1, 2, 4 or 8, never across the range's end. */
struct bus_ops {
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

int bus_new(struct bus **bus);
void bus_free(struct bus *bus);
/* -EEXIST where it would overlap, -EINVAL for an empty or wrapping range, -ENOMEM. */
int bus_add(struct bus *bus, enum bus_kind kind, uint64_t base, uint64_t len,
	    const struct bus_ops *ops, void *opaque);
/* Must not be called from the range's own ops, except for a range that moves itself:
 * then @self is true and calls from other threads may still be under way. */
void bus_remove(struct bus *bus, enum bus_kind kind, uint64_t base, bool self);
/* One access of 1 to 8 bytes at any address; splits and clips as needed. Little endian. */
void bus_access(struct bus *bus, enum bus_kind kind, uint64_t addr, void *data, unsigned len,
		bool is_write);

/*
 * A lock that a writer gets however many readers come one after the other, as vcpus can: the C
 * library's own preset lets it starve. Not to be read-locked twice by one thread.
 */
void bus_rwlock_init(pthread_rwlock_t *lock);

#endif
