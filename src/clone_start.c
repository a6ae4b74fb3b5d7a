// SPDX-License-Identifier: ISC
/*
 * Starting clones, a few at a time: much of a start is waiting for a process, or for the kernel
 * to make a virtual machine. Meanwhile a thread waits for the disk: no guest runs before its
 * definition is stored. The first that fails ends the others.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "clone_int.h"
#include "util/cleanup.h"

#define THREADS_MAX 16

struct work {
	struct clones *c;
	atomic_uint next, done;
	atomic_bool failed;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool stored; /* or not: */
	int result;
};

static void end_all(void *arg)
{
	struct clones *c = arg;

	for (unsigned i = 0; i < c->n; i++)
		cancel_request(&c->list[i].cancel);
}

static void *store_thread(void *arg)
{
	struct work *w = arg;
	int r = clones_store(w->c);

	LOCK_SCOPE(&w->lock);
	w->result = r;
	w->stored = true;
	pthread_cond_broadcast(&w->cond);
	return NULL;
}

/* Until it is known whether they are stored. */
static int await_stored(void *arg, struct err *err)
{
	struct work *w = arg;

	LOCK_SCOPE(&w->lock);
	while (!w->stored)
		pthread_cond_wait(&w->cond, &w->lock);
	return w->result < 0 ? err_set(err, -ECANCELED, "its definition is not stored") : 0;
}

static void *work_thread(void *arg)
{
	struct work *w = arg;
	struct clones *c = w->c;
	unsigned i;

	while (!atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next, 1)) < c->n) {
		struct clone *one = &c->list[i];

		one->result = machine_start(one->m, &c->source.resume, &one->cancel, &one->err);
		if (one->result < 0 && !atomic_exchange(&w->failed, true))
			end_all(c);
		job_progress(c->job, atomic_fetch_add(&w->done, 1) + 1, c->n, "machines");
	}
	return NULL;
}

/* What became of them: the words of who failed first, not of those that were ended for it. */
static int outcome(struct clones *c)
{
	struct clone *worst = NULL;

	for (unsigned i = 0; i < c->n; i++) {
		struct clone *one = &c->list[i];

		if (one->result < 0 &&
		    (!worst || (worst->result == -ECANCELED && one->result != -ECANCELED)))
			worst = one;
	}
	if (!worst)
		return 0;
	if (worst->result == -ECANCELED)
		return err_set(c->err, -ECANCELED, "ended before all had started");
	return err_set(c->err, worst->result, "%s: %s", worst->name, worst->err.text);
}

static unsigned n_threads(const struct clones *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = cpus > 0 ? 2 * (unsigned)cpus : 2;

	if (n > THREADS_MAX)
		n = THREADS_MAX;
	return n < c->n ? n : c->n;
}

static void start_all(struct work *work)
{
	struct clones *c = work->c;
	pthread_t threads[THREADS_MAX];
	unsigned n = n_threads(c), running = 0;

	c->source.resume.may_run = await_stored;
	c->source.resume.arg = work;
	cancel_set_wake(c->caller->cancel, end_all, c);
	while (running + 1 < n && pthread_create(&threads[running], NULL, work_thread, work) == 0)
		pthread_setname_np(threads[running++], "clone");
	work_thread(work); /* and this one */
	for (unsigned i = 0; i < running; i++)
		pthread_join(threads[i], NULL);
	cancel_set_wake(c->caller->cancel, NULL, NULL);
}

int clones_start(struct clones *c)
{
	struct work work = {
	    .c = c, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	pthread_t storing;

	if (!c->source.resumed)
		return clones_store(c);
	if (pthread_create(&storing, NULL, store_thread, &work) != 0)
		return err_set(c->err, -EAGAIN, "there can be no more threads");
	pthread_setname_np(storing, "store");
	start_all(&work);
	pthread_join(storing, NULL);
	return work.result < 0 ? work.result : outcome(c);
}
