// SPDX-License-Identifier: ISC
/*
 * A directory as storage: each regular file directly in it, of a name that is one, is a
 * volume. Everything is done with the rights of the pool's owner, from a descriptor of the
 * directory, and never through a symbolic link in it. What is being made has a hidden
 * name, and is locked meanwhile: hidden files without a lock are left-overs, and go at
 * the next listing of anybody who makes files there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/image.h"
#include "storage/pool.h"
#include "util/cleanup.h"
#include "util/file.h"

#define HIDDEN ".filevisor-"

/* One call with the owner's identity: what it needs, and what it gives. */
struct dir_call {
	const struct storage *s;
	const char *name, *hidden;
	bool write, replace;
	struct storage_list *list;
	struct err *err;
	char *made; /* hidden name, to be filled in */
	int fd;
};

static int check(const char *source, struct err *err)
{
	if (*source != '/')
		return err_set(err, -EINVAL, "'%.80s' is not an absolute path", source);
	if (strlen(source) > STORAGE_SOURCE_MAX)
		return err_set(err, -EINVAL, "the path is too long");
	return 0;
}

/* The directory, opened as the thread may. */
static int open_dir(const struct storage *s, struct err *err)
{
	int fd = open(s->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? err_set(err, -errno, "%s: %m", s->source) : fd;
}

static int call(int (*fn)(void *arg), struct dir_call *c)
{
	return rights_do(&c->s->rights, fn, c);
}

/* --- listing -------------------------------------------------------------------------------- */

void storage_entry_of_file(struct storage_entry *e, const struct statx *x)
{
	e->bytes = x->stx_size;
	e->allocation = x->stx_blocks * 512;
	e->id = x->stx_ino;
	if (x->stx_mask & STATX_BTIME)
		e->born_ns = (uint64_t)x->stx_btime.tv_sec * 1000000000 + x->stx_btime.tv_nsec;
	e->changed.tv_sec = x->stx_mtime.tv_sec;
	e->changed.tv_nsec = x->stx_mtime.tv_nsec;
	e->uid = x->stx_uid;
	e->gid = x->stx_gid;
	e->mode = x->stx_mode & 0777;
}

/* What a daemon that was killed left half-made: nobody holds its lock. */
static void sweep(int dir, const char *name)
{
	_cleanup_close_ int fd =
	    openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	/* a young one may be about to be locked */
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || time(NULL) - st.st_ctime < 60)
		return;
	if (image_lock(fd, true, false, NULL) == 0)
		unlinkat(dir, name, 0);
}

static int add_file(int dir, const char *name, struct storage_list *list, struct err *err)
{
	struct storage_entry *e;
	struct statx x;

	if (strncmp(name, HIDDEN, strlen(HIDDEN)) == 0)
		sweep(dir, name);
	if (!storage_name_good(name))
		return 0;
	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME,
		  &x) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "%s: %m", name);
	if (!S_ISREG(x.stx_mode) || list->n >= STORAGE_VOLUMES_MAX)
		return 0;
	e = storage_list_add(list);
	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	strcpy(e->name, name);
	storage_entry_of_file(e, &x);
	return 0;
}

static int do_list(void *arg)
{
	struct dir_call *c = arg;
	_cleanup_closedir_ DIR *d = NULL;
	struct statvfs vfs;
	struct stat st;
	struct dirent *e;
	int dir = open_dir(c->s, c->err), r = 0;

	if (dir < 0)
		return dir;
	d = fdopendir(dir);
	if (!d) {
		close(dir);
		return err_set(c->err, -ENOMEM, "out of memory");
	}
	if (fstat(dir, &st) == 0)
		c->list->place = st.st_ino ^ (uint64_t)st.st_dev << 40;
	if (fstatvfs(dir, &vfs) == 0) {
		c->list->capacity = (uint64_t)vfs.f_blocks * vfs.f_frsize;
		c->list->free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
		c->list->allocation = (uint64_t)(vfs.f_blocks - vfs.f_bfree) * vfs.f_frsize;
	}
	errno = 0;
	while (r == 0 && (e = readdir(d))) {
		if (e->d_type == DT_REG || e->d_type == DT_UNKNOWN)
			r = add_file(dir, e->d_name, c->list, c->err);
		errno = 0;
	}
	if (r == 0 && errno)
		r = err_set(c->err, -errno, "%s: %m", c->s->source);
	return r;
}

static int list(const struct storage *s, struct cancel *cancel, struct storage_list *out,
		struct err *err)
{
	struct dir_call c = {.s = s, .list = out, .err = err};
	int r;

	(void)cancel;
	memset(out, 0, sizeof(*out));
	r = call(do_list, &c);
	if (r < 0)
		storage_list_free(out);
	return r;
}

/* --- watching ------------------------------------------------------------------------------- */

static int do_watch(void *arg)
{
	struct dir_call *c = arg;

	if (inotify_add_watch(c->fd, c->s->source,
			      IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
				  IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0)
		return -errno;
	return 0;
}

static int watch(const struct storage *s, struct err *err)
{
	_cleanup_close_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct dir_call c = {.s = s, .fd = fd};
	int r = fd < 0 ? -errno : call(do_watch, &c);

	return r < 0 ? err_set(err, r, "cannot watch %s: %s", s->source, strerror(-r))
		     : take_fd(&fd);
}

static bool watched(int fd)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool useful = true;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)p;

			if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
				useful = false;
			p += sizeof(*e) + e->len;
		}
	return useful;
}

