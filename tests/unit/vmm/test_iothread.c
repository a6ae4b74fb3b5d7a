// SPDX-License-Identifier: ISC
/* The loop of device threads: order, edges, removal in the midst of a batch. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/iothread.h"

struct step {
	struct iothread_task task;
	unsigned *next, seen;
};

static void take_number(struct iothread_task *task)
{
	struct step *step = (struct step *)task;

	step->seen = (*step->next)++;
}

static void nothing(void *arg)
{
	(void)arg;
}

static void tasks_run_in_order(void **state)
{
	struct iothread *t;
	struct step steps[1000];
	unsigned next = 0;

	(void)state;
	assert_int_equal(iothread_new(&t, "io/test", NULL), 0);
	for (unsigned i = 0; i < 1000; i++) {
		steps[i] = (struct step){.task.run = take_number, .next = &next};
		iothread_post(t, &steps[i].task);
	}
	iothread_call(t, nothing, NULL);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(steps[i].seen, i);
	iothread_free(t);
	iothread_free(NULL);
}

static void the_end_comes_behind_all_tasks(void **state)
{
	struct iothread *t;
	struct step steps[100];
	unsigned next = 0;

	(void)state;
	assert_int_equal(iothread_new(&t, "io/test", NULL), 0);
	for (unsigned i = 0; i < 100; i++) {
		steps[i] = (struct step){.task.run = take_number, .next = &next};
		iothread_post(t, &steps[i].task);
	}
	iothread_free(t);
	assert_int_equal(next, 100);
}

struct source {
	struct iothread_source source;
	struct iothread *thread;
	struct source *other; /* removed when this is ready */
	unsigned calls;	      /* atomic */
};

static void ready(struct iothread_source *source)
{
	struct source *s = (struct source *)source;

	if (s->other)
		iothread_remove(s->thread, &s->other->source);
	__atomic_fetch_add(&s->calls, 1, __ATOMIC_SEQ_CST);
}

static unsigned calls(const struct source *s)
{
	return __atomic_load_n(&s->calls, __ATOMIC_SEQ_CST);
}

/* Waits (30 s at most) for the sources to have been called @n times together; how often they were.
 */
static unsigned wait_calls(const struct source *s, unsigned sources, unsigned n)
{
	unsigned sum = 0;

	for (unsigned tries = 0; tries < 300000 && sum < n; tries++) {
		sum = 0;
		for (unsigned i = 0; i < sources; i++)
			sum += calls(&s[i]);
		if (sum < n)
			usleep(100);
	}
	return sum;
}

/* Each write is one call: another would be counted with the next. */
static void an_edge_is_seen_once(void **state)
{
	struct source s = {.source.ready = ready};

	(void)state;
	assert_int_equal(iothread_new(&s.thread, "io/test", NULL), 0);
	s.source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(iothread_add(s.thread, &s.source, true), 0);
	for (unsigned i = 1; i < 100; i++) {
		eventfd_write(s.source.fd, 1);
		assert_int_equal(wait_calls(&s, 1, i), i);
	}
	iothread_free(s.thread);
	assert_int_equal(calls(&s), 99);
	close(s.source.fd);
}

struct hold {
	int go;
};

static void wait_for_go(void *arg)
{
	eventfd_t n;

	eventfd_read(((struct hold *)arg)->go, &n);
}

static void *release(void *arg)
{
	struct source *s = arg;

	eventfd_write(s[0].source.fd, 1);
	eventfd_write(s[1].source.fd, 1);
	eventfd_write(s[2].source.fd, 1); /* the hold's: last, so that both wait in one batch */
	return NULL;
}

/* Two sources in one batch, each removing the other: one of them is called, once. */
static void a_removed_source_is_not_called(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		struct source s[3] = {{.source.ready = ready}, {.source.ready = ready}};
		struct hold hold;
		pthread_t thread;

		assert_int_equal(iothread_new(&s[0].thread, "io/test", NULL), 0);
		s[1].thread = s[0].thread;
		s[0].other = &s[1];
		s[1].other = &s[0];
		for (unsigned i = 0; i < 2; i++) {
			s[i].source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			assert_int_equal(iothread_add(s[0].thread, &s[i].source, true), 0);
		}
		s[2].source.fd = hold.go = eventfd(0, EFD_CLOEXEC);
		assert_int_equal(pthread_create(&thread, NULL, release, s), 0);
		iothread_call(s[0].thread, wait_for_go, &hold);
		pthread_join(thread, NULL);
		assert_int_equal(wait_calls(s, 2, 1), 1);
		iothread_free(s[0].thread);
		assert_int_equal(calls(&s[0]) + calls(&s[1]), 1);
		for (unsigned i = 0; i < 3; i++)
			close(s[i].source.fd);
	}
}

static void count(void *arg)
{
	__atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_SEQ_CST);
}

struct idle_setting {
	struct iothread *thread;
	unsigned *count;
};

static void set_idle(void *arg)
{
	struct idle_setting *s = arg;

	iothread_set_idle(s->thread, s->count ? count : NULL, s->count);
}

static void idle_follows_each_batch_until_forgotten(void **state)
{
	unsigned n = 0, then;
	struct idle_setting s = {.count = &n};

	(void)state;
	assert_int_equal(iothread_new(&s.thread, "io/test", NULL), 0);
	iothread_call(s.thread, set_idle, &s);
	for (unsigned tries = 0; tries < 1000000 && !__atomic_load_n(&n, __ATOMIC_SEQ_CST); tries++)
		iothread_call(s.thread, nothing, NULL);
	s.count = NULL;
	iothread_call(s.thread, set_idle, &s);
	then = __atomic_load_n(&n, __ATOMIC_SEQ_CST);
	assert_true(then >= 1);
	for (unsigned i = 0; i < 100; i++)
		iothread_call(s.thread, nothing, NULL);
	iothread_free(s.thread);
	assert_int_equal(n, then);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tasks_run_in_order),
	    cmocka_unit_test(the_end_comes_behind_all_tasks),
	    cmocka_unit_test(an_edge_is_seen_once),
	    cmocka_unit_test(a_removed_source_is_not_called),
	    cmocka_unit_test(idle_follows_each_batch_until_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
