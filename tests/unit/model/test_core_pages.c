// SPDX-License-Identifier: ISC
/* Page tables of a guest, good and hostile, as runs for the segments of a core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "content_int.h"
#include "core_pages.h"

#define RAM	 (16u << 20)
#define P	 1ull
#define LARGE	 (1ull << 7)
#define CR3	 0x1000ull
#define TABLE(n) (CR3 + 0x1000ull * (n))

struct fixture {
	struct content memory; /* first */
	struct core_ram ram;
	uint8_t *mem;
	struct vmm_vcpu_state vcpu;
	struct core_run runs[CORE_RUNS_MAX];
};

static ssize_t read_ram(struct content *content, void *buf, size_t len, uint64_t offset)
{
	struct fixture *f = (struct fixture *)content;

	assert_true(offset < RAM && len <= RAM - offset);
	memcpy(buf, f->mem + offset, len);
	return (ssize_t)len;
}

static const struct content_ops ram_ops = {.read = read_ram};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->memory.ops = &ram_ops;
	f->ram.memory = &f->memory;
	f->ram.low = RAM;
	f->mem = calloc(1, RAM);
	if (!f->mem)
		return -1;
	f->vcpu = (struct vmm_vcpu_state){.cr0 = 1ull << 31 | 1, .cr3 = CR3, .efer = 1 << 10};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(f->mem);
	free(f);
	return 0;
}

static void entry(struct fixture *f, uint64_t table, unsigned index, uint64_t value)
{
	memcpy(f->mem + table + index * 8, &value, 8);
}

static size_t walk(struct fixture *f)
{
	return core_pages_walk(&f->ram, &f->vcpu, f->runs);
}

static void no_paging_no_runs(void **state)
{
	struct fixture *f = *state;

	entry(f, CR3, 0, TABLE(1) | P);
	f->vcpu.cr0 = 1;
	assert_int_equal(walk(f), 0);
	f->vcpu.cr0 = 1ull << 31;
	f->vcpu.efer = 0;
	assert_int_equal(walk(f), 0);
}

/* As Linux does it: text at -2 GiB by 2 MiB pages, a direct map by 1 GiB, and pages of 4 KiB. */
static void what_linux_maps(void **state)
{
	struct fixture *f = *state;

	entry(f, CR3, 511, TABLE(1) | P);
	entry(f, TABLE(1), 510, TABLE(2) | P);
	for (unsigned i = 0; i < 3; i++)
		entry(f, TABLE(2), 8 + i, (0x200000ull * (i + 1)) | P | LARGE);
	entry(f, CR3, 273, TABLE(3) | P); /* 0xffff888000000000 */
	entry(f, TABLE(3), 0, 0 | P | LARGE);
	entry(f, CR3, 0, TABLE(4) | P);
	entry(f, TABLE(4), 0, TABLE(5) | P);
	entry(f, TABLE(5), 2, TABLE(6) | P);
	for (unsigned i = 0; i < 4; i++)
		entry(f, TABLE(6), i,
		      (i < 2 ? 0x5000ull + 0x1000 * i : 0x9000ull + 0x1000 * i) | P);
	assert_int_equal(walk(f), 4);
	assert_int_equal(f->runs[0].vaddr, 0x400000);
	assert_int_equal(f->runs[0].paddr, 0x5000);
	assert_int_equal(f->runs[0].len, 0x2000);
	assert_int_equal(f->runs[1].paddr, 0xb000);
	assert_int_equal(f->runs[2].vaddr, 0xffff888000000000ull);
	assert_int_equal(f->runs[2].len, RAM); /* cut to what there is */
	assert_int_equal(f->runs[3].vaddr, 0xffffffff81000000ull);
	assert_int_equal(f->runs[3].paddr, 0x200000);
	assert_int_equal(f->runs[3].len, 0x600000);
}

