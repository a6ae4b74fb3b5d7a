// SPDX-License-Identifier: ISC
/* What a guest is told: memory map, tables of the boot vcpu, command line, initrd. */
#include "tests/unit/vmm/boot_fixture.h"

#define GIB (1ull << 30)

struct want {
	uint64_t start, end;
	uint32_t type;
};

static const struct want map_64m[] = {
    {0, 0x9fc00, 1},	      {0x9fc00, 0xa0000, 2},	   {0xe0000, 0x100000, 2},
    {0x100000, 0x4000000, 1}, {0xe0000000, 0xe0100000, 2}, {0xfeffc000, 0xff000000, 2},
};

static const struct want map_5g[] = {
    {0, 0x9fc00, 1},
    {0x9fc00, 0xa0000, 2},
    {0xe0000, 0x100000, 2},
    {0x100000, 0xc0000000, 1},
    {0xe0000000, 0xe0100000, 2},
    {0xfeffc000, 0xff000000, 2},
    {0x100000000, 0x180000000, 1},
};

static void check_e820(const struct gmem *mem, const struct want *want, size_t n)
{
	const struct boot_params *p = gmem_ptr(mem, LAYOUT_BOOT_PARAMS, sizeof(*p));

	assert_int_equal(p->e820_entries, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(p->e820_table[i].addr, want[i].start);
		assert_int_equal(p->e820_table[i].size, want[i].end - want[i].start);
		assert_int_equal(p->e820_table[i].type, want[i].type);
	}
}

static void e820(void **state)
{
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct gmem mem;

	(void)state;
	memory_make(&mem, 64 * MIB, 0);
	assert_int_equal(load(&mem, &elf), 0);
	check_e820(&mem, map_64m, nitems(map_64m));
	memory_free(&mem);
	memory_make(&mem, 3 * GIB, 2 * GIB);
	assert_int_equal(load(&mem, &elf), 0);
	check_e820(&mem, map_5g, nitems(map_5g));
	memory_free(&mem);
}

static void linux_entry(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	const struct boot_params *p;
	struct boot_entry entry;
	const uint64_t *gdt;

	(void)state;
	memory_make(&mem, 64 * MIB, 0);
	assert_int_equal(load_with(&mem, &elf, -1, "quiet x=1", &entry), 0);
	p = gmem_ptr(&mem, LAYOUT_BOOT_PARAMS, sizeof(*p));
	assert_int_equal(p->hdr.boot_flag, 0xaa55);
	assert_int_equal(p->hdr.header, 0x53726448);
	assert_int_equal(p->hdr.type_of_loader, 0xff);
	assert_int_equal(p->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	assert_true(p->hdr.cmdline_size >= 9);
	assert_int_equal(p->hdr.ramdisk_size, 0);
	assert_int_equal(p->acpi_rsdp_addr, LAYOUT_ACPI);
	assert_string_equal(gmem_ptr(&mem, LAYOUT_CMDLINE, 10), "quiet x=1");

	/* long mode is on: PE, PG; PAE; LME and LMA; selectors of the protocol */
	assert_int_equal(entry.cr0 & 0x80000001, 0x80000001);
	assert_int_equal(entry.cr4 & 0x20, 0x20);
	assert_int_equal(entry.efer & 0x500, 0x500);
	assert_int_equal(entry.cs, 0x10);
	assert_int_equal(entry.ds, 0x18);
	assert_int_equal(entry.gdt_base, LAYOUT_GDT);
	gdt = gmem_ptr(&mem, LAYOUT_GDT, entry.gdt_limit + 1u);
	assert_int_equal(gdt[0], 0);
	assert_int_equal(gdt[2] >> 40 & 0x9f, 0x9b); /* present, code */
	assert_int_equal(gdt[2] >> 53 & 3, 1);	     /* L, not D */
	assert_int_equal(gdt[3] >> 40 & 0x9f, 0x93);
	assert_true(entry.tr + 16 <= entry.gdt_limit + 1);
}

/* Follows the tables for an address as a processor would. */
static uint64_t translate(const struct gmem *mem, uint64_t cr3, uint64_t va)
{
	uint64_t table = cr3, entry = 0;

	for (int shift = 39; shift >= 21; shift -= 9) {
		entry = *(uint64_t *)gmem_ptr(mem, table + 8 * (va >> shift & 511), 8);
		assert_int_equal(entry & 3, 3);
		table = entry & 0xffffffffff000;
	}
	assert_int_equal(entry & 0x80, 0x80);
	return table + (va & 0x1fffff);
}

static void identity_map(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 64 * MIB, 0);
	memset(mem.regions[0].host, 0xff, MIB);
	assert_int_equal(load_with(&mem, &elf, -1, "", &entry), 0);
	for (uint64_t va = 0; va < 4 * GIB; va += 37 * MIB + 4096)
		assert_int_equal(translate(&mem, entry.cr3, va), va);
	assert_int_equal(translate(&mem, entry.cr3, 4 * GIB - 1), 4 * GIB - 1);
	for (unsigned i = 1; i < 512; i++) /* nothing else is mapped */
		assert_int_equal(*(uint64_t *)gmem_ptr(&mem, entry.cr3 + 8 * i, 8), 0);
}

