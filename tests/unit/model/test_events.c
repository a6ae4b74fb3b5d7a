// SPDX-License-Identifier: ISC
/* The log of events: numbered without a hole over restarts, torn ends, and rotations. */
#include "event.h"
#include "model_test.h"

static void write_events(struct events *ev, int n)
{
	for (int i = 0; i < n; i++) {
		struct strbuf sb = STRBUF_INIT;

		event_begin(&sb, "test");
		event_text(&sb, "text", "quote\" and \xff and\nline");
		event_number(&sb, "n", (uint64_t)i);
		events_write(ev, &sb);
	}
}

static char *read_events(struct events *ev, bool old)
{
	_cleanup_close_ int fd = events_open_file(ev, old);
	char *text = NULL, path[40];

	if (fd < 0)
		return strdup("");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(file_read(AT_FDCWD, path, 64 << 20, &text, NULL), 0);
	return text;
}

/* Lines are whole and numbered from @first; returns the number behind the last. */
static unsigned long check_lines(const char *text, unsigned long first)
{
	for (const char *p = text; *p;) {
		const char *end = strchr(p, '\n');

		assert_non_null(end);
		assert_memory_equal(p, "{\"seq\":", 7);
		assert_int_equal(strtoul(p + 7, NULL, 10), first);
		assert_int_equal(end[-1], '}');
		first++;
		p = end + 1;
	}
	return first;
}

static int open_dir(struct fixture *f)
{
	return open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void numbers_go_on_after_a_restart(void **state)
{
	_cleanup_close_ int dir = open_dir(*state);
	_cleanup_free_ char *text = NULL;
	struct timespec mtime;
	struct events *ev;
	uint64_t size;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(events_open(&ev, dir, EVENTS_MAX), 0);
		write_events(ev, 5);
		events_close(ev);
	}
	assert_int_equal(events_open(&ev, dir, EVENTS_MAX), 0);
	text = read_events(ev, false);
	assert_int_equal(check_lines(text, 1), 16);
	assert_int_equal(events_stat(ev, false, &size, &mtime), 0);
	assert_int_equal(size, strlen(text));
	assert_int_equal(events_stat(ev, true, &size, &mtime), -ENOENT);
	events_close(ev);
}

static void a_torn_line_is_dropped(void **state)
{
	static const char *const torn[] = {"{\"seq\":6,\"ti", "{", "\0\0\0", "x"};
	_cleanup_close_ int dir = open_dir(*state);

	for (size_t i = 0; i < nitems(torn); i++) {
		_cleanup_free_ char *text = NULL;
		_cleanup_close_ int fd = -1;
		struct events *ev;

		unlinkat(dir, "events", 0);
		assert_int_equal(events_open(&ev, dir, EVENTS_MAX), 0);
		write_events(ev, 5);
		events_close(ev);
		fd = openat(dir, "events", O_WRONLY | O_APPEND);
		assert_int_equal(file_write_all(fd, torn[i], i == 2 ? 3 : strlen(torn[i])), 0);
		assert_int_equal(events_open(&ev, dir, EVENTS_MAX), 0);
		write_events(ev, 2);
		text = read_events(ev, false);
		assert_int_equal(check_lines(text, 1), 8);
		events_close(ev);
	}
}

static void a_file_without_a_whole_line_is_emptied(void **state)
{
	_cleanup_close_ int dir = open_dir(*state);
	_cleanup_free_ char *text = NULL;
	struct events *ev;

	write_file(*state, "events", "no line at all");
	assert_int_equal(events_open(&ev, dir, EVENTS_MAX), 0);
	write_events(ev, 1);
	text = read_events(ev, false);
	assert_int_equal(check_lines(text, 1), 2);
	events_close(ev);
}

static void it_is_bounded(void **state)
{
	_cleanup_close_ int dir = open_dir(*state);
	_cleanup_free_ char *old = NULL, *text = NULL, *after = NULL;
	unsigned long next;
	struct events *ev;

	assert_int_equal(events_open(&ev, dir, 10000), 0);
	write_events(ev, 500);
	old = read_events(ev, true);
	text = read_events(ev, false);
	assert_true(strlen(old) < 10000 + 200 && strlen(text) < 10000 + 200);
	next = check_lines(old, strtoul(old + 7, NULL, 10));
	assert_int_equal(check_lines(text, next), 501);
	events_close(ev);
	/* killed between the rename and the first line of the new log */
	unlinkat(dir, "events", 0);
	assert_int_equal(events_open(&ev, dir, 10000), 0);
	write_events(ev, 1);
	after = read_events(ev, false);
	check_lines(after, next);
	events_close(ev);
}

static void a_machine_leaves_its_traces(void **state)
{
	static const char *const wanted[] = {
	    "\"event\":\"defined\",\"machine\":\"m\"",
	    "\"event\":\"config\",\"machine\":\"m\",\"key\":\"cpus\",\"value\":\"3\"",
	    ("\"event\":\"command\",\"machine\":\"m\",\"command\":\"fly \\\"high\\\"\",\"uid\":0,"
	     "\"result\":\"EINVAL\""),
	    "\"event\":\"renamed\",\"machine\":\"n\",\"old\":\"m\"",
	    "\"event\":\"undefined\",\"machine\":\"n\"",
	};
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	_cleanup_close_ int fd = -1;
	char text[8192];
	const char *p = text;
	ssize_t n;

	assert_int_equal(put(m, "cpus", "3", NULL), 0);
	assert_int_equal(put(m, "cpus", "3", NULL), 0); /* no change: no event */
	machine_command_run(m, "fly \"high\"", &root_caller, NULL);
	machine_command_run(m, "# a comment", &root_caller, NULL);
	assert_int_equal(model_machine_rename(f->model, m, "n", NULL), 0);
	assert_int_equal(model_machine_undefine(f->model, m, NULL), 0);
	machine_put(m);
	fd = model_events_open(f->model, false);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	for (size_t i = 0; i < nitems(wanted); i++) {
		p = strstr(p, wanted[i]);
		if (!p)
			fail_msg("no %s in its place in:\n%s", wanted[i], text);
	}
	assert_int_equal(check_lines(text, 1), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(numbers_go_on_after_a_restart),
	    model_test(a_torn_line_is_dropped),
	    model_test(a_file_without_a_whole_line_is_emptied),
	    model_test(it_is_bounded),
	    model_test(a_machine_leaves_its_traces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
