/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_IOTHREAD_H
#define FV_VMM_IOTHREAD_H
/*
 * A named thread that waits for descriptors and runs tasks: where devices do
 * their work, off the vcpus' threads. Tasks run in the order they were posted.
 */
#include <stdbool.h>

#include "util/err.h"

struct iothread;

/* A descriptor waited for; ready() is called on the thread. The owner's memory. */
struct iothread_source {
	int fd;
	void (*ready)(struct iothread_source *source);
};

/* A piece of work; the owner's memory, not to be posted again before it has run. */
struct iothread_task {
	void (*run)(struct iothread_task *task);
	struct iothread_task *next;
};

/* A thread of that name (at most 15 bytes show), with a small stack. */
int iothread_new(struct iothread **thread, const char *name, struct err *err);
/* Ends it after the tasks that were posted; NULL is fine. */
void iothread_free(struct iothread *thread);
/*
 * Waits for @source->fd from now on: as long as it is readable, or, with
 * @edge, once for each write to it (an eventfd need then never be read). Any
 * thread; -errno.
 */
int iothread_add(struct iothread *thread, struct iothread_source *source, bool edge);
/* Forgets it. On the thread itself, or before its end by iothread_call(). */
void iothread_remove(struct iothread *thread, struct iothread_source *source);
/* Any thread; never waits. */
void iothread_post(struct iothread *thread, struct iothread_task *task);
/*
 * Has @idle(@arg) called on the thread after each batch of events and tasks,
 * before it sleeps: where what they gathered is handed on at once. On the
 * thread itself or by iothread_call(); NULL forgets.
 */
void iothread_set_idle(struct iothread *thread, void (*idle)(void *arg), void *arg);
/* Are there tasks for it? Who keeps the thread busy looks now and then, and lets go. On it. */
bool iothread_wanted(const struct iothread *thread);
/* Runs @run(@arg) on the thread, behind what was posted, and waits for it. Not from itself. */
void iothread_call(struct iothread *thread, void (*run)(void *arg), void *arg);

#endif
