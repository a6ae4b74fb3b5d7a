// SPDX-License-Identifier: ISC
/* Counts of every width, in their places within a block: bit 0 is the least significant. */
#include "tests/unit/storage/storage_test.h"

#include "storage/qcow2_int.h"

static void every_width_keeps_its_neighbours(void **state)
{
	uint8_t block[64], expect[64];
	uint32_t order;
	uint64_t i, n, max;

	(void)state;
	for (order = 0; order <= 6; order++) {
		n = sizeof(block) * 8 >> order;
		max = order == 6 ? UINT64_MAX : (1ull << (1 << order)) - 1;
		for (i = 0; i < n; i++) {
			memset(block, 0, sizeof(block));
			qcow2_ref_write(block, order, i, max);
			assert_int_equal(qcow2_ref_read(block, order, i), max);
			assert_true(i == 0 || qcow2_ref_read(block, order, i - 1) == 0);
			assert_true(i == n - 1 || qcow2_ref_read(block, order, i + 1) == 0);
			memset(block, 0xff, sizeof(block));
			memset(expect, 0xff, sizeof(expect));
			qcow2_ref_write(block, order, i, 0);
			assert_int_equal(qcow2_ref_read(block, order, i), 0);
			qcow2_ref_write(block, order, i, max);
			assert_memory_equal(block, expect, sizeof(block));
		}
	}
}

static void bytes_are_as_specified(void **state)
{
	uint8_t block[16] = {0};

	(void)state;
	qcow2_ref_write(block, 0, 0, 1); /* least significant bit first */
	assert_int_equal(block[0], 0x01);
	qcow2_ref_write(block, 1, 3, 2);
	assert_int_equal(block[0], 0x81);
	qcow2_ref_write(block, 2, 2, 5);
	assert_int_equal(block[1], 0x05);
	qcow2_ref_write(block, 4, 1, 0x1234); /* big endian */
	assert_int_equal(block[2], 0x12);
	assert_int_equal(block[3], 0x34);
	qcow2_ref_write(block, 6, 1, 0x0102030405060708ull);
	assert_int_equal(block[8], 0x01);
	assert_int_equal(block[15], 0x08);
}

static void sets_forget_and_find(void **state)
{
	struct cluster_set set = {0};
	uint64_t i;

	(void)state;
	for (i = 0; i < 5000; i++)
		assert_int_equal(cluster_set_add(&set, i * i), 0);
	for (i = 0; i < 5000; i += 2)
		cluster_set_remove(&set, i * i);
	for (i = 0; i < 5000; i++)
		assert_int_equal(cluster_set_has(&set, i * i), i % 2);
	assert_false(cluster_set_has(&set, 3));
	cluster_set_free(&set);
	assert_false(cluster_set_has(&set, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_width_keeps_its_neighbours),
	    cmocka_unit_test(bytes_are_as_specified),
	    cmocka_unit_test(sets_forget_and_find),
	};

	return cmocka_run_group_tests_name("qcow2_refcount", tests, NULL, NULL);
}
