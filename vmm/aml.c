// SPDX-License-Identifier: ISC
/*
 * The AML encoder. Lengths (PkgLength, §20.2.4) take 1 to 4 bytes, known only
 * when an object is closed: aml_end() then moves its contents up by as many. Tables
 * are small, so that costs nothing, and the shortest form is what an
 * interpreter that is itself emulated gets through fastest.
 */
#include <string.h>

#include "vmm/aml.h"

#define OP_ZERO	   0x00
#define OP_ONE	   0x01
#define OP_NAME	   0x08
#define OP_BYTE	   0x0a
#define OP_WORD	   0x0b
#define OP_DWORD   0x0c
#define OP_STRING  0x0d
#define OP_QWORD   0x0e
#define OP_SCOPE   0x10
#define OP_BUFFER  0x11
#define OP_PACKAGE 0x12
#define OP_EXT	   0x5b
#define EXT_REGION 0x80
#define EXT_FIELD  0x81
#define EXT_DEVICE 0x82
#define OP_METHOD  0x14
#define OP_LOCAL0  0x60
#define OP_IF	   0xa0

#define PREFIX_DUAL  0x2e
#define PREFIX_MULTI 0x2f

void aml_bytes(struct aml *aml, const void *data, size_t len)
{
	if (aml->overflow || len > aml->cap - aml->len) {
		aml->overflow = true;
		return;
	}
	memcpy(aml->data + aml->len, data, len);
	aml->len += len;
}

void aml_raw(struct aml *aml, uint64_t v, unsigned size)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	aml_bytes(aml, bytes, size);
}

void aml_int(struct aml *aml, uint64_t v)
{
	if (v <= 1) {
		aml_raw(aml, v ? OP_ONE : OP_ZERO, 1);
	} else if (v <= UINT8_MAX) {
		aml_raw(aml, OP_BYTE, 1);
		aml_raw(aml, v, 1);
	} else if (v <= UINT16_MAX) {
		aml_raw(aml, OP_WORD, 1);
		aml_raw(aml, v, 2);
	} else if (v <= UINT32_MAX) {
		aml_raw(aml, OP_DWORD, 1);
		aml_raw(aml, v, 4);
	} else {
		aml_raw(aml, OP_QWORD, 1);
		aml_raw(aml, v, 8);
	}
}

