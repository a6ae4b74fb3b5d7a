// SPDX-License-Identifier: ISC
/* The growing string: contents, NUL at the end, failure remembered, JSON quoting. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/strbuf.h"

static void grows(void **state)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	(void)state;
	for (int i = 0; i < 10000; i++)
		strbuf_printf(&sb, "%d ", i % 10);
	assert_int_equal(sb.len, 20000);
	assert_int_equal(strlen(sb.data), 20000);
	assert_memory_equal(sb.data + 19980, "0 1 2 3 4 5 6 7 8 9 ", 20);
	strbuf_reset(&sb);
	assert_int_equal(sb.len, 0);
	assert_string_equal(sb.data, "");
	strbuf_add(&sb, "a\0b", 3);
	strbuf_putc(&sb, 'c');
	assert_int_equal(sb.len, 4);
	assert_memory_equal(sb.data, "a\0bc", 5);
}

static void prints_exactly(void **state)
{
	/* around every power of two, where a buffer is just full */
	(void)state;
	for (int n = 0; n < 300; n++) {
		_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

		strbuf_printf(&sb, "%*s", n, "");
		assert_int_equal(sb.len, n);
		strbuf_printf(&sb, "%s", "end");
		assert_string_equal(sb.data + n, "end");
	}
}

static void remembers_failure(void **state)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	(void)state;
	strbuf_puts(&sb, "kept");
	assert_int_equal(strbuf_reserve(&sb, SIZE_MAX - 2), -ENOMEM);
	assert_true(sb.failed);
	strbuf_puts(&sb, " lost");
	assert_int_equal(sb.len, 4);
	assert_null(strbuf_steal(&sb));
	assert_null(sb.data);
}

static void steals(void **state)
{
	struct strbuf sb = STRBUF_INIT;
	_cleanup_free_ char *empty = strbuf_steal(&sb);
	_cleanup_free_ char *text = NULL;

	(void)state;
	assert_non_null(empty);
	assert_string_equal(empty, "");
	strbuf_puts(&sb, "text");
	text = strbuf_steal(&sb);
	assert_string_equal(text, "text");
	assert_null(sb.data);
	assert_int_equal(sb.len, 0);
	strbuf_free(&sb);
}

static void json_quotes(void **state)
{
	static const struct {
		const char *text, *json;
	} rows[] = {
	    {"", "\"\""},
	    {"plain", "\"plain\""},
	    {"a\"b\\c", "\"a\\\"b\\\\c\""},
	    {"\n\t\x01\x7f", "\"\\u000a\\u0009\\u0001\\u007f\""},
	    {"gr\xc3\xbc\xc3\x9f\x65", "\"gr\xc3\xbc\xc3\x9f\x65\""},
	    {"\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xe2\x82\xac\xf0\x9f\x98\x80\""},
	    /* not UTF-8: alone, cut short, overlong, surrogate, beyond U+10FFFF */
	    {"\xff", "\"\\ufffd\""},
	    {"\x80", "\"\\ufffd\""},
	    {"a\xc3", "\"a\\ufffd\""},
	    {"\xe2\x82", "\"\\ufffd\\ufffd\""},
	    {"\xc0\xaf", "\"\\ufffd\\ufffd\""},
	    {"\xe0\x80\x80", "\"\\ufffd\\ufffd\\ufffd\""},
	    {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
	    {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
	    {"\xf5z", "\"\\ufffdz\""},
	};

	(void)state;
	for (size_t i = 0; i < nitems(rows); i++) {
		_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

		strbuf_json(&sb, rows[i].text);
		assert_string_equal(sb.data, rows[i].json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grows),	   cmocka_unit_test(prints_exactly),
	    cmocka_unit_test(steals),	   cmocka_unit_test(remembers_failure),
	    cmocka_unit_test(json_quotes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
