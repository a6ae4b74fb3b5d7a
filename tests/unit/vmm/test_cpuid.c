// SPDX-License-Identifier: ISC
/* Where a vcpu is, as CPUID tells it, on Intel's and on AMD's. */
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/vm_int.h"

#define ROOM 64

static struct kvm_cpuid2 *make(const char *vendor, uint32_t max)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ROOM * sizeof(struct kvm_cpuid_entry2));
	const struct kvm_cpuid_entry2 entries[] = {
	    {.function = 0, .eax = max},
	    {.function = 1, .ebx = 0xff10ab00, .edx = 0},
	    {.function = 4, .index = 0, .eax = 0xfffff121}, /* first level */
	    {.function = 4, .index = 1, .eax = 0x00000163}, /* third level */
	    {.function = 4, .index = 2, .eax = 0},
	    {.function = 0xb, .index = 0, .ebx = 77, .edx = 99},
	    {.function = 0x80000001},
	    {.function = 0x80000008, .ecx = 0x1f0ff},
	    {.function = 0x8000001d, .index = 3, .eax = 0x163},
	    {.function = 0x8000001e, .eax = 9, .ebx = 9, .ecx = 9},
	};

	memcpy(c->entries, entries, sizeof(entries));
	c->nent = sizeof(entries) / sizeof(entries[0]);
	memcpy(&c->entries[0].ebx, vendor, 4);
	return c;
}

static const struct kvm_cpuid_entry2 *get(const struct kvm_cpuid2 *c, uint32_t function,
					  uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index) {
			assert_null(found); /* once each */
			found = &c->entries[i];
		}
	assert_non_null(found);
	return found;
}

static void assert_absent(const struct kvm_cpuid2 *c, uint32_t function)
{
	for (unsigned i = 0; i < c->nent; i++)
		assert_int_not_equal(c->entries[i].function, function);
}

static void intel_topology(void **state)
{
	struct kvm_cpuid2 *c = make("Genu", 0x1f);

	(void)state;
	/* Patched for one after the other, as when the vcpus are made. */
	cpuid_set_topology(c, 0, 6);
	cpuid_set_topology(c, 5, 6);
	assert_int_equal(get(c, 1, 0)->ebx >> 24, 5);
	assert_int_equal(get(c, 1, 0)->ebx >> 16 & 0xff, 8);
	assert_int_equal(get(c, 1, 0)->ebx & 0xffff, 0xab00);
	assert_int_equal(get(c, 1, 0)->edx >> 28 & 1, 1);
	assert_int_equal(get(c, 4, 0)->eax >> 14 & 0xfff, 0); /* its own */
	assert_int_equal(get(c, 4, 1)->eax >> 14 & 0xfff, 5); /* everyone's */
	assert_int_equal(get(c, 4, 0)->eax >> 26, 5);
	assert_int_equal(get(c, 4, 2)->eax, 0);
	for (uint32_t leaf = 0xb; leaf; leaf = leaf == 0xb ? 0x1f : 0) {
		assert_int_equal(get(c, leaf, 0)->eax, 0);
		assert_int_equal(get(c, leaf, 0)->ebx, 1);
		assert_int_equal(get(c, leaf, 0)->ecx, 0x100);
		assert_int_equal(get(c, leaf, 1)->eax, 3);
		assert_int_equal(get(c, leaf, 1)->ebx, 6);
		assert_int_equal(get(c, leaf, 1)->ecx, 0x201);
		assert_int_equal(get(c, leaf, 2)->ecx, 2);
		assert_int_equal(get(c, leaf, 2)->ebx, 0);
		assert_int_equal(get(c, leaf, 1)->edx, 5);
	}
	free(c);
}

static void one_processor_is_no_package_of_many(void **state)
{
	struct kvm_cpuid2 *c = make("Genu", 0xb);

	(void)state;
	cpuid_set_topology(c, 0, 1);
	assert_int_equal(get(c, 1, 0)->ebx >> 16, 1);
	assert_int_equal(get(c, 1, 0)->edx >> 28 & 1, 0);
	assert_int_equal(get(c, 4, 1)->eax >> 14, 0);
	assert_int_equal(get(c, 0xb, 1)->eax, 0);
	assert_absent(c, 0x1f);
	free(c);
}

static void amd_topology(void **state)
{
	struct kvm_cpuid2 *c = make("Auth", 0x10);

	(void)state;
	cpuid_set_topology(c, 3, 4);
	assert_int_equal(get(c, 0x80000008, 0)->ecx, 0x12003);
	assert_int_equal(get(c, 0x8000001e, 0)->eax, 3);
	assert_int_equal(get(c, 0x8000001e, 0)->ebx, 3);
	assert_int_equal(get(c, 0x8000001e, 0)->ecx, 0);
	assert_int_equal(get(c, 0x80000001, 0)->ecx & 2, 2);
	assert_int_equal(get(c, 0x8000001d, 3)->eax >> 14 & 0xfff, 3);
	free(c);
}

static void old_processors_have_no_extended_leaf(void **state)
{
	struct kvm_cpuid2 *c = make("Auth", 0xa);

	(void)state;
	c->nent -= 5; /* nor anything from leaf 0xb on */
	cpuid_set_topology(c, 1, 2);
	assert_absent(c, 0xb);
	assert_int_equal(get(c, 1, 0)->ebx >> 24, 1);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(intel_topology),
	    cmocka_unit_test(one_processor_is_no_package_of_many),
	    cmocka_unit_test(amd_topology),
	    cmocka_unit_test(old_processors_have_no_extended_leaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
