/* SPDX-License-Identifier: ISC */
#ifndef FV_RIGHTS_H
#define FV_RIGHTS_H
/* Opening files with a user's rights instead of the daemon's. */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct rights {
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
};

/*
 * Opens a regular file or (with @block) block device at @path, O_CLOEXEC, as
 * the user could: where the daemon is root and he is not, the thread's file
 * system identity is his meanwhile, without capabilities. @flags: O_RDONLY or
 * O_RDWR. Nothing but what is to be opened is ever opened (a FIFO or a
 * device has no effect). A descriptor, or -errno: -EISDIR, -EINVAL (something
 * else), as open(2); -EINVAL for a name that is too long. -EBUSY for a block
 * device that the host has mounted, where it is to be written.
 */
int rights_open(const struct rights *rights, const char *path, int flags, bool block);

/*
 * Calls fn(arg) with his file system identity, on this thread, and returns what it returns; or
 * -errno where the identity cannot be taken. For what rights_open() does not cover: directories,
 * new files, names.
 */
int rights_do(const struct rights *rights, int (*fn)(void *arg), void *arg);

/* The user's groups as the system's databases say; caller frees. His primary one alone if unknown.
 */
int rights_groups(uid_t uid, gid_t gid, gid_t **groups, size_t *n);

#endif
