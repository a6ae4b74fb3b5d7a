// SPDX-License-Identifier: ISC
/* Work that may hang for ever. See strand.h. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "model_int.h"
#include "strand.h"
#include "util/cleanup.h"

#define STRAND_STACK (512u << 10)

struct strand {
	atomic_uint refs; /* the thread's and the waiter's */
	int (*run)(void *arg, struct cancel *cancel, struct err *err);
	void (*release)(void *arg);
	void *arg;
	struct cancel cancel; /* what the work is told */
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;  /* CLOCK_MONOTONIC */
	bool done, kept;      /* kept: @arg is the waiter's */
	int result;
	struct err err;
};

static void unref(struct strand *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	if (s->release && !s->kept)
		s->release(s->arg);
	cancel_destroy(&s->cancel);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void *strand_thread(void *p)
{
	struct strand *s = p;
	struct err err = ERR_INIT;
	int r;

	pthread_setname_np(pthread_self(), "storage");
	r = s->run(s->arg, &s->cancel, &err);
	pthread_mutex_lock(&s->lock);
	s->done = true;
	s->result = r;
	s->err = err;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	unref(s);
	return NULL;
}

int strand_start(struct strand **out, int (*run)(void *arg, struct cancel *cancel, struct err *err),
		 void (*release)(void *arg), void *arg)
{
	struct strand *s = calloc(1, sizeof(*s));
	pthread_condattr_t cond;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (!s)
		return -ENOMEM;
	atomic_init(&s->refs, 2);
	s->run = run;
	s->release = release;
	s->arg = arg;
	cancel_init(&s->cancel);
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&cond);
	pthread_condattr_setclock(&cond, CLOCK_MONOTONIC);
	pthread_cond_init(&s->cond, &cond);
	pthread_condattr_destroy(&cond);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STRAND_STACK);
	r = -pthread_create(&thread, &attr, strand_thread, s);
	pthread_attr_destroy(&attr);
	if (r < 0) {
		s->kept = true;
		atomic_store(&s->refs, 1);
		unref(s);
		return r;
	}
	*out = s;
	return 0;
}

static void wake(void *arg)
{
	struct strand *s = arg;

	LOCK_SCOPE(&s->lock);
	pthread_cond_broadcast(&s->cond);
}

int strand_wait(struct strand *s, unsigned ms, struct cancel *cancel, int *result, struct err *err)
{
	struct timespec deadline = deadline_in_ms(ms);
	int r;

	cancel_set_wake(cancel, wake, s);
	pthread_mutex_lock(&s->lock);
	r = 0;
	while (!s->done && r == 0 && !cancel_requested(cancel))
		r = pthread_cond_timedwait(&s->cond, &s->lock, &deadline);
	if (s->done) {
		*result = s->result;
		if (err)
			*err = s->err;
		r = 1;
	} else {
		r = cancel_requested(cancel) ? -ECANCELED : 0;
	}
	pthread_mutex_unlock(&s->lock);
	cancel_set_wake(cancel, NULL, NULL);
	return r;
}

void strand_put(struct strand *s)
{
	if (!s)
		return;
	cancel_request(&s->cancel);
	unref(s);
}

void strand_leave(struct strand *s, void (*release)(void *arg))
{
	pthread_mutex_lock(&s->lock);
	s->release = release;
	pthread_mutex_unlock(&s->lock);
	strand_put(s);
}

int strand_run(int (*run)(void *arg, struct cancel *cancel, struct err *err),
	       void (*release)(void *arg), void *arg, unsigned ms, struct cancel *cancel,
	       bool *left, struct err *err)
{
	struct strand *s;
	int r = strand_start(&s, run, release, arg), result = 0;

	*left = false;
	if (r < 0)
		return err_set(err, r, "cannot start a thread: %s", strerror(-r));
	r = strand_wait(s, ms, cancel, &result, err);
	if (r == 1) {
		pthread_mutex_lock(&s->lock);
		s->kept = true;
		pthread_mutex_unlock(&s->lock);
		strand_put(s);
		return result;
	}
	*left = true;
	strand_put(s);
	return r < 0 ? err_set(err, r, "ended before its storage answered")
		     : err_set(err, -ETIMEDOUT, "its storage does not answer");
}
