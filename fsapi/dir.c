// SPDX-License-Identifier: ISC
/*
 * Directories: a table's rows, then editors' scratch files, then the dynamic
 * children.
 *
 * An offset of readdir says which of the three parts and where in it: the
 * index of a row, the number of a scratch file, the model's own cursor. None
 * of them shifts when others come or go, and nothing is kept per listing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

#define PART_SHIFT    60
#define PART_SCRATCH  ((uint64_t)1 << PART_SHIFT)
#define PART_CHILDREN ((uint64_t)2 << PART_SHIFT)
#define PART_MASK     ((uint64_t)3 << PART_SHIFT)

const struct row *dir_row(const struct dir *d, const char *name)
{
	for (size_t i = 0; i < d->n_rows; i++)
		if (strcmp(d->rows[i].name, name) == 0)
			return &d->rows[i];
	return NULL;
}

/* What comes and goes as a row does so by its show(). */
static bool row_present(struct node *dir, const struct row *row)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct node probe = {.fs = dir->fs,
			     .parent = dir,
			     .row = row,
			     .m = dir->m,
			     .job = dir->job,
			     .pool = dir->pool,
			     .volume = dir->volume,
			     .snapshot = dir->snapshot,
			     .network = dir->network,
			     .interface = dir->interface};

	return row->kind != &kind_link || row->show(&probe, &sb) == 0;
}

int dir_lookup(struct node *dir, const char *name, struct node **n)
{
	const struct dir *d = node_dir(dir);
	const struct row *row;
	struct child child = {0};
	int r;

	if (!node_is_dir(dir))
		return -ENOTDIR;
	if (!node_alive(dir))
		return -ENOENT;
	row = dir_row(d, name);
	if (row) {
		if (!row_present(dir, row))
			return -ENOENT;
		*n = node_get(dir, row, NULL);
		if (*n && row->dir == DIR_VCPUS)
			notify_vcpus_seen(*n);
		return *n ? 0 : -ENOMEM;
	}
	if (d->scratch && scratch_lookup(dir, name, n) == 0)
		return 0;
	if (!d->ops || strlen(name) >= sizeof(child.name))
		return -ENOENT;
	r = d->ops->find(dir, name, &child);
	if (r < 0)
		return r;
	*n = node_get(dir, child.row, &child);
	return *n ? 0 : -ENOMEM;
}

static bool list_rows(struct node *dir, uint64_t offset, dir_emit *emit, void *arg)
{
	const struct dir *d = node_dir(dir);

	for (size_t i = offset; i < d->n_rows; i++) {
		const struct row *row = &d->rows[i];

		if (!row_present(dir, row))
			continue;
		if (!emit(arg, row->name, row, NULL, NULL, i + 1))
			return false;
	}
	return true;
}

static bool list_scratch(struct node *dir, uint64_t cursor, dir_emit *emit, void *arg)
{
	char name[256];

	for (;;) {
		_cleanup_node_ struct node *n = NULL;

		if (!scratch_next(dir, &cursor, name, &n))
			return true;
		if (!emit(arg, name, n->row, NULL, n, PART_SCRATCH | cursor))
			return false;
	}
}

static bool list_children(struct handle *h, uint64_t cursor, dir_emit *emit, void *arg)
{
	const struct dir *d = node_dir(h->node);

	for (;;) {
		struct child child = {0};
		bool more;

		if (!d->ops->next(h->node, h, &cursor, &child))
			return true;
		more = emit(arg, child.name, child.row, &child, NULL, PART_CHILDREN | cursor);
		child_release(&child);
		if (!more)
			return false;
	}
}

int dir_list(struct handle *h, uint64_t offset, dir_emit *emit, void *arg)
{
	struct node *dir = h->node;
	uint64_t part = offset & PART_MASK;
	uint64_t at = offset & ~PART_MASK;

	if (!node_alive(dir))
		return 0; /* as a removed directory: empty */
	if (part == 0) {
		if (!list_rows(dir, at, emit, arg))
			return 0;
		part = PART_SCRATCH;
		at = 0;
	}
	if (part == PART_SCRATCH) {
		if (node_dir(dir)->scratch && !list_scratch(dir, at, emit, arg))
			return 0;
		part = PART_CHILDREN;
		at = 0;
	}
	if (node_dir(dir)->ops)
		list_children(h, at, emit, arg);
	return 0;
}
