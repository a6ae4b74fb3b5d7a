/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_BOOT_FIXTURE_H
#define FV_TEST_BOOT_FIXTURE_H
/*
 * For the tests of booting: guest memory without a guest, and kernels made by
 * hand: an ELF of one segment, a bzImage around any payload, each compression.
 */
#include <elf.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>

#include "vmm/boot.h"
#include "vmm/boot_int.h"
#include "vmm/layout.h"
#include "util/cleanup.h"

#define MIB (1ull << 20)

/* --- guest memory ---------------------------------------------------------------------- */

/* @low bytes from 0, @high from 4 GiB on; a memfd's, as a guest's is. */
static inline void memory_make(struct gmem *mem, uint64_t low, uint64_t high)
{
	const uint64_t gpa[] = {0, LAYOUT_HIGH_RAM}, bytes[] = {low, high};

	*mem = (struct gmem){0};
	for (unsigned i = 0; i < 2 && bytes[i]; i++) {
		int fd = memfd_create("ram", MFD_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, (off_t)bytes[i]), 0);
		mem->regions[i].gpa = gpa[i];
		mem->regions[i].bytes = bytes[i];
		mem->regions[i].host =
		    mmap(NULL, bytes[i], PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		assert_ptr_not_equal(mem->regions[i].host, MAP_FAILED);
		mem->n_regions++;
		close(fd);
	}
}

static inline void memory_free(struct gmem *mem)
{
	for (unsigned i = 0; i < mem->n_regions; i++)
		munmap(mem->regions[i].host, mem->regions[i].bytes);
}

#define _cleanup_memory_ __attribute__((cleanup(memory_free)))

/* --- bytes and files ---------------------------------------------------------------------- */

struct bytes {
	uint8_t *data;
	size_t len;
};

static inline void bytes_free(struct bytes *b)
{
	free(b->data);
}

#define _cleanup_bytes_ __attribute__((cleanup(bytes_free)))

static inline struct bytes bytes_new(size_t len)
{
	struct bytes b = {calloc(1, len ? len : 1), len};

	assert_non_null(b.data);
	return b;
}

/* A file of these bytes; the caller closes it. */
static inline int file_of(const void *data, size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

/* --- kernels -------------------------------------------------------------------------------- */

#define ELF_PADDR    (2 * MIB)
#define ELF_ENTRY    (ELF_PADDR + 0x40)
#define ELF_SEGMENT  0x1000 /* offset of the segment's bytes */
#define ELF_FILESZ   0x3123
#define ELF_MEMSZ    0x9000
#define ELF_NOTES_AT 0x200

/* An ELF of one segment with a pattern in it, as pattern_check() expects it. */
static inline struct bytes elf_make(void)
{
	struct bytes b = bytes_new(ELF_SEGMENT + ELF_FILESZ);
	Elf64_Ehdr head = {
	    .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	    .e_type = ET_EXEC,
	    .e_machine = EM_X86_64,
	    .e_version = EV_CURRENT,
	    .e_entry = ELF_ENTRY,
	    .e_phoff = sizeof(head),
	    .e_ehsize = sizeof(head),
	    .e_phentsize = sizeof(Elf64_Phdr),
	    .e_phnum = 1,
	};
	Elf64_Phdr load = {
	    .p_type = PT_LOAD,
	    .p_offset = ELF_SEGMENT,
	    .p_vaddr = 0xffffffff80000000,
	    .p_paddr = ELF_PADDR,
	    .p_filesz = ELF_FILESZ,
	    .p_memsz = ELF_MEMSZ,
	};

	memcpy(b.data, &head, sizeof(head));
	memcpy(b.data + sizeof(head), &load, sizeof(load));
	for (size_t i = 0; i < ELF_FILESZ; i++)
		b.data[ELF_SEGMENT + i] = (uint8_t)(i * 7 + i / 251);
	return b;
}

static inline Elf64_Ehdr *elf_head(struct bytes *b)
{
	return (Elf64_Ehdr *)b->data;
}

static inline Elf64_Phdr *elf_phdr(struct bytes *b, unsigned i)
{
	return (Elf64_Phdr *)(b->data + sizeof(Elf64_Ehdr)) + i;
}

/* Adds a note, in a segment of its own; @slot counts them from 1. */
static inline void elf_add_note(struct bytes *b, unsigned slot, const char *owner, uint32_t type,
				uint64_t desc, uint32_t desc_len)
{
	uint8_t *p = b->data + ELF_NOTES_AT + 64 * slot;
	uint32_t owner_len = (uint32_t)strlen(owner) + 1;
	Elf64_Nhdr note = {owner_len, desc_len, type};

	memcpy(p, &note, sizeof(note));
	memcpy(p + sizeof(note), owner, owner_len);
	memcpy(p + sizeof(note) + ((owner_len + 3) & ~3u), &desc, sizeof(desc));
	*elf_phdr(b, slot) = (Elf64_Phdr){
	    .p_type = PT_NOTE,
	    .p_offset = ELF_NOTES_AT + 64 * slot,
	    .p_filesz = sizeof(note) + ((owner_len + 3) & ~3u) + desc_len,
	    .p_align = 4,
	};
	elf_head(b)->e_phnum = (uint16_t)(slot + 1);
}

/* The segment is where it belongs, and zeroes behind it. */
static inline void pattern_check(const struct gmem *mem)
{
	const uint8_t *p = gmem_ptr(mem, ELF_PADDR, ELF_MEMSZ);

	assert_non_null(p);
	for (size_t i = 0; i < ELF_MEMSZ; i++)
		if (p[i] != (i < ELF_FILESZ ? (uint8_t)(i * 7 + i / 251) : 0))
			fail_msg("byte %zu of the segment is %u", i, p[i]);
}

#define BZ_SECTS      3
#define BZ_CODE	      ((BZ_SECTS + 1) * 512u)
#define BZ_PAYLOAD_AT 0x300 /* behind the code's beginning */
#define BZ_CMDLINE    1000

/* A bzImage whose payload is @payload. */
static inline struct bytes bzimage_make(const struct bytes *payload)
{
	struct bytes b = bytes_new(BZ_CODE + BZ_PAYLOAD_AT + payload->len);
	struct setup_header h = {
	    .setup_sects = BZ_SECTS,
	    .boot_flag = 0xaa55,
	    .jump = 0x66eb, /* the header ends at 0x202 + 0x66 */
	    .header = 0x53726448,
	    .version = 0x20f,
	    .loadflags = LOADED_HIGH,
	    .initrd_addr_max = 0x7fffffff,
	    .kernel_alignment = 0x200000,
	    .relocatable_kernel = 1,
	    .xloadflags = XLF_KERNEL_64,
	    .cmdline_size = BZ_CMDLINE,
	    .payload_offset = BZ_PAYLOAD_AT,
	    .payload_length = (uint32_t)payload->len,
	    .pref_address = 0x1000000,
	    .init_size = 0x100000,
	};

	memcpy(b.data + 0x1f1, &h, sizeof(h));
	memcpy(b.data + BZ_CODE + BZ_PAYLOAD_AT, payload->data, payload->len);
	return b;
}

static inline struct setup_header *bzimage_header(struct bytes *b)
{
	return (struct setup_header *)(b->data + 0x1f1);
}

/* --- compression ------------------------------------------------------------------------------ */

enum codec { GZIP, XZ, ZSTD, LZ4, LZ4_LEGACY, N_CODECS };

static inline size_t pack_gzip(const struct bytes *in, struct bytes *out)
{
	z_stream z = {0};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
	z.next_in = in->data;
	z.avail_in = (unsigned)in->len;
	z.next_out = out->data;
	z.avail_out = (unsigned)out->len;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static inline size_t pack_xz(const struct bytes *in, struct bytes *out)
{
	size_t pos = 0;

	assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in->data, in->len,
						 out->data, &pos, out->len),
			 LZMA_OK);
	return pos;
}

