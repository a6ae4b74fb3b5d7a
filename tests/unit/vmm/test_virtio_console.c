// SPDX-License-Identifier: ISC
/* hvc0: what the guest prints arrives, and input goes where /dev/console is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"

struct world {
	struct fake_vm *f;
	struct driver d;
};

static struct world *world(const char *cmdline)
{
	struct world *w = calloc(1, sizeof(*w));

	w->f = fake_vm_new();
	snprintf(w->f->config.cmdline, sizeof(w->f->config.cmdline), "%s", cmdline);
	assert_non_null(fake_create(w->f, &virtio_console_device));
	driver_open(&w->d, w->f, PCI_SLOT_CONSOLE);
	return w;
}

static void end(struct world *w)
{
	fake_vm_free(w->f);
	free(w);
}

static uint64_t text(struct world *w, const char *s)
{
	uint64_t at = driver_alloc(&w->d, strlen(s));

	memcpy(fake_ram(w->f, at), s, strlen(s));
	return at;
}

static void output_is_printed(void **state)
{
	struct world *w = world("");
	struct driver_used used;

	(void)state;
	assert_true(driver_start(&w->d, 0, 2));
	for (unsigned i = 0; i < 200; i++) {
		const struct driver_buffer bufs[] = {{text(w, "one "), 4, false},
						     {text(w, "two\n"), 4, false}};

		driver_chain(&w->d, 1, bufs, 2);
		driver_kick(&w->d, 1);
		assert_true(driver_wait(&w->d, 1, &used));
		assert_int_equal(used.len, 0);
	}
	assert_int_equal(w->f->output_len, 1600);
	assert_memory_equal(w->f->output + 1592, "one two\n", 8);
	end(w);
}

static bool is_printed(void *arg)
{
	return ((struct world *)arg)->f->output_len > 0;
}

static void emergency_output_needs_no_driver(void **state)
{
	struct world *w = world("");

	(void)state;
	fake_write(w->f, BUS_MMIO, w->d.config + 8, 4, 'E');
	assert_true(is_printed(w));
	assert_int_equal(w->f->output[0], 'E');
	end(w);
}

static void input_comes_where_the_console_is(void **state)
{
	struct world *w = world("root=/dev/vda console=ttyS0 console=hvc0 quiet");
	const struct driver_buffer small = {0x100000, 4, true}, large = {0x100100, 100, true};
	struct driver_used used;

	(void)state;
	assert_null(w->f->reader);
	assert_true(driver_start(&w->d, 0, 2));
	assert_non_null(w->f->reader);
	driver_chain(&w->d, 0, &small, 1);
	driver_chain(&w->d, 0, &large, 1);
	driver_kick(&w->d, 0);
	fake_type(w->f, "hello\n");
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.len, 4);
	assert_memory_equal(fake_ram(w->f, 0x100000), "hell", 4);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_int_equal(used.len, 2);
	assert_memory_equal(fake_ram(w->f, 0x100100), "o\n", 2);
	/* typed while there is no buffer: waits for one */
	fake_type(w->f, "more");
	driver_chain(&w->d, 0, &large, 1);
	driver_kick(&w->d, 0);
	assert_true(driver_wait(&w->d, 0, &used));
	assert_memory_equal(fake_ram(w->f, 0x100100), "more", 4);
	end(w);
}

static void input_is_left_to_the_serial_port(void **state)
{
	static const char *const cmdlines[] = {"", "console=ttyS0", "console=hvc0 console=ttyS0",
					       "noconsole=hvc0", "console=hv"};

	(void)state;
	for (size_t i = 0; i < sizeof(cmdlines) / sizeof(cmdlines[0]); i++) {
		struct world *w = world(cmdlines[i]);

		assert_true(driver_start(&w->d, 0, 2));
		assert_null(w->f->reader);
		end(w);
	}
}

static void a_read_only_input_buffer_is_a_fault(void **state)
{
	struct world *w = world("console=hvc0");
	const struct driver_buffer buf = {0x100000, 4, false};

	(void)state;
	assert_true(driver_start(&w->d, 0, 2));
	driver_chain(&w->d, 0, &buf, 1);
	driver_kick(&w->d, 0);
	assert_true(fake_wait(driver_needs_reset, &w->d));
	fake_type(w->f, "nobody reads this");
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(output_is_printed),
	    cmocka_unit_test(emergency_output_needs_no_driver),
	    cmocka_unit_test(input_comes_where_the_console_is),
	    cmocka_unit_test(input_is_left_to_the_serial_port),
	    cmocka_unit_test(a_read_only_input_buffer_is_a_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
