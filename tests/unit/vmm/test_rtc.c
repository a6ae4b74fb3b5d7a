// SPDX-License-Identifier: ISC
/* The clock tells the host's time in every format, can be set, and survives nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "fake_vm.h"
#include "vmm/devices.h"

#define A_UIP	 0x80
#define B_SET	 0x80
#define B_BINARY 0x04
#define B_24H	 0x02

static struct fake_vm *world(void)
{
	struct fake_vm *f = fake_vm_new();

	assert_non_null(fake_create(f, &rtc_device));
	return f;
}

static uint8_t get(struct fake_vm *f, uint8_t reg)
{
	fake_write(f, BUS_PIO, LAYOUT_PORT_RTC, 1, reg);
	return (uint8_t)fake_read(f, BUS_PIO, LAYOUT_PORT_RTC + 1, 1);
}

static void set(struct fake_vm *f, uint8_t reg, uint8_t value)
{
	fake_write(f, BUS_PIO, LAYOUT_PORT_RTC, 1, reg);
	fake_write(f, BUS_PIO, LAYOUT_PORT_RTC + 1, 1, value);
}

static unsigned number(uint8_t b, uint8_t value)
{
	return b & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

/* Reads the time as a driver does: not while it is being updated. */
static time_t read_time(struct fake_vm *f)
{
	uint8_t b = get(f, 0xb), hour;
	struct tm tm = {0};

	while (get(f, 0xa) & A_UIP)
		;
	tm.tm_sec = (int)number(b, get(f, 0));
	tm.tm_min = (int)number(b, get(f, 2));
	hour = get(f, 4);
	tm.tm_hour = (int)number(b, hour & 0x7f);
	if (!(b & B_24H))
		tm.tm_hour = tm.tm_hour % 12 + (hour & 0x80 ? 12 : 0);
	tm.tm_mday = (int)number(b, get(f, 7));
	tm.tm_mon = (int)number(b, get(f, 8)) - 1;
	tm.tm_year = (int)number(b, get(f, 9)) + (int)number(b, get(f, 0x32)) * 100 - 1900;
	return timegm(&tm);
}

static void assert_now(struct fake_vm *f, time_t offset)
{
	time_t before = time(NULL) + offset, read = read_time(f), after = time(NULL) + offset;

	assert_in_range(read, before - 1, after + 1);
}

static void it_tells_the_hosts_time(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	assert_now(f, 0);
	set(f, 0xb, B_24H | B_BINARY);
	assert_now(f, 0);
	set(f, 0xb, B_BINARY);
	assert_now(f, 0);
	set(f, 0xb, 0);
	assert_now(f, 0);
	assert_int_equal(get(f, 0xd), 0x80);
	fake_vm_free(f);
}

static void weekday_is_right(void **state)
{
	struct fake_vm *f = world();
	time_t before, after;
	struct tm tm;
	uint8_t day;

	(void)state;
	do {
		before = time(NULL) / 86400;
		day = get(f, 6);
		after = time(NULL) / 86400;
	} while (before != after);
	before *= 86400;
	gmtime_r(&before, &tm);
	assert_int_equal(day, tm.tm_wday + 1);
	fake_vm_free(f);
}

static void set_fields(struct fake_vm *f, const uint8_t fields[8])
{
	static const uint8_t regs[8] = {0, 2, 4, 6, 7, 8, 9, 0x32};

	for (unsigned i = 0; i < 8; i++)
		set(f, regs[i], fields[i]);
}

static void it_can_be_set(void **state)
{
	/* 29 February 2044, 23:59:58, a Monday */
	static const uint8_t fields[8] = {58, 59, 23, 2, 29, 2, 44, 20};
	struct fake_vm *f = world();
	struct tm tm = {
	    .tm_sec = 58, .tm_min = 59, .tm_hour = 23, .tm_mday = 29, .tm_mon = 1, .tm_year = 144};
	time_t when = timegm(&tm), began = time(NULL);

	(void)state;
	set(f, 0xb, B_24H | B_BINARY | B_SET);
	set_fields(f, fields);
	assert_int_equal(get(f, 0), 58); /* stands still */
	assert_int_equal(get(f, 0xa) & A_UIP, 0);
	set(f, 0xb, B_24H | B_BINARY);
	assert_in_range(read_time(f) - (time(NULL) - began), when - 2, when + 2);
	fake_vm_free(f);
}

