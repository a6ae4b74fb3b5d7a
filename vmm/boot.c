// SPDX-License-Identifier: ISC
/*
 * From files to a guest that can begin. The kernel's file is recognised by its
 * first bytes: an ELF (boot_elf.c), a bzImage (boot_bzimage.c: its payload is
 * unpacked here on the host and holds an ELF), or either of them compressed as
 * a whole (boot_image.c, boot_unpack.c). Then come the initrd, as high as it may
 * be, the command line, and what the protocol wants: boot_params (boot_linux.c) or
 * hvm_start_info (boot_pvh.c).
 *
 * Kernel and initrd are read straight to where the guest finds them. All of a
 * kernel is at 1 MiB and above, so that it cannot meet our own tables below.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/boot_int.h"
#include "vmm/layout.h"
#include "util/cleanup.h"

#define HEAD_BYTES	 4096
#define INITRD_MAX_OTHER 0x7fffffffull /* where no header says how high an initrd may end */
#define CMDLINE_MAX_206	 255	       /* before version 2.06 */

/* What people give by mistake. */
static const struct {
	unsigned offset;
	const char *magic;
	unsigned len;
	const char *name;
} strangers[] = {
    {0, "0707", 4, "a cpio archive (an initrd?)"},
    {0, "QFI\xfb", 4, "a qcow2 disk image"},
    {0, "#!", 2, "a script"},
    {56, "ARM\x64", 4, "a kernel for aarch64, not x86-64"},
    {56, "RSC\x05", 4, "a kernel for riscv, not x86-64"},
    {0, "MZ", 2, "a Windows or EFI program"},
    {0x8001, "CD001", 5, "a CD image"},
    {510, "\x55\xaa", 2, "a disk image"},
};

static uint64_t low_ram_end(const struct gmem *mem)
{
	return mem->regions[0].gpa + mem->regions[0].bytes;
}

static uint64_t ram_bytes(const struct gmem *mem)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < mem->n_regions; i++)
		bytes += mem->regions[i].bytes;
	return bytes;
}

int boot_check_ram(const struct gmem *mem, uint64_t gpa, uint64_t len, struct err *err)
{
	char need[32], have[32];

	if (len > UINT64_MAX - gpa)
		return err_set(err, -ENOEXEC, "kernel: addresses beyond 64 bits");
	if (gpa < LAYOUT_RAM_START)
		return err_set(err, -ENOEXEC, "kernel wants to be at 0x%llx, below 1 MiB",
			       (unsigned long long)gpa);
	if (!gmem_ptr(mem, gpa, len))
		return err_set(err, -EFBIG,
			       "kernel needs memory up to %s (0x%llx), the guest has %s",
			       boot_size(need, gpa + len), (unsigned long long)(gpa + len),
			       boot_size(have, ram_bytes(mem)));
	return 0;
}

unsigned boot_memory_map(const struct gmem *mem, struct boot_range ranges[BOOT_RANGES_MAX])
{
	const struct boot_range map[] = {
	    {0, LAYOUT_EBDA, BOOT_RAM},
	    {LAYOUT_EBDA, LAYOUT_EBDA_END - LAYOUT_EBDA, BOOT_RESERVED},
	    {LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, BOOT_RESERVED},
	    {LAYOUT_RAM_START, low_ram_end(mem) - LAYOUT_RAM_START, BOOT_RAM},
	    {LAYOUT_ECAM, LAYOUT_ECAM_END - LAYOUT_ECAM, BOOT_RESERVED},
	    {LAYOUT_IDENTITY_MAP, 4 * 4096, BOOT_RESERVED}, /* KVM's own pages */
	};
	unsigned n = nitems(map);

	_Static_assert(nitems(map) < BOOT_RANGES_MAX, "room for high RAM");
	memcpy(ranges, map, sizeof(map));
	if (mem->n_regions > 1)
		ranges[n++] =
		    (struct boot_range){mem->regions[1].gpa, mem->regions[1].bytes, BOOT_RAM};
	return n;
}

static int refuse(const uint8_t *head, uint64_t len, struct err *err)
{
	for (size_t i = 0; i < nitems(strangers); i++)
		if (len >= strangers[i].offset + strangers[i].len &&
		    memcmp(head + strangers[i].offset, strangers[i].magic, strangers[i].len) == 0)
			return err_set(err, -ENOEXEC, "kernel is %s", strangers[i].name);
	return err_set(err, -ENOEXEC,
		       "kernel is neither a bzImage nor an ELF, nor one compressed with gzip, xz, "
		       "zstd or lz4");
}

static int load_plain(const struct gmem *mem, const struct boot_src *src,
		      struct boot_kernel *kernel, struct err *err)
{
	uint64_t len = src->len < HEAD_BYTES ? src->len : HEAD_BYTES;
	uint8_t head[HEAD_BYTES];
	int ret = boot_src_read(src, 0, head, len, "kernel", err);

