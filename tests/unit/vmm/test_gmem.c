// SPDX-License-Identifier: ISC
/* Guest memory: what is in a region is reached, and nothing else ever. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/gmem.h"

#define LOW  0x3000u
#define HIGH 0x100000000ull

static uint8_t low[LOW], high[0x2000];

static const struct gmem mem = {
    .regions = {{0, sizeof(low), low}, {HIGH, sizeof(high), high}},
    .n_regions = 2,
};

static void inside_is_reached(void **state)
{
	uint8_t buf[4] = {1, 2, 3, 4}, back[4];

	(void)state;
	assert_ptr_equal(gmem_ptr(&mem, 0, LOW), low);
	assert_ptr_equal(gmem_ptr(&mem, LOW - 1, 1), low + LOW - 1);
	assert_ptr_equal(gmem_ptr(&mem, HIGH, sizeof(high)), high);
	assert_int_equal(gmem_write(&mem, HIGH + 0x1ffc, buf, 4), 0);
	assert_memory_equal(high + 0x1ffc, buf, 4);
	assert_int_equal(gmem_read(&mem, HIGH + 0x1ffc, back, 4), 0);
	assert_memory_equal(back, buf, 4);
}

static void outside_is_refused(void **state)
{
	static const struct {
		uint64_t gpa, len;
	} bad[] = {
	    {LOW, 1},
	    {LOW - 1, 2},
	    {0, LOW + 1},
	    {0, HIGH},
	    {0, UINT64_MAX},
	    {1, UINT64_MAX},
	    {LOW - 1, UINT64_MAX},
	    {HIGH - 1, 1},
	    {HIGH - 1, 2},
	    {HIGH, 0x2001},
	    {HIGH + 0x1fff, 2},
	    {HIGH + 0x2000, 1},
	    {UINT64_MAX, 1},
	    {UINT64_MAX, 2},
	    {UINT64_MAX, UINT64_MAX},
	    {HIGH, UINT64_MAX},
	    {HIGH + 1, ~HIGH},
	    {0x8000000000000000ull, 1},
	    {LOW, UINT64_MAX - LOW + 1},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(gmem_ptr(&mem, bad[i].gpa, bad[i].len));
}

static void a_refused_copy_copies_nothing(void **state)
{
	uint8_t buf[8] = "unmoved";

	(void)state;
	memset(low, 0xaa, sizeof(low));
	assert_int_equal(gmem_read(&mem, LOW - 4, buf, 8), -EFAULT);
	assert_string_equal((char *)buf, "unmoved");
	assert_int_equal(gmem_write(&mem, LOW - 4, buf, 8), -EFAULT);
	assert_int_equal(low[LOW - 1], 0xaa);
	assert_int_equal(low[LOW - 4], 0xaa);
}

static void nothing_is_always_fine(void **state)
{
	struct iovec iov;
	unsigned n = 0;

	(void)state;
	assert_int_equal(gmem_read(&mem, UINT64_MAX, NULL, 0), 0);
	assert_int_equal(gmem_write(&mem, LOW, NULL, 0), 0);
	assert_int_equal(gmem_iov(&mem, LOW, 0, &iov, &n, 1), 0);
	assert_int_equal(n, 0);
}

static void vectors_are_bounded(void **state)
{
	struct iovec iov[2];
	unsigned n = 0;

	(void)state;
	assert_int_equal(gmem_iov(&mem, 16, 32, iov, &n, 2), 0);
	assert_int_equal(gmem_iov(&mem, HIGH, 1, iov, &n, 2), 0);
	assert_int_equal(n, 2);
	assert_ptr_equal(iov[0].iov_base, low + 16);
	assert_int_equal(iov[0].iov_len, 32);
	assert_ptr_equal(iov[1].iov_base, high);
	assert_int_equal(gmem_iov(&mem, 0, 1, iov, &n, 2), -E2BIG);
	n = 0;
	assert_int_equal(gmem_iov(&mem, LOW - 1, 2, iov, &n, 2), -EFAULT);
	assert_int_equal(n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(inside_is_reached),
	    cmocka_unit_test(outside_is_refused),
	    cmocka_unit_test(a_refused_copy_copies_nothing),
	    cmocka_unit_test(nothing_is_always_fine),
	    cmocka_unit_test(vectors_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
