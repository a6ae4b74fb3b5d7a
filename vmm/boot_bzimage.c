// SPDX-License-Identifier: ISC
/*
 * bzImage: what distributions ship. Its protected-mode part is a small program
 * that unpacks a payload, the ELF vmlinux. We unpack it ourselves: on the host
 * it takes a tenth of a second, in a guest whose kernel code is emulated it
 * takes minutes. What remains of the bzImage is its setup header, which is handed on
 * in boot_params. Needs boot protocol 2.08 (Linux 2.6.26), which says where the payload is.
 *
 * An image without a payload (memtest86+ is one) begins at its own 64-bit entry,
 * 0x200 bytes into the protected-mode part, if it has one (2.12, XLF_KERNEL_64).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/boot_int.h"
#include "vmm/layout.h"
#include "util/cleanup.h"

#define HEADER_AT     0x1f1 /* the setup header */
#define MAGIC_AT      0x202 /* "HdrS" */
#define LENGTH_AT     0x201 /* the byte whose distance from MAGIC_AT the header ends at */
#define ENTRY_64      0x200
#define VERSION_MIN   0x208
#define VERSION_ENTRY 0x20c
#define SECTOR	      512ull

bool boot_bzimage_probe(const uint8_t *head, uint64_t len)
{
	return len >= MAGIC_AT + 4 && memcmp(head + MAGIC_AT, "HdrS", 4) == 0 &&
	       head[510] == 0x55 && head[511] == 0xaa;
}

static int read_header(const struct boot_src *src, struct setup_header *h, struct err *err)
{
	uint8_t head[MAGIC_AT + 0x100] = {0};
	uint64_t end, len = src->len < sizeof(head) ? src->len : sizeof(head);
	int ret;

	ret = boot_src_read(src, 0, head, len, "bzImage header", err);
	if (ret < 0)
		return ret;
	end = MAGIC_AT + (uint64_t)head[LENGTH_AT];
	if (end > src->len)
		return err_set(err, -ENOEXEC, "bzImage is truncated inside its header: %llu bytes",
			       (unsigned long long)src->len);
	len = end - HEADER_AT < sizeof(*h) ? end - HEADER_AT : sizeof(*h);
	memset(h, 0, sizeof(*h));
	memcpy(h, head + HEADER_AT, len);
	if (h->version < VERSION_MIN)
		return err_set(err, -ENOEXEC,
			       "bzImage of boot protocol %u.%02u, at least 2.08 is needed",
			       h->version >> 8, h->version & 0xff);
	if (end - HEADER_AT < offsetof(struct setup_header, setup_data))
		return err_set(err, -ENOEXEC, "bzImage header of %llu bytes is too short",
			       (unsigned long long)(end - HEADER_AT));
	return 0;
}

static uint64_t code_offset(const struct setup_header *h)
{
	return ((h->setup_sects ? h->setup_sects : 4u) + 1) * SECTOR;
}

/* How long the payload is unpacked: its last four bytes (gzip has them as part of its format). */
static uint32_t payload_count(const uint8_t *payload, uint64_t len)
{
	uint32_t n;

	memcpy(&n, payload + len - 4, 4);
	return n;
}

static int unpack_payload(const uint8_t *payload, uint64_t len, uint64_t max, void **data,
			  uint64_t *out_len, uint64_t *cap, struct err *err)
{
	const struct boot_codec *codec = boot_codec_find(payload, len);
	char need[32], have[32];
	uint32_t count;
	int ret;

	if (!codec)
		return err_set(err, -ENOEXEC, "compressed in a way that is not known");
	if (!codec->unpack)
		return boot_unpack(codec, NULL, 0, 0, NULL, NULL, NULL, err);
	count = payload_count(payload, len);
	if (count == 0)
		return err_set(err, -ENOEXEC, "damaged: unpacked length 0");
	if (count > max)
		return err_set(err, -EFBIG, "unpacks to %s, the guest has %s of memory",
			       boot_size(need, count), boot_size(have, max));
	ret = boot_unpack(codec, payload, codec->counted ? len - 4 : len, count, data, out_len, cap,
			  err);
	if (ret == -EFBIG)
		return err_set(err, -ENOEXEC, "damaged: unpacks to more than the %u bytes it says",
			       count);
	if (ret == 0 && *out_len != count) {
		munmap(*data, *cap);
		return err_set(err, -ENOEXEC, "damaged: unpacks to %llu bytes, not the %u it says",
			       (unsigned long long)*out_len, count);
	}
	return ret;
}

