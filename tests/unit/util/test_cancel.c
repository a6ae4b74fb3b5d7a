// SPDX-License-Identifier: ISC
/* A token wakes whoever waits: once, also when asked before, never after it was forgotten. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "util/cancel.h"

static void count(void *arg)
{
	++*(int *)arg;
}

static void wakes_once(void **state)
{
	struct cancel c;
	int n = 0;

	(void)state;
	cancel_init(&c);
	assert_false(cancel_requested(&c));
	cancel_set_wake(&c, count, &n);
	assert_int_equal(n, 0);
	cancel_request(&c);
	cancel_request(&c);
	assert_true(cancel_requested(&c));
	assert_int_equal(n, 1);
	cancel_destroy(&c);
}

static void asked_before_waiting(void **state)
{
	struct cancel c;
	int n = 0;

	(void)state;
	cancel_init(&c);
	cancel_request(&c);
	cancel_set_wake(&c, count, &n);
	assert_int_equal(n, 1);
	cancel_set_wake(&c, NULL, NULL);
	assert_int_equal(n, 1);
	cancel_destroy(&c);
}

static void forgotten(void **state)
{
	struct cancel c;
	int n = 0;

	(void)state;
	cancel_init(&c);
	cancel_set_wake(&c, count, &n);
	cancel_set_wake(&c, NULL, NULL);
	cancel_request(&c);
	assert_int_equal(n, 0);
	assert_false(cancel_requested(NULL));
	cancel_set_wake(NULL, count, &n);
	assert_int_equal(n, 0);
	cancel_destroy(&c);
}

static void *request(void *arg)
{
	cancel_request(arg);
	return NULL;
}

/* After set_wake(NULL) the waker's argument may be gone: sanitizers see a use of it. */
static void never_after_it_was_forgotten(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++) {
		struct cancel c;
		pthread_t thread;
		int n = 0;

		cancel_init(&c);
		assert_int_equal(pthread_create(&thread, NULL, request, &c), 0);
		cancel_set_wake(&c, count, &n);
		cancel_set_wake(&c, NULL, NULL);
		assert_in_range(n, 0, 1);
		pthread_join(thread, NULL);
		assert_true(cancel_requested(&c));
		cancel_destroy(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(wakes_once),
	    cmocka_unit_test(asked_before_waiting),
	    cmocka_unit_test(forgotten),
	    cmocka_unit_test(never_after_it_was_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
