// SPDX-License-Identifier: ISC
/*
 * The container of a saved state: what goes in comes out; every byte that is changed, and every
 * byte that is missing, is found; sections of others, of later versions, with too much and too
 * little are refused in words.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "src/vmm_proto.h"
#include "vmm/state.h"

struct fields {
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int64_t i64;
	bool yes, no;
	uint8_t bytes[5];
	char text[16];
	uint8_t blob[32];
	uint32_t blob_len;
};

static const struct fields example = {
    .u8 = 0x12,
    .u16 = 0x3456,
    .u32 = 0x789abcde,
    .u64 = 0x0123456789abcdef,
    .i64 = -42,
    .yes = true,
    .bytes = {1, 2, 3, 4, 5},
    .text = "hello",
    .blob = {9, 8, 7},
    .blob_len = 3,
};

static void all_fields(struct state *st, struct fields *f)
{
	state_u8(st, &f->u8);
	state_u16(st, &f->u16);
	state_u32(st, &f->u32);
	state_u64(st, &f->u64);
	state_i64(st, &f->i64);
	state_bool(st, &f->yes);
	state_bool(st, &f->no);
	state_bytes(st, f->bytes, sizeof(f->bytes));
	state_text(st, f->text, sizeof(f->text));
	state_blob(st, f->blob, &f->blob_len, sizeof(f->blob));
	state_same(st, "a number", 7);
}

/* Three sections: of fields, of nothing, of one byte. The caller frees what is returned. */
static uint8_t *make(size_t *len)
{
	struct state *st = state_new();
	struct fields f = example;
	struct err err = ERR_INIT;
	const void *data;
	uint8_t byte = 1, *copy;

	assert_non_null(st);
	assert_true(state_begin(st, "fields", 3));
	all_fields(st, &f);
	state_end(st);
	assert_true(state_begin(st, "nothing", 1));
	state_end(st);
	assert_true(state_begin(st, "disk.root", 1));
	state_u8(st, &byte);
	state_end(st);
	assert_int_equal(state_finish(st, &data, len, &err), 0);
	copy = malloc(*len);
	memcpy(copy, data, *len);
	state_free(st);
	return copy;
}

static struct state *parsed(const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	struct state *st;

	assert_int_equal(state_parse(&st, data, len, &err), 0);
	assert_string_equal(err.text, "");
	return st;
}

static void comes_out_as_it_went_in(void **unused)
{
	struct fields f = {0};
	struct state *st;
	uint8_t *data, byte = 0;
	size_t len;

	(void)unused;
	data = make(&len);
	st = parsed(data, len);
	assert_true(state_loading(st));
	assert_true(state_has(st, "nothing"));
	assert_false(state_has(st, "noth"));
	/* in another order than they were written */
	assert_true(state_begin(st, "disk.root", 1));
	state_u8(st, &byte);
	state_end(st);
	assert_int_equal(byte, 1);
	assert_true(state_begin(st, "fields", 4));
	assert_int_equal(state_version(st), 3);
	all_fields(st, &f);
	state_end(st);
	assert_int_equal(f.u8, example.u8);
	assert_int_equal(f.u16, example.u16);
	assert_int_equal(f.u32, example.u32);
	assert_int_equal(f.u64, example.u64);
	assert_int_equal(f.i64, example.i64);
	assert_true(f.yes);
	assert_false(f.no);
	assert_memory_equal(f.bytes, example.bytes, sizeof(f.bytes));
	assert_string_equal(f.text, example.text);
	assert_int_equal(f.blob_len, 3);
	assert_memory_equal(f.blob, example.blob, 3);
	assert_int_equal(state_result(st, NULL), 0);
	/* one was not looked at */
	state_check_all_used(st);
	assert_int_equal(state_result(st, NULL), -EOPNOTSUPP);
	state_free(st);
	free(data);
}

static void any_bit_that_flips_is_found(void **unused)
{
	size_t len;
	uint8_t *data = make(&len);

	(void)unused;
	for (size_t i = 0; i < len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct err err = ERR_INIT;
			struct state *st = NULL;

			data[i] ^= 1u << bit;
			assert_int_not_equal(state_parse(&st, data, len, &err), 0);
			assert_null(st);
			assert_string_not_equal(err.text, "");
			data[i] ^= 1u << bit;
		}
	}
	state_free(parsed(data, len));
	free(data);
}

