// SPDX-License-Identifier: ISC
/*
 * ELF kernels. Segments are read straight into guest memory at their physical
 * addresses (p_paddr: virtual ones are the kernel's own affair), a relocatable
 * kernel at its preferred ones.
 *
 * Two ways lead into an ELF kernel: its e_entry, which for Linux is the 64-bit
 * entry of the x86 boot protocol, and the PVH entry that an ELF note names
 * (XEN_ELFNOTE_PHYS32_ENTRY), which other kernels use, too. Linux is taken at
 * its 64-bit entry: PVH would only make its 32-bit stub build page tables and
 * a boot_params that we have ready already. It is known by its own notes (of
 * owner "Linux"). Every other kernel with a PVH note wants it used, since
 * e_entry has no agreed meaning; one without gets the 64-bit entry.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/boot_int.h"
#include "vmm/layout.h"
#include "util/cleanup.h"

#define PHDRS_MAX	  64
#define NOTES_MAX	  65536 /* bytes of one PT_NOTE that are looked at */
#define NOTE_PHYS32_ENTRY 18	/* xen/include/public/elfnote.h */
#define PAGE		  4096ull

static const struct {
	uint16_t machine;
	const char *name;
} machines[] = {
    {EM_386, "i386"},	     {EM_AARCH64, "aarch64"},
    {EM_ARM, "arm"},	     {EM_RISCV, "riscv"},
    {EM_PPC64, "ppc64"},     {EM_PPC, "ppc"},
    {EM_S390, "s390"},	     {EM_MIPS, "mips"},
    {EM_SPARCV9, "sparc64"}, {EM_LOONGARCH, "loongarch"},
    {EM_IA_64, "ia64"},	     {EM_ALPHA, "alpha"},
    {EM_BPF, "bpf"},
};

struct elf {
	const struct boot_src *src;
	Elf64_Ehdr head;
	Elf64_Phdr phdrs[PHDRS_MAX];
	bool is_linux;
	bool has_pvh;
	uint32_t pvh_entry;
};

static int check_machine(const Elf64_Ehdr *head, struct err *err)
{
	for (size_t i = 0; i < nitems(machines); i++)
		if (machines[i].machine == head->e_machine)
			return err_set(err, -ENOEXEC, "kernel: ELF for %s, not x86-64",
				       machines[i].name);
	return err_set(err, -ENOEXEC, "kernel: ELF for machine %u, not x86-64", head->e_machine);
}

static int check_head(const Elf64_Ehdr *head, struct err *err)
{
	if (head->e_ident[EI_DATA] != ELFDATA2LSB) /* then no other field reads right */
		return err_set(err, -ENOEXEC, "kernel: big-endian ELF, not x86-64");
	if (head->e_machine != EM_X86_64)
		return check_machine(head, err);
	if (head->e_ident[EI_CLASS] != ELFCLASS64)
		return err_set(err, -ENOEXEC, "kernel: 32-bit ELF, not x86-64");
	if (head->e_type != ET_EXEC && head->e_type != ET_DYN)
		return err_set(err, -ENOEXEC, "kernel: ELF of type %u, not an executable",
			       head->e_type);
	if (head->e_phnum == 0)
		return err_set(err, -ENOEXEC, "kernel: ELF without program headers");
	if (head->e_phentsize != sizeof(Elf64_Phdr))
		return err_set(err, -ENOEXEC, "kernel: ELF program headers of %u bytes, not %zu",
			       head->e_phentsize, sizeof(Elf64_Phdr));
	if (head->e_phnum > PHDRS_MAX)
		return err_set(err, -ENOEXEC,
			       "kernel: %u ELF program headers, at most %u are taken",
			       head->e_phnum, PHDRS_MAX);
	return 0;
}

