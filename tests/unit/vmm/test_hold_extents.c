// SPDX-License-Identifier: ISC
/* What memory is made of, when some pages go to a new file: against a plain array of pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "vmm/hold_extents.h"

#define LOW_PAGES  5000u
#define HOLE_PAGES 300u
#define HIGH_PAGES 1700u
#define TOP_PAGES  (LOW_PAGES + HOLE_PAGES + HIGH_PAGES)

static const struct hold_region ram[] = {
    {0, LOW_PAGES *HOLD_PAGE, NULL},
    {(LOW_PAGES + HOLE_PAGES) * HOLD_PAGE, HIGH_PAGES *HOLD_PAGE, NULL},
};

struct place {
	uint32_t file; /* VMM_EXTENT_ZERO: none */
	uint64_t offset;
};

/* Where each page is, by the extents. */
static void spread(const struct vmm_extent *extents, unsigned n, struct place *places)
{
	for (unsigned i = 0; i < TOP_PAGES; i++)
		places[i] = (struct place){VMM_EXTENT_ZERO, 0};
	for (unsigned i = 0; i < n; i++)
		for (uint64_t at = 0; at < extents[i].bytes; at += HOLD_PAGE)
			places[(extents[i].gpa + at) / HOLD_PAGE] =
			    (struct place){extents[i].file, extents[i].offset + at};
}

static bool in_ram(unsigned page)
{
	return page < LOW_PAGES || page >= LOW_PAGES + HOLE_PAGES;
}

/* Random extents of @n_files, at most @max. */
static unsigned make_parent(struct vmm_extent *extents, unsigned max, unsigned n_files)
{
	unsigned n = 0;

	for (unsigned page = 0; page < TOP_PAGES && n < max;) {
		unsigned pages = 1 + (unsigned)random() % 40;

		page += (unsigned)random() % 20;
		while (pages && (page + pages > TOP_PAGES || !in_ram(page + pages - 1) ||
				 (page < LOW_PAGES && page + pages > LOW_PAGES)))
			pages--;
		if (pages && in_ram(page))
			extents[n++] = (struct vmm_extent){page * HOLD_PAGE, pages * HOLD_PAGE,
							   (uint64_t)(random() % 1000) * HOLD_PAGE,
							   (uint32_t)(random() % n_files), 0};
		page += pages ? pages : 1;
	}
	return n;
}

static void check(const struct vmm_extent *parent, unsigned n_parent, const struct hold_pages *want,
		  const struct hold_pages *pages, const struct vmm_extent *out, unsigned n)
{
	static struct place before[TOP_PAGES], after[TOP_PAGES];

	assert_true(n <= VMM_EXTENTS_MAX);
	assert_true(hold_extents_valid(out, n, VMM_MEMORY_FILES_MAX, ram, 2));
	spread(parent, n_parent, before);
	spread(out, n, after);
	for (unsigned i = 0; i < TOP_PAGES; i++) {
		bool new = after[i].file == 0;

		if (hold_pages_get(want, i))
			assert_true(new);
		/* What the new file has must be written. */
		assert_int_equal(hold_pages_get(pages, i), new);
		if (new) {
			assert_int_equal(after[i].offset, i * HOLD_PAGE);
			continue;
		}
		assert_int_equal(after[i].offset, before[i].offset);
		assert_int_equal(after[i].file, before[i].file == VMM_EXTENT_ZERO
						    ? VMM_EXTENT_ZERO
						    : before[i].file + 1);
	}
}

static void round_of(unsigned one_in)
{
	static struct vmm_extent parent[VMM_EXTENTS_MAX], out[VMM_EXTENTS_MAX];
	unsigned n_parent = make_parent(parent, (unsigned)random() % (VMM_EXTENTS_MAX + 1), 6), n;
	struct hold_pages want, pages;

	assert_int_equal(hold_pages_new(&want, TOP_PAGES * HOLD_PAGE), 0);
	assert_int_equal(hold_pages_new(&pages, TOP_PAGES * HOLD_PAGE), 0);
	for (unsigned i = 0; i < TOP_PAGES; i++) {
		if (!in_ram(i) || random() % one_in)
			continue;
		hold_pages_set(&want, i);
		hold_pages_set(&pages, i);
	}
	n = hold_extents_over(parent, n_parent, ram, 2, &pages, out);
	check(parent, n_parent, &want, &pages, out, n);
	hold_pages_free(&want);
	hold_pages_free(&pages);
}

static void random_pages_over_random_parents(void **state)
{
	static const unsigned one_in[] = {1, 2, 3, 10, 100, 1000, 1000000};

	(void)state;
	for (unsigned i = 0; i < 40 * nitems(one_in); i++)
		round_of(one_in[i % nitems(one_in)]);
}

/* Nothing merged where there is no need to. */
static void few_runs_stay_apart(void **state)
{
	const struct vmm_extent parent[] = {{0, LOW_PAGES * HOLD_PAGE, 0, 0, 0}};
	struct vmm_extent out[VMM_EXTENTS_MAX];
	struct hold_pages pages;

	(void)state;
	assert_int_equal(hold_pages_new(&pages, TOP_PAGES * HOLD_PAGE), 0);
	hold_pages_set(&pages, 7);
	hold_pages_set(&pages, 9);
	assert_int_equal(hold_extents_over(parent, 1, ram, 2, &pages, out), 5);
	assert_int_equal(out[1].gpa, 7 * HOLD_PAGE);
	assert_int_equal(out[1].bytes, HOLD_PAGE);
	assert_int_equal(out[2].file, 1);
	assert_int_equal(out[2].offset, 8 * HOLD_PAGE);
	assert_false(hold_pages_get(&pages, 8));
	hold_pages_free(&pages);
}

static void what_cannot_be_is_refused(void **state)
{
	const struct vmm_extent good = {HOLD_PAGE, HOLD_PAGE, 0, 1, 0};
	const uint64_t page = HOLD_PAGE, low = LOW_PAGES * page;
	struct {
		struct vmm_extent e[2];
		unsigned n;
	} bad[] = {
	    {{{1, page, 0, 0, 0}}, 1},
	    {{{0, page + 1, 0, 0, 0}}, 1},
	    {{{0, page, 5, 0, 0}}, 1},
	    {{{0, 0, 0, 0, 0}}, 1},
	    {{{0, page, 0, 2, 0}}, 1},
	    {{{0, page, 0, VMM_EXTENT_ZERO, 0}}, 1},
	    {{{low - page, 2 * page, 0, 0, 0}}, 1},
	    {{{low, page, 0, 0, 0}}, 1},
	    {{{TOP_PAGES * page, page, 0, 0, 0}}, 1},
	    {{{page, UINT64_MAX - page + 1, 0, 0, 0}}, 1},
	    {{{0, page, UINT64_MAX - page + 1, 0, 0}}, 1},
	    {{{0, 2 * page, 0, 0, 0}, {page, page, 0, 0, 0}}, 2},
	    {{{page, page, 0, 0, 0}, {0, page, 0, 0, 0}}, 2},
	};

	(void)state;
	assert_true(hold_extents_valid(&good, 1, 2, ram, 2));
	assert_true(hold_extents_valid(NULL, 0, 0, ram, 2));
	for (unsigned i = 0; i < nitems(bad); i++)
		assert_false(hold_extents_valid(bad[i].e, bad[i].n, 2, ram, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(random_pages_over_random_parents),
	    cmocka_unit_test(few_runs_stay_apart),
	    cmocka_unit_test(what_cannot_be_is_refused),
	};

	srandom(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
