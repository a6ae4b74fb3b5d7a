// SPDX-License-Identifier: ISC
/*
 * A saved state of anybody: the input is a list of sections, made into a container whose
 * checksums are right (a fuzzer would not find those), and the container itself as it is.
 * Every section is then read as devices read theirs, by operations that the input gives.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/state.h"

#define ROOM 4096

static void must(bool so)
{
	if (!so)
		abort();
}

/* Reads the section that has begun: an operation for each byte of @ops. */
static void read_fields(struct state *st, const uint8_t *ops, size_t n)
{
	for (size_t i = 0; i < n && i < 64; i++) {
		uint8_t u8, room[ROOM];
		uint16_t u16;
		uint32_t u32 = 0;
		uint64_t u64;
		bool yes;

		switch (ops[i] % 8) {
		case 0:
			state_u8(st, &u8);
			break;
		case 1:
			state_u16(st, &u16);
			break;
		case 2:
			state_u32(st, &u32);
			break;
		case 3:
			state_u64(st, &u64);
			break;
		case 4:
			state_bool(st, &yes);
			break;
		case 5:
			state_text(st, (char *)room, 1 + ops[i] * 8u);
			must(strlen((char *)room) <= ops[i] * 8u);
			break;
		case 6:
			state_blob(st, room, &u32, ops[i] * 16u);
			must(u32 <= ops[i] * 16u);
			break;
		default:
			state_bytes(st, room, ops[i]);
			break;
		}
	}
}

static void read_all(const void *data, size_t len, const uint8_t *ops, size_t n)
{
	static const char *const names[] = {"config", "clock", "vcpu.0", "disk.root", "a"};
	struct err err = ERR_INIT;
	struct state *st;

	if (state_parse(&st, data, len, &err) < 0) {
		must(err.text[0] != '\0');
		return;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (state_begin(st, names[i], 2))
			read_fields(st, ops, n);
		state_end(st);
	}
	state_check_all_used(st);
	must((state_result(st, &err) == 0) == state_ok(st));
	state_free(st);
}

/* [length of operations] operations, then [name] [version] [length] contents, again and again */
static void build(const uint8_t *in, size_t len)
{
	size_t n_ops = len ? in[0] % 65 : 0, at = 1 + n_ops;
	struct state *st = state_new();
	const void *data;
	size_t out;

	must(st);
	while (at + 3 <= len) {
		static const char *const names[] = {"config", "clock", "vcpu.0", "disk.root", "a"};
		size_t n = in[at + 2];

		if (n > len - at - 3)
			n = len - at - 3;
		if (!state_begin(st, names[in[at] % 5], in[at + 1]))
			break;
		state_bytes(st, (uint8_t *)in + at + 3, n);
		state_end(st);
		at += 3 + n;
	}
	if (state_finish(st, &data, &out, NULL) == 0)
		read_all(data, out, in + 1, n_ops < len ? n_ops : 0);
	state_free(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	build(data, len);
	read_all(data, len, data, len < 64 ? len : 64);
	return 0;
}
