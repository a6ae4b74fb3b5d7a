// SPDX-License-Identifier: ISC
/* Sizes and numbers are read strictly: what is not wholly a number is refused. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/size.h"

static void sizes_with_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
	    {"0", 0},
	    {"1", 1},
	    {"1024", 1024},
	    {"1K", 1024},
	    {"1k", 1024},
	    {"64M", 64ull << 20},
	    {"64MiB", 64ull << 20},
	    {"64mib", 64ull << 20},
	    {"64MB", 64ull << 20},
	    {"2G", 2ull << 30},
	    {"3T", 3ull << 40},
	    {"5P", 5ull << 50},
	    {"7E", 7ull << 60},
	    {"007", 7},
	    {"9223372036854775807", INT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < nitems(rows); i++) {
		uint64_t bytes = 99;

		assert_int_equal(size_parse(rows[i].text, &bytes), 0);
		assert_true(bytes == rows[i].bytes);
	}
}

static void sizes_refused(void **state)
{
	static const char *const invalid[] = {
	    "",	   "-1", "+1",	"1.5G",	 "1 G", " 1",  "1 ", "G",   "0x", "0x1", "1Q",	 "1GG",
	    "1Bi", "1i", "1Mi", "1MiBB", "1B",	"1\n", "a",  "1,0", "١",  "--",	 "1G1G", "1e3"};
	static const char *const range[] = {"8E",
					    "16E",
					    "9223372036854775808",
					    "99999999999999999999",
					    "99999999999999999999K",
					    "18446744073709551616"};
	uint64_t bytes = 99;

	(void)state;
	for (size_t i = 0; i < nitems(invalid); i++)
		assert_int_equal(size_parse(invalid[i], &bytes), -EINVAL);
	for (size_t i = 0; i < nitems(range); i++)
		assert_int_equal(size_parse(range[i], &bytes), -ERANGE);
	assert_true(bytes == 99); /* a refused value changes nothing */
}

static void numbers_in_bounds(void **state)
{
	uint64_t value = 99;

	(void)state;
	assert_int_equal(uint_parse("1", 1, 240, &value), 0);
	assert_true(value == 1);
	assert_int_equal(uint_parse("240", 1, 240, &value), 0);
	assert_true(value == 240);
	assert_int_equal(uint_parse("18446744073709551615", 0, UINT64_MAX, &value), 0);
	assert_true(value == UINT64_MAX);
	value = 99;
	assert_int_equal(uint_parse("0", 1, 240, &value), -ERANGE);
	assert_int_equal(uint_parse("241", 1, 240, &value), -ERANGE);
	assert_int_equal(uint_parse("18446744073709551616", 0, UINT64_MAX, &value), -ERANGE);
	assert_int_equal(uint_parse("", 0, 9, &value), -EINVAL);
	assert_int_equal(uint_parse("-1", 0, 9, &value), -EINVAL);
	assert_int_equal(uint_parse("1K", 0, 9999, &value), -EINVAL);
	assert_int_equal(uint_parse("1 ", 0, 9, &value), -EINVAL);
	assert_true(value == 99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_with_units),
	    cmocka_unit_test(sizes_refused),
	    cmocka_unit_test(numbers_in_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