/* --- files ---------------------------------------------------------------------------------- */

static int do_open(void *arg)
{
	struct dir_call *c = arg;
	_cleanup_close_ int dir = open_dir(c->s, c->err);
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (dir < 0)
		return dir;
	/* Looks first: opening something else than a file may have an effect. */
	if (fstatat(dir, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(c->err, -errno, "%s/%s: %m", c->s->source, c->name);
	if (!S_ISREG(st.st_mode))
		return err_set(c->err, -EINVAL, "%s/%s is no regular file", c->s->source, c->name);
	fd =
	    openat(dir, c->name,
		   (c->write ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_set(c->err, -errno, "%s/%s: %m", c->s->source, c->name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(c->err, -EINVAL, "%s/%s is no regular file", c->s->source, c->name);
	return take_fd(&fd);
}

static int open_volume(const struct storage *s, const char *name, bool write, struct err *err)
{
	struct dir_call c = {.s = s, .name = name, .write = write, .err = err};

	return call(do_open, &c);
}

static int do_create(void *arg)
{
	struct dir_call *c = arg;
	_cleanup_close_ int dir = open_dir(c->s, c->err);
	_cleanup_close_ int fd = -1;
	unsigned char random[6];
	int r;

	if (dir < 0)
		return dir;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_set(c->err, -EIO, "no random numbers");
	snprintf(c->made, STORAGE_NAME_MAX + 64, HIDDEN "%02x%02x%02x%02x%02x%02x", random[0],
		 random[1], random[2], random[3], random[4], random[5]);
	fd = openat(dir, c->made, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(c->err, -errno, "%s: %m", c->s->source);
	r = image_lock(fd, true, false, c->err);
	if (r < 0) {
		unlinkat(dir, c->made, 0);
		return r;
	}
	return take_fd(&fd);
}

static int create(const struct storage *s, const char *name, uint64_t bytes, struct cancel *cancel,
		  char hidden[STORAGE_NAME_MAX + 64], struct err *err)
{
	struct dir_call c = {.s = s, .made = hidden, .err = err};

	(void)name, (void)bytes, (void)cancel;
	return call(do_create, &c);
}

static int do_rename(void *arg)
{
	struct dir_call *c = arg;
	_cleanup_close_ int dir = open_dir(c->s, c->err);
	int r;

	if (dir < 0)
		return dir;
	r = renameat2(dir, c->hidden, dir, c->name, c->replace ? 0 : RENAME_NOREPLACE) < 0 ? -errno
											   : 0;
	if (r == -EINVAL && !c->replace) {
		/* a file system that cannot: a link does not replace either */
		r = linkat(dir, c->hidden, dir, c->name, 0) < 0 ? -errno : 0;
		if (r == 0)
			unlinkat(dir, c->hidden, 0);
	}
	if (r < 0)
		return err_set(c->err, r, "%s/%s: %s", c->s->source, c->name, strerror(-r));
	r = file_sync_dir(dir);
	return r < 0 ? err_set(c->err, r, "cannot sync %s: %s", c->s->source, strerror(-r)) : 0;
}

static int rename_volume(const struct storage *s, const char *hidden, const char *name,
			 bool replace, struct err *err)
{
	struct dir_call c = {
	    .s = s, .hidden = hidden, .name = name, .replace = replace, .err = err};

	return call(do_rename, &c);
}

static int do_remove(void *arg)
{
	struct dir_call *c = arg;
	_cleanup_close_ int dir = open_dir(c->s, c->err);
	struct stat st;
	int r;

	if (dir < 0)
		return dir;
	if (fstatat(dir, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		return err_set(c->err, -EINVAL, "%s/%s is no regular file", c->s->source, c->name);
	if (unlinkat(dir, c->name, 0) < 0 && errno != ENOENT)
		return err_set(c->err, -errno, "%s/%s: %m", c->s->source, c->name);
	r = file_sync_dir(dir);
	return r < 0 ? err_set(c->err, r, "cannot sync %s: %s", c->s->source, strerror(-r)) : 0;
}

static int remove_volume(const struct storage *s, const char *name, struct cancel *cancel,
			 struct err *err)
{
	struct dir_call c = {.s = s, .name = name, .err = err};

	(void)cancel;
	return call(do_remove, &c);
}

static char *path(const struct storage *s, const char *name)
{
	size_t len = strlen(s->source);
	char *p;

	while (len > 1 && s->source[len - 1] == '/')
		len--;
	return asprintf(&p, "%.*s%s%s", (int)len, s->source, len == 1 ? "" : "/", name) < 0 ? NULL
											    : p;
}

const struct storage_type storage_dir = {
    .name = "dir",
    .help = "a directory: each file in it is a volume",
    .images = true,
    .check = check,
    .list = list,
    .watch = watch,
    .watched = watched,
    .open = open_volume,
    .create = create,
    .rename = rename_volume,
    .remove = remove_volume,
    .path = path,
};