static void pvh_start_info(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	uint8_t initrd_bytes[5000];
	_cleanup_close_ int initrd = -1;
	const uint32_t *info;
	const uint64_t *info64, *module;
	struct boot_entry entry;

	(void)state;
	memset(initrd_bytes, 0x1d, sizeof(initrd_bytes));
	initrd = file_of(initrd_bytes, sizeof(initrd_bytes));
	memory_make(&mem, 3 * GIB, 2 * GIB);
	elf_add_note(&elf, 1, "Xen", 18, ELF_PADDR, 4);
	assert_int_equal(load_with(&mem, &elf, initrd, "pvh", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_PVH);
	info = gmem_ptr(&mem, entry.rbx, 56);
	info64 = (const uint64_t *)info;
	assert_int_equal(info[0], 0x336ec578);
	assert_int_equal(info[1], 1);
	assert_int_equal(info[3], 1);
	assert_string_equal(gmem_ptr(&mem, info64[3], 4), "pvh");
	assert_int_equal(info64[4], LAYOUT_ACPI);
	module = gmem_ptr(&mem, info64[2], 32);
	assert_int_equal(module[1], sizeof(initrd_bytes));
	assert_memory_equal(gmem_ptr(&mem, module[0], module[1]), initrd_bytes,
			    sizeof(initrd_bytes));
	assert_int_equal(info[12], nitems(map_5g));
	for (size_t i = 0; i < nitems(map_5g); i++) {
		const uint64_t *range = gmem_ptr(&mem, info64[5] + 24 * i, 24);

		assert_int_equal(range[0], map_5g[i].start);
		assert_int_equal(range[1], map_5g[i].end - map_5g[i].start);
		assert_int_equal(range[2], map_5g[i].type);
	}
}

/* Loads with an initrd of @len bytes; gives where boot_params says it is. */
static int place_initrd(const struct gmem *mem, const struct bytes *kernel, size_t len,
			uint64_t *at)
{
	_cleanup_bytes_ struct bytes b = bytes_new(len);
	_cleanup_close_ int fd = -1;
	const struct boot_params *p;
	struct boot_entry entry;
	int ret;

	memset(b.data, 0x3c, len);
	fd = file_of(b.data, len);
	ret = load_with(mem, kernel, fd, "", &entry);
	if (ret < 0)
		return ret;
	p = gmem_ptr(mem, LAYOUT_BOOT_PARAMS, sizeof(*p));
	*at = p->hdr.ramdisk_image;
	assert_int_equal(p->hdr.ramdisk_size, len);
	assert_int_equal(*at % 4096, 0);
	assert_memory_equal(gmem_ptr(mem, *at, len), b.data, len);
	pattern_check(mem); /* the kernel is unharmed */
	return 0;
}

static void initrd_goes_high(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make(), payload = {0}, image = {0};
	uint64_t at;

	(void)state;
	memory_make(&mem, 3 * GIB, GIB);
	assert_int_equal(place_initrd(&mem, &elf, 10000, &at), 0);
	assert_int_equal(at, 0x80000000 - 3 * 4096); /* no header says that more is fine */
	payload = pack_payload(ZSTD, &elf);
	image = bzimage_make(&payload);
	bzimage_header(&image)->initrd_addr_max = 0x37ffffff;
	assert_int_equal(place_initrd(&mem, &image, 4096, &at), 0);
	assert_int_equal(at, 0x38000000 - 4096);
	bzimage_header(&image)->initrd_addr_max = 0xffffffff;
	assert_int_equal(place_initrd(&mem, &image, 1, &at), 0);
	assert_int_equal(at, 3 * GIB - 4096);
}

static void initrd_just_fits(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	uint64_t at, room = 8 * MIB - (ELF_PADDR + ELF_MEMSZ);

	(void)state;
	memory_make(&mem, 8 * MIB, 0);
	assert_int_equal(place_initrd(&mem, &elf, room, &at), 0);
	assert_int_equal(at, ELF_PADDR + ELF_MEMSZ);
	assert_int_equal(place_initrd(&mem, &elf, room + 1, &at), -EFBIG);
	expect_words("initrd of 6.0 MiB does not fit, 6.0 MiB of memory are free");
	assert_int_equal(place_initrd(&mem, &elf, 9 * MIB, &at), -EFBIG);
	expect_words("initrd of 9 MiB does not fit");
}

/* A kernel at the top of memory: the initrd goes below it. */
static void initrd_below_kernel(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	uint64_t at;

	(void)state;
	memory_make(&mem, 4 * MIB, 0);
	elf_phdr(&elf, 0)->p_memsz = 2 * MIB;
	assert_int_equal(place_initrd(&mem, &elf, MIB, &at), 0);
	assert_int_equal(at, MIB);
	assert_int_equal(place_initrd(&mem, &elf, MIB + 1, &at), -EFBIG);
	expect_words("1 MiB of memory are free");
}

static void cmdline_too_long(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	char cmdline[VMM_CMDLINE_MAX + 1];
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 8 * MIB, 0);
	memset(cmdline, 'c', sizeof(cmdline));
	cmdline[VMM_CMDLINE_MAX - 1] = '\0';
	assert_int_equal(load_with(&mem, &elf, -1, cmdline, &entry), 0);
	cmdline[VMM_CMDLINE_MAX - 1] = 'c';
	cmdline[VMM_CMDLINE_MAX] = '\0';
	assert_int_equal(load_with(&mem, &elf, -1, cmdline, &entry), -EINVAL);
	expect_words("cmdline of 2048 bytes is too long");
}

static void hardly_any_memory(void **state)
{
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct gmem mem = {0};

	(void)state;
	assert_int_equal(load(&mem, &elf), -EFBIG);
	memory_make(&mem, MIB, 0);
	assert_int_equal(load(&mem, &elf), -EFBIG);
	expect_words("more than 1 MiB");
	memory_free(&mem);
	memory_make(&mem, MIB + 4096, 0);
	assert_int_equal(load(&mem, &elf), -EFBIG);
	expect_words("the guest has 1.0 MiB");
	memory_free(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(e820),
	    cmocka_unit_test(linux_entry),
	    cmocka_unit_test(identity_map),
	    cmocka_unit_test(pvh_start_info),
	    cmocka_unit_test(initrd_goes_high),
	    cmocka_unit_test(initrd_just_fits),
	    cmocka_unit_test(initrd_below_kernel),
	    cmocka_unit_test(cmdline_too_long),
	    cmocka_unit_test(hardly_any_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
