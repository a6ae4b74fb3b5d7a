// SPDX-License-Identifier: ISC
/* pools/ and a pool's directory: fixed rows, and one row for each key of its definition. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int ctl_show(struct node *n, struct strbuf *sb)
{
	pool_command_list(n->pool, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return pool_command_run(n->pool, line, caller, err);
}

static int error_show(struct node *n, struct strbuf *sb)
{
	pool_error_show(n->pool, sb);
	return 0;
}

static int state_show(struct node *n, struct strbuf *sb)
{
	strbuf_puts(sb, pool_state_name(pool_state(n->pool)));
	return 0;
}

static int key_show(struct node *n, struct strbuf *sb)
{
	return pool_key_show(n->pool, n->row->arg, sb);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return pool_key_store(n->pool, n->row->arg, text, caller, err);
}

enum { CAPACITY, ALLOCATION, FREE };
static const int space[] = {CAPACITY, ALLOCATION, FREE};

static int space_show(struct node *n, struct strbuf *sb)
{
	uint64_t bytes[nitems(space)];

	pool_space(n->pool, &bytes[CAPACITY], &bytes[ALLOCATION], &bytes[FREE]);
	strbuf_printf(sb, "%llu", (unsigned long long)bytes[*(const int *)n->row->arg]);
	return 0;
}

static const struct row before_keys[] = {
    {.name = "README",
     .kind = &kind_document,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = help_show,
     .help = "this text"},
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0666,
     .aspect = ASPECT_POOL(POOL_COMMANDS),
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_POOL(POOL_STATE),
     .show = state_show,
     .help = "inactive (no source is set), active, failed (see error)"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_POOL(POOL_ERROR),
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why the last command failed, or its storage; empty if it did not"},
};

static const struct row after_keys[] = {
    {.name = "capacity",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_POOL(POOL_CAPACITY),
     .show = space_show,
     .arg = &space[CAPACITY],
     .help = "bytes that its storage has; 0 where it cannot tell"},
    {.name = "allocation",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_POOL(POOL_CAPACITY),
     .show = space_show,
     .arg = &space[ALLOCATION],
     .help = "bytes of them that are in use"},
    {.name = "free",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_POOL(POOL_CAPACITY),
     .show = space_show,
     .arg = &space[FREE],
     .help = "bytes that are left"},
    {.name = "volumes",
     .kind = &kind_dir,
     .mode = 0777,
     .aspect = ASPECT_POOL(POOL_VOLUMES),
     .dir = DIR_VOLUMES,
     .help = "mkdir creates one, rmdir deletes it with its content"},
};

/* --- pools/ --------------------------------------------------------------------------- */

static int pools_find(struct node *dir, const char *name, struct child *child)
{
	struct pool *pool = model_pool_get(dir->fs->model, name);

	if (!pool)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_POOL, pool), child);
	return 0;
}

static bool pools_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	struct pool *pool = model_pool_next(dir->fs->model, cursor);

	(void)h;
	if (!pool)
		return false;
	child_of_thing(dir, thing_of(THING_POOL, pool), child);
	return true;
}

static size_t pools_count(struct node *dir)
{
	return model_pool_count(dir->fs->model);
}

static int pools_make(struct node *dir, const char *name, mode_t mode, const struct caller *caller,
		      struct child *child, struct err *err)
{
	struct pool *pool = NULL;
	int r = model_pool_define(dir->fs->model, name, mode & 07777, caller, &pool, err);

	if (r < 0)
		return r;
	child_of_thing(dir, thing_of(THING_POOL, pool), child);
	return 0;
}

static int pools_remove(struct node *dir, const char *name, const struct caller *caller,
			struct err *err)
{
	struct pool *pool = model_pool_get(dir->fs->model, name);
	int r;

	(void)caller;
	if (!pool)
		return err_set(err, -ENOENT, "no pool %s", name);
	r = model_pool_undefine(dir->fs->model, pool, err);
	pool_put(pool);
	return r;
}

static int pools_rename(struct node *dir, const char *name, const char *new_name, struct err *err)
{
	struct pool *pool = model_pool_get(dir->fs->model, name);
	int r;

	if (!pool)
		return err_set(err, -ENOENT, "no pool %s", name);
	r = model_pool_rename(dir->fs->model, pool, new_name, err);
	pool_put(pool);
	return r;
}

static const struct dir_ops pools_ops = {
    .find = pools_find,
    .next = pools_next,
    .count = pools_count,
    .make = pools_make,
    .remove = pools_remove,
    .rename = pools_rename,
};

static const struct row key_row = {
    .aspect = ASPECT_POOL(POOL_DEFINITION), .show = key_show, .store = key_store};

int tree_pool_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_POOL];
	int r;

	dirs[DIR_POOLS].ops = &pools_ops;
	dirs[DIR_POOLS].child = (struct row){
	    .kind = &kind_dir, .mode = 0777, .aspect = ASPECT_POOL(POOL_ACCESS), .dir = DIR_POOL};
	d->scratch = true;
	d->title = "A pool of storage.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	if (r == 0)
		r = dir_add_keys(d, pool_keys, n_pool_keys, &key_row);
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