/* Reads and unpacks the payload; the result is the caller's to munmap(2). */
static int read_payload(const struct gmem *mem, const struct boot_src *src,
			const struct setup_header *h, void **data, uint64_t *len, uint64_t *cap,
			struct err *err)
{
	uint64_t at = code_offset(h) + h->payload_offset, max = 0, in_cap;
	void *in;
	int ret;

	if (h->payload_length < BOOT_MAGIC_BYTES)
		return err_set(err, -ENOEXEC, "bzImage with a payload of %u bytes",
			       h->payload_length);
	if (at > src->len || h->payload_length > src->len - at)
		return err_set(
		    err, -ENOEXEC, "bzImage is truncated: its payload ends at byte %llu of %llu",
		    (unsigned long long)(at + h->payload_length), (unsigned long long)src->len);
	for (unsigned i = 0; i < mem->n_regions; i++)
		max += mem->regions[i].bytes;
	in = boot_map(h->payload_length, &in_cap);
	if (!in)
		return err_set(err, -ENOMEM, "no memory to read the kernel");
	ret = boot_src_read(src, at, in, h->payload_length, "bzImage payload", err);
	if (ret == 0) {
		ret = unpack_payload(in, h->payload_length, max, data, len, cap, err);
		if (ret < 0)
			err_prefix(err, "bzImage payload");
	}
	munmap(in, in_cap);
	return ret;
}

static int load_as_is(const struct gmem *mem, const struct boot_src *src,
		      struct boot_kernel *kernel, struct err *err)
{
	const struct setup_header *h = &kernel->setup;
	uint64_t at = code_offset(h), len, room;
	int ret;

	if (h->version < VERSION_ENTRY || !(h->xloadflags & XLF_KERNEL_64))
		return err_set(err, -ENOEXEC, "bzImage without payload and without 64-bit entry");
	if (at + ENTRY_64 >= src->len)
		return err_set(err, -ENOEXEC, "bzImage is truncated: %llu bytes, no code in it",
			       (unsigned long long)src->len);
	len = src->len - at;
	room = h->init_size > len ? h->init_size : len;
	ret = boot_check_ram(mem, h->pref_address, room, err);
	if (ret < 0)
		return ret;
	if (h->pref_address + ENTRY_64 >= LAYOUT_HIGH_RAM)
		return err_set(err, -ENOEXEC, "bzImage wants to be at 0x%llx, above 4 GiB",
			       (unsigned long long)h->pref_address);
	ret = boot_src_read(src, at, gmem_ptr(mem, h->pref_address, len), len, "bzImage", err);
	kernel->protocol = BOOT_LINUX64;
	kernel->entry = h->pref_address + ENTRY_64;
	kernel->start = h->pref_address;
	kernel->end = h->pref_address + room;
	return ret;
}

int boot_bzimage_load(const struct gmem *mem, const struct boot_src *src,
		      struct boot_kernel *kernel, struct err *err)
{
	struct boot_src inner = {.fd = -1};
	uint64_t cap = 0;
	void *data = NULL;
	int ret;

	ret = read_header(src, &kernel->setup, err);
	if (ret < 0)
		return ret;
	kernel->has_setup = true;
	if (kernel->setup.payload_length == 0)
		return load_as_is(mem, src, kernel, err);
	ret = read_payload(mem, src, &kernel->setup, &data, &inner.len, &cap, err);
	if (ret < 0)
		return ret;
	inner.data = data;
	if (inner.len < 4 || memcmp(data, "\177ELF", 4) != 0)
		ret = err_set(err, -ENOEXEC, "bzImage payload is no ELF");
	else
		ret = boot_elf_load(mem, &inner, true, kernel, err);
	munmap(data, cap);
	return ret;
}
