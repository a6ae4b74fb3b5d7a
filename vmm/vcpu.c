// SPDX-License-Identifier: ISC
/*
 * A vcpu: its thread and the loop around KVM_RUN.
 *
 * The thread enters the guest again and again. Who wants something else of it
 * sets immediate_exit, says what under life->lock, and signals: then KVM_RUN returns
 * EINTR, having completed the instruction whose exit was handled before, and
 * the thread looks (vcpu_checkpoint in vm.c). So registers are only ever read when they are
 * those between two instructions.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define LOG_MODULE "vcpu"
#include "vmm/vm_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define STACK_BYTES	(128 * 1024)
#define KICK_SIGNAL	SIGUSR1
#define VCPUS_OWN_STATS 64 /* with more, their exits are counted together */

/* Does nothing: that it came is enough to end KVM_RUN. */
static void on_kick(int signal)
{
	(void)signal;
}

int vcpu_init_signal(void)
{
	struct sigaction action = {.sa_handler = on_kick};

	return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->started && !vcpu->parked)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

/* --- exits --------------------------------------------------------------------------------- */

static __attribute__((format(printf, 3, 4))) void end_guest(struct vcpu *vcpu, enum vm_end end,
							    const char *fmt, ...)
{
	char reason[160], text[VMM_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	vcpu_describe(vcpu, reason, text, sizeof(text));
	vm_end(vcpu->vm, end, "%s", text);
}

static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	stats_add(vcpu->io_exits, 1);
	/* String instructions come with several at once. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		bus_access(vcpu->vm->bus, BUS_PIO, run->io.port, data, run->io.size,
			   run->io.direction == KVM_EXIT_IO_OUT);
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	stats_add(vcpu->mmio_exits, 1);
	bus_access(vcpu->vm->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
		   run->mmio.is_write);
}

static void handle_internal_error(struct vcpu *vcpu)
{
	static const char *const names[] = {
	    [KVM_INTERNAL_ERROR_EMULATION] = "emulation failure",
	    [KVM_INTERNAL_ERROR_SIMUL_EX] = "exceptions at the same time",
	    [KVM_INTERNAL_ERROR_DELIVERY_EV] = "failure to deliver an event",
	    [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unexpected exit of the processor",
	};
	const struct kvm_run *run = vcpu->run;
	uint32_t suberror = run->internal.suberror;
	const char *name = suberror < nitems(names) ? names[suberror] : NULL;
	char insn[2 * sizeof(run->emulation_failure.insn_bytes) + 1] = "";

	if (suberror == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.ndata > 1 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		unsigned n = run->emulation_failure.insn_size;

		if (n > sizeof(run->emulation_failure.insn_bytes))
			n = sizeof(run->emulation_failure.insn_bytes);
		for (unsigned i = 0; i < n; i++)
			sprintf(insn + 2 * i, "%02x", run->emulation_failure.insn_bytes[i]);
	}
	end_guest(vcpu, VM_END_CRASH, "%s (KVM internal error %u)%s%s", name ? name : "unknown",
		  suberror, *insn ? ", instruction " : "", insn);
}

static void handle_system_event(struct vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_end(vcpu->vm, VM_END_POWEROFF, "the guest switched itself off");
		return;
	case KVM_SYSTEM_EVENT_RESET:
		vm_end(vcpu->vm, VM_END_RESET, "the guest reset itself");
		return;
	default:
		end_guest(vcpu, VM_END_CRASH, "system event %u", vcpu->run->system_event.type);
	}
}

static void handle_exit(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	stats_add(vcpu->exits, 1);
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		return;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
		return;
	case KVM_EXIT_HLT: /* KVM's chips wait in the kernel: this halt is for ever */
		end_guest(vcpu, VM_END_CRASH, "halted for ever");
		return;
	case KVM_EXIT_SHUTDOWN:
		end_guest(vcpu, VM_END_CRASH, "triple fault");
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		handle_system_event(vcpu);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		handle_internal_error(vcpu);
		return;
	case KVM_EXIT_FAIL_ENTRY:
		end_guest(vcpu, VM_END_CRASH, "the processor refuses to enter the guest (%#llx)",
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_UNKNOWN:
		end_guest(vcpu, VM_END_CRASH, "unknown exit of the processor (%#llx)",
			  (unsigned long long)run->hw.hardware_exit_reason);
		return;
	default:
		end_guest(vcpu, VM_END_CRASH, "unexpected exit %u", run->exit_reason);
	}
}

