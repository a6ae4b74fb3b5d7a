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

static struct job_of_test *submit_storage(struct crew *crew, struct lane *lane, bool waits,
					  atomic_uint *running, atomic_uint *ended)
{
	struct job_of_test *j = new_job(crew, waits, running, ended);

	j->work.class = WORK_STORAGE;
	j->work.lane = lane;
	assert_int_equal(crew_submit(crew, &j->work), 0);
	return j;
}

/* One image's storage hangs: others are served, however much waits for the first. */
static void storage_that_hangs_holds_up_its_lane_alone(void **state)
{
	static struct job_of_test *hung[200], *fine[100], *after;
	struct lane lanes[2] = {{0}};
	atomic_uint running = 0, ended = 0, done = 0;
	struct crew *crew;

	(void)state;
	assert_int_equal(crew_open(&crew), 0);
	for (size_t i = 0; i < nitems(hung); i++)
		hung[i] = submit_storage(crew, &lanes[0], true, &running, &ended);
	for (size_t i = 0; i < nitems(fine); i++)
		fine[i] = submit_storage(crew, &lanes[1], false, &running, &done);
	while (atomic_load(&done) < nitems(fine))
		usleep(1000);
	while (atomic_load(&running) < 8)
		usleep(1000);
	usleep(20000); /* there would be more by now */
	assert_int_equal(atomic_load(&running), 8);
	assert_int_equal(atomic_load(&ended), 0);
	/* Those that wait in the queue get their turn as others end. */
	for (size_t i = 0; i < nitems(hung); i++)
		cancel_request(&hung[i]->cancel);
	while (atomic_load(&ended) < nitems(hung))
		usleep(1000);
	after = submit_storage(crew, &lanes[0], false, &running, &done);
	while (atomic_load(&done) < nitems(fine) + 1)
		usleep(1000);
	crew_close(crew);
	for (size_t i = 0; i < nitems(hung); i++)
		free(hung[i]);
	for (size_t i = 0; i < nitems(fine); i++)
		free(fine[i]);
	free(after);
}

/* Many images hang at once: values can still be written. */
static void storage_leaves_threads_for_the_rest(void **state)
{
	static struct job_of_test *hung[40][8], *brief;
	static struct lane lanes[40];
	atomic_uint running = 0, ended = 0, done = 0;
	struct crew *crew;

	(void)state;
	assert_int_equal(crew_open(&crew), 0);
	for (size_t i = 0; i < nitems(lanes); i++)
		for (size_t k = 0; k < 8; k++)
			hung[i][k] = submit_storage(crew, &lanes[i], true, &running, &ended);
	while (atomic_load(&running) < 64)
		usleep(1000);
	brief = new_job(crew, false, &running, &done);
	assert_int_equal(crew_submit(crew, &brief->work), 0);
	while (atomic_load(&done) < 1)
		usleep(1000);
	assert_int_equal(atomic_load(&running), 64);
	crew_stop(crew); /* cancels what hangs, and what has not begun as it begins */
	assert_int_equal(atomic_load(&ended), nitems(lanes) * 8);
	crew_close(crew);
	for (size_t i = 0; i < nitems(lanes); i++)
		for (size_t k = 0; k < 8; k++)
			free(hung[i][k]);
	free(brief);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(commands_are_bounded_and_others_pass),
	    cmocka_unit_test(storage_that_hangs_holds_up_its_lane_alone),
	    cmocka_unit_test(storage_leaves_threads_for_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
