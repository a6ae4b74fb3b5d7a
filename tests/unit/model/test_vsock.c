// SPDX-License-Identifier: ISC
/* The text of vsock_listen, and a guest's address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "vsock_int.h"

static void it_is_kept_in_one_form(void **state)
{
	static const char *const texts[][2] = {
	    {"", ""},
	    {" \t ", ""},
	    {"22=/run/ssh", "22=/run/ssh"},
	    {"  0=/a\t4294967294=/b=c\n", "0=/a 4294967294=/b=c"},
	    {"007=/x/../y", "7=/x/../y"},
	};

	(void)state;
	for (size_t i = 0; i < nitems(texts); i++) {
		_cleanup_free_ char *refined = NULL;
		struct err err = ERR_INIT;

		assert_int_equal(vsock_refine_listen(texts[i][0], &refined, &err), 0);
		assert_string_equal(refined, texts[i][1]);
	}
}

static void what_is_wrong_is_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} wrong[] = {
	    {"22", "PORT=PATH"},
	    {"=", "port"},
	    {"=/x", "port"},
	    {"22=", "absolute"},
	    {"22=x", "absolute"},
	    {"22=/", "absolute"},
	    {"-1=/x", "port"},
	    {"4294967295=/x", "port"},
	    {"99999999999999999999=/x", "PORT=PATH"},
	    {"1=/x 01=/y", "twice"},
	    {"1=/x 2 3=/y", "PORT=PATH"},
	};
	_cleanup_strbuf_ struct strbuf many = STRBUF_INIT, deep = STRBUF_INIT;
	char *refined = NULL;
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < nitems(wrong); i++) {
		err = (struct err)ERR_INIT;
		assert_int_equal(vsock_refine_listen(wrong[i].text, &refined, &err), -EINVAL);
		assert_non_null(strstr(err.text, wrong[i].words));
		assert_null(refined);
	}
	for (unsigned i = 0; i < 65; i++)
		strbuf_printf(&many, "%u=/x ", i);
	assert_int_equal(vsock_refine_listen(many.data, &refined, &err), -ENOSPC);
	strbuf_puts(&deep, "1=/");
	for (unsigned i = 0; i < 107; i++)
		strbuf_putc(&deep, 'x');
	assert_int_equal(vsock_refine_listen(deep.data, &refined, &err), -EINVAL);
	deep.data[deep.len - 1] = '\0';
	assert_int_equal(vsock_refine_listen(deep.data, &refined, &err), 0);
	free(refined);
}

static void a_port_is_found(void **state)
{
	static const char text[] = "1=/one 11=/eleven 4294967294=/last";
	_cleanup_free_ char *one = vsock_listen_find(text, 1), *two = vsock_listen_find(text, 11),
			    *last = vsock_listen_find(text, UINT32_MAX - 1);

	(void)state;
	assert_string_equal(one, "/one");
	assert_string_equal(two, "/eleven");
	assert_string_equal(last, "/last");
	assert_null(vsock_listen_find(text, 111));
	assert_null(vsock_listen_find("", 0));
}

static void addresses_are_none_of_the_reserved(void **state)
{
	char id[40];

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		uint32_t cid;

		snprintf(id, sizeof(id), "%08x-0000-4000-8000-000000000000", i);
		cid = vsock_cid(id);
		assert_true(cid >= 3 && cid < UINT32_MAX);
		assert_int_equal(cid, vsock_cid(id));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_is_kept_in_one_form),
	    cmocka_unit_test(what_is_wrong_is_refused),
	    cmocka_unit_test(a_port_is_found),
	    cmocka_unit_test(addresses_are_none_of_the_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
