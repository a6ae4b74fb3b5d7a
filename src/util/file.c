// SPDX-License-Identifier: ISC
/* Whole files: read bounded, replaced atomically. See file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "util/strbuf.h"

int file_read(int dir, const char *path, size_t max, char **text, size_t *len)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	_cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		char buf[4096];
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		if (sb.len + (size_t)n > max)
			return -EFBIG;
		strbuf_add(&sb, buf, (size_t)n);
	}
	if (len)
		*len = sb.len;
	*text = strbuf_steal(&sb);
	return *text ? 0 : -ENOMEM;
}

int file_sync_dir(int dir)
{
	if (dir == AT_FDCWD) {
		_cleanup_close_ int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		return fd < 0 || fsync(fd) < 0 ? -errno : 0;
	}
	return fsync(dir) < 0 ? -errno : 0;
}

int file_replace(int dir, const char *path, const void *data, size_t len, mode_t mode)
{
	char tmp[300];
	_cleanup_close_ int fd = -1;
	int ret;

	if (snprintf(tmp, sizeof(tmp), ".%s.new", path) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	ret = file_write_all(fd, data, len);
	if (ret == 0 && fsync(fd) < 0)
		ret = -errno;
	if (ret == 0 && renameat(dir, tmp, dir, path) < 0)
		ret = -errno;
	if (ret < 0) {
		unlinkat(dir, tmp, 0);
		return ret;
	}
	return file_sync_dir(dir);
}

int file_pread_all(int fd, void *buf, size_t len, off_t offset)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		offset += n;
	}
	return 0;
}

int file_pwrite_all(int fd, const void *buf, size_t len, off_t offset)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
		offset += n;
	}
	return 0;
}

int file_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
