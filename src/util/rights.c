// SPDX-License-Identifier: ISC
/*
 * Opening files with a user's rights. The identity that counts for paths
 * (fsuid, fsgid, groups) belongs to a thread; glibc's wrappers of
 * setgroups(2) change all threads, hence the raw system call. Changing fsuid
 * from 0 takes the capabilities that override permissions, and back returns them.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/rights.h"

#define GROUPS_MAX 65536

static int set_groups(const gid_t *groups, size_t n)
{
	return syscall(SYS_setgroups, n, groups) < 0 ? -errno : 0;
}

static bool is_fsuid(uid_t uid)
{
	return (uid_t)setfsuid((uid_t)-1) == uid;
}

/* Back to root. A thread that stays somebody else must not go on. */
static void leave(const gid_t *groups, size_t n)
{
	setfsuid(0);
	setfsgid(getegid());
	if (!is_fsuid(0) || set_groups(groups, n) < 0)
		abort();
}

static int enter(const struct rights *r)
{
	int ret = set_groups(r->groups, r->n_groups);

	if (ret < 0)
		return ret;
	setfsgid(r->gid);
	setfsuid(r->uid);
	return is_fsuid(r->uid) ? 0 : -EPERM;
}

/* Looks first, by a descriptor that opens nothing, then opens just that. */
static int open_checked(const char *path, int flags, bool block)
{
	_cleanup_close_ int look = open(path, O_PATH | O_CLOEXEC);
	char self[40];
	struct stat st;
	int fd;

	if (look < 0)
		return errno == ENAMETOOLONG ? -EINVAL : -errno;
	if (fstat(look, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !(block && S_ISBLK(st.st_mode)))
		return -EINVAL;
	if (S_ISBLK(st.st_mode) && (flags & O_ACCMODE) != O_RDONLY)
		flags |= O_EXCL; /* not while it is mounted */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", look);
	fd = open(self, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int rights_do(const struct rights *rights, int (*fn)(void *arg), void *arg)
{
	_cleanup_free_ gid_t *own = NULL;
	int n, r;

	if (geteuid() != 0 || rights->uid == 0)
		return fn(arg);
	n = getgroups(0, NULL);
	own = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	n = getgroups(n, own);
	if (n < 0)
		return -errno;
	r = enter(rights);
	if (r == 0)
		r = fn(arg);
	leave(own, (size_t)n);
	return r;
}

struct open_call {
	const char *path;
	int flags;
	bool block;
};

static int do_open(void *arg)
{
	struct open_call *c = arg;

	return open_checked(c->path, c->flags, c->block);
}

int rights_open(const struct rights *rights, const char *path, int flags, bool block)
{
	struct open_call c = {path, flags, block};

	return rights_do(rights, do_open, &c);
}

int rights_groups(uid_t uid, gid_t gid, gid_t **groups, size_t *n)
{
	struct passwd pwd, *found = NULL;
	char buf[4096];
	int count = 64;

	*groups = NULL;
	if (getpwuid_r(uid, &pwd, buf, sizeof(buf), &found) != 0)
		found = NULL;
	for (;;) {
		gid_t *more = realloc(*groups, (size_t)count * sizeof(**groups));
		int room = count;

		if (!more) {
			free(*groups);
			return -ENOMEM;
		}
		*groups = more;
		if (!found) {
			more[0] = gid;
			*n = 1;
			return 0;
		}
		if (getgrouplist(pwd.pw_name, gid, more, &count) >= 0)
			break;
		if (count <= room || count > GROUPS_MAX)
			count = room * 2;
	}
	*n = (size_t)count;
	return 0;
}
