/* SPDX-License-Identifier: ISC */
#ifndef FV_CLEANUP_H
#define FV_CLEANUP_H
/*
 * Ownership seen at the declaration. A variable marked with one of these is
 * released when its scope ends; hand it on with take_ptr() or take_fd().
 */
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <dirent.h>
#include <unistd.h>
#include <errno.h>

#define nitems(a) (sizeof(a) / sizeof((a)[0]))

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static inline void cleanup_unlockp(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

static inline pthread_mutex_t *cleanup_lock(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

#define _cleanup_(f)	   __attribute__((cleanup(f)))
#define _cleanup_free_	   _cleanup_(cleanup_freep)
#define _cleanup_close_	   _cleanup_(cleanup_closep)
#define _cleanup_fclose_   _cleanup_(cleanup_fclosep)
#define _cleanup_closedir_ _cleanup_(cleanup_closedirp)

#define FV_CONCAT_(a, b) a##b
#define FV_CONCAT(a, b)	 FV_CONCAT_(a, b)

/* Holds @mutex (a pthread_mutex_t *) until the end of the enclosing scope. */
#define LOCK_SCOPE(mutex)                                                                          \
	__attribute__((unused)) _cleanup_(cleanup_unlockp) pthread_mutex_t *FV_CONCAT(             \
	    lock_scope_, __LINE__) = cleanup_lock(mutex)

/* Hands the pointer over: the variable forgets it. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

/* Hands the descriptor over: the variable becomes -1. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