static void any_length_but_its_own_is_refused(void **unused)
{
	size_t len;
	uint8_t *data = make(&len), *more = calloc(1, len + 16);

	(void)unused;
	for (size_t n = 0; n < len; n++) {
		/* a copy of its own, so that reading behind it is seen */
		uint8_t *part = malloc(n ? n : 1);
		struct state *st = NULL;

		memcpy(part, data, n);
		assert_int_not_equal(state_parse(&st, part, n, NULL), 0);
		free(part);
	}
	memcpy(more, data, len);
	for (size_t n = len + 1; n <= len + 16; n++) {
		struct state *st = NULL;

		assert_int_not_equal(state_parse(&st, more, n, NULL), 0);
	}
	free(more);
	free(data);
}

static void one_that_was_used_is_stale(void **unused)
{
	struct err err = ERR_INIT;
	struct state *st = NULL;
	size_t len;
	uint8_t *data = make(&len);

	(void)unused;
	data[VMM_STATE_USED_AT] = 1;
	assert_int_equal(state_parse(&st, data, len, &err), -ESTALE);
	assert_non_null(strstr(err.text, "used"));
	free(data);
}

static struct state *begun(const uint8_t *data, size_t len, const char *name, uint32_t version)
{
	struct state *st = parsed(data, len);

	state_begin(st, name, version);
	return st;
}

static void expect(struct state *st, int code, const char *words)
{
	struct err err = ERR_INIT;

	assert_int_equal(state_result(st, &err), code);
	if (!strstr(err.text, words))
		fail_msg("'%s' is not in '%s'", words, err.text);
	state_free(st);
}

static void what_does_not_fit_has_words(void **unused)
{
	size_t len;
	uint8_t *data = make(&len), byte = 7;
	uint32_t word = 7;
	bool yes = true;
	struct state *st;

	(void)unused;
	expect(begun(data, len, "serial", 1), -EINVAL, "no section serial");
	expect(begun(data, len, "fields", 2), -EOPNOTSUPP, "later filevisor");
	/* too much is left, too much is wanted; then all reads 0 */
	st = begun(data, len, "disk.root", 1);
	state_end(st);
	expect(st, -EINVAL, "disk.root: 1 bytes too many");
	st = begun(data, len, "disk.root", 1);
	state_u32(st, &word);
	assert_int_equal(word, 0);
	state_u8(st, &byte);
	assert_int_equal(byte, 0);
	state_bool(st, &yes);
	assert_false(yes);
	expect(st, -EINVAL, "disk.root: it is too short");
	st = begun(data, len, "fields", 3);
	state_same(st, "what", 1);
	expect(st, -EINVAL, "fields: what: ");
	st = begun(data, len, "fields", 3);
	state_bool(st, &yes);
	assert_false(yes);
	expect(st, -EINVAL, "neither yes nor no");
	free(data);
}

static void lengths_are_bounded(void **unused)
{
	struct fields f = example;
	struct state *st;
	uint32_t n = 0;
	uint8_t few[4];
	char text[4];
	size_t len;
	uint8_t *data = make(&len);

	(void)unused;
	for (unsigned text_first = 0; text_first < 2; text_first++) {
		st = begun(data, len, "fields", 3);
		state_bytes(st, &f, 1 + 2 + 4 + 8 + 8 + 1 + 1 + 5);
		if (text_first)
			state_text(st, text, sizeof(text));
		else
			state_blob(st, few, &n, sizeof(few));
		assert_int_equal(n, 0);
		if (text_first)
			assert_string_equal(text, "");
		expect(st, -EINVAL, "5 bytes where at most");
	}
	free(data);
}

static void the_writer_has_limits(void **unused)
{
	static uint8_t mib[1 << 20];
	struct state *st = state_new();
	const void *data;
	size_t len;

	(void)unused;
	assert_true(state_begin(st, "much", 1));
	for (unsigned i = 0; i < 70; i++)
		state_bytes(st, mib, sizeof(mib));
	state_end(st);
	assert_int_equal(state_finish(st, &data, &len, NULL), -EFBIG);
	state_free(st);
	st = state_new();
	assert_true(state_begin(st, "twice", 1));
	state_end(st);
	assert_false(state_begin(st, "twice", 1));
	assert_int_equal(state_finish(st, &data, &len, NULL), -EINVAL);
	state_free(st);
	st = state_new();
	state_fail(st, -EBUSY, "disk %s", "x");
	state_fail(st, -EINVAL, "later");
	assert_false(state_begin(st, "any", 1));
	expect(st, -EBUSY, "disk x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(comes_out_as_it_went_in),
	    cmocka_unit_test(any_bit_that_flips_is_found),
	    cmocka_unit_test(any_length_but_its_own_is_refused),
	    cmocka_unit_test(one_that_was_used_is_stale),
	    cmocka_unit_test(what_does_not_fit_has_words),
	    cmocka_unit_test(lengths_are_bounded),
	    cmocka_unit_test(the_writer_has_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
