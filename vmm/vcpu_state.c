// SPDX-License-Identifier: ISC
/*
 * All that is in a vcpu, read from KVM and put into another one (Linux's
 * Documentation/virt/kvm/api.rst). The vcpu stands still.
 *
 * The order matters, in both directions: reading the state of the processor (mp_state) has KVM
 * take the INITs and SIPIs that wait; a local APIC is set when the APIC base (in
 * sregs) is; its timer's deadline counts with the TSC, and so comes last; pending events would
 * be dropped by what is set before them.
 *
 * The time stamp counter goes on as if it had run all the while, as KVM's clock does
 * (save.c), so that a guest that tells the time by it is right, and none sees it go back.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LOG_MODULE "state"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm/save.h"
#include "vmm/vm_int.h"

#define CPUID_MAX    512
#define MSRS_MAX     4096
#define MSRS_AT_ONCE 64
#define XSAVE_MAX    (1u << 20)

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0

struct context {
	struct vcpu *vcpu;
	struct state *st;
	const struct save_times *times;
};

static void kvm_failed(const struct context *c, const char *what)
{
	state_fail(c->st, -errno, "%s: %s", what, strerror(errno));
}

/* Gets it from KVM or puts it there: a struct of a fixed size. */
static void plain(const struct context *c, const char *what, unsigned long get, unsigned long set,
		  void *data, size_t len)
{
	bool loading = state_loading(c->st);

	memset(data, 0, len);
	if (!loading && state_ok(c->st) && ioctl(c->vcpu->fd, get, data) < 0)
		kvm_failed(c, what);
	state_bytes(c->st, data, len);
	if (loading && state_ok(c->st) && ioctl(c->vcpu->fd, set, data) < 0)
		kvm_failed(c, what);
}

/* --- CPUID ---------------------------------------------------------------------------------- */

static struct kvm_cpuid2 *cpuid_new(void)
{
	return calloc(1, sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
}

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *c, uint32_t function,
						uint32_t index)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

/* What the guest was told that it may use must be there. */
static void check_features(const struct context *c, const struct kvm_cpuid2 *was,
			   const struct kvm_cpuid2 *now)
{
	/* Registers: eax, ebx, ecx, edx. Bits that come and go with what the guest does do not
	 * count. */
	static const struct {
		uint32_t function, index, mask[4];
	} leaves[] = {
	    {1, 0, {0, 0, ~(1u << 27), ~(1u << 9)}},
	    {7, 0, {0, ~0u, ~(1u << 4), ~0u}},
	    {7, 1, {~0u, 0, 0, 0}},
	    {0xd, 1, {~0u, 0, 0, 0}},
	    {0x80000001, 0, {0, 0, ~0u, ~(1u << 9)}},
	};
	static const char *const names[] = {"eax", "ebx", "ecx", "edx"};

	for (unsigned i = 0; i < nitems(leaves); i++) {
		const struct kvm_cpuid_entry2 *a, *b;

		a = find_leaf(was, leaves[i].function, leaves[i].index);
		b = find_leaf(now, leaves[i].function, leaves[i].index);
		for (unsigned r = 0; a && r < 4; r++) {
			uint32_t has = b ? (&b->eax)[r] : 0;
			uint32_t lost = (&a->eax)[r] & ~has & leaves[i].mask[r];

			if (lost)
				state_fail(c->st, -EOPNOTSUPP,
					   "the guest uses processors with features that this "
					   "host has not (CPUID %#x.%u %s %#x)",
					   leaves[i].function, leaves[i].index, names[r], lost);
		}
	}
}

