// SPDX-License-Identifier: ISC
/*
 * The PVH entry (Xen's docs/misc/pvh.pandoc): 32-bit protected mode without
 * paging, flat segments, EBX at hvm_start_info, which carries version 1's
 * memory map. Used by kernels other than Linux, see boot_elf.c.
 */
#include <errno.h>
#include <string.h>

#include "vmm/boot_int.h"
#include "vmm/layout.h"

#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_TSS	 0x20

#define START_MAGIC 0x336ec578 /* "xEn3" with bit 7 of E set */

/* xen/include/public/arch-x86/hvm/start_info.h, version 1 */
struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t n_modules;
	uint64_t modules;
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t memmap;
	uint32_t n_memmap;
	uint32_t reserved;
};

struct start_module {
	uint64_t address;
	uint64_t bytes;
	uint64_t cmdline;
	uint64_t reserved;
};

struct start_memory {
	uint64_t address;
	uint64_t bytes;
	uint32_t type;
	uint32_t reserved;
};

/* All that stands at LAYOUT_PVH_INFO. */
struct start {
	struct start_info info;
	struct start_module initrd;
	struct start_memory memory[BOOT_RANGES_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "laid out as in start_info.h");
_Static_assert(LAYOUT_PVH_INFO + sizeof(struct start) <= LAYOUT_BOOT_PARAMS, "its place");

/* Base 0, limit 4 GiB; code of 32 bits, data, a TSS that nobody uses. */
static const uint64_t gdt[] = {
    [SEL_CODE / 8] = 0x00cf9b000000ffff,
    [SEL_DATA / 8] = 0x00cf93000000ffff,
    [SEL_TSS / 8] = 0x00008b0000000067,
};

int boot_pvh_setup(const struct gmem *mem, const struct boot_kernel *kernel,
		   const struct boot_info *info, struct boot_entry *entry, struct err *err)
{
	struct boot_range ranges[BOOT_RANGES_MAX];
	struct start start;
	unsigned n = boot_memory_map(mem, ranges);
	int ret;

	memset(&start, 0, sizeof(start));
	start.info = (struct start_info){
	    .magic = START_MAGIC,
	    .version = 1,
	    .n_modules = info->initrd_bytes ? 1 : 0,
	    .modules = info->initrd_bytes ? LAYOUT_PVH_INFO + offsetof(struct start, initrd) : 0,
	    .cmdline = info->cmdline,
	    .rsdp = LAYOUT_ACPI,
	    .memmap = LAYOUT_PVH_INFO + offsetof(struct start, memory),
	    .n_memmap = n,
	};
	start.initrd.address = info->initrd;
	start.initrd.bytes = info->initrd_bytes;
	for (unsigned i = 0; i < n; i++) {
		start.memory[i].address = ranges[i].start;
		start.memory[i].bytes = ranges[i].bytes;
		start.memory[i].type = ranges[i].type;
	}
	ret = gmem_write(mem, LAYOUT_PVH_INFO, &start, sizeof(start));
	if (ret == 0)
		ret = gmem_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));
	if (ret < 0)
		return err_set(err, ret, "boot tables do not fit in memory");
	*entry = (struct boot_entry){
	    .protocol = BOOT_PVH,
	    .rip = kernel->entry,
	    .rbx = LAYOUT_PVH_INFO,
	    .rsp = LAYOUT_BOOT_STACK,
	    .cr0 = 0x11, /* PE, ET */
	    .gdt_base = LAYOUT_GDT,
	    .gdt_limit = sizeof(gdt) - 1,
	    .cs = SEL_CODE,
	    .ds = SEL_DATA,
	    .tr = SEL_TSS,
	};
	return 0;
}