/* KVM_RUN failed with @error; what is not a moment's matter ends the guest. */
static void handle_error(struct vcpu *vcpu, int error)
{
	stats_add(vcpu->exits, 1);
	if (error == EFAULT)
		end_guest(vcpu, VM_END_CRASH, "touched memory that the host cannot give");
	else
		end_guest(vcpu, VM_END_CRASH, "KVM_RUN: %s", strerror(error));
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	/* By itself: naming another thread takes a file of /proc. */
	snprintf(name, sizeof(name), "vcpu/%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	if (!vcpu_checkpoint(vcpu))
		return NULL;
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			handle_exit(vcpu);
			continue;
		}
		if (errno != EINTR && errno != EAGAIN)
			handle_error(vcpu, errno);
		if (!vcpu_checkpoint(vcpu))
			return NULL;
	}
}

/* --- life ---------------------------------------------------------------------------------- */

static void make_counters(struct vcpu *vcpu)
{
	struct stats *stats = vcpu->vm->stats;

	if (vcpu->vm->config->cpus <= VCPUS_OWN_STATS) {
		vcpu->exits = stats_counter(stats, "vcpu.%u.exits", vcpu->index);
		vcpu->io_exits = stats_counter(stats, "vcpu.%u.io_exits", vcpu->index);
		vcpu->mmio_exits = stats_counter(stats, "vcpu.%u.mmio_exits", vcpu->index);
	} else {
		vcpu->exits = stats_counter(stats, "vcpu.all.exits");
		vcpu->io_exits = stats_counter(stats, "vcpu.all.io_exits");
		vcpu->mmio_exits = stats_counter(stats, "vcpu.all.mmio_exits");
	}
}

static int make(struct vcpu *vcpu, const struct kvm_cpuid2 *cpuid, struct err *err)
{
	struct vm *vm = vcpu->vm;
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < (int)sizeof(struct kvm_run))
		return err_set(err, size < 0 ? -errno : -EINVAL, "KVM_GET_VCPU_MMAP_SIZE");
	vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->index);
	if (vcpu->fd < 0)
		return err_set(err, -errno, "KVM: cannot make vcpu %u", vcpu->index);
	vcpu->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return err_set(err, -errno, "KVM: cannot map vcpu %u", vcpu->index);
	}
	vcpu->run_bytes = (size_t)size;
	/* Who is forked for a snapshot has no part in it, and KVM's machine ends with this process.
	 */
	madvise(vcpu->run, vcpu->run_bytes, MADV_DONTFORK);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		return err_set(err, -errno, "KVM refuses the CPUID of vcpu %u", vcpu->index);
	return 0;
}

int vcpu_new(struct vm *vm, unsigned index, const struct kvm_cpuid2 *cpuid,
	     const struct boot_entry *entry, struct vcpu **out, struct err *err)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	int ret;

	if (!vcpu)
		return err_set(err, -ENOMEM, "no memory");
	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->fd = -1;
	make_counters(vcpu);
	ret = make(vcpu, cpuid, err);
	if (ret == 0)
		ret = vcpu_regs_setup(vcpu, entry, err);
	if (ret < 0) {
		vcpu_free(vcpu);
		return ret;
	}
	*out = vcpu;
	return 0;
}

int vcpu_start(struct vcpu *vcpu, struct err *err)
{
	pthread_attr_t attr;
	int ret = pthread_attr_init(&attr);

	if (ret == 0) {
		pthread_attr_setstacksize(&attr, STACK_BYTES);
		ret = pthread_create(&vcpu->thread, &attr, vcpu_thread, vcpu);
		pthread_attr_destroy(&attr);
	}
	if (ret != 0)
		return err_set(err, -ret, "cannot start the thread of vcpu %u", vcpu->index);
	vcpu->started = true;
	return 0;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	if (vcpu->started)
		pthread_join(vcpu->thread, NULL);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_bytes);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	free(vcpu);
}
