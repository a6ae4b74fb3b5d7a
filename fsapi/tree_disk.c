// SPDX-License-Identifier: ISC
/*
 * machines/NAME/disks: mkdir attaches a disk; its directory has one file for each key,
 * and its content as a file.
 */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static const char *disk_of(const struct node *n)
{
	return n->parent->name;
}

static int key_show(struct node *n, struct strbuf *sb)
{
	return machine_disk_key_show(n->m, disk_of(n), n->row->arg, sb);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return machine_disk_key_store(n->m, disk_of(n), n->row->arg, text, caller, err);
}

static int stats_show(struct node *n, struct strbuf *sb)
{
	char prefix[DISK_NAME_MAX + 8];

	if (!machine_disk_exists(n->m, disk_of(n)))
		return -ENOENT;
	snprintf(prefix, sizeof(prefix), "disk.%s.", disk_of(n));
	machine_stats_show_prefix(n->m, prefix, sb);
	return 0;
}

static int ctl_show(struct node *n, struct strbuf *sb)
{
	machine_disk_command_list(n->m, disk_of(n), sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return machine_disk_command_run(n->m, disk_of(n), line, caller, err);
}

static int state_show(struct node *n, struct strbuf *sb)
{
	return machine_disk_state_show(n->m, disk_of(n), sb);
}

static int layers_show(struct node *n, struct strbuf *sb)
{
	return machine_disk_layers_show(n->m, disk_of(n), sb);
}

static uint64_t image_size(struct node *n)
{
	return machine_disk_size(n->m, disk_of(n));
}

static int size_show(struct node *n, struct strbuf *sb)
{
	strbuf_printf(sb, "%llu", (unsigned long long)image_size(n));
	return 0;
}

static int image_open(struct node *n, bool write, const struct caller *caller,
		      struct content **content, struct err *err)
{
	return machine_disk_content_open(n->m, disk_of(n), write, caller, content, err);
}

static const struct image_ops image_ops = {.open = image_open, .size = image_size};

static const struct row before_keys[] = {
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0666,
     .aspect = ASPECT_DISK,
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_DISK,
     .flags = ROW_VOLATILE,
     .show = state_show,
     .help = "attached, waiting (for the guest to let go), ejected, detached"},
};

static const struct row after_keys[] = {
    {.name = "size",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_DISK_CONTENT,
     .flags = ROW_VOLATILE,
     .show = size_show,
     .help = "bytes of its content; 0 where that is not known"},
    {.name = "layers",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_DISK,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = layers_show,
     .help = "files that snapshots and clones have put over its source, the top one first"},
    {.name = "stats",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = stats_show,
     .help = "its counters"},
    {.name = "image",
     .kind = &kind_image,
     .mode = 0600,
     .aspect = ASPECT_DISK_CONTENT,
     .flags = ROW_SLOW | ROW_VOLATILE,
     .ops = &image_ops,
     .help = "its raw content as of opening, whatever its format; written while it does not run"},
};

/* --- disks/ --------------------------------------------------------------------------- */

static const struct part_ops disks = {
    .exists = machine_disk_exists,
    .at = machine_disk_at,
    .add = machine_disk_add,
    .remove = machine_disk_remove,
};

static const struct row key_row = {.aspect = ASPECT_DISK, .show = key_show, .store = key_store};

int tree_disk_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_DISK];
	int r;

	dirs[DIR_DISKS].ops = &parts_ops;
	dirs[DIR_DISKS].parts = &disks;
	dirs[DIR_DISKS].child =
	    (struct row){.kind = &kind_dir, .mode = 0777, .aspect = ASPECT_DISK, .dir = DIR_DISK};
	d->scratch = true;
	d->title = "A disk.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	if (r == 0)
		r = dir_add_keys(d, disk_keys, n_disk_keys, &key_row);
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
