// SPDX-License-Identifier: ISC
/* The files that an archive brings with it: made, named, removed (archive_images.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive_images.h"
#include "util/cleanup.h"
#include "util/log.h"

#define HIDDEN_PREFIX ".new-"
#define SEARCH	      0111

/*
 * Owners of machines must get there: nothing of what is beside images/ lets them in. Who is not
 * the directory's owner leaves it as it is.
 */
static void let_search(int dir)
{
	struct stat st;

	if (fstat(dir, &st) < 0 || (st.st_mode & SEARCH) == SEARCH)
		return;
	if (fchmod(dir, (st.st_mode & 07777) | SEARCH) < 0)
		log_warn("the directory of the state cannot be searched by others: %m");
}

int archive_files_dir(struct model *model, bool make)
{
	int fd;

	if (make && mkdirat(model->state_fd, "images", 0711) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(model->state_fd, "images", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (make) {
		let_search(model->state_fd);
		let_search(fd);
	}
	return fd;
}

int archive_files_path(int dir, char *path, size_t size)
{
	char link[40];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	n = readlink(link, path, size);
	if (n < 0 || (size_t)n >= size)
		return n < 0 ? -errno : -ENAMETOOLONG;
	path[n] = '\0';
	return 0;
}

static void hidden_name(char name[ARCHIVE_FILE_MAX + 8], const struct archive_file *file)
{
	snprintf(name, ARCHIVE_FILE_MAX + 8, HIDDEN_PREFIX "%s", file->name);
}

int archive_file_make(int dir, struct machine *m, const char *suffix, struct archive_file *file,
		      struct err *err)
{
	char hidden[ARCHIVE_FILE_MAX + 8];

	*file = (struct archive_file){.fd = -1};
	snprintf(file->name, sizeof(file->name), "%s-%s", m->id, suffix);
	hidden_name(hidden, file);
	unlinkat(dir, hidden, 0); /* the machine's op is held: it is nobody's */
	file->fd = openat(dir, hidden, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return file->fd < 0
		   ? err_set(err, -errno, "cannot make images/%s: %s", file->name, strerror(errno))
		   : 0;
}

static int give_to_owner(int fd, struct machine *m)
{
	struct machine_access access;
	struct stat st;

	machine_access_get(m, &access);
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid == access.uid && st.st_gid == access.gid)
		return 0;
	return fchown(fd, access.uid, access.gid) < 0 ? -errno : 0;
}

int archive_file_place(int dir, struct machine *m, struct archive_file *file, struct err *err)
{
	char hidden[ARCHIVE_FILE_MAX + 8];
	int r = give_to_owner(file->fd, m);

	hidden_name(hidden, file);
	if (r == 0 && fsync(file->fd) < 0)
		r = -errno;
	if (r == 0 && linkat(dir, hidden, dir, file->name, 0) < 0)
		r = -errno;
	if (r < 0)
		return err_set(err, r, "images/%s: %s", file->name,
			       r == -EEXIST ? "it is there from another archive: remove it, or the "
					      "machine"
					    : strerror(-r));
	unlinkat(dir, hidden, 0);
	file->placed = true;
	return 0;
}

void archive_file_close(int dir, struct archive_file *file, bool remove)
{
	char hidden[ARCHIVE_FILE_MAX + 8];

	hidden_name(hidden, file);
	if (file->fd >= 0)
		close(take_fd(&file->fd));
	if (remove && unlinkat(dir, file->placed ? file->name : hidden, 0) < 0 && errno != ENOENT)
		log_warn("cannot remove images/%s: %m", file->name);
}
