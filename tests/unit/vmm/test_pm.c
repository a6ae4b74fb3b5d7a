// SPDX-License-Identifier: ISC
/* ACPI's fixed registers: power button, soft-off, timer; and the reset line of the i8042. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "fake_vm.h"
#include "vmm/devices.h"

#define STS	  LAYOUT_PORT_PM_EVT
#define EN	  (LAYOUT_PORT_PM_EVT + 2)
#define PWRBTN	  0x100
#define PWRBTN_EN 0x100
#define SLP_EN	  0x2000
#define SCI	  lines[LAYOUT_IRQ_SCI]

static struct fake_vm *world(struct device **dev)
{
	struct fake_vm *f = fake_vm_new();

	*dev = fake_create(f, &pm_device);
	assert_non_null(*dev);
	return f;
}

static void power_button_interrupts_who_asked(void **state)
{
	struct device *dev;
	struct fake_vm *f = world(&dev);

	(void)state;
	pm_device.power_button(dev);
	assert_int_equal(f->SCI, 0);
	assert_int_equal(fake_read(f, BUS_PIO, STS, 2) & PWRBTN, PWRBTN);
	fake_write(f, BUS_PIO, EN, 2, PWRBTN_EN);
	assert_int_equal(f->SCI, 1);
	fake_write(f, BUS_PIO, STS, 2, 0); /* zeroes clear nothing */
	assert_int_equal(f->SCI, 1);
	fake_write(f, BUS_PIO, STS, 2, PWRBTN);
	assert_int_equal(f->SCI, 0);
	assert_int_equal(fake_read(f, BUS_PIO, STS, 2) & PWRBTN, 0);
	pm_device.power_button(dev);
	assert_int_equal(f->SCI, 1);
	fake_write(f, BUS_PIO, EN + 1, 1, 0); /* a byte at a time too */
	assert_int_equal(f->SCI, 0);
	fake_vm_free(f);
}

static void soft_off_switches_off(void **state)
{
	struct device *dev;
	struct fake_vm *f = world(&dev);

	(void)state;
	assert_int_equal(fake_read(f, BUS_PIO, LAYOUT_PORT_PM_CNT, 2) & 1, 1); /* in ACPI mode */
	fake_write(f, BUS_PIO, LAYOUT_PORT_PM_CNT, 2, LAYOUT_SLP_S5 << 10);
	assert_int_equal(f->ends, 0);
	fake_write(f, BUS_PIO, LAYOUT_PORT_PM_CNT, 2, SLP_EN | 3 << 10);
	assert_int_equal(f->ends, 0); /* a sleep that was never offered */
	fake_write(f, BUS_PIO, LAYOUT_PORT_PM_CNT, 2, SLP_EN | LAYOUT_SLP_S5 << 10);
	assert_int_equal(f->ends, 1);
	assert_int_equal(f->last_end, VM_END_POWEROFF);
	assert_int_equal(fake_read(f, BUS_PIO, LAYOUT_PORT_PM_CNT, 2) & SLP_EN, 0);
	fake_vm_free(f);
}

static uint32_t ticks(struct fake_vm *f)
{
	return (uint32_t)fake_read(f, BUS_PIO, LAYOUT_PORT_PM_TMR, 4);
}

static void timer_has_its_frequency(void **state)
{
	struct timespec a, b, c, d;
	struct device *dev;
	struct fake_vm *f = world(&dev);
	uint32_t first, last;
	double least, most, counted;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &a);
	first = ticks(f);
	clock_gettime(CLOCK_MONOTONIC, &b);
	usleep(50000);
	clock_gettime(CLOCK_MONOTONIC, &c);
	last = ticks(f);
	clock_gettime(CLOCK_MONOTONIC, &d);
	least = (double)(c.tv_sec - b.tv_sec) + (double)(c.tv_nsec - b.tv_nsec) / 1e9;
	most = (double)(d.tv_sec - a.tv_sec) + (double)(d.tv_nsec - a.tv_nsec) / 1e9;
	counted = (double)(last - first);
	assert_true(counted >= least * 3579545 - 2);
	assert_true(counted <= most * 3579545 + 2);
	fake_vm_free(f);
}

static void any_access_is_survived(void **state)
{
	struct device *dev;
	struct fake_vm *f = world(&dev);
	uint32_t seed = 3;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t port = 0x5f8 + (seed >> 8) % 0x38;
		unsigned size = 1u << (seed >> 20 & 3);

		seed = seed * 1664525 + 1013904223;
		if (seed >> 31)
			fake_write(f, BUS_PIO, port, size, seed);
		else
			fake_read(f, BUS_PIO, port, size);
	}
	fake_vm_free(f);
}

static void i8042_resets_and_is_nobody(void **state)
{
	struct fake_vm *f = fake_vm_new();

	(void)state;
	assert_non_null(fake_create(f, &i8042_device));
	/* "Output buffer full" whenever one looks, "input buffer full" never. */
	assert_int_equal(fake_read(f, BUS_PIO, 0x64, 1) & 3, 1);
	assert_int_equal(fake_read(f, BUS_PIO, 0x60, 1), 0xff);
	for (unsigned command = 0; command < 0x100; command++) {
		int before = f->ends;

		fake_write(f, BUS_PIO, 0x64, 1, command);
		/* 0xf0 to 0xff pulse the lines whose bit is 0; bit 0 is the reset. */
		assert_int_equal(f->ends - before, command >= 0xf0 && !(command & 1));
	}
	assert_int_equal(f->last_end, VM_END_RESET);
	fake_vm_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(power_button_interrupts_who_asked),
	    cmocka_unit_test(soft_off_switches_off),
	    cmocka_unit_test(timer_has_its_frequency),
	    cmocka_unit_test(any_access_is_survived),
	    cmocka_unit_test(i8042_resets_and_is_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
