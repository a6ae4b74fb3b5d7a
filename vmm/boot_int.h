/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_BOOT_INT_H
#define FV_VMM_BOOT_INT_H
/* Between the boot_*.c files. See boot.c for how they work together. */
#include <asm/bootparam.h>
#include <stdbool.h>

#include "vmm/boot.h"

/* --- bytes of a file ------------------------------------------------------------------------ */

/* A kernel's bytes: a file's (read by pread(2)), or memory if @data is set. Borrows both. */
struct boot_src {
	int fd;
	const uint8_t *data;
	uint64_t len;
};

/* -EISDIR, -ENOEXEC for what is not a regular file or empty; @what names it in the words. */
int boot_src_open(struct boot_src *src, int fd, const char *what, struct err *err);
/* All @len bytes at @off; -ENOEXEC with words about a truncated @what otherwise. */
int boot_src_read(const struct boot_src *src, uint64_t off, void *buf, uint64_t len,
		  const char *what, struct err *err);

/* --- compression ------------------------------------------------------------------------------ */

#define BOOT_MAGIC_BYTES 16 /* enough to recognise any of them */

/* One row for each that is known by its first bytes; @unpack is NULL where only the name is. */
struct boot_codec {
	const char *name;
	uint8_t magic[6];
	unsigned magic_len;
	/*
	 * Unpacks @in into @out (room for *@out_len; the true length on return).
	 * -ENOEXEC for bad or truncated data, -EFBIG where the room does not suffice, -ENOMEM.
	 */
	int (*unpack)(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t *out_len,
		      struct err *err);
	bool counted; /* in a bzImage, 4 bytes with the unpacked length stand behind the data */
};

/* The row whose magic @head begins with, or NULL. */
const struct boot_codec *boot_codec_find(const uint8_t *head, uint64_t len);

/* Unpacks @in into new memory, at most @max bytes; as boot_image_read(). */
int boot_unpack(const struct boot_codec *codec, const uint8_t *in, uint64_t in_len, uint64_t max,
		void **data, uint64_t *len, uint64_t *cap, struct err *err);

/* A private anonymous mapping of at least @bytes, or NULL; *@cap is its size for munmap(2). */
void *boot_map(uint64_t bytes, uint64_t *cap);

/* --- kernels ------------------------------------------------------------------------------------
 */

/* A kernel that is in guest memory. */
struct boot_kernel {
	enum boot_protocol protocol;
	uint64_t entry;
	uint64_t start, end;	   /* the physical addresses it takes, bss included */
	struct setup_header setup; /* from its bzImage; else made up */
	bool has_setup;
};

/* Loads an ELF kernel. With @linux_inside the 64-bit entry is taken unasked. */
int boot_elf_load(const struct gmem *mem, const struct boot_src *src, bool linux_inside,
		  struct boot_kernel *kernel, struct err *err);
/* Loads the kernel that a bzImage carries. */
int boot_bzimage_load(const struct gmem *mem, const struct boot_src *src,
		      struct boot_kernel *kernel, struct err *err);
/* Whether these first bytes of a file are a bzImage's. */
bool boot_bzimage_probe(const uint8_t *head, uint64_t len);

/* Room for a kernel's piece: -EFBIG with words unless [gpa, gpa + len) is RAM from 1 MiB on. */
int boot_check_ram(const struct gmem *mem, uint64_t gpa, uint64_t len, struct err *err);

/* --- what the guest is told ----------------------------------------------------------------------
 */

enum boot_range_type { BOOT_RAM = 1, BOOT_RESERVED = 2 }; /* numbers of e820 and of PVH alike */

struct boot_range {
	uint64_t start, bytes;
	enum boot_range_type type;
};

#define BOOT_RANGES_MAX 8

/* The memory map, ascending, without overlaps. Returns the number of ranges. */
unsigned boot_memory_map(const struct gmem *mem, struct boot_range ranges[BOOT_RANGES_MAX]);

struct boot_info {
	uint64_t initrd, initrd_bytes; /* 0, 0: none */
	uint64_t cmdline, cmdline_len; /* without NUL */
};

/* Write what the protocol wants into low memory and say how the vcpu begins. */
int boot_linux_setup(const struct gmem *mem, const struct boot_kernel *kernel,
		     const struct boot_info *info, struct boot_entry *entry, struct err *err);
int boot_pvh_setup(const struct gmem *mem, const struct boot_kernel *kernel,
		   const struct boot_info *info, struct boot_entry *entry, struct err *err);

/* "12.3 MiB" into @buf, which is returned. */
char *boot_size(char buf[32], uint64_t bytes);

#endif
