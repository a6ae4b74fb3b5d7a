// SPDX-License-Identifier: ISC
/*
 * Files whose bytes lie elsewhere: logs (a file of the model's that grows) and
 * blobs (guest memory, an ELF core; images of disks are in kind_image.c).
 *
 * A log that got too long is renamed NAME.old by the model and begun anew.
 * A reader stays with the file it opened, and goes on to the new one when it
 * comes back to the start, which is what tail(1) does when it sees the size fall.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

/* --- log ------------------------------------------------------------------------------ */

static const struct log_ops *log_ops(const struct node *n)
{
	return n->row->ops;
}

static int log_size(struct node *n, uint64_t *size)
{
	struct timespec mtime;
	int r;

	*size = 0;
	r = log_ops(n)->stat(n, size, &mtime);
	return r == -ENOENT ? 0 : r;
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_ino == sb.st_ino &&
	       sa.st_dev == sb.st_dev;
}

/* The file as it is named now; with the handle's lock, or before anyone has it. */
static int reopen_log(struct handle *h)
{
	_cleanup_close_ int fd = -1;

	if (!node_alive(h->node))
		return -ENOENT;
	fd = log_ops(h->node)->open(h->node);
	if (fd == -ENOENT)
		return 0; /* nothing so far */
	if (fd < 0)
		return fd;
	if (h->fd >= 0 && same_file(h->fd, fd))
		return 0;
	if (h->fd >= 0)
		close(h->fd);
	h->fd = take_fd(&fd);
	return 0;
}

static int log_open(struct handle *h, const struct caller *caller, struct err *err)
{
	int r;

	(void)caller;
	if (h->writable && !log_ops(h->node)->type)
		return -EACCES;
	if ((h->flags & O_ACCMODE) == O_WRONLY)
		return 0;
	r = reopen_log(h);
	h->fresh = true;
	return r < 0 ? err_set(err, r, "the log cannot be opened") : 0;
}

static ssize_t pread_fd(int fd, void *buf, size_t len, uint64_t offset)
{
	ssize_t n;

	do
		n = pread(fd, buf, len, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t log_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	LOCK_SCOPE(&h->lock);
	h->seen = atomic_load(&h->node->generation);
	if (h->fd < 0 || (offset == 0 && !h->fresh)) {
		int r = reopen_log(h);

		if (r < 0 && h->fd < 0)
			return r;
	}
	h->fresh = false;
	return h->fd < 0 ? 0 : pread_fd(h->fd, buf, len, offset);
}

static int log_write(struct handle *h, const char *data, size_t len, uint64_t offset,
		     const struct caller *caller, struct err *err)
{
	int r;

	(void)offset;
	(void)caller;
	if (len == 0)
		return 0;
	r = log_ops(h->node)->type(h->node, data, len, err);
	if (r < 0)
		node_complain(h->node, h->node->row->name, err);
	return r;
}

static bool log_write_waits(struct handle *h, const char *data, size_t len)
{
	(void)h;
	(void)data;
	(void)len;
	return true;
}

static void log_close(struct handle *h)
{
	if (h->fd >= 0)
		close(h->fd);
}

/* A log has no holes. */
static int64_t log_seek(struct handle *h, int64_t offset, int whence)
{
	uint64_t size = 0;
	int r = log_size(h->node, &size);

	if (r < 0)
		return r;
	if (offset < 0 || (uint64_t)offset >= size)
		return -ENXIO;
	return whence == SEEK_DATA ? offset : (int64_t)size;
}

const struct kind kind_log = {
    .name = "log",
    .format = S_IFREG,
    .size = log_size,
    .open = log_open,
    .read = log_read,
    .write = log_write,
    .write_waits = log_write_waits,
    .seek = log_seek,
    .close = log_close,
};

/* --- blob ----------------------------------------------------------------------------- */

static int blob_size(struct node *n, uint64_t *size)
{
	const struct blob_ops *ops = n->row->ops;

	*size = ops->size(n);
	return 0;
}

static int blob_open(struct handle *h, const struct caller *caller, struct err *err)
{
	const struct blob_ops *ops = h->node->row->ops;

	(void)caller;
	if (h->writable)
		return -EACCES;
	return ops->open(h, err);
}

static ssize_t blob_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	if (h->content)
		return content_read(h->content, buf, len, offset);
	if (h->core)
		return machine_core_read(h->core, buf, len, offset);
	return 0;
}

static int64_t blob_seek(struct handle *h, int64_t offset, int whence)
{
	if (h->content)
		return content_seek(h->content, offset, whence);
	if (h->core)
		return machine_core_seek(h->core, offset, whence);
	return -ENXIO;
}

static void blob_close(struct handle *h)
{
	content_close(h->content);
	if (h->core)
		machine_core_close(h->core);
}

const struct kind kind_blob = {
    .name = "blob",
    .format = S_IFREG,
    .size = blob_size,
    .open = blob_open,
    .read = blob_read,
    .seek = blob_seek,
    .close = blob_close,
};
