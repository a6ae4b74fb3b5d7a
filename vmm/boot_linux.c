// SPDX-License-Identifier: ISC
/*
 * The 64-bit entry of the x86 boot protocol (Documentation/arch/x86/boot.rst,
 * "64-bit boot protocol"): long mode, a 1:1 map of 4 GiB, flat segments 0x10
 * and 0x18, interrupts off, RSI at boot_params with e820 map, initrd, command
 * line and the address of ACPI's root.
 */
#include <errno.h>
#include <string.h>

#include "vmm/boot_int.h"
#include "vmm/layout.h"
#include "util/cleanup.h"

#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_TSS	 0x20

#define PTE_PRESENT 1ull
#define PTE_WRITE   2ull
#define PTE_LARGE   0x80ull

#define CR0_PE	 1ull
#define CR0_ET	 0x10ull
#define CR0_PG	 (1ull << 31)
#define CR4_PAE	 0x20ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull

#define HEADER_MAGIC 0x53726448 /* "HdrS" */

/* Base 0, limit 4 GiB; code of 64 bits, data, a TSS that nobody uses. */
static const uint64_t gdt[] = {
    [SEL_CODE / 8] = 0x00af9b000000ffff,
    [SEL_DATA / 8] = 0x00cf93000000ffff,
    [SEL_TSS / 8] = 0x00008b0000000067,
    [SEL_TSS / 8 + 1] = 0,
};

static int write_page_tables(const struct gmem *mem)
{
	uint64_t *table = gmem_ptr(mem, LAYOUT_PAGE_TABLES, 6 * 4096);

	if (!table)
		return -EFAULT;
	memset(table, 0, 2 * 4096);
	table[0] = (LAYOUT_PAGE_TABLES + 0x1000) | PTE_PRESENT | PTE_WRITE;
	for (unsigned i = 0; i < 4; i++)
		table[512 + i] =
		    (LAYOUT_PAGE_TABLES + 0x2000 + i * 0x1000ull) | PTE_PRESENT | PTE_WRITE;
	for (unsigned i = 0; i < 4 * 512; i++)
		table[1024 + i] = ((uint64_t)i << 21) | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	return 0;
}

/* What a kernel without a header of its own (a plain vmlinux) finds: version 2.15. */
static void make_header(struct setup_header *h)
{
	memset(h, 0, sizeof(*h));
	h->version = 0x20f;
	h->loadflags = LOADED_HIGH;
	h->kernel_alignment = 0x1000000;
	h->cmdline_size = VMM_CMDLINE_MAX - 1;
}

static void fill_header(struct setup_header *h, const struct boot_kernel *kernel,
			const struct boot_info *info)
{
	if (kernel->has_setup)
		*h = kernel->setup;
	else
		make_header(h);
	h->boot_flag = 0xaa55;
	h->header = HEADER_MAGIC;
	h->type_of_loader = 0xff;
	h->loadflags = (uint8_t)((h->loadflags | LOADED_HIGH) & ~(KEEP_SEGMENTS | CAN_USE_HEAP));
	h->vid_mode = 0xffff; /* "normal" */
	h->setup_data = 0;
	h->code32_start = (uint32_t)kernel->start;
	h->cmd_line_ptr = (uint32_t)info->cmdline;
	h->ramdisk_image = (uint32_t)info->initrd;
	h->ramdisk_size = (uint32_t)info->initrd_bytes;
}

static int write_boot_params(const struct gmem *mem, const struct boot_kernel *kernel,
			     const struct boot_info *info)
{
	struct boot_range ranges[BOOT_RANGES_MAX];
	struct boot_params params;
	unsigned n = boot_memory_map(mem, ranges);

	memset(&params, 0, sizeof(params));
	fill_header(&params.hdr, kernel, info);
	params.acpi_rsdp_addr = LAYOUT_ACPI;
	params.e820_entries = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		params.e820_table[i].addr = ranges[i].start;
		params.e820_table[i].size = ranges[i].bytes;
		params.e820_table[i].type = ranges[i].type;
	}
	return gmem_write(mem, LAYOUT_BOOT_PARAMS, &params, sizeof(params));
}

int boot_linux_setup(const struct gmem *mem, const struct boot_kernel *kernel,
		     const struct boot_info *info, struct boot_entry *entry, struct err *err)
{
	int ret = write_boot_params(mem, kernel, info);

	if (ret == 0)
		ret = write_page_tables(mem);
	if (ret == 0)
		ret = gmem_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));
	if (ret < 0)
		return err_set(err, ret, "boot tables do not fit in memory");
	*entry = (struct boot_entry){
	    .protocol = BOOT_LINUX64,
	    .rip = kernel->entry,
	    .rsi = LAYOUT_BOOT_PARAMS,
	    .rsp = LAYOUT_BOOT_STACK,
	    .cr0 = CR0_PE | CR0_ET | CR0_PG,
	    .cr3 = LAYOUT_PAGE_TABLES,
	    .cr4 = CR4_PAE,
	    .efer = EFER_LME | EFER_LMA,
	    .gdt_base = LAYOUT_GDT,
	    .gdt_limit = sizeof(gdt) - 1,
	    .cs = SEL_CODE,
	    .ds = SEL_DATA,
	    .tr = SEL_TSS,
	};
	return 0;
}
