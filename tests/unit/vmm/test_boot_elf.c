// SPDX-License-Identifier: ISC
/* ELF kernels: loaded where they belong, entered the right way, refused with words. */
#include "tests/unit/vmm/boot_fixture.h"

static void loads_at_physical_address(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	memset(gmem_ptr(&mem, ELF_PADDR, ELF_MEMSZ), 0xaa, ELF_MEMSZ); /* bss must be cleared */
	assert_int_equal(load_with(&mem, &elf, -1, "", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_LINUX64);
	assert_int_equal(entry.rip, ELF_ENTRY);
	assert_int_equal(entry.rsi, LAYOUT_BOOT_PARAMS);
	pattern_check(&mem);
	assert_int_equal(*(uint8_t *)gmem_ptr(&mem, ELF_PADDR + ELF_MEMSZ, 1), 0);
}

static void clears_bss_in_any_memory(void **state)
{
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct gmem mem = {.n_regions = 1, .regions = {{0, 4 * MIB, NULL}}};

	(void)state;
	/* private memory cannot be punched out of */
	mem.regions[0].host =
	    mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mem.regions[0].host, MAP_FAILED);
	memset(mem.regions[0].host, 0xaa, 4 * MIB);
	assert_int_equal(load(&mem, &elf), 0);
	pattern_check(&mem);
	assert_int_equal(*(uint8_t *)gmem_ptr(&mem, ELF_PADDR + ELF_MEMSZ, 1), 0xaa);
	memory_free(&mem);
}

