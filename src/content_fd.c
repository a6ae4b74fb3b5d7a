// SPDX-License-Identifier: ISC
/* Content that is the bytes of a file, read-only. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_int.h"

struct content_fd {
	struct content content; /* first */
	int fd;
	uint64_t bytes;
};

static struct content_fd *of(struct content *content)
{
	return (struct content_fd *)content;
}

static uint64_t fd_size(struct content *content)
{
	return of(content)->bytes;
}

static ssize_t fd_read(struct content *content, void *buf, size_t len, uint64_t offset)
{
	struct content_fd *c = of(content);
	size_t done = 0;

	if (offset >= c->bytes)
		return 0;
	if (len > c->bytes - offset)
		len = c->bytes - offset;
	while (done < len) {
		ssize_t n = pread(c->fd, (char *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int64_t fd_seek(struct content *content, int64_t offset, int whence)
{
	off_t at;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	at = lseek(of(content)->fd, offset, whence);
	return at < 0 ? -errno : at;
}

static int fd_close(struct content *content)
{
	close(of(content)->fd);
	free(content);
	return 0;
}

static const struct content_ops fd_ops = {
    .size = fd_size, .read = fd_read, .seek = fd_seek, .close = fd_close};

int content_fd_open(struct content **content, int fd)
{
	struct content_fd *c = calloc(1, sizeof(*c));
	struct stat st;
	int r = c ? 0 : -ENOMEM;

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		free(c);
		return r;
	}
	c->content.ops = &fd_ops;
	c->fd = fd;
	c->bytes = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	*content = &c->content;
	return 0;
}
