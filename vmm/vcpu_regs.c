// SPDX-License-Identifier: ISC
/*
 * A vcpu's registers: their first values, and how they are read back for the
 * daemon and for the report of a crash.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LOG_MODULE "vcpu"
#include "vmm/vm_int.h"
#include "util/cleanup.h"
#include "util/log.h"

/* Model-specific registers (Intel SDM 4) */
#define MSR_MISC_ENABLE		    0x1a0
#define MSR_MISC_ENABLE_FAST_STRING 1
#define MSR_MTRR_DEF_TYPE	    0x2ff

/* Local vector table entries in the APIC page (Intel SDM 3A §10.5.1) */
#define LVT_LINT0	0x350
#define LVT_LINT1	0x360
#define LVT_MODE_EXTINT 0x700
#define LVT_MODE_NMI	0x400

#define CR0_PE	   1u
#define EFER_LMA   (1u << 10)
#define CODE_BYTES 15 /* the longest instruction */

/* --- first values -------------------------------------------------------------------------- */

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
	    .limit = 0xffffffff,
	    .selector = selector,
	    .type = type,
	    .present = 1,
	    .db = 1,
	    .s = 1,
	    .g = 1,
	};
}

static void fill_sregs(const struct boot_entry *entry, struct kvm_sregs *sregs)
{
	sregs->cs = flat(entry->cs, 0xb);
	if (entry->protocol == BOOT_LINUX64) {
		sregs->cs.db = 0;
		sregs->cs.l = 1;
	}
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat(entry->ds, 3);
	sregs->tr =
	    (struct kvm_segment){.limit = 0x67, .selector = entry->tr, .type = 0xb, .present = 1};
	sregs->gdt.base = entry->gdt_base;
	sregs->gdt.limit = entry->gdt_limit;
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
	sregs->cr0 = entry->cr0;
	sregs->cr3 = entry->cr3;
	sregs->cr4 = entry->cr4;
	sregs->efer = entry->efer;
}

static int setup_boot_cpu(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err)
{
	struct kvm_regs regs = {
	    .rip = entry->rip,
	    .rsi = entry->rsi,
	    .rbx = entry->rbx,
	    .rsp = entry->rsp,
	    .rflags = 2, /* the bit that is always set */
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return err_set(err, -errno, "KVM_GET_SREGS");
	fill_sregs(entry, &sregs);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return err_set(err, -errno, "KVM_SET_SREGS");
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return err_set(err, -errno, "KVM_SET_REGS");
	return 0;
}

/*
 * What firmware would have set. One at a time: a host that refuses one
 * must not keep the others from being set, nor the guest from running.
 */
static void set_msrs(struct vcpu *vcpu)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} table[] = {
	    {MSR_MISC_ENABLE, MSR_MISC_ENABLE_FAST_STRING},
	    {MSR_MTRR_DEF_TYPE, 1u << 11 | 6}, /* enabled, write-back where nothing else is said */
	};
	union {
		struct kvm_msrs msrs; /* ends in an array of none */
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one;

	for (unsigned i = 0; i < nitems(table); i++) {
		memset(&one, 0, sizeof(one));
		one.msrs.nmsrs = 1;
		one.msrs.entries[0].index = table[i].index;
		one.msrs.entries[0].data = table[i].value;
		if (ioctl(vcpu->fd, KVM_SET_MSRS, &one) != 1)
			log_debug("vcpu %u: KVM refuses MSR %#x", vcpu->index, table[i].index);
	}
}

/* As firmware leaves it: LINT0 for the PIC, LINT1 for NMI. */
static int set_lapic(struct vcpu *vcpu, struct err *err)
{
	static const struct {
		unsigned reg, mode;
	} pins[] = {{LVT_LINT0, LVT_MODE_EXTINT}, {LVT_LINT1, LVT_MODE_NMI}};
	struct kvm_lapic_state lapic;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
		return err_set(err, -errno, "KVM_GET_LAPIC");
	for (unsigned i = 0; i < nitems(pins); i++) {
		uint32_t lvt;

		memcpy(&lvt, lapic.regs + pins[i].reg, sizeof(lvt));
		lvt = (lvt & ~0x700u) | pins[i].mode;
		memcpy(lapic.regs + pins[i].reg, &lvt, sizeof(lvt));
	}
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) < 0)
		return err_set(err, -errno, "KVM_SET_LAPIC");
	return 0;
}

int vcpu_regs_setup(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err)
{
	struct kvm_mp_state mp = {entry ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED};
	int ret;

	set_msrs(vcpu);
	ret = set_lapic(vcpu, err);
	if (ret == 0 && entry)
		ret = setup_boot_cpu(vcpu, entry, err);
	if (ret < 0)
		return ret;
	if (ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp) < 0)
		return err_set(err, -errno, "KVM_SET_MP_STATE");
	return 0;
}

/* --- reading ------------------------------------------------------------------------------- */

static struct vmm_segment segment(const struct kvm_segment *s)
{
	return (struct vmm_segment){
	    .base = s->base,
	    .limit = s->limit,
	    .selector = s->selector,
	    .attributes = (uint16_t)((s->type & 15) | (s->s & 1) << 4 | (s->dpl & 3) << 5 |
				     (s->present & 1) << 7 | (s->avl & 1) << 12 | (s->l & 1) << 13 |
				     (s->db & 1) << 14 | (s->g & 1) << 15),
	};
}

static void copy_regs(const struct kvm_regs *r, struct vmm_vcpu_state *s)
{
	s->rax = r->rax;
	s->rbx = r->rbx;
	s->rcx = r->rcx;
	s->rdx = r->rdx;
	s->rsi = r->rsi;
	s->rdi = r->rdi;
	s->rsp = r->rsp;
	s->rbp = r->rbp;
	s->r8 = r->r8;
	s->r9 = r->r9;
	s->r10 = r->r10;
	s->r11 = r->r11;
	s->r12 = r->r12;
	s->r13 = r->r13;
	s->r14 = r->r14;
	s->r15 = r->r15;
	s->rip = r->rip;
	s->rflags = r->rflags;
}

