// SPDX-License-Identifier: ISC
/* Errors carry their words: bounded, printable, with the errno's name. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "util/err.h"

static void keeps_code_and_words(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&err, -EBUSY, "disk %s is in use by %s", "vda", "web"), -EBUSY);
	assert_int_equal(err.code, -EBUSY);
	assert_string_equal(err.text, "disk vda is in use by web");
	assert_int_equal(err_prefix(&err, "start %d", 1), -EBUSY);
	assert_string_equal(err.text, "start 1: disk vda is in use by web");
}

static void null_is_fine(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EINVAL, "nobody reads %s", "this"), -EINVAL);
	assert_int_equal(err_prefix(NULL, "nor this"), 0);
}

static void one_line_always(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	err_set(&err, -EINVAL, "bad name '%s'", "a\nb\x1b[31m\x7f");
	assert_string_equal(err.text, "bad name 'a?b?[31m?'");
	err_prefix(&err, "x\ny");
	assert_string_equal(err.text, "x?y: bad name 'a?b?[31m?'");
}

static void long_words_are_cut(void **state)
{
	struct err err = ERR_INIT;
	char text[4 * ERR_TEXT_MAX];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&err, -EINVAL, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_prefix(&err, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_int_equal(err.code, -EINVAL);
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(err_name(-EBUSY), "EBUSY");
	assert_string_equal(err_name(EOPNOTSUPP), "EOPNOTSUPP");
	assert_string_equal(err_name(-99999), "E???");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keeps_code_and_words),
	    cmocka_unit_test(null_is_fine),
	    cmocka_unit_test(one_line_always),
	    cmocka_unit_test(long_words_are_cut),
	    cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