/* Blocks of up to 8 MiB with their length, as `lz4 -l` writes. */
static inline size_t pack_lz4_legacy(const struct bytes *in, struct bytes *out)
{
	size_t at = 4, block = 8 << 20;

	put32(out->data, 0x184c2102);
	for (size_t from = 0; from < in->len; from += block) {
		size_t n = in->len - from < block ? in->len - from : block;
		int len = LZ4_compress_default((char *)in->data + from, (char *)out->data + at + 4,
					       (int)n, (int)(out->len - at - 4));

		assert_true(len > 0);
		put32(out->data + at, (uint32_t)len);
		at += 4 + (size_t)len;
	}
	return at;
}

static inline struct bytes pack(enum codec codec, const struct bytes *in)
{
	struct bytes out = bytes_new(in->len + in->len / 8 + 4096);

	switch (codec) {
	case GZIP:
		out.len = pack_gzip(in, &out);
		break;
	case XZ:
		out.len = pack_xz(in, &out);
		break;
	case ZSTD:
		out.len = ZSTD_compress(out.data, out.len, in->data, in->len, 1);
		assert_false(ZSTD_isError(out.len));
		break;
	case LZ4:
		out.len = LZ4F_compressFrame(out.data, out.len, in->data, in->len, NULL);
		assert_false(LZ4F_isError(out.len));
		break;
	case LZ4_LEGACY:
		out.len = pack_lz4_legacy(in, &out);
		break;
	case N_CODECS:
		fail();
	}
	return out;
}

/* As in a bzImage: the length stands behind, but for gzip, which ends with it anyway. */
static inline struct bytes pack_payload(enum codec codec, const struct bytes *in)
{
	struct bytes out = pack(codec, in);

	if (codec == GZIP)
		return out;
	out.data = realloc(out.data, out.len + 4);
	assert_non_null(out.data);
	put32(out.data + out.len, (uint32_t)in->len);
	out.len += 4;
	return out;
}

/* --- loading ------------------------------------------------------------------------------------
 */

/* boot_load() of these bytes; the words are kept for expect_words(). */
static struct err last_error;

static inline int load_with(const struct gmem *mem, const struct bytes *kernel, int initrd,
			    const char *cmdline, struct boot_entry *entry)
{
	_cleanup_close_ int fd = file_of(kernel->data, kernel->len);
	int ret;

	last_error = (struct err)ERR_INIT;
	ret = boot_load(mem, fd, initrd, cmdline, entry, &last_error);
	if (ret < 0) { /* every refusal has words */
		assert_int_equal(last_error.code, ret);
		assert_true(last_error.text[0]);
	}
	return ret;
}

static inline int load(const struct gmem *mem, const struct bytes *kernel)
{
	struct boot_entry entry;

	return load_with(mem, kernel, -1, "", &entry);
}

static inline void expect_words(const char *words)
{
	if (!strstr(last_error.text, words))
		fail_msg("\"%s\" does not say \"%s\"", last_error.text, words);
}

#endif
