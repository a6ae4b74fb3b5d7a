// SPDX-License-Identifier: ISC
/*
 * Storage as commands use it: each call on a strand, so that who waits can be cancelled and never
 * waits for ever. What a call needs is copied for it; what it gives when nobody waits any
 * more is given back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "strand.h"
#include "util/cleanup.h"

struct storage_call {
	struct storage *storage;
	char name[STORAGE_NAME_MAX + 64], other[STORAGE_NAME_MAX + 64];
	uint64_t bytes;
	bool write, replace;
	char *path; /* of a file that is no volume */
	struct rights rights;
	/* what it gives */
	int fd;
	struct storage_list list;
	struct nbd_link link;
};

static void release(void *arg)
{
	struct storage_call *c = arg;

	if (c->fd >= 0)
		close(c->fd);
	if (c->link.fd >= 0)
		close(c->link.fd);
	storage_list_free(&c->list);
	storage_put(c->storage);
	free((gid_t *)c->rights.groups);
	free(c->path);
	free(c);
}

static struct storage_call *call_new(struct storage *s, const char *name, struct err *err)
{
	struct storage_call *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	c->storage = s ? storage_get(s) : NULL;
	c->fd = c->link.fd = -1;
	snprintf(c->name, sizeof(c->name), "%s", name ? name : "");
	return c;
}

/* Runs it; NULL where it failed or was left. */
static struct storage_call *run(struct storage_call *c,
				int (*fn)(void *arg, struct cancel *cancel, struct err *err),
				unsigned ms, struct cancel *cancel, int *result, struct err *err)
{
	bool left;

	*result = strand_run(fn, release, c, ms, cancel, &left, err);
	if (left)
		return NULL;
	if (*result < 0) {
		release(c);
		return NULL;
	}
	return c;
}

/* --- a file
 * --------------------------------------------------------------------------------------- */

static int do_open(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	(void)cancel;
	c->fd = c->storage->type->open(c->storage, c->name, c->write, err);
	return c->fd < 0 ? c->fd : 0;
}

int storage_open_waiting(struct storage *s, const char *name, bool write, struct cancel *cancel,
			 struct err *err)
{
	struct storage_call *c;
	int r, fd;

	if (!s->type->open)
		return err_set(err, -EOPNOTSUPP, "volumes of type %s are no files", s->type->name);
	c = call_new(s, name, err);
	if (!c)
		return -ENOMEM;
	c->write = write;
	c = run(c, do_open, COMMAND_WAIT_MS, cancel, &r, err);
	if (!c)
		return r;
	fd = take_fd(&c->fd);
	release(c);
	return fd;
}

static int do_open_path(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	(void)cancel;
	c->fd = rights_open(&c->rights, c->path, c->write ? O_RDWR : O_RDONLY, true);
	if (c->fd == -EINVAL)
		return err_set(err, c->fd, "%s is no file or block device", c->path);
	return c->fd < 0 ? err_set(err, c->fd, "%s: %s", c->path, strerror(-c->fd)) : 0;
}

int path_open_waiting(const struct rights *rights, const char *path, bool write,
		      struct cancel *cancel, struct err *err)
{
	struct storage_call *c = call_new(NULL, NULL, err);
	gid_t *groups;
	int r, fd;

	if (!c)
		return -ENOMEM;
	c->path = strdup(path);
	c->write = write;
	groups = calloc(rights->n_groups + 1, sizeof(*groups));
	if (!c->path || !groups) {
		free(groups);
		release(c);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (rights->n_groups)
		memcpy(groups, rights->groups, rights->n_groups * sizeof(*groups));
	c->rights = (struct rights){rights->uid, rights->gid, groups, rights->n_groups};
	c = run(c, do_open_path, COMMAND_WAIT_MS, cancel, &r, err);
	if (!c)
		return r;
	fd = take_fd(&c->fd);
	release(c);
	return fd;
}

static int do_attach(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	return c->storage->type->attach(c->storage, c->name, c->write, cancel, &c->link, err);
}

int storage_attach_waiting(struct storage *s, const char *name, bool write, struct cancel *cancel,
			   struct nbd_link *link, struct err *err)
{
	struct storage_call *c = call_new(s, name, err);
	int r;

