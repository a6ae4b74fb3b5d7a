// SPDX-License-Identifier: ISC
/* Log levels by module; a line is whole whatever is in it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define LOG_MODULE "unit"
#include "util/log.h"

static void levels_by_module(void **state)
{
	(void)state;
	unsetenv("FILEVISOR_LOG");
	log_open("test", false);
	assert_true(log_enabled("vmm", LOG_LVL_INFO));
	assert_false(log_enabled("vmm", LOG_LVL_DEBUG));
	assert_int_equal(log_set_levels("warn,vmm:trace fuse:error"), 0);
	assert_false(log_enabled("other", LOG_LVL_INFO));
	assert_true(log_enabled("vmm", LOG_LVL_TRACE));
	assert_false(log_enabled("fuse", LOG_LVL_WARN));
	assert_true(log_enabled("fuse", LOG_LVL_ERROR));
}

static void bad_levels_change_nothing(void **state)
{
	(void)state;
	assert_int_equal(log_set_levels("debug"), 0);
	assert_int_equal(log_set_levels("info,vmm:loud"), -EINVAL);
	assert_int_equal(log_set_levels("a-module-with-a-long-name:debug"), -EINVAL);
	assert_int_equal(log_set_levels("nonsense"), -EINVAL);
	assert_true(log_enabled("other", LOG_LVL_DEBUG));
	assert_int_equal(log_set_levels(""), 0);
}

/* What log_write() puts on stderr. */
static size_t logged(char *buf, size_t size, const char *text)
{
	int saved = dup(STDERR_FILENO), fds[2];
	ssize_t n;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	errno = EXDEV;
	log_error("%s", text);
	assert_int_equal(errno, EXDEV);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	n = read(fds[0], buf, size - 1);
	close(fds[0]);
	assert_true(n > 0);
	buf[n] = '\0';
	return (size_t)n;
}

static void one_line_each(void **state)
{
	char buf[8192], text[4096];

	(void)state;
	logged(buf, sizeof(buf), "words");
	assert_non_null(strstr(buf, "error unit: words\n"));
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_true(logged(buf, sizeof(buf), text) <= 1024);
	assert_true(buf[strlen(buf) - 1] == '\n');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(levels_by_module),
	    cmocka_unit_test(bad_levels_change_nothing),
	    cmocka_unit_test(one_line_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
