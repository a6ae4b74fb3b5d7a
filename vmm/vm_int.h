/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VM_INT_H
#define FV_VMM_VM_INT_H
/*
 * Inside the machine: what control.c, vm.c, cpuid.c and vcpu*.c know of each other; its memory
 * is in memory.h. Devices have vm.h.
 */
#include <pthread.h>

#include "vmm/boot.h"
#include "vmm/console_int.h"
#include "vmm/memory.h"
#include "vmm/vm.h"

struct kvm_run;
struct kvm_cpuid2;

/* --- vcpus -------------------------------------------------------------------------------------
 */

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread;
	bool started;
	/* under life->lock: */
	bool parked;		       /* the thread waits in vcpu_checkpoint() */
	struct vmm_vcpu_state *wanted; /* to be filled in by the thread at its next checkpoint */
	int wanted_error;
	/* counters */
	uint64_t *exits, *io_exits, *mmio_exits;
};

/* vcpu.c: @entry NULL for those that wait for their SIPI. */
int vcpu_new(struct vm *vm, unsigned index, const struct kvm_cpuid2 *cpuid,
	     const struct boot_entry *entry, struct vcpu **vcpu, struct err *err);
/* Starts its thread, which stands still at once. */
int vcpu_start(struct vcpu *vcpu, struct err *err);
/* Joins the thread (which was told to quit), frees all. NULL is fine. */
void vcpu_free(struct vcpu *vcpu);
/* Makes the thread leave guest mode soon and look what it is to do. Under life->lock. */
void vcpu_kick(struct vcpu *vcpu);
/* Once for the process: the signal that kicks. */
int vcpu_init_signal(void);

/* vcpu_regs.c */
int vcpu_regs_setup(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err);
/* The vcpu stands still or this is its thread. */
int vcpu_regs_get(struct vcpu *vcpu, struct vmm_vcpu_state *state);
/* Registers and code bytes as text of several lines, at most @len bytes with the NUL. */
void vcpu_describe(struct vcpu *vcpu, const char *reason, char *text, size_t len);

/* cpuid.c: what KVM supports, to be patched for each vcpu; caller frees. */
int cpuid_get(int kvm_fd, struct kvm_cpuid2 **cpuid, struct err *err);
/* How wide a physical address is. */
unsigned cpuid_address_bits(struct kvm_cpuid2 *cpuid);
/* The leaves that tell of the vcpu's place, patched in place. */
void cpuid_set_topology(struct kvm_cpuid2 *cpuid, unsigned index, unsigned n_vcpus);

/* --- interrupts (irq.c)
 * --------------------------------------------------------------------------- */

int irq_create(struct vm *vm, struct err *err);
void irq_destroy(struct vm *vm);

/* --- the machine (vm.c)
 * ---------------------------------------------------------------------------- */

enum vm_want { VM_WANT_PARK, VM_WANT_RUN, VM_WANT_QUIT };

struct vm_life {
	pthread_mutex_t lock;
	pthread_cond_t go;     /* vcpus wait for it while parked */
	pthread_cond_t parked; /* control waits for it */
	enum vm_want want;
	unsigned n_parked;
	bool settled, devices_paused; /* control's */
	/* how it ended, under lock: */
	bool ended;
	enum vm_end end;
	char text[VMM_TEXT_MAX];
	int wake_fd; /* borrowed eventfd: tells control */
};

/*
 * What of a machine can be made before anything else is known than its memory, and costs most of
 * the time: KVM's machine with its memory slots and interrupt chips, and what KVM supports.
 */
struct vm_early {
	int vm_fd; /* -1: nothing was made */
	struct kvm_cpuid2 *cpuid;
};

/* @memory: mapped. On failure there is nothing; vm_create() then meets the same. */
int vm_early_make(struct vm_early *early, const struct vm_config *config,
		  const struct memory *memory, struct err *err);
void vm_early_drop(struct vm_early *early);

/* What is the machine's and yet outlives its resets; all borrowed. */
struct vm_parts {
	const struct vm_config *config;
	const struct memory *memory; /* mapped */
	struct stats *stats;
	struct console *console;
	struct io_pool *io_pool;
	int wake_fd; /* an eventfd, written when the guest has ended */
	void *owner;
	struct vm_early *early; /* used up, where there is anything; NULL: nothing */
	bool bare;		/* without anything to boot: a state is to be loaded into it */
};

/*
 * Makes the whole machine and loads its kernel; vcpus stand still. On failure
 * vm_destroy() has been done.
 */
int vm_create(struct vm *vm, const struct vm_parts *parts, struct err *err);
/* Ends threads and frees all but what was given to it. */
void vm_destroy(struct vm *vm);
/* Lets vcpus run. Not once it has ended. Control thread, as the following. */
void vm_resume(struct vm *vm);
/* What a pause might wait long for is waited for here, while vcpus run on. Then comes the pause. */
void vm_settle(struct vm *vm);
/* Returns when every vcpu and device stands still. */
void vm_pause(struct vm *vm);
/* Did the guest end? Then @text (VMM_TEXT_MAX bytes) has the words. */
bool vm_ended(struct vm *vm, enum vm_end *end, char *text);
/* A vcpu's registers, taken now. -EINVAL for an index that is none, -errno of KVM. */
int vm_vcpu_get(struct vm *vm, unsigned index, struct vmm_vcpu_state *state);
/* On the vcpu's thread, out of guest mode: does what is wanted. False: quit. */
bool vcpu_checkpoint(struct vcpu *vcpu);

#endif
