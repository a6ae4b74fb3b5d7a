// SPDX-License-Identifier: ISC
/*
 * The loop of a device thread: epoll over descriptors, and a list of tasks with
 * an eventfd that wakes it.
 *
 * An event that epoll_wait() has already given may belong to a source that an
 * earlier one of the same batch removed: iothread_remove() takes it out of
 * the batch too.
 *
 * System calls once running: epoll_wait, epoll_ctl, read, write, futex.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"
#include "vmm/iothread.h"

#define STACK_BYTES (128 * 1024)
#define BATCH	    16

struct iothread {
	pthread_t id;
	int epoll_fd, wake_fd;
	bool started;
	char name[16];
	/* the thread's own */
	struct epoll_event events[BATCH];
	int n_events;
	bool quit;
	void (*idle)(void *arg);
	void *idle_arg;
	/* under the lock */
	pthread_mutex_t lock;
	struct iothread_task *first, **last;
};

static struct iothread_task *take_task(struct iothread *t)
{
	LOCK_SCOPE(&t->lock);
	struct iothread_task *task = t->first;

	if (!task)
		return NULL;
	__atomic_store_n(&t->first, task->next, __ATOMIC_RELAXED);
	if (!t->first)
		t->last = &t->first;
	return task;
}

static void run_tasks(struct iothread *t)
{
	struct iothread_task *task;
	uint64_t count;

	/* Emptied before the list is looked at: what is posted later wakes again. */
	if (read(t->wake_fd, &count, sizeof(count)) < 0)
		return;
	while ((task = take_task(t)))
		task->run(task); /* may free or repost it */
}

static void *loop(void *arg)
{
	struct iothread *t = arg;

	/* By itself: naming another thread takes a file of /proc. */
	pthread_setname_np(pthread_self(), t->name);
	while (!t->quit) {
		bool woken = false;

		t->n_events = epoll_wait(t->epoll_fd, t->events, BATCH, -1);
		for (int i = 0; i < t->n_events; i++) {
			struct iothread_source *source = t->events[i].data.ptr;

			if (source)
				source->ready(source);
			else
				woken = true;
		}
		t->n_events = 0;
		if (woken)
			run_tasks(t);
		if (t->idle)
			t->idle(t->idle_arg);
	}
	return NULL;
}

static int start(struct iothread *t, const char *name)
{
	pthread_attr_t attr;
	int r = -pthread_attr_init(&attr);

	if (r < 0)
		return r;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	snprintf(t->name, sizeof(t->name), "%.15s", name);
	r = -pthread_create(&t->id, &attr, loop, t);
	pthread_attr_destroy(&attr);
	if (r < 0)
		return r;
	t->started = true;
	return 0;
}

static void destroy(struct iothread *t)
{
	if (t->wake_fd >= 0)
		close(t->wake_fd);
	if (t->epoll_fd >= 0)
		close(t->epoll_fd);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

int iothread_new(struct iothread **thread, const char *name, struct err *err)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	struct iothread *t = calloc(1, sizeof(*t));
	int r = 0;

	if (!t)
		return err_set(err, -ENOMEM, "no memory for thread %s", name);
	pthread_mutex_init(&t->lock, NULL);
	t->last = &t->first;
	t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->epoll_fd < 0 || t->wake_fd < 0 ||
	    epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &event) < 0)
		r = -errno;
	if (r == 0)
		r = start(t, name);
	if (r < 0) {
		destroy(t);
		return err_set(err, r, "cannot start thread %s", name);
	}
	*thread = t;
	return 0;
}

int iothread_add(struct iothread *thread, struct iothread_source *source, bool edge)
{
	struct epoll_event event = {.events = EPOLLIN | (edge ? EPOLLET : 0), .data.ptr = source};

	return epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void iothread_remove(struct iothread *thread, struct iothread_source *source)
{
	epoll_ctl(thread->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = 0; i < thread->n_events; i++) {
		if (thread->events[i].data.ptr == source)
			thread->events[i].data.ptr = NULL;
	}
}

void iothread_set_idle(struct iothread *thread, void (*idle)(void *arg), void *arg)
{
	thread->idle = idle;
	thread->idle_arg = arg;
}

void iothread_post(struct iothread *thread, struct iothread_task *task)
{
	const uint64_t one = 1;
	ssize_t n;

	{
		LOCK_SCOPE(&thread->lock);
		task->next = NULL;
		__atomic_store_n(thread->last, task, __ATOMIC_RELAXED);
		thread->last = &task->next;
	}
	/* Only a counter at its limit refuses, and that wakes as well. */
	n = write(thread->wake_fd, &one, sizeof(one));
	(void)n;
}

bool iothread_wanted(const struct iothread *thread)
{
	return __atomic_load_n(&thread->first, __ATOMIC_RELAXED);
}

struct call {
	struct iothread_task task;
	void (*run)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_call(struct iothread_task *task)
{
	struct call *call = (struct call *)task;

	call->run(call->arg);
	/* Under the lock to the end: the caller's stack holds it. */
	LOCK_SCOPE(&call->lock);
	call->done = true;
	pthread_cond_signal(&call->cond);
}

void iothread_call(struct iothread *thread, void (*run)(void *arg), void *arg)
{
	struct call call = {.task.run = run_call,
			    .run = run,
			    .arg = arg,
			    .lock = PTHREAD_MUTEX_INITIALIZER,
			    .cond = PTHREAD_COND_INITIALIZER};

	iothread_post(thread, &call.task);
	pthread_mutex_lock(&call.lock);
	while (!call.done)
		pthread_cond_wait(&call.cond, &call.lock);
	pthread_mutex_unlock(&call.lock);
	pthread_cond_destroy(&call.cond);
	pthread_mutex_destroy(&call.lock);
}

struct quit {
	struct iothread_task task;
	struct iothread *thread;
};

static void run_quit(struct iothread_task *task)
{
	((struct quit *)task)->thread->quit = true;
}

void iothread_free(struct iothread *thread)
{
	struct quit quit = {.task.run = run_quit, .thread = thread};

	if (!thread)
		return;
	if (thread->started) {
		iothread_post(thread, &quit.task);
		pthread_join(thread->id, NULL);
	}
	destroy(thread);
}