static void copy_sregs(const struct kvm_sregs *r, struct vmm_vcpu_state *s)
{
	s->cr0 = r->cr0;
	s->cr2 = r->cr2;
	s->cr3 = r->cr3;
	s->cr4 = r->cr4;
	s->cr8 = r->cr8;
	s->efer = r->efer;
	s->apic_base = r->apic_base;
	s->cs = segment(&r->cs);
	s->ds = segment(&r->ds);
	s->es = segment(&r->es);
	s->fs = segment(&r->fs);
	s->gs = segment(&r->gs);
	s->ss = segment(&r->ss);
	s->tr = segment(&r->tr);
	s->ldt = segment(&r->ldt);
	s->gdt = (struct vmm_segment){.base = r->gdt.base, .limit = r->gdt.limit};
	s->idt = (struct vmm_segment){.base = r->idt.base, .limit = r->idt.limit};
}

/* struct kvm_fpu in the layout of FXSAVE (Intel SDM 1 §10.5.1). */
static void copy_fpu(const struct kvm_fpu *f, uint8_t out[512])
{
	memcpy(out, &f->fcw, 2);
	memcpy(out + 2, &f->fsw, 2);
	out[4] = f->ftwx;
	memcpy(out + 6, &f->last_opcode, 2);
	memcpy(out + 8, &f->last_ip, 8);
	memcpy(out + 16, &f->last_dp, 8);
	memcpy(out + 24, &f->mxcsr, 4);
	memcpy(out + 32, f->fpr, 128);
	memcpy(out + 160, f->xmm, 256);
}

int vcpu_regs_get(struct vcpu *vcpu, struct vmm_vcpu_state *state)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_mp_state mp;
	struct kvm_fpu fpu;

	memset(state, 0, sizeof(*state));
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0)
		return -errno;
	copy_regs(&regs, state);
	copy_sregs(&sregs, state);
	state->mp_state = mp.mp_state;
	if (ioctl(vcpu->fd, KVM_GET_FPU, &fpu) == 0)
		copy_fpu(&fpu, state->fxsave);
	return 0;
}

/* --- words --------------------------------------------------------------------------------- */

/* The bytes at RIP, as far as they are in RAM; how many. */
static unsigned read_code(struct vcpu *vcpu, const struct vmm_vcpu_state *s, uint8_t *code)
{
	struct kvm_translation t = {.linear_address = s->rip};
	unsigned n = CODE_BYTES;

	if (!(s->efer & EFER_LMA))
		t.linear_address = (uint32_t)(s->cs.base + s->rip);
	if (ioctl(vcpu->fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return 0;
	if (4096 - (t.physical_address & 4095) < n)
		n = 4096 - (unsigned)(t.physical_address & 4095);
	return gmem_read(&vcpu->vm->mem, t.physical_address, code, n) == 0 ? n : 0;
}

/* Appends; what does not fit is cut off. */
static __attribute__((format(printf, 4, 5))) void put(char *text, size_t len, size_t *n,
						      const char *fmt, ...)
{
	va_list ap;
	int ret;

	if (*n >= len)
		return;
	va_start(ap, fmt);
	ret = vsnprintf(text + *n, len - *n, fmt, ap);
	va_end(ap);
	if (ret > 0)
		*n += (size_t)ret;
}

void vcpu_describe(struct vcpu *vcpu, const char *reason, char *text, size_t len)
{
	uint8_t code[CODE_BYTES];
	struct vmm_vcpu_state s;
	unsigned n_code;
	size_t n = 0;
	int ret = vcpu_regs_get(vcpu, &s);

	put(text, len, &n, "vcpu %u: %s", vcpu->index, reason);
	if (ret < 0) {
		put(text, len, &n, " (registers: %s)", strerror(-ret));
		return;
	}
	n_code = read_code(vcpu, &s, code);
	put(text, len, &n,
	    "\nrip=%llx cs=%x rflags=%llx rsp=%llx\ncode=", (unsigned long long)s.rip,
	    s.cs.selector, (unsigned long long)s.rflags, (unsigned long long)s.rsp);
	for (unsigned i = 0; i < n_code; i++)
		put(text, len, &n, "%02x", code[i]);
	if (n_code == 0)
		put(text, len, &n, "unreadable");
	put(text, len, &n, "\ncr0=%llx cr2=%llx cr3=%llx cr4=%llx efer=%llx",
	    (unsigned long long)s.cr0, (unsigned long long)s.cr2, (unsigned long long)s.cr3,
	    (unsigned long long)s.cr4, (unsigned long long)s.efer);
	put(text, len, &n, "\nrax=%llx rbx=%llx rcx=%llx rdx=%llx rsi=%llx rdi=%llx rbp=%llx",
	    (unsigned long long)s.rax, (unsigned long long)s.rbx, (unsigned long long)s.rcx,
	    (unsigned long long)s.rdx, (unsigned long long)s.rsi, (unsigned long long)s.rdi,
	    (unsigned long long)s.rbp);
	put(text, len, &n,
	    "\nr8=%llx r9=%llx r10=%llx r11=%llx r12=%llx r13=%llx r14=%llx r15=%llx",
	    (unsigned long long)s.r8, (unsigned long long)s.r9, (unsigned long long)s.r10,
	    (unsigned long long)s.r11, (unsigned long long)s.r12, (unsigned long long)s.r13,
	    (unsigned long long)s.r14, (unsigned long long)s.r15);
}
