// SPDX-License-Identifier: ISC
/*
 * The machine: made whole from its configuration, let run, held, taken apart.
 *
 * Vcpu threads do what life->want says. Each looks at it in vcpu_checkpoint(), and stands
 * there as long as that is VM_WANT_PARK. Whoever changes it (control, or the vcpu on which the
 * guest ends: vm_end) kicks all others. Control alone waits, in vm_pause();
 * no vcpu ever waits for control, so that cannot hang.
 *
 * The order of making is the fastest that was found: KVM_SET_USER_MEMORY_REGION
 * waits milliseconds for a grace period once interrupt chips and PIT exist.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LOG_MODULE "vm"
#include "vmm/device.h"
#include "vmm/hotplug.h"
#include "vmm/layout.h"
#include "vmm/vm_int.h"
#include "vmm/vmgenid.h"
#include "util/cleanup.h"
#include "util/log.h"

/* --- how it ends ------------------------------------------------------------------------------ */

/* Under life->lock. */
static void want(struct vm *vm, enum vm_want what)
{
	vm->life->want = what;
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		if (vm->vcpus[i])
			vcpu_kick(vm->vcpus[i]);
	pthread_cond_broadcast(&vm->life->go);
}

void vm_wake(struct vm *vm)
{
	const uint64_t one = 1;

	if (write(vm->life->wake_fd, &one, sizeof(one)) < 0)
		return; /* its count is at the limit: readable anyway */
}

void vm_end(struct vm *vm, enum vm_end end, const char *fmt, ...)
{
	struct vm_life *life = vm->life;
	va_list ap;

	LOCK_SCOPE(&life->lock);
	if (life->ended)
		return;
	life->ended = true;
	life->end = end;
	va_start(ap, fmt);
	vsnprintf(life->text, sizeof(life->text), fmt, ap);
	va_end(ap);
	if (life->want == VM_WANT_RUN)
		want(vm, VM_WANT_PARK);
	vm_wake(vm);
}

bool vm_ended(struct vm *vm, enum vm_end *end, char *text)
{
	LOCK_SCOPE(&vm->life->lock);

	if (!vm->life->ended)
		return false;
	*end = vm->life->end;
	memcpy(text, vm->life->text, VMM_TEXT_MAX);
	return true;
}

/* --- running and standing still --------------------------------------------------------------- */

/* Under life->lock. */
static void serve_wanted(struct vcpu *vcpu)
{
	if (!vcpu->wanted)
		return;
	vcpu->wanted_error = vcpu_regs_get(vcpu, vcpu->wanted);
	vcpu->wanted = NULL;
	pthread_cond_broadcast(&vcpu->vm->life->parked);
}

bool vcpu_checkpoint(struct vcpu *vcpu)
{
	struct vm_life *life = vcpu->vm->life;

	LOCK_SCOPE(&life->lock);
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	serve_wanted(vcpu);
	if (life->want == VM_WANT_PARK) {
		vcpu->parked = true;
		life->n_parked++;
		pthread_cond_broadcast(&life->parked);
		while (life->want == VM_WANT_PARK)
			pthread_cond_wait(&life->go, &life->lock);
		life->n_parked--;
		vcpu->parked = false;
		/* What was set while standing still was meant for a running one. */
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	}
	return life->want == VM_WANT_RUN;
}

void vm_resume(struct vm *vm)
{
	struct vm_life *life = vm->life;

	if (life->settled || life->devices_paused)
		devices_resume(vm);
	life->settled = life->devices_paused = false;
	LOCK_SCOPE(&life->lock);
	if (!life->ended)
		want(vm, VM_WANT_RUN);
}

void vm_settle(struct vm *vm)
{
	if (!vm->life->settled)
		devices_settle(vm);
	vm->life->settled = true;
}

void vm_pause(struct vm *vm)
{
	struct vm_life *life = vm->life;

	vm_settle(vm);
	pthread_mutex_lock(&life->lock);
	want(vm, VM_WANT_PARK);
	while (life->n_parked < vm->n_vcpus)
		pthread_cond_wait(&life->parked, &life->lock);
	pthread_mutex_unlock(&life->lock);
	/* The guest is not to take the time it stood still for a lock-up of its own. */
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		ioctl(vm->vcpus[i]->fd, KVM_KVMCLOCK_CTRL, 0);
	if (!life->devices_paused)
		devices_pause(vm);
	life->devices_paused = true;
}

