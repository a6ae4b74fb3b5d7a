// SPDX-License-Identifier: ISC
/* The console loses nothing on its way to the log and to the guest, and waits for nobody. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "src/vmm_proto.h"
#include "vmm/console_int.h"

struct world {
	struct stats *stats;
	struct console *console;
	int wake, log;
};

static struct world world(uint64_t limit, int pty)
{
	struct world w;

	assert_int_equal(stats_new(&w.stats), 0);
	w.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(console_new(&w.console, w.stats, w.wake), 0);
	w.log = memfd_create("log", MFD_CLOEXEC);
	assert_true(w.log >= 0);
	assert_int_equal(fcntl(w.log, F_SETFL, O_APPEND), 0);
	assert_int_equal(console_attach(w.console, dup(w.log), pty, limit), 0);
	return w;
}

static void end(struct world *w)
{
	console_free(w->console);
	stats_free(w->stats);
	close(w->wake);
	close(w->log);
}

static uint64_t counter(struct world *w, const char *name)
{
	return *stats_counter(w->stats, "%s", name);
}

static size_t log_size(const struct world *w)
{
	struct stat st;

	assert_int_equal(fstat(w->log, &st), 0);
	return (size_t)st.st_size;
}

static bool woken(const struct world *w)
{
	uint64_t count;

	return read(w->wake, &count, sizeof(count)) == sizeof(count);
}

static void output_reaches_the_log(void **state)
{
	struct world w = world(0, -1);
	char buf[6];

	(void)state;
	assert_false(woken(&w));
	console_output(w.console, "abc", 3);
	assert_true(woken(&w));
	console_output(w.console, "def", 3);
	assert_false(woken(&w)); /* once is enough */
	assert_int_equal(console_flush(w.console), 6);
	assert_int_equal(pread(w.log, buf, 6, 0), 6);
	assert_memory_equal(buf, "abcdef", 6);
	console_output(w.console, "g", 1);
	assert_true(woken(&w));
	end(&w);
}

struct printer {
	struct console *console;
	uint8_t mark;
	pthread_t thread;
};

#define PRINTED 200000u

static void *print(void *arg)
{
	struct printer *p = arg;
	uint8_t block[100];

	memset(block, p->mark, sizeof(block));
	for (unsigned i = 0; i < PRINTED / sizeof(block); i++)
		console_output(p->console, block, sizeof(block));
	return NULL;
}

static void nothing_is_lost_when_nobody_flushes(void **state)
{
	struct world w = world(0, -1);
	struct printer printers[3] = {{0}};
	size_t counts[256] = {0}, size;
	uint8_t *data;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		printers[i].console = w.console;
		printers[i].mark = (uint8_t)('a' + i);
		assert_int_equal(pthread_create(&printers[i].thread, NULL, print, &printers[i]), 0);
	}
	/* Nobody flushes but the printers themselves: they must not wait for us. */
	for (unsigned i = 0; i < 3; i++)
		pthread_join(printers[i].thread, NULL);
	console_flush(w.console);
	size = log_size(&w);
	assert_int_equal(size, 3 * PRINTED);
	data = malloc(size);
	assert_int_equal(pread(w.log, data, size, 0), size);
	for (size_t i = 0; i < size; i++)
		counts[data[i]]++;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(counts['a' + i], PRINTED);
	free(data);
	assert_int_equal(console_printed(w.console), 3 * PRINTED);
	end(&w);
}

static void log_stops_at_its_limit(void **state)
{
	struct world w = world(10, -1);

	(void)state;
	console_output(w.console, "0123456", 7);
	console_flush(w.console);
	console_output(w.console, "789abc", 6);
	assert_int_equal(console_flush(w.console), 13);
	assert_int_equal(log_size(&w), 10);
	assert_int_equal(counter(&w, "console.dropped_bytes"), 3);
	/* Cut or replaced, it goes on. */
	assert_int_equal(ftruncate(w.log, 0), 0);
	console_output(w.console, "d", 1);
	console_flush(w.console);
	assert_int_equal(log_size(&w), 1);
	end(&w);
}

static void a_full_disk_loses_counted_bytes(void **state)
{
	struct world w = world(0, -1);
	int full = open("/dev/full", O_WRONLY | O_APPEND | O_CLOEXEC);

	(void)state;
	assert_true(full >= 0);
	assert_int_equal(console_attach(w.console, full, -1, 0), 0);
	for (unsigned i = 0; i < 100; i++) {
		console_output(w.console, "lost", 4);
		console_flush(w.console);
	}
	assert_int_equal(counter(&w, "console.dropped_bytes"), 400);
	assert_int_equal(console_printed(w.console), 400);
	end(&w);
}

static void a_new_log_takes_over(void **state)
{
	struct world w = world(0, -1);
	int other = memfd_create("other", MFD_CLOEXEC);
	char buf[8];

	(void)state;
	console_output(w.console, "old", 3);
	assert_int_equal(console_attach(w.console, dup(other), -1, 0), 0);
	console_output(w.console, "new", 3);
	console_flush(w.console);
	assert_int_equal(pread(w.log, buf, 8, 0), 3);
	assert_memory_equal(buf, "old", 3);
	assert_int_equal(pread(other, buf, 8, 0), 3);
	assert_memory_equal(buf, "new", 3);
	close(other);
	end(&w);
}