	if (!c)
		return -ENOMEM;
	c->write = write;
	c = run(c, do_attach, COMMAND_WAIT_MS, cancel, &r, err);
	if (!c)
		return r;
	*link = c->link;
	c->link.fd = -1;
	release(c);
	return 0;
}

/* --- making, removing
 * --------------------------------------------------------------------------------
 */

static int do_create(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;
	int r = c->storage->type->create(c->storage, c->name, c->bytes, cancel, c->other, err);

	c->fd = c->other[0] ? r : -1;
	return r < 0 ? r : 0;
}

int storage_create_waiting(struct storage *s, const char *name, uint64_t bytes,
			   struct cancel *cancel, char hidden[STORAGE_NAME_MAX + 64],
			   struct err *err)
{
	struct storage_call *c = call_new(s, name, err);
	int r, fd;

	if (!c)
		return -ENOMEM;
	c->bytes = bytes;
	c = run(c, do_create, s->type->resize ? 10 * COMMAND_WAIT_MS : COMMAND_WAIT_MS, cancel, &r,
		err);
	if (!c)
		return r;
	strcpy(hidden, c->other);
	fd = take_fd(&c->fd);
	release(c);
	return hidden[0] ? fd : 0;
}

static int do_rename(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	(void)cancel;
	return c->storage->type->rename(c->storage, c->other, c->name, c->replace, err);
}

/* What is renamed is renamed: not to be cancelled, only not waited for for ever. */
int storage_rename_waiting(struct storage *s, const char *hidden, const char *name, bool replace,
			   struct cancel *cancel, struct err *err)
{
	struct storage_call *c = call_new(s, name, err);
	int r;

	(void)cancel;
	if (!c)
		return -ENOMEM;
	snprintf(c->other, sizeof(c->other), "%s", hidden);
	c->replace = replace;
	c = run(c, do_rename, COMMAND_WAIT_MS, NULL, &r, err);
	if (!c)
		return r;
	release(c);
	return 0;
}

static int do_remove(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	return c->storage->type->remove(c->storage, c->name, cancel, err);
}

int storage_remove_waiting(struct storage *s, const char *name, struct cancel *cancel,
			   struct err *err)
{
	struct storage_call *c = call_new(s, name, err);
	int r;

	if (!c)
		return -ENOMEM;
	c = run(c, do_remove, COMMAND_WAIT_MS, cancel, &r, err);
	if (!c)
		return r;
	release(c);
	return 0;
}

static int do_resize(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	return c->storage->type->resize(c->storage, c->name, c->bytes, cancel, err);
}

int storage_resize_waiting(struct storage *s, const char *name, uint64_t bytes,
			   struct cancel *cancel, struct err *err)
{
	struct storage_call *c = call_new(s, name, err);
	int r;

	if (!c)
		return -ENOMEM;
	c->bytes = bytes;
	c = run(c, do_resize, 10 * COMMAND_WAIT_MS, cancel, &r, err);
	if (!c)
		return r;
	release(c);
	return 0;
}

static int do_list(void *arg, struct cancel *cancel, struct err *err)
{
	struct storage_call *c = arg;

	return c->storage->type->list(c->storage, cancel, &c->list, err);
}

int storage_list_waiting(struct storage *s, struct cancel *cancel, struct storage_list *list,
			 struct err *err)
{
	struct storage_call *c = call_new(s, NULL, err);
	int r;

	if (!c)
		return -ENOMEM;
	c = run(c, do_list, STORAGE_WAIT_MS, cancel, &r, err);
	if (!c)
		return r;
	*list = c->list;
	memset(&c->list, 0, sizeof(c->list));
	release(c);
	return 0;
}
