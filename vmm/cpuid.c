// SPDX-License-Identifier: ISC
/*
 * CPUID as the guest sees it: what KVM supports here, less what would need
 * nested virtualisation, plus where each vcpu is. All vcpus are cores of one
 * package, one thread each, and a vcpu's APIC id is its index. Intel SDM 2A
 * (CPUID), AMD APM 3 appendix E, Linux's Documentation/virt/kvm/x86/cpuid.rst.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm_int.h"
#include "util/cleanup.h"

#define ENTRIES_MAX 256
#define EXTRA	    8 /* entries that we may add */

#define LEAF_HYPERVISOR 0x40000000u

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

static void drop(struct kvm_cpuid2 *c, uint32_t function)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function != function)
			c->entries[n++] = c->entries[i];
	c->nent = n;
}

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *c, uint32_t function, uint32_t index,
				    uint32_t flags)
{
	struct kvm_cpuid_entry2 *e;

	if (c->nent >= ENTRIES_MAX + EXTRA)
		return NULL;
	e = &c->entries[c->nent++];
	*e = (struct kvm_cpuid_entry2){.function = function, .index = index, .flags = flags};
	return e;
}

/* KVM's signature, without which a guest looks for neither kvmclock nor anything else of KVM's. */
static void set_hypervisor(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *e = find(c, LEAF_HYPERVISOR, 0);

	if (!e)
		e = add(c, LEAF_HYPERVISOR, 0, 0);
	if (!e)
		return;
	e->eax = KVM_CPUID_FEATURES;
	memcpy(&e->ebx, "KVMK", 4);
	memcpy(&e->ecx, "VMKV", 4);
	memcpy(&e->edx, "M\0\0\0", 4);
}

/* Extended topology: SMT level of one thread, core level of @n_vcpus, the end. */
static void set_extended(struct kvm_cpuid2 *c, uint32_t leaf, unsigned index, unsigned n_vcpus,
			 unsigned shift)
{
	const uint32_t levels[3][3] = {
	    /* shift to the next level, logical processors at this, type */
	    {0, 1, 1 << 8},
	    {shift, n_vcpus, 2 << 8 | 1},
	    {0, 0, 2},
	};

	drop(c, leaf);
	for (unsigned i = 0; i < nitems(levels); i++) {
		struct kvm_cpuid_entry2 *e = add(c, leaf, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);

		if (!e)
			return;
		e->eax = levels[i][0];
		e->ebx = levels[i][1];
		e->ecx = levels[i][2];
		e->edx = index;
	}
}

/* Who shares a cache (leaf 4 of Intel's, 0x8000001d of AMD's): the third level all, others none. */
static void set_sharing(struct kvm_cpuid_entry2 *e, unsigned n_vcpus)
{
	uint32_t level = e->eax >> 5 & 7, sharing = level >= 3 ? n_vcpus - 1 : 0;

	if ((e->eax & 31) == 0)
		return;
	e->eax &= ~(0xfffu << 14);
	e->eax |= sharing << 14;
	if (e->function == 4) {
		e->eax &= ~(0x3fu << 26);
		e->eax |= (n_vcpus > 64 ? 63 : n_vcpus - 1) << 26;
	}
}

static void set_amd(struct kvm_cpuid2 *c, unsigned index, unsigned n_vcpus, unsigned shift)
{
	struct kvm_cpuid_entry2 *e = find(c, 0x80000008, 0);

	if (e)
		e->ecx = (e->ecx & ~0xf0ffu) | shift << 12 | (n_vcpus - 1);
	e = find(c, 0x8000001e, 0);
	if (e) {
		e->eax = index;
		e->ebx = index & 0xff; /* core, one thread in it */
		e->ecx = 0;	       /* node 0 of one */
	}
	e = find(c, 0x80000001, 0);
	if (e && n_vcpus > 1)
		e->ecx |= 1 << 1; /* CmpLegacy: cores, not threads */
}

void cpuid_set_topology(struct kvm_cpuid2 *c, unsigned index, unsigned n_vcpus)
{
	struct kvm_cpuid_entry2 *e = find(c, 1, 0), *zero = find(c, 0, 0);
	unsigned shift = 0;
	bool amd =
	    zero && (memcmp(&zero->ebx, "Auth", 4) == 0 || memcmp(&zero->ebx, "Hygo", 4) == 0);

	while (1u << shift < n_vcpus)
		shift++;
	if (e) {
		e->ebx &= 0xffff;
		e->ebx |= index << 24 | (n_vcpus > 1 ? 1u << shift : 1) << 16;
		if (n_vcpus > 1)
			e->edx |= 1u << 28;
		else
			e->edx &= ~(1u << 28);
	}
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == 4 || c->entries[i].function == 0x8000001d)
			set_sharing(&c->entries[i], n_vcpus);
	if (zero && zero->eax >= 0xb)
		set_extended(c, 0xb, index, n_vcpus, shift);
	if (zero && zero->eax >= 0x1f)
		set_extended(c, 0x1f, index, n_vcpus, shift);
	if (amd)
		set_amd(c, index, n_vcpus, shift);
}

static void complete(struct kvm_cpuid2 *c, bool tsc_deadline)
{
	struct kvm_cpuid_entry2 *e = find(c, 1, 0);

	if (e) {
		e->ecx |= 1u << 31;    /* there is a hypervisor */
		e->ecx &= ~(1u << 5);  /* VMX */
		e->ecx &= ~(1u << 24); /* deadline mode of the local APIC's timer */
		if (tsc_deadline)
			e->ecx |= 1u << 24;
	}
	e = find(c, 0x80000001, 0);
	if (e)
		e->ecx &= ~(1u << 2); /* SVM */
	e = find(c, 0x8000000a, 0);
	if (e)
		e->eax = e->ebx = e->ecx = e->edx = 0;
	set_hypervisor(c);
}

unsigned cpuid_address_bits(struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *e = find(c, 0x80000008, 0);

	return e ? e->eax & 0xff : 36;
}

int cpuid_get(int kvm_fd, struct kvm_cpuid2 **out, struct err *err)
{
	_cleanup_free_ struct kvm_cpuid2 *c =
	    calloc(1, sizeof(*c) + (ENTRIES_MAX + EXTRA) * sizeof(struct kvm_cpuid_entry2));

	if (!c)
		return err_set(err, -ENOMEM, "no memory");
	c->nent = ENTRIES_MAX;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c) < 0)
		return err_set(err, -errno, "KVM: cannot tell the CPUID that it supports");
	complete(c, ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
	*out = take_ptr(c);
	return 0;
}
