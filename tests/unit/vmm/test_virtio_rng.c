// SPDX-License-Identifier: ISC
/* Entropy: it comes, no more of it than a request may have, and not without end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"

struct world {
	struct fake_vm *f;
	struct device *dev;
	struct driver d;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->f = fake_vm_new();
	w->dev = fake_create(w->f, &virtio_rng_device);
	assert_non_null(w->dev);
	driver_open(&w->d, w->f, PCI_SLOT_RNG);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	fake_vm_free(w->f);
	free(w);
	return 0;
}

static void buffers_are_filled(void **state)
{
	struct world *w = *state;
	uint64_t a = driver_alloc(&w->d, 64), b = driver_alloc(&w->d, 64);
	const struct driver_buffer bufs[] = {{a, 32, true}, {b, 48, true}};
	static const uint8_t zeroes[64];
	struct driver_used used;

	assert_true(driver_start(&w->d, 0, 1));
	driver_chain(&w->d, 0, bufs, 2);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.len, 80);
	assert_memory_not_equal(fake_ram(w->f, a), zeroes, 32);
	assert_memory_not_equal(fake_ram(w->f, b), zeroes, 48);
	assert_memory_equal(fake_ram(w->f, a + 32), zeroes, 32);
}

static void a_request_is_bounded(void **state)
{
	struct world *w = *state;
	uint64_t at = 0x100000;
	const struct driver_buffer buf = {at, 1 << 20, true};
	struct driver_used used;

	assert_true(driver_start(&w->d, 0, 1));
	driver_chain(&w->d, 0, &buf, 1);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.len, 4096);
	assert_int_equal(*fake_ram(w->f, at + 4096), 0);
}

/* More than the bucket holds: all of it comes, the last by the timer. */
static void the_rate_is_bounded_and_goes_on(void **state)
{
	struct world *w = *state;
	const struct driver_buffer buf = {0x100000, 4096, true};
	struct driver_used used;
	unsigned taken = 0;

	assert_true(driver_start(&w->d, 1ull << 29, 1));
	for (unsigned i = 0; i < 64; i++)
		driver_chain(&w->d, 0, &buf, 1);
	driver_kick(&w->d, 0);
	for (; taken < 96; taken++) {
		assert_true(driver_wait(&w->d, 0, &used));
		assert_int_equal(used.len, 4096);
		if (taken < 32) {
			driver_chain(&w->d, 0, &buf, 1);
			driver_kick(&w->d, 0);
		}
	}
	assert_int_equal(driver_status(&w->d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}

static void a_request_without_a_buffer_is_a_fault(void **state)
{
	struct world *w = *state;
	const struct driver_buffer out = {0x100000, 16, false}, in = {0x100000, 16, true};
	struct driver_used used;

	assert_true(driver_start(&w->d, 0, 1));
	driver_chain(&w->d, 0, &out, 1);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(driver_needs_reset, &w->d));
	assert_false(driver_has_used(&w->d, 0));
	/* and after a reset it works */
	assert_true(driver_start(&w->d, 0, 1));
	driver_chain(&w->d, 0, &in, 1);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.len, 16);
}

static void paused_it_touches_nothing(void **state)
{
	struct world *w = *state;
	const struct driver_buffer buf = {0x100000, 16, true};
	struct driver_used used;

	assert_true(driver_start(&w->d, 0, 1));
	w->dev->ops->pause(w->dev);
	driver_chain(&w->d, 0, &buf, 1);
	driver_kick(&w->d, 0);
	w->dev->ops->pause(w->dev);
	assert_false(driver_has_used(&w->d, 0));
	w->dev->ops->resume(w->dev);
	assert_true(driver_wait(&w->d, 0, &used));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(buffers_are_filled, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_request_is_bounded, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_rate_is_bounded_and_goes_on, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_request_without_a_buffer_is_a_fault, setup, teardown),
	    cmocka_unit_test_setup_teardown(paused_it_touches_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