static void cpuid_state(const struct context *c)
{
	_cleanup_free_ struct kvm_cpuid2 *now = cpuid_new(), *was = cpuid_new();
	uint32_t n;

	if (!now || !was) {
		state_fail(c->st, -ENOMEM, "no memory");
		return;
	}
	now->nent = CPUID_MAX;
	if (ioctl(c->vcpu->fd, KVM_GET_CPUID2, now) < 0) {
		kvm_failed(c, "KVM_GET_CPUID2");
		return;
	}
	n = now->nent * (uint32_t)sizeof(now->entries[0]);
	if (!state_loading(c->st)) {
		state_blob(c->st, now->entries, &n, n);
		return;
	}
	state_blob(c->st, was->entries, &n, CPUID_MAX * sizeof(was->entries[0]));
	if (n % sizeof(was->entries[0]))
		state_fail(c->st, -EINVAL, "half a leaf of CPUID");
	was->nent = n / (uint32_t)sizeof(was->entries[0]);
	if (was->nent == now->nent &&
	    memcmp(was->entries, now->entries, was->nent * sizeof(was->entries[0])) == 0)
		return; /* mostly: it went on on the same host */
	check_features(c, was, now);
	if (state_ok(c->st) && ioctl(c->vcpu->fd, KVM_SET_CPUID2, was) < 0)
		kvm_failed(c, "KVM_SET_CPUID2");
}

/* --- floating point and vectors ------------------------------------------------------------- */

static void xsave_state(const struct context *c)
{
	int size = ioctl(c->vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	uint32_t room = size > (int)sizeof(struct kvm_xsave) ? (uint32_t)size
							     : (uint32_t)sizeof(struct kvm_xsave);
	bool loading = state_loading(c->st);
	_cleanup_free_ void *data = calloc(1, XSAVE_MAX);
	uint32_t len = room;

	if (!data || room > XSAVE_MAX) {
		state_fail(c->st, -ENOMEM, "no memory");
		return;
	}
	if (!loading && ioctl(c->vcpu->fd, size > 0 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, data) < 0)
		kvm_failed(c, "KVM_GET_XSAVE");
	state_blob(c->st, data, &len, XSAVE_MAX);
	if (!loading || !state_ok(c->st))
		return;
	if (len > room)
		state_fail(c->st, -EOPNOTSUPP, "the host's processors have fewer registers");
	else if (ioctl(c->vcpu->fd, KVM_SET_XSAVE, data) < 0)
		kvm_failed(c, "KVM_SET_XSAVE");
}

/* --- model-specific registers --------------------------------------------------------------- */

/* As many as one call takes. */
union some_msrs {
	struct kvm_msrs msrs; /* ends in an array of none */
	uint8_t room[sizeof(struct kvm_msrs) + MSRS_AT_ONCE * sizeof(struct kvm_msr_entry)];
};

static bool msr_get(const struct context *c, uint32_t index, uint64_t *value)
{
	union some_msrs one = {.msrs = {.nmsrs = 1}};

	one.msrs.entries[0].index = index;
	if (ioctl(c->vcpu->fd, KVM_GET_MSRS, &one) != 1)
		return false;
	*value = one.msrs.entries[0].data;
	return true;
}

/* One that can only be read, and what a newer kernel lists: nothing is lost by them. */
static void refused(const struct context *c, const struct kvm_msr_entry *e)
{
	uint64_t present;

	if (e->data == 0 || (msr_get(c, e->index, &present) && present == e->data))
		return;
	state_fail(c->st, -EOPNOTSUPP, "this host's KVM refuses MSR %#x = %#llx", e->index,
		   (unsigned long long)e->data);
}

/* Each call ends at the first that KVM refuses. */
static void msrs_set(const struct context *c, const struct kvm_msr_entry *entries, unsigned n)
{
	union some_msrs some;

	for (unsigned at = 0, part; at < n && state_ok(c->st); at += part) {
		int done;

		part = n - at < MSRS_AT_ONCE ? n - at : MSRS_AT_ONCE;
		memset(&some.msrs, 0, sizeof(some.msrs));
		some.msrs.nmsrs = part;
		memcpy(some.msrs.entries, &entries[at], part * sizeof(entries[0]));
		done = ioctl(c->vcpu->fd, KVM_SET_MSRS, &some);
		if (done < 0)
			done = 0;
		if ((unsigned)done < part) {
			refused(c, &entries[at + (unsigned)done]);
			part = (unsigned)done + 1;
		}
	}
}

/* Those that can be read; returns how many. */
static unsigned msrs_get(const struct context *c, const struct kvm_msr_list *list,
			 struct kvm_msr_entry *entries)
{
	union some_msrs some;
	unsigned n = 0;

	for (unsigned at = 0, part; at < list->nmsrs; at += part) {
		int done;

		part = list->nmsrs - at < MSRS_AT_ONCE ? list->nmsrs - at : MSRS_AT_ONCE;
		memset(&some, 0, sizeof(some));
		some.msrs.nmsrs = part;
		for (unsigned i = 0; i < part; i++)
			some.msrs.entries[i].index = list->indices[at + i];
		done = ioctl(c->vcpu->fd, KVM_GET_MSRS, &some);
		if (done < 0)
			done = 0;
		memcpy(&entries[n], some.msrs.entries, (unsigned)done * sizeof(entries[0]));
		n += (unsigned)done;
		if ((unsigned)done < part)
			part = (unsigned)done + 1; /* that one cannot */
	}
	return n;
}

static struct kvm_msr_list *msr_list(const struct context *c)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(uint32_t));

	if (!list)
		return NULL;
	list->nmsrs = MSRS_MAX;
	if (ioctl(c->vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		kvm_failed(c, "KVM_GET_MSR_INDEX_LIST");
		list->nmsrs = 0;
	}
	return list;
}

