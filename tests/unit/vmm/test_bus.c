// SPDX-License-Identifier: ISC
/* Buses: an access reaches who is there, in pieces it can take; ranges move while others call. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/bus.h"

struct device {
	uint64_t offset, value;
	unsigned size, calls;
	uint64_t answer;
};

static uint64_t dev_read(void *opaque, uint64_t offset, unsigned size)
{
	struct device *d = opaque;

	d->offset = offset;
	d->size = size;
	d->calls++;
	return d->answer;
}

static void dev_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	dev_read(opaque, offset, size);
	((struct device *)opaque)->value = value;
}

static const struct bus_ops ops = {dev_read, dev_write};

static struct bus *new_bus(void)
{
	struct bus *bus;

	assert_int_equal(bus_new(&bus), 0);
	return bus;
}

static void an_access_reaches_its_range(void **state)
{
	struct bus *bus = new_bus();
	struct device a = {.answer = 0x11223344}, b = {0};
	uint32_t value = 0;

	(void)state;
	assert_int_equal(bus_add(bus, BUS_PIO, 0x100, 8, &ops, &a), 0);
	assert_int_equal(bus_add(bus, BUS_MMIO, 0x100, 8, &ops, &b), 0);
	bus_access(bus, BUS_PIO, 0x104, &value, 4, false);
	assert_int_equal(value, 0x11223344);
	assert_int_equal(a.offset, 4);
	assert_int_equal(a.size, 4);
	assert_int_equal(b.calls, 0);
	value = 0xabcd;
	bus_access(bus, BUS_MMIO, 0x100, &value, 2, true);
	assert_int_equal(b.value, 0xabcd);
	assert_int_equal(b.size, 2);
	bus_free(bus);
}

static void nobody_reads_as_ones(void **state)
{
	struct bus *bus = new_bus();
	uint8_t buf[8] = {0};

	(void)state;
	bus_access(bus, BUS_PIO, 0xffff, buf, 4, false);
	assert_memory_equal(buf, "\xff\xff\xff\xff\0\0\0\0", 8);
	bus_access(bus, BUS_MMIO, UINT64_MAX - 3, buf, 8, false);
	bus_access(bus, BUS_MMIO, UINT64_MAX - 3, buf, 8, true);
	bus_free(bus);
}

static void an_access_over_an_edge_is_split(void **state)
{
	struct bus *bus = new_bus();
	struct device a = {.answer = 0xa1a2}, b = {.answer = 0xb1};
	uint8_t buf[8];

	(void)state;
	assert_int_equal(bus_add(bus, BUS_PIO, 0x10, 2, &ops, &a), 0);
	assert_int_equal(bus_add(bus, BUS_PIO, 0x13, 1, &ops, &b), 0);
	/* 0xf: nobody; 0x10, 0x11: a; 0x12: nobody; 0x13: b; 0x14 on: nobody */
	bus_access(bus, BUS_PIO, 0xf, buf, 8, false);
	assert_memory_equal(buf, "\xff\xa2\xa1\xff\xb1\xff\xff\xff", 8);
	assert_int_equal(a.size, 2);
	assert_int_equal(a.offset, 0);
	assert_int_equal(b.size, 1);
	bus_free(bus);
}