static void pvh_note_wins_unless_linux(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct boot_entry entry;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	elf_add_note(&elf, 1, "Xen", 18, ELF_PADDR + 0x80, 4);
	assert_int_equal(load_with(&mem, &elf, -1, "", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_PVH);
	assert_int_equal(entry.rip, ELF_PADDR + 0x80);
	assert_int_equal(entry.rbx, LAYOUT_PVH_INFO);
	assert_int_equal(entry.cr0 & 0x80000001, 1);

	elf_add_note(&elf, 2, "Linux", 0x101, 0, 1);
	assert_int_equal(load_with(&mem, &elf, -1, "", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_LINUX64);
	assert_int_equal(entry.rip, ELF_ENTRY);

	elf_head(&elf)->e_entry = 0xffffffff80000040; /* a Linux whose entry is virtual */
	assert_int_equal(load_with(&mem, &elf, -1, "", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_PVH);
}

static void pvh_entry_outside(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	elf_add_note(&elf, 1, "Xen", 18, 0x10, 8);
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("PVH entry 0x10");
}

static void broken_notes_do_not_matter(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	elf_add_note(&elf, 1, "Xen", 18, ELF_PADDR, 4);
	for (unsigned field = 0; field < 3; field++) { /* lengths of name and contents, type */
		for (unsigned bit = 0; bit < 32; bit++) {
			uint32_t *p = (uint32_t *)(elf.data + ELF_NOTES_AT + 64) + field;

			*p ^= 1u << bit;
			assert_int_equal(load(&mem, &elf), 0);
			*p ^= 1u << bit;
		}
	}
}

static void other_machines_by_name(void **state)
{
	static const struct {
		uint16_t machine;
		const char *words;
	} rows[] = {
	    {EM_AARCH64, "ELF for aarch64, not x86-64"},  {EM_RISCV, "ELF for riscv, not x86-64"},
	    {EM_386, "ELF for i386, not x86-64"},	  {EM_S390, "s390"},
	    {0x1234, "ELF for machine 4660, not x86-64"},
	};
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (size_t i = 0; i < nitems(rows); i++) {
		elf_head(&elf)->e_machine = rows[i].machine;
		assert_int_equal(load(&mem, &elf), -ENOEXEC);
		expect_words(rows[i].words);
	}
}

static void wrong_kinds(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	Elf64_Ehdr *head = elf_head(&elf);

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	head->e_ident[EI_CLASS] = ELFCLASS32;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("32-bit ELF");
	head->e_ident[EI_CLASS] = ELFCLASS64;
	head->e_ident[EI_DATA] = ELFDATA2MSB;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("big-endian");
	head->e_ident[EI_DATA] = ELFDATA2LSB;
	head->e_type = ET_REL;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("type 1");
	head->e_type = ET_CORE;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	head->e_type = ET_EXEC;
	head->e_phnum = 0;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("without program headers");
	head->e_phnum = 0xffff;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("65535");
	head->e_phnum = 1;
	head->e_phentsize = 32;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("32 bytes");
	head->e_phentsize = sizeof(Elf64_Phdr);
	elf_phdr(&elf, 0)->p_type = PT_NULL;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("nothing to load");
	elf_phdr(&elf, 0)->p_type = PT_LOAD;
	head->e_entry = ELF_PADDR + ELF_MEMSZ;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("entry 0x209000");
}

static void truncated_anywhere(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	struct bytes cut = elf;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (cut.len = 1; cut.len < elf.len; cut.len += cut.len < 0x200 ? 1 : 509)
		assert_int_equal(load(&mem, &cut), -ENOEXEC);
	cut.len = elf.len - 1;
	assert_int_equal(load(&mem, &cut), -ENOEXEC);
	expect_words("truncated");
	cut.len = 80;
	assert_int_equal(load(&mem, &cut), -ENOEXEC);
	expect_words("program headers is truncated");
}

static void segments_outside(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	Elf64_Phdr *load_at = elf_phdr(&elf, 0);

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	load_at->p_paddr = 0x9000;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("below 1 MiB");
	load_at->p_paddr = 16 * MIB - ELF_MEMSZ + 1;
	assert_int_equal(load(&mem, &elf), -EFBIG);
	expect_words("the guest has 16 MiB");
	load_at->p_paddr = UINT64_MAX - 10;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	load_at->p_paddr = ELF_PADDR;
	load_at->p_memsz = 64 * MIB;
	assert_int_equal(load(&mem, &elf), -EFBIG);
	expect_words("needs memory up to 66 MiB");
	load_at->p_memsz = UINT64_MAX;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	load_at->p_memsz = ELF_FILESZ - 1;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("more bytes than memory");
	load_at->p_memsz = ELF_MEMSZ;
	load_at->p_offset = UINT64_MAX - 1;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("truncated");
}

static void segments_overlap(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	elf_head(&elf)->e_phnum = 2;
	*elf_phdr(&elf, 1) = *elf_phdr(&elf, 0);
	elf_phdr(&elf, 1)->p_paddr += ELF_MEMSZ - 1;
	assert_int_equal(load(&mem, &elf), -ENOEXEC);
	expect_words("segments 0 and 1 overlap");
	elf_phdr(&elf, 1)->p_paddr++;
	assert_int_equal(load(&mem, &elf), 0);
}

/* A single wrong bit in a header is refused or harmless, never fatal to us. */
static void bit_flips(void **state)
{
	_cleanup_memory_ struct gmem mem;
	_cleanup_bytes_ struct bytes elf = elf_make();
	int ret;

	(void)state;
	memory_make(&mem, 16 * MIB, 0);
	for (size_t bit = 0; bit < 8 * (sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr)); bit++) {
		elf.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ret = load(&mem, &elf);
		assert_true(ret == 0 || ret == -ENOEXEC || ret == -EFBIG);
		elf.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(load(&mem, &elf), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(loads_at_physical_address),
	    cmocka_unit_test(clears_bss_in_any_memory),
	    cmocka_unit_test(pvh_note_wins_unless_linux),
	    cmocka_unit_test(pvh_entry_outside),
	    cmocka_unit_test(broken_notes_do_not_matter),
	    cmocka_unit_test(other_machines_by_name),
	    cmocka_unit_test(wrong_kinds),
	    cmocka_unit_test(truncated_anywhere),
	    cmocka_unit_test(segments_outside),
	    cmocka_unit_test(segments_overlap),
	    cmocka_unit_test(bit_flips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
