// SPDX-License-Identifier: ISC
/* The page of counters: what the daemon maps is what was counted, and it has an end. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "src/vmm_proto.h"
#include "vmm/stats.h"

static const struct vmm_stats_page *map(const struct stats *stats)
{
	void *p =
	    mmap(NULL, sizeof(struct vmm_stats_page), PROT_READ, MAP_SHARED, stats_fd(stats), 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void counters_are_seen_by_others(void **state)
{
	const struct vmm_stats_page *page;
	struct stats *stats;
	uint64_t *c;

	(void)state;
	assert_int_equal(stats_new(&stats), 0);
	page = map(stats);
	assert_true(page->magic == VMM_STATS_MAGIC);
	assert_int_equal(page->n_counters, 0);
	c = stats_counter(stats, "vcpu.%u.exits", 3u);
	stats_add(c, 40);
	stats_add(c, 2);
	assert_int_equal(page->n_counters, 1);
	assert_string_equal(page->counters[0].name, "vcpu.3.exits");
	assert_int_equal(page->counters[0].value, 42);
	munmap((void *)page, sizeof(*page));
	stats_free(stats);
}

static void a_name_is_one_counter(void **state)
{
	struct stats *stats;

	(void)state;
	assert_int_equal(stats_new(&stats), 0);
	assert_ptr_equal(stats_counter(stats, "a"), stats_counter(stats, "a"));
	assert_ptr_not_equal(stats_counter(stats, "a"), stats_counter(stats, "b"));
	stats_free(stats);
}

static void a_full_page_still_counts(void **state)
{
	const struct vmm_stats_page *page;
	struct stats *stats;
	uint64_t *over;

	(void)state;
	assert_int_equal(stats_new(&stats), 0);
	page = map(stats);
	for (unsigned i = 0; i < VMM_STATS_MAX; i++)
		stats_counter(stats, "c%u", i);
	assert_int_equal(page->n_counters, VMM_STATS_MAX);
	over = stats_counter(stats, "one too many");
	assert_non_null(over);
	stats_add(over, 1);
	assert_ptr_equal(stats_counter(stats, "two too many"), over);
	assert_int_equal(page->n_counters, VMM_STATS_MAX);
	munmap((void *)page, sizeof(*page));
	stats_free(stats);
}

static void long_names_are_cut_and_ended(void **state)
{
	const struct vmm_stats_page *page;
	struct stats *stats;

	(void)state;
	assert_int_equal(stats_new(&stats), 0);
	page = map(stats);
	stats_counter(stats, "%0200d", 7);
	assert_int_equal(strlen(page->counters[0].name), sizeof(page->counters[0].name) - 1);
	munmap((void *)page, sizeof(*page));
	stats_free(stats);
}

static void nobody_can_shrink_it(void **state)
{
	struct stats *stats;

	(void)state;
	assert_int_equal(stats_new(&stats), 0);
	assert_int_equal(fcntl(stats_fd(stats), F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
			 F_SEAL_SHRINK | F_SEAL_GROW);
	stats_free(stats);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counters_are_seen_by_others),
	    cmocka_unit_test(a_name_is_one_counter),
	    cmocka_unit_test(a_full_page_still_counts),
	    cmocka_unit_test(long_names_are_cut_and_ended),
	    cmocka_unit_test(nobody_can_shrink_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