void aml_string(struct aml *aml, const char *s)
{
	aml_raw(aml, OP_STRING, 1);
	aml_bytes(aml, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of 5 bits and four hex digits, most significant byte first (§19.3.4). */
void aml_eisaid(struct aml *aml, const char *id)
{
	uint8_t b[4];

	b[0] = (uint8_t)((id[0] & 31) << 2 | (id[1] & 31) >> 3);
	b[1] = (uint8_t)((id[1] & 31) << 5 | (id[2] & 31));
	b[2] = (uint8_t)(hex_digit(id[3]) << 4 | hex_digit(id[4]));
	b[3] = (uint8_t)(hex_digit(id[5]) << 4 | hex_digit(id[6]));
	aml_raw(aml, OP_DWORD, 1);
	aml_bytes(aml, b, 4);
}

void aml_path(struct aml *aml, const char *path)
{
	unsigned segments = 1;

	if (*path == '\\') {
		aml_raw(aml, '\\', 1);
		path++;
	}
	for (const char *p = path; *p; p++)
		segments += *p == '.';
	if (segments == 2) {
		aml_raw(aml, PREFIX_DUAL, 1);
	} else if (segments > 2) {
		aml_raw(aml, PREFIX_MULTI, 1);
		aml_raw(aml, segments, 1);
	}
	while (segments--) {
		char name[4] = "____";

		for (unsigned i = 0; i < 4 && *path && *path != '.'; i++)
			name[i] = *path++;
		aml_bytes(aml, name, 4);
		path += *path == '.';
	}
}

void aml_name(struct aml *aml, const char *name)
{
	aml_raw(aml, OP_NAME, 1);
	aml_path(aml, name);
}

void aml_name_int(struct aml *aml, const char *name, uint64_t v)
{
	aml_name(aml, name);
	aml_int(aml, v);
}

void aml_name_string(struct aml *aml, const char *name, const char *s)
{
	aml_name(aml, name);
	aml_string(aml, s);
}

void aml_name_eisaid(struct aml *aml, const char *name, const char *id)
{
	aml_name(aml, name);
	aml_eisaid(aml, id);
}

size_t aml_scope(struct aml *aml, const char *path)
{
	size_t mark;

	aml_raw(aml, OP_SCOPE, 1);
	mark = aml->len;
	aml_path(aml, path);
	return mark;
}

size_t aml_device(struct aml *aml, const char *name)
{
	size_t mark;

	aml_raw(aml, OP_EXT, 1);
	aml_raw(aml, EXT_DEVICE, 1);
	mark = aml->len;
	aml_path(aml, name);
	return mark;
}

size_t aml_package(struct aml *aml, unsigned n_elements)
{
	size_t mark;

	aml_raw(aml, OP_PACKAGE, 1);
	mark = aml->len;
	aml_raw(aml, n_elements, 1);
	return mark;
}

/* Puts @len bytes in at @mark, before what is there. */
static void insert(struct aml *aml, size_t mark, const uint8_t *data, size_t len)
{
	if (aml->overflow || len > aml->cap - aml->len) {
		aml->overflow = true;
		return;
	}
	memmove(aml->data + mark + len, aml->data + mark, aml->len - mark);
	memcpy(aml->data + mark, data, len);
	aml->len += len;
}

/* The length counts its own bytes. One byte holds 63; else 4 bits and 1 to 3 bytes more. */
void aml_end(struct aml *aml, size_t mark)
{
	size_t body = aml->len - mark, n = 1, total;
	uint8_t bytes[4];

	while (n < 4 && body + n > (n == 1 ? 63u : (1u << (4 + 8 * (n - 1))) - 1))
		n++;
	total = body + n;
	if (n == 1) {
		bytes[0] = (uint8_t)total;
	} else {
		bytes[0] = (uint8_t)((n - 1) << 6 | (total & 15));
		for (size_t i = 1; i < n; i++)
			bytes[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
	}
	insert(aml, mark, bytes, n);
}

/* --- methods -------------------------------------------------------------------------- */

#define REGION_IO	1
#define FIELD_DWORD	3	  /* how it is accessed (§20.2.5.2, FieldFlags) */
#define FIELD_NO_OTHERS (2u << 5) /* what is not written becomes zeroes */

void aml_region_io(struct aml *aml, const char *name, uint16_t port, uint8_t len)
{
	aml_raw(aml, OP_EXT, 1);
	aml_raw(aml, EXT_REGION, 1);
	aml_path(aml, name);
	aml_raw(aml, REGION_IO, 1);
	aml_int(aml, port);
	aml_int(aml, len);
}

size_t aml_field_dwords(struct aml *aml, const char *region)
{
	size_t mark;

	aml_raw(aml, OP_EXT, 1);
	aml_raw(aml, EXT_FIELD, 1);
	mark = aml->len;
	aml_path(aml, region);
	aml_raw(aml, FIELD_DWORD | FIELD_NO_OTHERS, 1);
	return mark;
}

void aml_field_unit(struct aml *aml, const char *name, uint8_t bits)
{
	aml_path(aml, name);
	aml_raw(aml, bits, 1);
}

size_t aml_method(struct aml *aml, const char *name, unsigned n_args)
{
	size_t mark;

	aml_raw(aml, OP_METHOD, 1);
	mark = aml->len;
	aml_path(aml, name);
	aml_raw(aml, n_args, 1);
	return mark;
}

size_t aml_if(struct aml *aml)
{
	aml_raw(aml, OP_IF, 1);
	return aml->len;
}

void aml_op(struct aml *aml, enum aml_op op)
{
	aml_raw(aml, op, 1);
}

void aml_local(struct aml *aml, unsigned n)
{
	aml_raw(aml, OP_LOCAL0 + n, 1);
}

/* --- resource templates --------------------------------------------------------------- */

size_t aml_resources(struct aml *aml)
{
	aml_raw(aml, OP_BUFFER, 1);
	return aml->len;
}

void aml_resources_end(struct aml *aml, size_t mark)
{
	uint8_t size[9] = {0};
	struct aml head = {.data = size, .cap = sizeof(size)};

	aml_raw(aml, 0x79, 1); /* end tag; checksum 0: not used */
	aml_raw(aml, 0, 1);
	aml_int(&head, aml->len - mark);
	insert(aml, mark, size, head.len);
	aml_end(aml, mark);
}

void aml_res_io(struct aml *aml, uint16_t base, uint8_t len)
{
	aml_raw(aml, 0x47, 1);
	aml_raw(aml, 1, 1); /* decodes 16 bits */
	aml_raw(aml, base, 2);
	aml_raw(aml, base, 2);
	aml_raw(aml, 1, 1);
	aml_raw(aml, len, 1);
}

void aml_res_irq(struct aml *aml, unsigned irq)
{
	aml_raw(aml, 0x22, 1);
	aml_raw(aml, 1ull << irq, 2);
}

enum { WINDOW_MEM, WINDOW_IO, WINDOW_BUS };

/* An address space descriptor (§6.4.3.5) with addresses of @size bytes. */
static void window(struct aml *aml, unsigned tag, unsigned type, unsigned type_flags, unsigned size,
		   uint64_t first, uint64_t last)
{
	aml_raw(aml, tag, 1);
	aml_raw(aml, 3 + 5 * size, 2);
	aml_raw(aml, type, 1);
	aml_raw(aml, 0x0c, 1); /* minimum and maximum are fixed; a bridge passes it on */
	aml_raw(aml, type_flags, 1);
	aml_raw(aml, 0, size); /* granularity */
	aml_raw(aml, first, size);
	aml_raw(aml, last, size);
	aml_raw(aml, 0, size); /* translation */
	aml_raw(aml, last - first + 1, size);
}

void aml_res_window_bus(struct aml *aml, uint16_t first, uint16_t last)
{
	window(aml, 0x88, WINDOW_BUS, 0, 2, first, last);
}

void aml_res_window_io(struct aml *aml, uint16_t first, uint16_t last)
{
	window(aml, 0x88, WINDOW_IO, 3, 2, first, last); /* 3: ISA and other ports alike */
}

void aml_res_window_mem32(struct aml *aml, uint32_t first, uint32_t last)
{
	window(aml, 0x87, WINDOW_MEM, 1, 4, first, last); /* 1: writable, uncached */
}

void aml_res_window_mem64(struct aml *aml, uint64_t first, uint64_t last)
{
	window(aml, 0x8a, WINDOW_MEM, 1, 8, first, last);
}
