// SPDX-License-Identifier: ISC
/*
 * Starting clones, a few at a time: much of a start is waiting for a process, or for the kernel
 * to make a virtual machine. The first that fails ends the others.
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
};

static void end_all(void *arg)
{
	struct clones *c = arg;

	for (unsigned i = 0; i < c->n; i++)
		cancel_request(&c->list[i].cancel);
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

int clones_start(struct clones *c)
{
	struct work work = {.c = c};
	pthread_t threads[THREADS_MAX];
	unsigned n = n_threads(c), running = 0;

	if (!c->source.resumed)
		return 0;
	cancel_set_wake(c->caller->cancel, end_all, c);
	while (running + 1 < n && pthread_create(&threads[running], NULL, work_thread, &work) == 0)
		pthread_setname_np(threads[running++], "clone");
	work_thread(&work); /* and this one */
	for (unsigned i = 0; i < running; i++)
		pthread_join(threads[i], NULL);
	cancel_set_wake(c->caller->cancel, NULL, NULL);
	return outcome(c);
}