	if (ret < 0)
		return ret;
	if (len >= 4 && memcmp(head, "\177ELF", 4) == 0)
		return boot_elf_load(mem, src, false, kernel, err);
	if (boot_bzimage_probe(head, len))
		return boot_bzimage_load(mem, src, kernel, err);
	return refuse(head, len, err);
}

static int load_kernel(const struct gmem *mem, int fd, struct boot_kernel *kernel, struct err *err)
{
	uint8_t magic[BOOT_MAGIC_BYTES];
	struct boot_src src;
	uint64_t len, cap;
	void *data;
	int ret;

	ret = boot_src_open(&src, fd, "kernel", err);
	if (ret < 0)
		return ret;
	len = src.len < sizeof(magic) ? src.len : sizeof(magic);
	ret = boot_src_read(&src, 0, magic, len, "kernel", err);
	if (ret < 0)
		return ret;
	if (!boot_codec_find(magic, len))
		return load_plain(mem, &src, kernel, err);
	ret = boot_image_read(fd, ram_bytes(mem), &data, &len, &cap, err);
	if (ret < 0)
		return err_prefix(err, "kernel");
	src = (struct boot_src){.fd = -1, .data = data, .len = len};
	ret = load_plain(mem, &src, kernel, err);
	munmap(data, cap);
	return ret;
}

/* The highest page-aligned place for @bytes that ends at @limit or below and spares the kernel. */
static uint64_t find_place(const struct boot_kernel *kernel, uint64_t limit, uint64_t bytes)
{
	uint64_t at;

	if (bytes > limit)
		return 0;
	at = (limit - bytes) & ~4095ull;
	if (at < kernel->end && kernel->start < at + bytes) {
		if (bytes > kernel->start)
			return 0;
		at = (kernel->start - bytes) & ~4095ull;
	}
	return at >= LAYOUT_RAM_START ? at : 0;
}

static int load_initrd(const struct gmem *mem, int fd, const struct boot_kernel *kernel,
		       struct boot_info *info, struct err *err)
{
	uint64_t top = low_ram_end(mem), limit = INITRD_MAX_OTHER + 1, above, below;
	char need[32], have[32];
	struct boot_src src;
	int ret;

	ret = boot_src_open(&src, fd, "initrd", err);
	if (ret < 0)
		return ret;
	if (kernel->has_setup)
		limit = kernel->setup.initrd_addr_max + 1ull;
	if (limit > top)
		limit = top;
	info->initrd = find_place(kernel, limit, src.len);
	if (info->initrd == 0) {
		above = kernel->end < limit ? limit - kernel->end : 0;
		below = kernel->start < limit ? kernel->start - LAYOUT_RAM_START : 0;
		return err_set(err, -EFBIG, "initrd of %s does not fit, %s of memory are free",
			       boot_size(need, src.len),
			       boot_size(have, above > below ? above : below));
	}
	info->initrd_bytes = src.len;
	return boot_src_read(&src, 0, gmem_ptr(mem, info->initrd, src.len), src.len, "initrd", err);
}

static int load_cmdline(const struct gmem *mem, const char *cmdline,
			const struct boot_kernel *kernel, struct boot_info *info, struct err *err)
{
	uint64_t len = strlen(cmdline), max = VMM_CMDLINE_MAX - 1;

	if (kernel->has_setup) {
		uint64_t own =
		    kernel->setup.version >= 0x206 ? kernel->setup.cmdline_size : CMDLINE_MAX_206;

		if (own < max)
			max = own;
	}
	if (len > max)
		return err_set(err, -EINVAL,
			       "cmdline of %llu bytes is too long: the kernel takes %llu",
			       (unsigned long long)len, (unsigned long long)max);
	info->cmdline = LAYOUT_CMDLINE;
	info->cmdline_len = len;
	if (gmem_write(mem, LAYOUT_CMDLINE, cmdline, len + 1) < 0)
		return err_set(err, -EFBIG, "cmdline does not fit in memory");
	return 0;
}

int boot_load(const struct gmem *mem, int kernel_fd, int initrd_fd, const char *cmdline,
	      struct boot_entry *entry, struct err *err)
{
	struct boot_kernel kernel = {0};
	struct boot_info info = {0};
	int ret;

	if (mem->n_regions == 0 || mem->regions[0].gpa != 0 ||
	    mem->regions[0].bytes <= LAYOUT_RAM_START)
		return err_set(err, -EFBIG, "the guest needs more than 1 MiB of memory");
	ret = load_kernel(mem, kernel_fd, &kernel, err);
	if (ret == 0)
		ret = load_cmdline(mem, cmdline, &kernel, &info, err);
	if (ret == 0 && initrd_fd >= 0)
		ret = load_initrd(mem, initrd_fd, &kernel, &info, err);
	if (ret < 0)
		return ret;
	if (kernel.protocol == BOOT_PVH)
		return boot_pvh_setup(mem, &kernel, &info, entry, err);
	return boot_linux_setup(mem, &kernel, &info, entry, err);
}
