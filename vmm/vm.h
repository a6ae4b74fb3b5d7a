/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_VM_H
#define FV_VMM_VM_H
/*
 * One virtual machine: KVM's descriptors, guest memory, buses, devices, vcpus.
 * A reset tears all of it down and makes it anew from the configuration (RAM
 * is kept and emptied), so that the second boot is the first again.
 *
 * Threads: `control` (main: socket, console, lifecycle), `vcpu/N`, `io/NAME`
 * for disks. Devices are called from vcpu threads (through buses) and from
 * their own; each guards its state with its own lock.
 */
#include <stdbool.h>
#include <stdint.h>

#include "src/vmm_proto.h"
#include "vmm/bus.h"
#include "vmm/gmem.h"
#include "vmm/stats.h"
#include "util/err.h"

struct vcpu;
struct device;
struct pci_bus;
struct console;
struct disk;
struct io_pool;
struct nic_config;
struct vsock_config;

/* What the daemon asked for. Descriptors belong to this and stay open over resets. */
struct vm_config {
	char name[VMM_NAME_MAX];
	uint8_t id[16];
	uint8_t generation[16]; /* vmgenid.h: what it begins with */
	unsigned cpus;
	bool hugepages;
	uint64_t memory_bytes;
	enum vmm_action on_reboot, on_poweroff, on_crash;
	uint32_t uid, gid;
	int kvm_fd;
	int kernel_fd;
	int initrd_fd; /* -1: none */
	char cmdline[VMM_CMDLINE_MAX];
	struct disk *disks[VMM_DISKS_MAX];     /* disk.h; NULL: none in that place */
	struct nic_config *nics[VMM_NICS_MAX]; /* virtio_net.h; by place; NULL: none */
	struct vsock_config *vsock;	       /* virtio_vsock.h; NULL: none */
};

struct vm {
	const struct vm_config *config;
	int kvm_fd, vm_fd; /* kvm_fd borrowed */
	struct gmem mem;
	struct bus *bus;	 /* both kinds */
	struct stats *stats;	 /* outlives resets */
	struct console *console; /* outlives resets */
	struct io_pool *io_pool; /* outlives resets; threads and queues of disks */
	struct pci_bus *pci;
	struct irq *irq;
	struct vcpu **vcpus;
	unsigned n_vcpus;
	struct device *devices; /* in order of creation */
	uint64_t ram_top;	/* first address behind RAM */
	void *owner;		/* control's */
	struct vm_life *life;	/* vm.c's own: who runs, who stands still, how it ended */
};

/* How a guest ends; any thread; the first call of a life counts. Control acts on it. */
enum vm_end { VM_END_RESET, VM_END_POWEROFF, VM_END_CRASH, VM_END_FAULT };
void vm_end(struct vm *vm, enum vm_end end, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Has the control thread look at what devices have to tell it. Any thread. */
void vm_wake(struct vm *vm);

/*
 * ioeventfd: a write of @len bytes (0: any length; with @match only of the
 * value @data) at @addr signals @fd in the kernel instead of leaving it.
 */
int vm_ioeventfd(struct vm *vm, enum bus_kind kind, uint64_t addr, unsigned len, bool match,
		 uint64_t data, int fd, bool add);

#endif
