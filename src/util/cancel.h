/* SPDX-License-Identifier: ISC */
#ifndef FV_CANCEL_H
#define FV_CANCEL_H
/*
 * A token that ends long work early: given to a command, set when its client
 * is interrupted (FUSE INTERRUPT), when its job is removed, or at shutdown.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct cancel {
	atomic_bool requested;	 /* read without the lock */
	pthread_mutex_t lock;	 /* guards wake and arg */
	void (*wake)(void *arg); /* called once, under the lock, when requested */
	void *arg;
};

void cancel_init(struct cancel *c);
void cancel_destroy(struct cancel *c);
/* Asks for an end. Any thread; idempotent. */
void cancel_request(struct cancel *c);
bool cancel_requested(struct cancel *c);
/*
 * Registers what to call when the end is asked for (at once if it was), NULL
 * to forget; after return of the latter @wake is not running and will not run.
 * @c may be NULL: nothing happens. @wake may take a lock (so do not
 * call this while holding that one), must not wait, and must not call this.
 */
void cancel_set_wake(struct cancel *c, void (*wake)(void *arg), void *arg);

#endif
