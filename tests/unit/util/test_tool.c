// SPDX-License-Identifier: ISC
/* Programs that are run for their answer. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/tool.h"

static int run(const char *const argv[], struct cancel *cancel, unsigned timeout_ms,
	       struct strbuf *out, struct err *err)
{
	const struct tool tool = {
	    .argv = argv, .cancel = cancel, .timeout_ms = timeout_ms, .out = out};

	return tool_run(&tool, err);
}

static void a_tool_runs_and_says_why_it_fails(void **state)
{
	const char *const echo[] = {"sh", "-c", "echo out; echo $PATH$LD_PRELOAD >&2", NULL};
	const char *const fail[] = {"sh", "-c", "echo first >&2; echo the reason >&2; exit 5",
				    NULL};
	const char *const none[] = {"filevisor-no-such-program", NULL};
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(run(echo, NULL, 60000, &sb, &err), 0);
	assert_string_equal(sb.data, "out\n");
	assert_int_equal(run(fail, NULL, 60000, NULL, &err), -EIO);
	assert_string_equal(err.text, "sh: the reason");
	assert_int_equal(run(none, NULL, 60000, NULL, &err), -ENOENT);
}

static void a_tool_that_hangs_or_floods_is_killed(void **state)
{
	const char *const hang[] = {"sh", "-c", "sleep 1000 & sleep 1000", NULL};
	const char *const flood[] = {"sh", "-c", "while :; do echo yyyyyyyyyyyyyyyyyyyyyy; done",
				     NULL};
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(run(hang, NULL, 100, NULL, &err), -ETIMEDOUT);
	assert_int_equal(run(flood, NULL, 600000, &sb, &err), -EFBIG);
}

static void *cancel_soon(void *arg)
{
	usleep(20000);
	cancel_request(arg);
	return NULL;
}

static void a_tool_can_be_cancelled(void **state)
{
	const char *const hang[] = {"sleep", "1000", NULL};
	struct cancel cancel;
	struct err err = ERR_INIT;
	pthread_t thread;

	(void)state;
	cancel_init(&cancel);
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
	assert_int_equal(run(hang, &cancel, 600000, NULL, &err), -ECANCELED);
	pthread_join(thread, NULL);
	/* one that was asked for before it began */
	assert_int_equal(run(hang, &cancel, 600000, NULL, &err), -ECANCELED);
	cancel_destroy(&cancel);
}

static void a_tool_reads_what_it_is_given(void **state)
{
	const char *const argv[] = {"cat", NULL};
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	const struct tool tool = {
	    .argv = argv, .input = "a script\n", .timeout_ms = 60000, .out = &sb};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(tool_run(&tool, &err), 0);
	assert_string_equal(sb.data, "a script\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_tool_runs_and_says_why_it_fails),
	    cmocka_unit_test(a_tool_that_hangs_or_floods_is_killed),
	    cmocka_unit_test(a_tool_can_be_cancelled),
	    cmocka_unit_test(a_tool_reads_what_it_is_given),
	};

	return cmocka_run_group_tests_name("tool", tests, NULL, NULL);
}
