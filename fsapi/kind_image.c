// SPDX-License-Identifier: ISC
/*
 * Images: the raw content of a volume or disk as a file, whatever its format
 * (content.h).
 *
 * Whatever is done with an open one may wait for storage, which may hang: all of it
 * runs on threads of the crew, in the lane of the image's node, and a client that is
 * killed meanwhile is answered at once (call.c). It is read and written past the page
 * cache, so that each open file has the content as of its open, and what was written is
 * what the next reader gets. Those whose row has no mode to write are only read, whoever asks.
 *
 * To a copier the file is one that exists: O_TRUNC and truncate(2) to 0 make it read as
 * zeroes and keep its size, so that what is copied into it ends in zeroes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static const struct image_ops *image_ops(const struct node *n)
{
	return n->row->ops;
}

static int image_size(struct node *n, uint64_t *size)
{
	*size = image_ops(n)->size(n);
	return 0;
}

/*
 * Copiers look for holes where a file occupies less than its size, so that is said where it is
 * not known how much; but never nothing, which tar(1) takes for a file of zeroes.
 */
static uint64_t image_occupies(struct node *n)
{
	uint64_t size = image_ops(n)->size(n);
	uint64_t bytes = image_ops(n)->occupies ? image_ops(n)->occupies(n) : 0;

	if (bytes < 4096)
		bytes = 4096;
	return bytes < size ? bytes : size;
}

/* Words for what storage refused; -errno is handed on. */
static int complain(struct handle *h, int r, const char *what, uint64_t offset)
{
	struct err err = ERR_INIT;

	if (r == -ENOSPC && offset >= content_size(h->content))
		err_set(&err, r, "%s at %llu: its size is %llu", what, (unsigned long long)offset,
			(unsigned long long)content_size(h->content));
	else
		err_set(&err, r, "%s at %llu: %s", what, (unsigned long long)offset, strerror(-r));
	node_complain(h->node, h->node->row->name, &err);
	return r;
}

static void mark_dirty(struct handle *h)
{
	LOCK_SCOPE(&h->lock);
	h->dirty = true;
}

static int image_resize(struct handle *h, uint64_t size)
{
	int r = content_resize(h->content, size);

	mark_dirty(h);
	return r < 0 ? complain(h, r, "a size", size) : 0;
}

static int image_open(struct handle *h, const struct caller *caller, struct err *err)
{
	struct node *n = h->node;
	int r;

	if (h->writable && (n->row->mode & 0222) == 0)
		return -EACCES;
	r = image_ops(n)->open(n, h->writable, caller, &h->content, err);
	if (r == -ENXIO && !h->writable)
		return 0; /* there is none: an empty file, which copiers can read */
	if (r < 0)
		return r;
	if (h->writable && (h->flags & O_TRUNC))
		r = image_resize(h, 0);
	if (r < 0) {
		content_close(h->content);
		h->content = NULL;
	}
	return r;
}

static ssize_t image_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	return h->content ? content_read(h->content, buf, len, offset) : 0;
}

static int image_write(struct handle *h, const char *data, size_t len, uint64_t offset,
		       const struct caller *caller, struct err *err)
{
	int r;

	(void)caller;
	(void)err;
	if (len == 0)
		return 0;
	r = content_write(h->content, data, len, offset);
	mark_dirty(h);
	return r < 0 ? complain(h, r, "written", offset + len) : 0;
}

static bool image_write_waits(struct handle *h, const char *data, size_t len)
{
	(void)h;
	(void)data;
	(void)len;
	return true;
}

static int image_flush(struct handle *h, const struct caller *caller, struct err *err)
{
	int r;

	(void)caller;
	pthread_mutex_lock(&h->lock);
	h->dirty = false;
	pthread_mutex_unlock(&h->lock);
	r = h->content ? content_flush(h->content) : 0;
	if (r < 0) {
		mark_dirty(h);
		err_set(err, r, "%s", strerror(-r));
		node_complain(h->node, h->node->row->name, err);
	}
	return r;
}

static int64_t image_seek(struct handle *h, int64_t offset, int whence)
{
	return h->content ? content_seek(h->content, offset, whence) : -ENXIO;
}

/* What mode 0 promises, that writing will find space, no format can: its range is merely there. */
static int image_allocate(struct handle *h, int mode, uint64_t offset, uint64_t len)
{
	uint64_t size = h->content ? content_size(h->content) : 0;
	bool keep = (mode & FALLOC_FL_KEEP_SIZE) != 0;
	int how = mode & ~FALLOC_FL_KEEP_SIZE;
	int r = 0;

	if (how != 0 && how != FALLOC_FL_ZERO_RANGE && how != FALLOC_FL_PUNCH_HOLE)
		return -EOPNOTSUPP;
	if (len == 0 || offset > INT64_MAX - len)
		return -EINVAL;
	if (!keep && offset + len > size) {
		r = image_resize(h, offset + len);
		if (r == 0 && offset + len > content_size(h->content))
			r = complain(h, -ENOSPC, "allocated", offset + len);
	}
	if (r < 0 || how == 0 || offset >= size)
		return r;
	if (len > size - offset)
		len = size - offset;
	r = content_zero(h->content, offset, len, how == FALLOC_FL_PUNCH_HOLE);
	mark_dirty(h);
	return r < 0 ? complain(h, r, "zeroes", offset) : 0;
}

static void image_close(struct handle *h)
{
	content_close(h->content);
}

const struct kind kind_image = {
    .name = "blob",
    .format = S_IFREG,
    .size = image_size,
    .open = image_open,
    .read = image_read,
    .write = image_write,
    .write_waits = image_write_waits,
    .flush = image_flush,
    .seek = image_seek,
    .resize = image_resize,
    .allocate = image_allocate,
    .occupies = image_occupies,
    .close = image_close,
    .storage = true,
};