static int read_heads(struct elf *elf, struct err *err)
{
	int ret =
	    boot_src_read(elf->src, 0, &elf->head, sizeof(elf->head), "kernel's ELF header", err);

	if (ret == 0)
		ret = check_head(&elf->head, err);
	if (ret == 0)
		ret = boot_src_read(elf->src, elf->head.e_phoff, elf->phdrs,
				    elf->head.e_phnum * sizeof(Elf64_Phdr),
				    "kernel's ELF program headers", err);
	return ret;
}

/* Looks at one note; lengths were checked. */
static void take_note(struct elf *elf, const Elf64_Nhdr *note, const char *name,
		      const uint8_t *desc)
{
	if (note->n_namesz == 6 && memcmp(name, "Linux", 6) == 0)
		elf->is_linux = true;
	if (note->n_namesz == 4 && memcmp(name, "Xen", 4) == 0 &&
	    note->n_type == NOTE_PHYS32_ENTRY && note->n_descsz >= 4) {
		memcpy(&elf->pvh_entry, desc, 4); /* 8 bytes in some kernels, the upper ones 0 */
		elf->has_pvh = true;
	}
}

static void take_notes(struct elf *elf, const uint8_t *data, uint64_t len, uint64_t align)
{
	uint64_t at = 0;
	Elf64_Nhdr note;

	while (len - at >= sizeof(note)) {
		uint64_t name = at + sizeof(note), desc, next;

		memcpy(&note, data + at, sizeof(note));
		desc = (name + note.n_namesz + align - 1) & ~(align - 1);
		next = (desc + note.n_descsz + align - 1) & ~(align - 1);
		if (name + note.n_namesz > len || desc + note.n_descsz > len)
			return; /* a broken note is no reason to refuse a kernel */
		take_note(elf, &note, (const char *)data + name, data + desc);
		if (next > len)
			return;
		at = next;
	}
}

static int read_notes(struct elf *elf, struct err *err)
{
	for (unsigned i = 0; i < elf->head.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->phdrs[i];
		_cleanup_free_ uint8_t *data = NULL;
		uint64_t len = ph->p_filesz < NOTES_MAX ? ph->p_filesz : NOTES_MAX;
		int ret;

		if (ph->p_type != PT_NOTE || len == 0)
			continue;
		data = malloc(len);
		if (!data)
			return err_set(err, -ENOMEM, "kernel: no memory for its notes");
		ret = boot_src_read(elf->src, ph->p_offset, data, len, "kernel's ELF notes", err);
		if (ret < 0)
			return ret;
		take_notes(elf, data, len, ph->p_align == 8 ? 8 : 4);
	}
	return 0;
}

/* No two segments may want the same memory, and all of it must be RAM. */
static int check_segment(const struct gmem *mem, const struct elf *elf, unsigned nr,
			 struct err *err)
{
	const Elf64_Phdr *ph = &elf->phdrs[nr];
	int ret;

	if (ph->p_filesz > ph->p_memsz)
		return err_set(err, -ENOEXEC, "kernel: ELF segment %u has more bytes than memory",
			       nr);
	if (ph->p_offset > elf->src->len || ph->p_filesz > elf->src->len - ph->p_offset)
		return err_set(
		    err, -ENOEXEC,
		    "kernel is truncated: segment %u is %llu bytes at %llu, but the file "
		    "has %llu",
		    nr, (unsigned long long)ph->p_filesz, (unsigned long long)ph->p_offset,
		    (unsigned long long)elf->src->len);
	ret = boot_check_ram(mem, ph->p_paddr, ph->p_memsz, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < nr; i++) {
		const Elf64_Phdr *o = &elf->phdrs[i];

		if (o->p_type == PT_LOAD && o->p_memsz && ph->p_paddr < o->p_paddr + o->p_memsz &&
		    o->p_paddr < ph->p_paddr + ph->p_memsz)
			return err_set(err, -ENOEXEC, "kernel: ELF segments %u and %u overlap", i,
				       nr);
	}
	return 0;
}

