// SPDX-License-Identifier: ISC
/* The crew: what waits is bounded, leaves room for short work, and ends when asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

struct job_of_test {
	struct work work;
	struct crew *crew;
	struct cancel cancel;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool woken;
	atomic_uint *running, *ended;
};

static void wake(void *arg)
{
	struct job_of_test *j = arg;

	pthread_mutex_lock(&j->lock);
	j->woken = true;
	pthread_cond_signal(&j->cond);
	pthread_mutex_unlock(&j->lock);
}

/* Waits until it is cancelled. */
static void run_waiting(struct work *w)
{
	struct job_of_test *j = (struct job_of_test *)w;

	atomic_fetch_add(j->running, 1);
	cancel_set_wake(&j->cancel, wake, j);
	pthread_mutex_lock(&j->lock);
	while (!j->woken)
		pthread_cond_wait(&j->cond, &j->lock);
	pthread_mutex_unlock(&j->lock);
	cancel_set_wake(&j->cancel, NULL, NULL);
	crew_done(j->crew, w);
	atomic_fetch_add(j->ended, 1);
}

static void run_short(struct work *w)
{
	struct job_of_test *j = (struct job_of_test *)w;

	crew_done(j->crew, w);
	atomic_fetch_add(j->ended, 1);
}

static struct job_of_test *new_job(struct crew *crew, bool waits, atomic_uint *running,
				   atomic_uint *ended)
{
	struct job_of_test *j = calloc(1, sizeof(*j));

	j->crew = crew;
	cancel_init(&j->cancel);
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->cond, NULL);
	j->work = (struct work){.run = waits ? run_waiting : run_short,
				.cancel = &j->cancel,
				.class = waits ? WORK_COMMAND : WORK_SHORT};
	j->running = running;
	j->ended = ended;
	return j;
}

static void commands_are_bounded_and_others_pass(void **state)
{
	static struct job_of_test *waiting[600], *brief[100];
	atomic_uint running = 0, ended = 0, done = 0;
	struct crew *crew;
	unsigned accepted = 0;

	(void)state;
	assert_int_equal(crew_open(&crew), 0);
	for (size_t i = 0; i < nitems(waiting); i++) {
		waiting[i] = new_job(crew, true, &running, &ended);
		if (crew_submit(crew, &waiting[i]->work) == 0)
			accepted++;
		else
			assert_int_equal(crew_submit(crew, &waiting[i]->work), -EBUSY);
	}
	assert_int_equal(accepted, 512);
	while (atomic_load(&running) < accepted)
		usleep(1000);
	for (size_t i = 0; i < nitems(brief); i++) {
		brief[i] = new_job(crew, false, &running, &done);
		assert_int_equal(crew_submit(crew, &brief[i]->work), 0);
	}
	while (atomic_load(&done) < nitems(brief))
		usleep(1000);
	assert_int_equal(atomic_load(&ended), 0);
	crew_stop(crew); /* cancels what waits */
	assert_int_equal(atomic_load(&ended), accepted);
	assert_int_equal(crew_submit(crew, &brief[0]->work), -ENODEV);
	crew_close(crew);
	for (size_t i = 0; i < nitems(waiting); i++)
		free(waiting[i]);
	for (size_t i = 0; i < nitems(brief); i++)
		free(brief[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(commands_are_bounded_and_others_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