static void days_are_right_for_centuries(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	/* The first and the last day of each month, and the leap days of 1900, 2000, 2100. */
	for (int year = 1900; year <= 2199; year++) {
		for (int month = 0; month < 12; month++) {
			struct tm tm = {.tm_mday = month % 2 ? 1 : 0,
					.tm_mon = month + 1,
					.tm_year = year - 1900,
					.tm_hour = 12};
			time_t when = timegm(&tm);
			uint8_t fields[8];

			gmtime_r(&when, &tm);
			fields[0] = 0;
			fields[1] = 0;
			fields[2] = 12;
			fields[3] = (uint8_t)(tm.tm_wday + 1);
			fields[4] = (uint8_t)tm.tm_mday;
			fields[5] = (uint8_t)(tm.tm_mon + 1);
			fields[6] = (uint8_t)(tm.tm_year % 100);
			fields[7] = (uint8_t)((tm.tm_year + 1900) / 100);
			set(f, 0xb, B_24H | B_BINARY | B_SET);
			set_fields(f, fields);
			set(f, 0xb, B_24H | B_BINARY);
			assert_in_range((uint64_t)(read_time(f) + (1ll << 40)),
					(uint64_t)(when - 1 + (1ll << 40)),
					(uint64_t)(when + 60 + (1ll << 40)));
			assert_int_equal(get(f, 6), tm.tm_wday + 1);
		}
	}
	fake_vm_free(f);
}

static void nvram_remembers(void **state)
{
	struct fake_vm *f = world();

	(void)state;
	assert_int_equal(get(f, 0x15) | get(f, 0x16) << 8, 640);
	assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 3 << 10);
	set(f, 0x7f, 0xa5);
	assert_int_equal(get(f, 0x7f), 0xa5);
	assert_int_equal(get(f, 0xff), 0xa5); /* bit 7 is another thing */
	set(f, 0xd, 0);
	assert_int_equal(get(f, 0xd), 0x80);
	fake_vm_free(f);
}

static void flags_can_be_polled(void **state)
{
	struct fake_vm *f = world();
	uint8_t c = 0;

	(void)state;
	for (unsigned reg = 1; reg <= 5; reg += 2)
		set(f, (uint8_t)reg, 0xff); /* an alarm at any second */
	for (time_t end = time(NULL) + 30; !(c & 0x10) && time(NULL) < end;)
		c = get(f, 0xc);
	assert_int_equal(c & 0x30, 0x30);
	fake_vm_free(f);
}

static void any_access_is_survived(void **state)
{
	struct fake_vm *f = world();
	uint32_t seed = 7;

	(void)state;
	for (unsigned i = 0; i < 300000; i++) {
		seed = seed * 1664525 + 1013904223;
		if (seed >> 30 == 0)
			get(f, (uint8_t)(seed >> 8));
		else
			set(f, (uint8_t)(seed >> 8) & (seed >> 29 & 1 ? 0x3f : 0xff),
			    (uint8_t)(seed >> 16));
	}
	fake_write(f, BUS_PIO, LAYOUT_PORT_RTC, 8, UINT64_MAX);
	fake_read(f, BUS_PIO, LAYOUT_PORT_RTC - 1, 4);
	fake_vm_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_tells_the_hosts_time),
	    cmocka_unit_test(weekday_is_right),
	    cmocka_unit_test(it_can_be_set),
	    cmocka_unit_test(days_are_right_for_centuries),
	    cmocka_unit_test(nvram_remembers),
	    cmocka_unit_test(flags_can_be_polled),
	    cmocka_unit_test(any_access_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
