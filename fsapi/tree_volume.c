// SPDX-License-Identifier: ISC
/* pools/NAME/volumes/ and a volume's directory: what is known of it, and its content as a file. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int ctl_show(struct node *n, struct strbuf *sb)
{
	volume_command_list(n->volume, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return volume_command_run(n->volume, line, caller, err);
}

static int error_show(struct node *n, struct strbuf *sb)
{
	volume_error_show(n->volume, sb);
	return 0;
}

static int key_show(struct node *n, struct strbuf *sb)
{
	return volume_key_show(n->volume, n->row->arg, sb);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return volume_key_store(n->volume, n->row->arg, text, caller, err);
}

static int allocation_show(struct node *n, struct strbuf *sb)
{
	strbuf_printf(sb, "%llu", (unsigned long long)volume_allocation(n->volume));
	return 0;
}

static int users_show(struct node *n, struct strbuf *sb)
{
	volume_users_show(n->volume, sb);
	return 0;
}

static int info_show(struct node *n, struct strbuf *sb)
{
	volume_info_show(n->volume, sb);
	return 0;
}

static int snapshots_show(struct node *n, struct strbuf *sb)
{
	volume_snapshots_show(n->volume, sb);
	return 0;
}

static int image_open(struct node *n, bool write, const struct caller *caller,
		      struct content **content, struct err *err)
{
	return volume_content_open(n->volume, write, caller, content, err);
}

static uint64_t image_size(struct node *n)
{
	return volume_size(n->volume);
}

static uint64_t image_occupies(struct node *n)
{
	return volume_allocation(n->volume);
}

static const struct image_ops image_ops = {
    .open = image_open,
    .size = image_size,
    .occupies = image_occupies,
};

static const struct row before_keys[] = {
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0666,
     .aspect = ASPECT_VOLUME(VOLUME_COMMANDS),
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_VOLUME(VOLUME_ERROR),
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why the last command failed; empty if it did not"},
};

static const struct row after_keys[] = {
    {.name = "allocation",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_VOLUME(VOLUME_ALLOCATION),
     .show = allocation_show,
     .help = "bytes that it occupies in its pool"},
    {.name = "users",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_VOLUME(VOLUME_USERS),
     .flags = ROW_MAY_BE_EMPTY,
     .show = users_show,
     .help = "the machines that run with it, MACHINE disks/NAME"},
    {.name = "info",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_VOLUME(VOLUME_DEFINITION),
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = info_show,
     .help = "what is known of its format, `key value`"},
    {.name = "snapshots",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_VOLUME(VOLUME_DEFINITION),
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = snapshots_show,
     .help = "its internal snapshots, NAME id=N size=N time=N"},
    {.name = "image",
     .kind = &kind_image,
     .mode = VOLUME_IMAGE_MODE,
     .aspect = ASPECT_VOLUME(VOLUME_CONTENT),
     .flags = ROW_SLOW | ROW_VOLATILE,
     .ops = &image_ops,
     .help = "its raw content, whatever its format; written while no machine uses it"},
};

/* --- volumes/ ------------------------------------------------------------------------- */

static int volumes_find(struct node *dir, const char *name, struct child *child)
{
	struct volume *volume = pool_volume_get(dir->pool, name);

	if (!volume)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_VOLUME, volume), child);
	return 0;
}

static bool volumes_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	struct volume *volume = pool_volume_next(dir->pool, cursor);

	(void)h;
	if (!volume)
		return false;
	child_of_thing(dir, thing_of(THING_VOLUME, volume), child);
	return true;
}

static size_t volumes_count(struct node *dir)
{
	return pool_volume_count(dir->pool);
}

static int volumes_make(struct node *dir, const char *name, mode_t mode,
			const struct caller *caller, struct child *child, struct err *err)
{
	struct volume *volume = NULL;
	int r = pool_volume_make(dir->pool, name, mode & 07777, caller, &volume, err);

	if (r < 0)
		return r;
	child_of_thing(dir, thing_of(THING_VOLUME, volume), child);
	return 0;
}

static int volumes_remove(struct node *dir, const char *name, const struct caller *caller,
			  struct err *err)
{
	struct volume *volume = pool_volume_get(dir->pool, name);
	int r;

	if (!volume)
		return err_set(err, -ENOENT, "no volume %s", name);
	r = pool_volume_remove(dir->pool, volume, caller, err);
	volume_put(volume);
	return r;
}

static const struct dir_ops volumes_ops = {
    .find = volumes_find,
    .next = volumes_next,
    .count = volumes_count,
    .make = volumes_make,
    .remove = volumes_remove,
};

static const struct row key_row = {
    .aspect = ASPECT_VOLUME(VOLUME_DEFINITION), .show = key_show, .store = key_store};

int tree_volume_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_VOLUME];
	int r;

	dirs[DIR_VOLUMES].ops = &volumes_ops;
	dirs[DIR_VOLUMES].child = (struct row){.kind = &kind_dir,
					       .mode = 0777,
					       .aspect = ASPECT_VOLUME(VOLUME_DEFINITION),
					       .dir = DIR_VOLUME};
	d->scratch = true;
	d->title = "A volume.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	if (r == 0)
		r = dir_add_keys(d, volume_keys, n_volume_keys, &key_row);
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