static void msrs_save(const struct context *c)
{
	_cleanup_free_ struct kvm_msr_list *list = msr_list(c);
	_cleanup_free_ struct kvm_msr_entry *entries = calloc(MSRS_MAX, sizeof(*entries));
	uint32_t n;

	if (!list || !entries) {
		state_fail(c->st, -ENOMEM, "no memory");
		return;
	}
	n = msrs_get(c, list, entries);
	state_u32(c->st, &n);
	for (unsigned i = 0; i < n; i++) {
		uint64_t value = entries[i].data;

		state_u32(c->st, &entries[i].index);
		state_u64(c->st, &value);
	}
}

static void msrs_load(const struct context *c)
{
	_cleanup_free_ struct kvm_msr_entry *entries = calloc(MSRS_MAX + 1, sizeof(*entries));
	struct kvm_msr_entry deadline = {.index = MSR_TSC_DEADLINE};
	uint32_t n = 0, used = 0;

	if (!entries) {
		state_fail(c->st, -ENOMEM, "no memory");
		return;
	}
	state_u32(c->st, &n);
	if (n > MSRS_MAX)
		state_fail(c->st, -EINVAL, "%u MSRs", n);
	for (unsigned i = 0; i < n && state_ok(c->st); i++) {
		uint32_t index = 0;
		uint64_t value = 0;

		state_u32(c->st, &index);
		state_u64(c->st, &value);
		if (index == MSR_TSC_DEADLINE)
			deadline.data = value;
		else
			entries[used++] = (struct kvm_msr_entry){
			    .index = index,
			    .data = value + (index == MSR_TSC ? save_tsc_ticks(c->times) : 0)};
	}
	if (deadline.data)
		entries[used++] = deadline; /* behind the TSC */
	msrs_set(c, entries, used);
}

/* --- all of it ------------------------------------------------------------------------------ */

void vcpu_state(struct vcpu *vcpu, struct state *st, const struct save_times *times)
{
	const struct context c = {.vcpu = vcpu, .st = st, .times = times};
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;

#define PLAIN(NAME, data) plain(&c, #NAME, KVM_GET_##NAME, KVM_SET_##NAME, &(data), sizeof(data))
	cpuid_state(&c);
	PLAIN(MP_STATE, mp);
	PLAIN(REGS, regs);
	PLAIN(SREGS, sregs);
	xsave_state(&c);
	PLAIN(XCRS, xcrs);
	PLAIN(DEBUGREGS, debug);
	PLAIN(LAPIC, lapic);
	if (state_loading(st))
		msrs_load(&c);
	else
		msrs_save(&c);
	PLAIN(VCPU_EVENTS, events);
#undef PLAIN
	/* The guest is not to take the time it stood still for a lock-up of its own. */
	if (state_loading(st) && state_ok(st))
		ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}