static void five_levels(void **state)
{
	struct fixture *f = *state;

	f->vcpu.cr4 = 1 << 12;
	entry(f, CR3, 511, TABLE(1) | P);
	entry(f, TABLE(1), 511, TABLE(2) | P);
	entry(f, TABLE(2), 510, TABLE(3) | P);
	entry(f, TABLE(3), 8, 0x200000ull | P | LARGE);
	assert_int_equal(walk(f), 1);
	assert_int_equal(f->runs[0].vaddr, 0xffffffff81000000ull);
}

static void the_kernel_is_found_from_user_mode(void **state)
{
	struct fixture *f = *state;

	/* at CR3 what user mode sees; 4 KiB before it, the kernel's */
	f->vcpu.cr3 = 0x3000;
	entry(f, 0x3000, 0, TABLE(5) | P);
	entry(f, 0x2000, 273, TABLE(6) | P);
	entry(f, TABLE(6), 0, 0 | P | LARGE);
	assert_int_equal(walk(f), 1);
	assert_int_equal(f->runs[0].vaddr, 0xffff888000000000ull);
}

static void only_the_longest_fit(void **state)
{
	struct fixture *f = *state;
	uint64_t last = 0;

	/* 512 scattered pages of user space, then one long run of the kernel's */
	entry(f, CR3, 0, TABLE(1) | P);
	entry(f, TABLE(1), 0, TABLE(2) | P);
	entry(f, TABLE(2), 0, TABLE(3) | P);
	for (unsigned i = 0; i < 512; i++)
		entry(f, TABLE(3), i, (0x100000ull + 0x2000 * i) | P);
	entry(f, CR3, 511, TABLE(4) | P);
	entry(f, TABLE(4), 510, TABLE(5) | P);
	entry(f, TABLE(5), 0, 0 | P | LARGE);
	assert_int_equal(walk(f), CORE_RUNS_MAX);
	assert_int_equal(f->runs[CORE_RUNS_MAX - 1].vaddr, 0xffffffff80000000ull);
	for (size_t i = 0; i < CORE_RUNS_MAX; i++) {
		assert_true(i == 0 || f->runs[i].vaddr > last);
		last = f->runs[i].vaddr;
	}
}

/* Tables that refer to themselves, to nowhere, beyond RAM: the walk ends, and stays within RAM. */
static void hostile_tables(void **state)
{
	static const uint64_t targets[] = {
	    CR3,       TABLE(1),      RAM - 0x1000,   RAM,
	    ~0xfffull, 0xc0000000ull, 0x100000000ull, 0x1000000000000ull};
	struct fixture *f = *state;

	for (size_t t = 0; t < sizeof(targets) / sizeof(targets[0]); t++) {
		for (unsigned large = 0; large < 2; large++) {
			size_t n;

			for (unsigned i = 0; i < 512; i++) {
				entry(f, CR3, i, targets[t] | P | (large ? LARGE : 0));
				entry(f, TABLE(1), i, (i % 2 ? CR3 : targets[t]) | P);
			}
			n = walk(f);
			assert_true(n <= CORE_RUNS_MAX);
			for (size_t i = 0; i < n; i++)
				assert_true(f->runs[i].paddr < RAM &&
					    f->runs[i].len <= RAM - f->runs[i].paddr);
		}
	}
	for (unsigned i = 0; i < RAM / 8; i++)
		((uint64_t *)f->mem)[i] = (uint64_t)random() << 32 ^ (uint64_t)random() << 1 ^ P;
	f->vcpu.cr3 = ~0ull;
	assert_int_equal(walk(f), 0);
	f->vcpu.cr3 = CR3 | 0x1000;
	walk(f);
	f->ram.low = 0;
	assert_int_equal(walk(f), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(no_paging_no_runs),	TEST(what_linux_maps),
	    TEST(five_levels),		TEST(the_kernel_is_found_from_user_mode),
	    TEST(only_the_longest_fit), TEST(hostile_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