static bool is_zero(const uint8_t *p, uint64_t len)
{
	return *p == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* Zeroes. Pages that are zero already are not written: a kernel's bss is megabytes. */
static void clear(uint8_t *p, uint64_t len)
{
	while (len) {
		uint64_t n = PAGE - ((uintptr_t)p & (PAGE - 1));

		n = n < len ? n : len;
		if (!is_zero(p, n))
			memset(p, 0, n);
		p += n;
		len -= n;
	}
}

static int load_segment(const struct gmem *mem, const struct elf *elf, const Elf64_Phdr *ph,
			struct err *err)
{
	uint8_t *to = gmem_ptr(mem, ph->p_paddr, ph->p_memsz);
	int ret;

	if (!to)
		return err_set(err, -EFBIG, "kernel does not fit in memory");
	ret = boot_src_read(elf->src, ph->p_offset, to, ph->p_filesz, "kernel", err);
	if (ret == 0 && ph->p_memsz > ph->p_filesz)
		clear(to + ph->p_filesz, ph->p_memsz - ph->p_filesz);
	return ret;
}

static int load_segments(const struct gmem *mem, const struct elf *elf, struct boot_kernel *kernel,
			 struct err *err)
{
	int ret;

	kernel->start = UINT64_MAX;
	kernel->end = 0;
	for (unsigned i = 0; i < elf->head.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->phdrs[i];

		if (ph->p_type != PT_LOAD || ph->p_memsz == 0)
			continue;
		ret = check_segment(mem, elf, i, err);
		if (ret < 0)
			return ret;
		if (ph->p_paddr < kernel->start)
			kernel->start = ph->p_paddr;
		if (ph->p_paddr + ph->p_memsz > kernel->end)
			kernel->end = ph->p_paddr + ph->p_memsz;
	}
	if (kernel->end == 0)
		return err_set(err, -ENOEXEC, "kernel: ELF with nothing to load");
	for (unsigned i = 0; i < elf->head.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->phdrs[i];

		if (ph->p_type != PT_LOAD || ph->p_memsz == 0)
			continue;
		ret = load_segment(mem, elf, ph, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Whether code can begin there: inside a loaded segment, within the 4 GiB that we map. */
static bool is_loaded(const struct elf *elf, uint64_t entry)
{
	for (unsigned i = 0; i < elf->head.e_phnum; i++) {
		const Elf64_Phdr *ph = &elf->phdrs[i];

		if (ph->p_type == PT_LOAD && entry >= ph->p_paddr &&
		    entry - ph->p_paddr < ph->p_memsz)
			return entry < LAYOUT_HIGH_RAM;
	}
	return false;
}

static int choose_entry(const struct elf *elf, bool linux_inside, struct boot_kernel *kernel,
			struct err *err)
{
	bool entry64 = is_loaded(elf, elf->head.e_entry);
	bool is_linux = linux_inside || elf->is_linux;

	if (elf->has_pvh && !(is_linux && entry64)) {
		if (!is_loaded(elf, elf->pvh_entry))
			return err_set(err, -ENOEXEC, "kernel: PVH entry 0x%x is in no segment",
				       elf->pvh_entry);
		kernel->protocol = BOOT_PVH;
		kernel->entry = elf->pvh_entry;
		return 0;
	}
	if (!entry64)
		return err_set(err, -ENOEXEC, "kernel: ELF entry 0x%llx is in no segment",
			       (unsigned long long)elf->head.e_entry);
	kernel->protocol = BOOT_LINUX64;
	kernel->entry = elf->head.e_entry;
	return 0;
}

int boot_elf_load(const struct gmem *mem, const struct boot_src *src, bool linux_inside,
		  struct boot_kernel *kernel, struct err *err)
{
	struct elf elf = {.src = src};
	int ret;

	ret = read_heads(&elf, err);
	if (ret == 0)
		ret = read_notes(&elf, err);
	if (ret == 0)
		ret = load_segments(mem, &elf, kernel, err);
	if (ret == 0)
		ret = choose_entry(&elf, linux_inside, kernel, err);
	return ret;
}