/* --- input ------------------------------------------------------------------------------------ */

static void count_call(void *arg)
{
	++*(unsigned *)arg;
}

static void typing_reaches_the_reader(void **state)
{
	struct world w = world(0, -1);
	unsigned calls = 0;
	char buf[16];

	(void)state;
	assert_int_equal(console_type(w.console, "early", 5), 5);
	console_set_reader(w.console, count_call, &calls);
	assert_int_equal(console_type(w.console, "late", 4), 4);
	assert_int_equal(calls, 1);
	assert_int_equal(console_input(w.console, buf, 7), 7);
	assert_int_equal(console_input(w.console, buf + 7, 9), 2);
	assert_memory_equal(buf, "earlylate", 9);
	assert_int_equal(console_input(w.console, buf, 9), 0);
	console_set_reader(w.console, NULL, NULL);
	assert_int_equal(console_type(w.console, "x", 1), 1);
	assert_int_equal(calls, 1);
	assert_int_equal(counter(&w, "console.in_bytes"), 10);
	end(&w);
}

static void typing_is_taken_whole_or_not(void **state)
{
	struct world w = world(0, -1);
	static char page[VMM_CONSOLE_IN_MAX];
	char buf[64];
	unsigned taken = 0;

	(void)state;
	while (console_type(w.console, page, sizeof(page)) > 0)
		taken++;
	assert_true(taken >= 2);
	assert_int_equal(console_type(w.console, page, sizeof(page)), 0);
	assert_int_equal(console_input(w.console, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(console_type(w.console, page, sizeof(page)), 0);
	assert_int_equal(console_type(w.console, page, sizeof(buf)), sizeof(buf));
	end(&w);
}

static int open_pty(int *slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*slave >= 0);
	return master;
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 30000) == 1;
}

static void the_pty_has_both_ways(void **state)
{
	int slave, master = open_pty(&slave);
	struct world w = world(0, master);
	char buf[16];

	(void)state;
	console_output(w.console, "login\n", 6);
	console_flush(w.console);
	assert_true(readable(slave));
	assert_int_equal(read(slave, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "login\n", 6); /* raw: no CR was put in */
	assert_int_equal(write(slave, "root\r", 5), 5);
	assert_true(readable(master));
	console_pty_read(w.console);
	assert_int_equal(console_input(w.console, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "root\r", 5);
	/* What was printed is not echoed as typing. */
	console_pty_read(w.console);
	assert_int_equal(console_input(w.console, buf, sizeof(buf)), 0);
	close(slave);
	end(&w);
}

static void a_pty_that_nobody_reads_holds_up_nobody(void **state)
{
	int slave, master = open_pty(&slave);
	struct world w = world(0, master);
	static char page[4096];

	(void)state;
	memset(page, 'x', sizeof(page));
	for (unsigned i = 0; i < 256; i++) {
		console_output(w.console, page, sizeof(page));
		console_flush(w.console);
	}
	assert_int_equal(log_size(&w), 256 * sizeof(page));
	close(slave);
	console_output(w.console, page, sizeof(page)); /* and one that is closed */
	console_flush(w.console);
	console_pty_read(w.console);
	assert_int_equal(log_size(&w), 257 * sizeof(page));
	end(&w);
}

static void a_full_ring_leaves_typing_in_the_pty(void **state)
{
	int slave, master = open_pty(&slave);
	struct world w = world(0, master);
	static char page[VMM_CONSOLE_IN_MAX];
	char buf[128];

	(void)state;
	while (console_type(w.console, page, sizeof(page)) > 0)
		;
	assert_int_equal(write(slave, "later", 5), 5);
	assert_true(readable(master));
	console_pty_read(w.console);
	assert_false(console_pty_waits(w.console)); /* still no room */
	while (woken(&w))
		;
	assert_int_equal(console_input(w.console, buf, sizeof(buf)), sizeof(buf));
	assert_true(woken(&w)); /* the control thread is told to look */
	assert_true(console_pty_waits(w.console));
	console_pty_read(w.console);
	for (size_t n; (n = console_input(w.console, buf, sizeof(buf))) > 0;)
		if (n >= 5)
			memmove(buf, buf + n - 5, 5);
	assert_memory_equal(buf, "later", 5);
	close(slave);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(output_reaches_the_log),
	    cmocka_unit_test(nothing_is_lost_when_nobody_flushes),
	    cmocka_unit_test(log_stops_at_its_limit),
	    cmocka_unit_test(a_full_disk_loses_counted_bytes),
	    cmocka_unit_test(a_new_log_takes_over),
	    cmocka_unit_test(typing_reaches_the_reader),
	    cmocka_unit_test(typing_is_taken_whole_or_not),
	    cmocka_unit_test(the_pty_has_both_ways),
	    cmocka_unit_test(a_pty_that_nobody_reads_holds_up_nobody),
	    cmocka_unit_test(a_full_ring_leaves_typing_in_the_pty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
