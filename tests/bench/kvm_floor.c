// SPDX-License-Identifier: ISC
/*
 * The floor under every start: the microseconds that KVM's own calls take for
 * a VM of one vcpu with in-kernel irqchip and MIB (64 by default) of memory, from
 * open("/dev/kvm") to the first OUT of the guest, which is three bytes of real-mode code.
 *
 *   kvm_floor [MIB]
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB_MAX 3072 /* below the hole */

static const uint8_t code[] = {0xb0, 'x', 0xba, 0xf8, 0x03, 0xee, 0xf4}; /* out 0x3f8, 'x'; hlt */

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

static int check(int ret, const char *what)
{
	if (ret < 0) {
		perror(what);
		exit(1);
	}
	return ret;
}

/* The calls that a VMM of this shape cannot leave out, in the order that costs least: a memory slot
 * set behind the interrupt chips waits some milliseconds for readers of their routes. */
static int make_vcpu(int kvm, uint8_t *ram, uint64_t bytes, int *vm)
{
	static union {
		struct kvm_cpuid2 head;
		char room[sizeof(struct kvm_cpuid2) + 128 * sizeof(struct kvm_cpuid_entry2)];
	} cpuid = {.head.nent = 128};
	struct kvm_pit_config pit = {0};
	struct kvm_userspace_memory_region slot = {
	    .memory_size = bytes,
	    .userspace_addr = (uintptr_t)ram,
	};
	int vcpu;

	*vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	check(ioctl(*vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	check(ioctl(*vm, KVM_SET_TSS_ADDR, 0xfeffd000ul), "KVM_SET_TSS_ADDR");
	check(ioctl(*vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	check(ioctl(*vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
	vcpu = check(ioctl(*vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	return vcpu;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	uint64_t bytes = (mib >= 1 && mib <= MIB_MAX ? mib : MIB_MAX) << 20;
	uint64_t start = now_us();
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	uint8_t *ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int run_size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_regs regs = {.rflags = 2, .rip = 0x1000};
	struct kvm_sregs sregs;
	struct kvm_run *run;
	int vm, vcpu;

	if (ram == MAP_FAILED)
		return 1;
	memcpy(ram + 0x1000, code, sizeof(code));
	vcpu = make_vcpu(kvm, ram, bytes, &vm);
	run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return 1;
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO) {
		fprintf(stderr, "kvm_floor: exit reason %u\n", run->exit_reason);
		return 1;
	}
	printf("%llu\n", (unsigned long long)(now_us() - start));
	return 0;
}
