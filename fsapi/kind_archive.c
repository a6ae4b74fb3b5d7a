// SPDX-License-Identifier: ISC
/*
 * machines/NEW/archive: what is written to it, from the first byte to the last, is an archive that
 * makes the machine what it is of.
 *
 * Nothing begins before the first byte comes, so that opening and truncating it do nothing. It is
 * taken, or refused, when its writer flushes, syncs or closes it: as a document is. To a reader it
 * is empty, so that a copy of the machine's directory neither waits nor carries anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int archive_size(struct node *n, uint64_t *size)
{
	(void)n;
	*size = 0;
	return 0;
}

static ssize_t archive_read(struct handle *h, void *buf, size_t len, uint64_t offset)
{
	(void)h, (void)buf, (void)len, (void)offset;
	return 0;
}

/* Nothing more is taken through this handle. With its lock. */
static int refuse(struct handle *h, int r, const struct err *err)
{
	machine_archive_abort(h->import);
	h->import = NULL;
	h->dirty = true; /* whoever closes it hears of it, too */
	h->refused = r;
	node_complain(h->node, "archive", err);
	return r;
}

static int put(struct handle *h, const char *data, size_t len, uint64_t offset,
	       const struct caller *caller, struct err *err)
{
	int r = 0;

	if (offset != h->next_offset)
		return err_set(err, -EINVAL,
			       "written at %llu: an archive is written in order, and "
			       "byte %llu is the next",
			       (unsigned long long)offset, (unsigned long long)h->next_offset);
	if (!h->import)
		r = machine_archive_begin(h->node->m, caller, &h->import, err);
	return r < 0 ? r : machine_archive_write(h->import, data, len, err);
}

static int archive_write(struct handle *h, const char *data, size_t len, uint64_t offset,
			 const struct caller *caller, struct err *err)
{
	int r;

	if (len == 0)
		return 0;
	LOCK_SCOPE(&h->lock);
	if (h->refused < 0)
		return h->refused;
	r = put(h, data, len, offset, caller, err);
	if (r < 0)
		return refuse(h, r, err);
	h->next_offset = offset + len;
	h->dirty = true;
	return 0;
}

static bool archive_write_waits(struct handle *h, const char *data, size_t len)
{
	(void)h, (void)data, (void)len;
	return true;
}

static int archive_flush(struct handle *h, const struct caller *caller, struct err *err)
{
	struct archive_import *import;
	int r;

	(void)caller;
	LOCK_SCOPE(&h->lock);
	if (!h->dirty)
		return 0;
	h->dirty = false;
	if (h->refused < 0)
		return h->refused;
	import = take_ptr(h->import);
	r = machine_archive_end(import, err);
	h->next_offset = 0; /* another may follow, where the machine takes one */
	if (r < 0)
		node_complain(h->node, "archive", err);
	return r;
}

static void archive_close(struct handle *h)
{
	if (h->import)
		machine_archive_abort(h->import);
}

const struct kind kind_archive = {
    .name = "archive",
    .format = S_IFREG,
    .size = archive_size,
    .read = archive_read,
    .write = archive_write,
    .write_waits = archive_write_waits,
    .flush = archive_flush,
    .close = archive_close,
};
