// SPDX-License-Identifier: ISC
/* Content as a file, whatever is behind it. See content.h, and content_int.h for the kinds. */
#include <errno.h>
#include <unistd.h>

#include "content_int.h"

uint64_t content_size(struct content *content)
{
	return content->ops->size(content);
}

ssize_t content_read(struct content *content, void *buf, size_t len, uint64_t offset)
{
	return content->ops->read(content, buf, len, offset);
}

int content_write(struct content *content, const void *buf, size_t len, uint64_t offset)
{
	return content->ops->write ? content->ops->write(content, buf, len, offset) : -EBADF;
}

int content_resize(struct content *content, uint64_t size)
{
	return content->ops->resize ? content->ops->resize(content, size) : -EBADF;
}

int content_zero(struct content *content, uint64_t offset, uint64_t len, bool punch)
{
	return content->ops->zero ? content->ops->zero(content, offset, len, punch) : -EBADF;
}

int content_flush(struct content *content)
{
	return content->ops->flush ? content->ops->flush(content) : 0;
}

int64_t content_seek(struct content *content, int64_t offset, int whence)
{
	return content->ops->seek(content, offset, whence);
}

int content_close(struct content *content)
{
	return content ? content->ops->close(content) : 0;
}

/* --- SEEK_DATA, SEEK_HOLE ----------------------------------------------------------------------
 */

int64_t content_seek_extents(struct content *content, uint64_t size, int64_t offset, int whence,
			     content_extent_fn *extent)
{
	uint64_t at = (uint64_t)offset;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (offset < 0 || at >= size)
		return -ENXIO;
	while (at < size) {
		uint64_t alike = 0;
		bool zero = false;
		int r = extent(content, at, size - at, &alike, &zero);

		if (r < 0)
			return r;
		if (zero == (whence == SEEK_HOLE))
			return (int64_t)at;
		if (alike == 0 || alike > size - at)
			return -EIO;
		at += alike;
	}
	return whence == SEEK_HOLE ? (int64_t)size : -ENXIO;
}
