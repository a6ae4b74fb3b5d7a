// SPDX-License-Identifier: ISC
/*
 * A virtio device that is saved in one machine and loaded in another: its driver goes on as if
 * nothing had been. And a state whose checksums are right and whose contents are anybody's: any
 * byte of it may be any other, and the device is whole or refused in words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <zlib.h>

#include "fake_driver.h"
#include "vmm/state.h"

#define RAM_COPIED 0x200000

struct world {
	struct fake_vm *f;
	struct device *dev;
	struct driver d;
};

static void open_world(struct world *w)
{
	w->f = fake_vm_new();
	w->dev = fake_create(w->f, &virtio_rng_device);
	assert_non_null(w->dev);
	driver_open(&w->d, w->f, PCI_SLOT_RNG);
}

static bool answered(struct world *w)
{
	const struct driver_buffer buf = {driver_alloc(&w->d, 64), 32, true};
	struct driver_used used;

	driver_chain(&w->d, 0, &buf, 1);
	driver_kick(&w->d, 0);
	return driver_wait(&w->d, 0, &used) && used.len == 32;
}

/* The caller frees it. */
static uint8_t *save(struct world *w, size_t *len)
{
	struct state *st = state_new();
	struct err err = ERR_INIT;
	const void *data;
	uint8_t *copy;

	w->dev->ops->pause(w->dev);
	assert_true(state_begin(st, "rng", 1));
	w->dev->ops->state(w->dev, st);
	state_end(st);
	if (state_finish(st, &data, len, &err) < 0)
		fail_msg("%s", err.text);
	copy = malloc(*len);
	memcpy(copy, data, *len);
	state_free(st);
	return copy;
}

static int load(struct world *w, const uint8_t *data, size_t len, struct err *err)
{
	struct state *st;
	int r;

	assert_int_equal(state_parse(&st, data, len, err), 0);
	w->dev->ops->pause(w->dev);
	if (state_begin(st, "rng", 1))
		w->dev->ops->state(w->dev, st);
	state_end(st);
	r = state_result(st, err);
	state_free(st);
	return r;
}

static void the_driver_goes_on(void **unused)
{
	struct world a = {0}, b = {0};
	struct err err = ERR_INIT;
	uint8_t *data;
	size_t len;

	(void)unused;
	open_world(&a);
	open_world(&b);
	assert_true(driver_start(&a.d, 0, 1));
	driver_msix_on(&a.d, 2);
	for (unsigned i = 0; i < 100; i++)
		assert_true(answered(&a));
	data = save(&a, &len);
	memcpy(fake_ram(b.f, 0), fake_ram(a.f, 0), RAM_COPIED);
	if (load(&b, data, len, &err) < 0)
		fail_msg("%s", err.text);
	b.d = a.d;
	b.d.f = b.f;
	b.dev->ops->resume(b.dev);
	assert_int_equal(driver_status(&b.d), driver_status(&a.d));
	for (unsigned i = 0; i < 100; i++)
		assert_true(answered(&b));
	/* and the first is none the worse for it */
	a.dev->ops->resume(a.dev);
	assert_true(answered(&a));
	fake_vm_free(a.f);
	fake_vm_free(b.f);
	free(data);
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

/* Of the one section: its contents, then its header (state.h). */
static void sign(uint8_t *data)
{
	uint8_t *header = data + 64, *contents = header + 96;
	uint64_t bytes;

	memcpy(&bytes, header + 16, sizeof(bytes));
	put32(header + 12, (uint32_t)crc32(0, contents, (uInt)bytes));
	put32(header + 88, (uint32_t)crc32(0, header, 88));
}

static void any_byte_may_be_any_other(void **unused)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff};
	struct world a = {0};
	uint64_t bytes;
	unsigned refused = 0;
	uint8_t *data;
	size_t len;

	(void)unused;
	open_world(&a);
	assert_true(driver_start(&a.d, 0, 1));
	assert_true(answered(&a));
	data = save(&a, &len);
	memcpy(&bytes, data + 64 + 16, sizeof(bytes));
	for (uint64_t i = 0; i < bytes; i++) {
		struct err err = ERR_INIT;
		struct world b = {0};

		open_world(&b);
		data[64 + 96 + i] ^= masks[i % 3];
		sign(data);
		if (load(&b, data, len, &err) < 0) {
			assert_string_not_equal(err.text, "");
			refused++;
		}
		data[64 + 96 + i] ^= masks[i % 3];
		/* looks into rings of a memory that is all zeroes, or none at all */
		b.dev->ops->resume(b.dev);
		fake_vm_free(b.f);
	}
	/* most of it is registers that a guest cannot change */
	assert_true(refused > bytes / 4);
	fake_vm_free(a.f);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_driver_goes_on),
	    cmocka_unit_test(any_byte_may_be_any_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
