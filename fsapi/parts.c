// SPDX-License-Identifier: ISC
/*
 * Directories of a machine's parts (disks/, nics/): what is in them is known by its name, and has
 * the order of attachment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static void part_child(struct node *dir, const char *name, struct child *child)
{
	snprintf(child->name, sizeof(child->name), "%s", name);
	child->row = &node_dir(dir)->child;
}

static int find(struct node *dir, const char *name, struct child *child)
{
	if (!node_dir(dir)->parts->exists(dir->m, name))
		return -ENOENT;
	part_child(dir, name, child);
	return 0;
}

/* Removing one shifts those after it, so a listing keeps the names that it began with. */
static void list(struct node *dir, struct handle *h)
{
	char name[DISK_NAME_MAX + 1];

	free(h->listing);
	h->listing = NULL;
	h->n_listing = 0;
	while (node_dir(dir)->parts->at(dir->m, h->n_listing, name)) {
		void *more = realloc(h->listing, (h->n_listing + 1) * sizeof(h->listing[0]));

		if (!more)
			return;
		h->listing = more;
		memcpy(h->listing[h->n_listing++], name, sizeof(name));
	}
}

static bool next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	LOCK_SCOPE(&h->lock);
	if (*cursor == 0)
		list(dir, h);
	while (*cursor < h->n_listing) {
		const char *name = h->listing[(*cursor)++];

		if (node_dir(dir)->parts->exists(dir->m, name)) {
			part_child(dir, name, child);
			return true;
		}
	}
	return false;
}

static size_t count(struct node *dir)
{
	char name[DISK_NAME_MAX + 1];
	size_t n = 0;

	while (node_dir(dir)->parts->at(dir->m, n, name))
		n++;
	return n;
}

static int make(struct node *dir, const char *name, mode_t mode, const struct caller *caller,
		struct child *child, struct err *err)
{
	int r = node_dir(dir)->parts->add(dir->m, name, caller, err);

	(void)mode;
	if (r < 0)
		return r;
	part_child(dir, name, child);
	return 0;
}

static int remove_part(struct node *dir, const char *name, const struct caller *caller,
		       struct err *err)
{
	return node_dir(dir)->parts->remove(dir->m, name, caller, err);
}

const struct dir_ops parts_ops = {
    .find = find,
    .next = next,
    .count = count,
    .make = make,
    .remove = remove_part,
};
