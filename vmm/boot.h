/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_BOOT_H
#define FV_VMM_BOOT_H
/*
 * Loading a guest: the kernel is recognised and unpacked on the host, put into
 * guest memory with initrd, command line and tables, and the boot vcpu's
 * first registers are told. Knows no KVM: tests run it on plain memory. Kernel
 * and initrd are hostile files.
 */
#include "vmm/vm.h"

enum boot_protocol {
	BOOT_LINUX64, /* x86 boot protocol, 64-bit entry: long mode, RSI = boot_params */
	BOOT_PVH,     /* Xen PVH: 32-bit protected mode, EBX = hvm_start_info */
};

/* The boot vcpu's first state; whatever is not here has its value after reset. */
struct boot_entry {
	enum boot_protocol protocol;
	uint64_t rip, rsi, rbx, rsp;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t gdt_base;
	uint16_t gdt_limit, cs, ds, tr; /* selectors; flat segments as the protocol asks */
};

/*
 * Loads @kernel_fd (bzImage, ELF vmlinux, either compressed with gzip, xz,
 * zstd or lz4), @initrd_fd (-1: none) and @cmdline into @mem, writes e820 or
 * the PVH memory map, GDT and page tables. -ENOEXEC with words for a kernel
 * that is none, -EFBIG for what does not fit, -EINVAL for a cmdline too long.
 */
int boot_load(const struct gmem *mem, int kernel_fd, int initrd_fd, const char *cmdline,
	      struct boot_entry *entry, struct err *err);

/*
 * Unpacks @fd (whole file) if it begins with the magic of a known compression,
 * else reads it: at most @max bytes, in memory of the caller's (munmap(2) of *@cap bytes).
 */
int boot_image_read(int fd, uint64_t max, void **data, uint64_t *len, uint64_t *cap,
		    struct err *err);

/*
 * ACPI tables (RSDP, XSDT, FADT, MADT, MCFG, DSDT) at LAYOUT_ACPI. ACPI 6.4 §5.2. @slots: those
 * of the PCI bus that can be plugged hot, a bit each (hotplug_slots()).
 */
int acpi_write(const struct gmem *mem, unsigned cpus, uint32_t slots, struct err *err);
/* MP table at LAYOUT_EBDA, for kernels without ACPI. Intel MP specification 1.4 §4. */
int mptable_write(const struct gmem *mem, unsigned cpus, struct err *err);

#endif