static void odd_lengths_come_in_powers_of_two(void **state)
{
	struct bus *bus = new_bus();
	struct device a = {0};
	uint8_t buf[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	(void)state;
	assert_int_equal(bus_add(bus, BUS_MMIO, 0, 16, &ops, &a), 0);
	bus_access(bus, BUS_MMIO, 0, buf, 7, true); /* 4, 2, 1 */
	assert_int_equal(a.calls, 3);
	assert_int_equal(a.offset, 6);
	assert_int_equal(a.value, 7);
	bus_access(bus, BUS_MMIO, 0, buf, 8, true);
	assert_int_equal(a.calls, 4);
	assert_true(a.value == 0x0807060504030201ull);
	bus_free(bus);
}

static void overlaps_and_nonsense_are_refused(void **state)
{
	struct bus *bus = new_bus();
	struct device a;

	(void)state;
	assert_int_equal(bus_add(bus, BUS_PIO, 0x10, 0x10, &ops, &a), 0);
	assert_int_equal(bus_add(bus, BUS_PIO, 0x1f, 1, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(bus, BUS_PIO, 0xf, 2, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(bus, BUS_PIO, 0, 0x100, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(bus, BUS_PIO, 0x12, 1, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(bus, BUS_PIO, 0x20, 1, &ops, &a), 0);
	assert_int_equal(bus_add(bus, BUS_PIO, 0xf, 1, &ops, &a), 0);
	assert_int_equal(bus_add(bus, BUS_PIO, 0x30, 0, &ops, &a), -EINVAL);
	assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX, 2, &ops, &a), -EINVAL);
	assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX, 1, &ops, &a), 0);
	bus_remove(bus, BUS_PIO, 0x10, false);
	bus_remove(bus, BUS_PIO, 0x11, false); /* none begins there: nothing happens */
	assert_int_equal(bus_add(bus, BUS_PIO, 0x10, 0x10, &ops, &a), 0);
	bus_free(bus);
}

/* A device that takes its own range away. */
static struct bus *self_bus;

static void self_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	dev_write(opaque, offset, size, value);
	bus_remove(self_bus, BUS_MMIO, 0x1000, true);
	assert_int_equal(bus_add(self_bus, BUS_MMIO, 0x2000, 8, &ops, opaque), 0);
}

static void a_range_may_move_itself(void **state)
{
	static const struct bus_ops self_ops = {dev_read, self_write};
	struct device a = {.answer = 5};
	uint8_t v = 9;

	(void)state;
	self_bus = new_bus();
	assert_int_equal(bus_add(self_bus, BUS_MMIO, 0x1000, 8, &self_ops, &a), 0);
	bus_access(self_bus, BUS_MMIO, 0x1000, &v, 1, true);
	bus_access(self_bus, BUS_MMIO, 0x1000, &v, 1, false);
	assert_int_equal(v, 0xff);
	bus_access(self_bus, BUS_MMIO, 0x2000, &v, 1, false);
	assert_int_equal(v, 5);
	bus_free(self_bus);
}

/* After bus_remove() nobody calls: readers in three threads, and a flag that says who is there. */
struct race {
	struct bus *bus;
	int present, stop, violations;
	unsigned hits;
};

static uint64_t race_read(void *opaque, uint64_t offset, unsigned size)
{
	struct race *r = opaque;

	(void)offset, (void)size;
	if (!__atomic_load_n(&r->present, __ATOMIC_SEQ_CST))
		__atomic_add_fetch(&r->violations, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&r->hits, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void race_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)value;
	race_read(opaque, offset, size);
}

static void *race_thread(void *arg)
{
	struct race *r = arg;
	uint32_t v;

	while (!__atomic_load_n(&r->stop, __ATOMIC_SEQ_CST))
		bus_access(r->bus, BUS_MMIO, 0x1000, &v, 4, false);
	return NULL;
}

static void removal_waits_for_calls(void **state)
{
	static const struct bus_ops race_ops = {race_read, race_write};
	struct race r = {.bus = new_bus()};
	pthread_t threads[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race_thread, &r), 0);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned hits = __atomic_load_n(&r.hits, __ATOMIC_SEQ_CST);

		__atomic_store_n(&r.present, 1, __ATOMIC_SEQ_CST);
		assert_int_equal(bus_add(r.bus, BUS_MMIO, 0x1000, 4, &race_ops, &r), 0);
		if (i % 100 == 0) /* now and then let it be seen for certain */
			while (__atomic_load_n(&r.hits, __ATOMIC_SEQ_CST) == hits)
				usleep(10);
		bus_remove(r.bus, BUS_MMIO, 0x1000, false);
		__atomic_store_n(&r.present, 0, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&r.stop, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(r.violations, 0);
	assert_true(r.hits > 0);
	bus_free(r.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_access_reaches_its_range),
	    cmocka_unit_test(nobody_reads_as_ones),
	    cmocka_unit_test(an_access_over_an_edge_is_split),
	    cmocka_unit_test(odd_lengths_come_in_powers_of_two),
	    cmocka_unit_test(overlaps_and_nonsense_are_refused),
	    cmocka_unit_test(a_range_may_move_itself),
	    cmocka_unit_test(removal_waits_for_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