int vm_vcpu_get(struct vm *vm, unsigned index, struct vmm_vcpu_state *state)
{
	struct vm_life *life = vm->life;
	struct vcpu *vcpu;
	int ret;

	if (index >= vm->n_vcpus)
		return -EINVAL;
	vcpu = vm->vcpus[index];
	LOCK_SCOPE(&life->lock);
	if (vcpu->parked)
		return vcpu_regs_get(vcpu, state);
	vcpu->wanted = state;
	vcpu_kick(vcpu);
	while (vcpu->wanted)
		pthread_cond_wait(&life->parked, &life->lock);
	ret = vcpu->wanted_error;
	state->running = !vcpu->parked && life->want == VM_WANT_RUN;
	return ret;
}

/* --- making -------------------------------------------------------------------------------------
 */

static const struct {
	int cap;
	const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "user memory"},
    {KVM_CAP_IRQCHIP, "interrupt chips in the kernel"},
    {KVM_CAP_PIT2, "a PIT in the kernel"},
    {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    {KVM_CAP_IRQFD, "irqfd"},
    {KVM_CAP_IOEVENTFD, "ioeventfd"},
    {KVM_CAP_EXT_CPUID, "CPUID"},
    {KVM_CAP_SET_TSS_ADDR, "a place for the TSS"},
    {KVM_CAP_MP_STATE, "states of processors"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
};

static int check_kvm(const struct vm_config *config, struct err *err)
{
	int ret = ioctl(config->kvm_fd, KVM_GET_API_VERSION, 0);

	if (ret != KVM_API_VERSION)
		return err_set(err, -ENODEV, "/dev/kvm is not KVM of version %d (%d)",
			       KVM_API_VERSION, ret);
	for (unsigned i = 0; i < nitems(needed); i++)
		if (ioctl(config->kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return err_set(err, -EOPNOTSUPP, "this host's KVM has not %s",
				       needed[i].name);
	ret = ioctl(config->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (ret > 0 && config->cpus > (unsigned)ret)
		return err_set(err, -ERANGE, "this host's KVM has at most %d vcpus", ret);
	return 0;
}

static int make_chips(int vm_fd, struct err *err)
{
	struct kvm_pit_config pit = {0};
	uint64_t identity_map = LAYOUT_IDENTITY_MAP;

	/* Before there are vcpus. Both are for processors that cannot run real mode (Intel). */
	if (ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(vm_fd, KVM_SET_TSS_ADDR, LAYOUT_TSS) < 0)
		return err_set(err, -errno, "KVM: cannot place its own pages");
	if (ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_set(err, -errno, "KVM: cannot make interrupt chips");
	if (ioctl(vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_set(err, -errno, "KVM: cannot make a PIT");
	return 0;
}

void vm_early_drop(struct vm_early *early)
{
	if (early->vm_fd >= 0)
		close(take_fd(&early->vm_fd));
	free(take_ptr(early->cpuid));
}

int vm_early_make(struct vm_early *early, const struct vm_config *config,
		  const struct memory *memory, struct err *err)
{
	int ret = check_kvm(config, err);

	*early = (struct vm_early){.vm_fd = -1};
	if (ret < 0)
		return ret;
	do
		early->vm_fd = ioctl(config->kvm_fd, KVM_CREATE_VM, 0);
	while (early->vm_fd < 0 && errno == EINTR);
	if (early->vm_fd < 0)
		return err_set(err, -errno, "KVM: cannot make a virtual machine");
	ret = memory_attach(memory, early->vm_fd, err);
	if (ret == 0)
		ret = make_chips(early->vm_fd, err);
	if (ret == 0)
		ret = cpuid_get(config->kvm_fd, &early->cpuid, err);
	if (ret < 0)
		vm_early_drop(early);
	return ret;
}

/* RAM, and behind it at most a window's length further on the window for 64-bit BARs. */
static int check_addresses(const struct vm *vm, struct kvm_cpuid2 *cpuid, struct err *err)
{
	unsigned bits = cpuid_address_bits(cpuid);
	uint64_t end = vm->ram_top + 2 * LAYOUT_PCI_MMIO64_SIZE;

	if (bits < 64 && end > 1ull << bits)
		return err_set(err, -ERANGE,
			       "memory: this host's processors have physical addresses of %u bits",
			       bits);
	return 0;
}

static int make_vcpus(struct vm *vm, const struct boot_entry *entry, struct kvm_cpuid2 *cpuid,
		      struct err *err)
{
	int ret = check_addresses(vm, cpuid, err);

	if (ret < 0)
		return ret;
	vm->vcpus = calloc(vm->config->cpus, sizeof(vm->vcpus[0]));
	if (!vm->vcpus)
		return err_set(err, -ENOMEM, "no memory");
	for (unsigned i = 0; i < vm->config->cpus; i++) {
		cpuid_set_topology(cpuid, i, vm->config->cpus);
		ret = vcpu_new(vm, i, cpuid, i == 0 ? entry : NULL, &vm->vcpus[i], err);
		if (ret < 0)
			return ret;
		vm->n_vcpus++;
	}
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		ret = vcpu_start(vm->vcpus[i], err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int load(struct vm *vm, struct boot_entry *entry, struct err *err)
{
	const struct vm_config *c = vm->config;
	int ret = boot_load(&vm->mem, c->kernel_fd, c->initrd_fd, c->cmdline, entry, err);

	if (ret == 0)
		ret = acpi_write(&vm->mem, c->cpus, hotplug_slots(c), err);
	if (ret == 0)
		ret = mptable_write(&vm->mem, c->cpus, err);
	return ret;
}

static int make(struct vm *vm, struct vm_early *early, bool bare, struct err *err)
{
	struct boot_entry entry;
	int ret;

	vm->vm_fd = take_fd(&early->vm_fd);
	if (bus_new(&vm->bus) < 0)
		return err_set(err, -ENOMEM, "no memory");
	ret = irq_create(vm, err);
	if (ret == 0 && !bare)
		ret = load(vm, &entry, err);
	if (ret == 0)
		ret = devices_create(vm, err);
	if (ret == 0 && !bare)
		vmgenid_place(vm);
	if (ret == 0)
		ret = make_vcpus(vm, bare ? NULL : &entry, early->cpuid, err);
	return ret;
}

/* What was made ahead, or is made now. */
static int take_early(const struct vm_parts *parts, struct vm_early *early, struct err *err)
{
	if (!parts->early || parts->early->vm_fd < 0)
		return vm_early_make(early, parts->config, parts->memory, err);
	*early = *parts->early;
	*parts->early = (struct vm_early){.vm_fd = -1};
	return 0;
}

static int life_new(struct vm *vm, int wake_fd)
{
	vm->life = calloc(1, sizeof(*vm->life));
	if (!vm->life)
		return -ENOMEM;
	pthread_mutex_init(&vm->life->lock, NULL);
	pthread_cond_init(&vm->life->go, NULL);
	pthread_cond_init(&vm->life->parked, NULL);
	vm->life->want = VM_WANT_PARK;
	vm->life->wake_fd = wake_fd;
	return 0;
}

int vm_create(struct vm *vm, const struct vm_parts *parts, struct err *err)
{
	struct vm_early early = {.vm_fd = -1};
	int ret;

	*vm = (struct vm){
	    .config = parts->config,
	    .kvm_fd = parts->config->kvm_fd,
	    .vm_fd = -1,
	    .stats = parts->stats,
	    .console = parts->console,
	    .io_pool = parts->io_pool,
	    .ram_top = parts->memory->ram_top,
	    .owner = parts->owner,
	};
	memory_describe(parts->memory, &vm->mem);
	if (life_new(vm, parts->wake_fd) < 0)
		return err_set(err, -ENOMEM, "no memory");
	ret = take_early(parts, &early, err);
	if (ret == 0)
		ret = make(vm, &early, parts->bare, err);
	vm_early_drop(&early);
	if (ret < 0)
		vm_destroy(vm);
	return ret;
}

static void quit_vcpus(struct vm *vm)
{
	if (vm->n_vcpus > 0) {
		LOCK_SCOPE(&vm->life->lock);
		want(vm, VM_WANT_QUIT);
	}
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_free(vm->vcpus[i]);
	free(vm->vcpus);
	vm->vcpus = NULL;
	vm->n_vcpus = 0;
}

void vm_destroy(struct vm *vm)
{
	if (!vm->life)
		return;
	/* First nobody calls devices any more, then they go, then what they stood on. */
	quit_vcpus(vm);
	devices_destroy(vm);
	irq_destroy(vm);
	bus_free(vm->bus);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	pthread_mutex_destroy(&vm->life->lock);
	pthread_cond_destroy(&vm->life->go);
	pthread_cond_destroy(&vm->life->parked);
	free(vm->life);
	vm->life = NULL;
	vm->bus = NULL;
}

int vm_ioeventfd(struct vm *vm, enum bus_kind kind, uint64_t addr, unsigned len, bool match,
		 uint64_t data, int fd, bool add)
{
	struct kvm_ioeventfd event = {
	    .datamatch = data,
	    .addr = addr,
	    .len = len,
	    .fd = fd,
	    .flags = (kind == BUS_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
		     (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) |
		     (add ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioctl(vm->vm_fd, KVM_IOEVENTFD, &event) < 0 ? -errno : 0;
}
