// SPDX-License-Identifier: ISC
/*
 * machines/NAME/snapshots: mkdir takes one, and its directory has what the machine was then: as
 * values, as its definition, as the content of its disks and memory. Nothing in there changes but
 * what is known of it (size, parent, whether there is an archive), so that a copy of the directory
 * is a backup.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int ctl_show(struct node *n, struct strbuf *sb)
{
	snapshot_command_list(n->snapshot, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return snapshot_command_run(n->snapshot, line, caller, err);
}

static int error_show(struct node *n, struct strbuf *sb)
{
	snapshot_error_show(n->snapshot, sb);
	return 0;
}

static int state_show(struct node *n, struct strbuf *sb)
{
	snapshot_state_show(n->snapshot, sb);
	return 0;
}

/* ISO 8601, UTC. */
static int time_show(struct node *n, struct strbuf *sb)
{
	struct timespec ts = snapshot_time(n->snapshot);
	char text[32];
	struct tm tm;

	if (!gmtime_r(&ts.tv_sec, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm))
		return -EOVERFLOW;
	strbuf_printf(sb, "%s.%03ldZ", text, ts.tv_nsec / 1000000);
	return 0;
}

static int pause_show(struct node *n, struct strbuf *sb)
{
	strbuf_printf(sb, "%llu", (unsigned long long)(snapshot_pause_ns(n->snapshot) / 1000));
	return 0;
}

static int parent_show(struct node *n, struct strbuf *sb)
{
	snapshot_parent_show(n->snapshot, sb);
	return 0;
}

static int size_show(struct node *n, struct strbuf *sb)
{
	snapshot_size_show(n->snapshot, sb);
	return 0;
}

static int config_show(struct node *n, struct strbuf *sb)
{
	return snapshot_config_show(n->snapshot, sb);
}

/* --- memory, core and archive: empty files where there is none ------------------------ */

static int or_nothing(int r)
{
	return r == -ENODEV || r == -ENOENT ? -ENXIO : r;
}

static int memory_open(struct node *n, bool write, const struct caller *caller,
		       struct content **content, struct err *err)
{
	(void)write, (void)caller;
	return or_nothing(snapshot_memory_open(n->snapshot, content, err));
}

static uint64_t memory_size(struct node *n)
{
	return snapshot_memory_size(n->snapshot);
}

static int core_open(struct node *n, bool write, const struct caller *caller,
		     struct content **content, struct err *err)
{
	(void)write, (void)caller;
	return or_nothing(snapshot_core_open(n->snapshot, content, err));
}

static uint64_t snapshot_core_bytes(struct node *n)
{
	return snapshot_core_size(n->snapshot);
}

static int archive_open(struct node *n, bool write, const struct caller *caller,
			struct content **content, struct err *err)
{
	int fd = snapshot_archive_open(n->snapshot, err);

	(void)write, (void)caller;
	return fd < 0 ? or_nothing(fd) : content_fd_open(content, fd);
}

static uint64_t archive_size(struct node *n)
{
	return snapshot_archive_size(n->snapshot);
}

static const struct image_ops memory_ops = {.open = memory_open, .size = memory_size};
static const struct image_ops core_ops = {.open = core_open, .size = snapshot_core_bytes};
static const struct image_ops archive_ops = {
    .open = archive_open, .size = archive_size, .occupies = archive_size};

static const struct row snapshot_rows[] = {
    {.name = "README",
     .kind = &kind_document,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = help_show,
     .help = "this text"},
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0666,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_COMMANDS),
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_ERROR),
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why the last command failed; empty if it did not"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .show = state_show,
     .help = "what the machine was: running, paused (both with memory), stopped (disks alone)"},
    {.name = "time",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .show = time_show,
     .help = "the instant that it is of, in UTC"},
    {.name = "pause_us",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .show = pause_show,
     .help = "for how many microseconds the guest stood still for it"},
    {.name = "parent",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_PARENT),
     .flags = ROW_MAY_BE_EMPTY,
     .show = parent_show,
     .help = "the snapshot that the machine had gone on from; it stores what differs"},
    {.name = "size",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_SIZE),
     .show = size_show,
     .help = "bytes on disk: `own` go with it, `shared` are needed by others, too"},
    {.name = "config",
     .kind = &kind_document,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .show = config_show,
     .help = "the machine's definition as of then"},
    {.name = "memory",
     .kind = &kind_image,
     .mode = 0400,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .flags = ROW_SLOW,
     .ops = &memory_ops,
     .help = "the guest's memory, by physical address; empty without"},
    {.name = "core",
     .kind = &kind_image,
     .mode = 0400,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .flags = ROW_SLOW,
     .ops = &core_ops,
     .help = "an ELF core of it, for gdb and crash"},
    {.name = "disks",
     .kind = &kind_dir,
     .mode = 0555,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .dir = DIR_SNAPSHOT_DISKS,
     .help = "its disks as of then"},
    {.name = "archive",
     .kind = &kind_image,
     .mode = 0400,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_ARCHIVE),
     .flags = ROW_SLOW,
     .ops = &archive_ops,
     .help = "all of it in one file, for machines/NEW/archive elsewhere; empty until "
	     "`archive` made it"},
};

/* --- snapshots/ ----------------------------------------------------------------------- */

static int snapshots_find(struct node *dir, const char *name, struct child *child)
{
	struct snapshot *s = machine_snapshot_get(dir->m, name);

	if (!s)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_SNAPSHOT, s), child);
	return 0;
}

static bool snapshots_next(struct node *dir, struct handle *h, uint64_t *cursor,
			   struct child *child)
{
	struct snapshot *s = machine_snapshot_next(dir->m, cursor);

	(void)h;
	if (!s)
		return false;
	child_of_thing(dir, thing_of(THING_SNAPSHOT, s), child);
	return true;
}

static size_t snapshots_count(struct node *dir)
{
	return machine_snapshot_count(dir->m);
}

static int snapshots_make(struct node *dir, const char *name, mode_t mode,
			  const struct caller *caller, struct child *child, struct err *err)
{
	struct snapshot *s = NULL;
	int r = machine_snapshot_make(dir->m, name, caller, &s, err);

	(void)mode; /* its directory is the machine's */
	if (r < 0)
		return r;
	child_of_thing(dir, thing_of(THING_SNAPSHOT, s), child);
	return 0;
}

static int snapshots_remove(struct node *dir, const char *name, const struct caller *caller,
			    struct err *err)
{
	_cleanup_snapshot_ struct snapshot *s = machine_snapshot_get(dir->m, name);

	if (!s)
		return err_set(err, -ENOENT, "no snapshot %s", name);
	return machine_snapshot_remove(dir->m, s, caller, err);
}

static int snapshots_rename(struct node *dir, const char *name, const char *new_name,
			    struct err *err)
{
	_cleanup_snapshot_ struct snapshot *s = machine_snapshot_get(dir->m, name);

	if (!s)
		return err_set(err, -ENOENT, "no snapshot %s", name);
	return machine_snapshot_rename(dir->m, s, new_name, err);
}

static const struct dir_ops snapshots_ops = {
    .find = snapshots_find,
    .next = snapshots_next,
    .count = snapshots_count,
    .make = snapshots_make,
    .remove = snapshots_remove,
    .rename = snapshots_rename,
};

/* --- snapshots/NAME/disks ------------------------------------------------------------- */

static const char *disk_of(const struct node *n)
{
	return n->parent->name;
}

static int key_show(struct node *n, struct strbuf *sb)
{
	return snapshot_disk_key_show(n->snapshot, disk_of(n), n->row->arg, sb);
}

static uint64_t image_size(struct node *n)
{
	return snapshot_disk_size(n->snapshot, disk_of(n));
}

static int disk_size_show(struct node *n, struct strbuf *sb)
{
	strbuf_printf(sb, "%llu", (unsigned long long)image_size(n));
	return 0;
}

static int image_open(struct node *n, bool write, const struct caller *caller,
		      struct content **content, struct err *err)
{
	(void)write;
	return or_nothing(
	    snapshot_disk_content_open(n->snapshot, disk_of(n), caller, content, err));
}

static const struct image_ops image_ops = {.open = image_open, .size = image_size};

static const struct row disk_rows[] = {
    {.name = "size",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .show = disk_size_show,
     .help = "bytes of its content"},
    {.name = "image",
     .kind = &kind_image,
     .mode = VOLUME_IMAGE_MODE & 0444,
     .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
     .flags = ROW_SLOW,
     .ops = &image_ops,
     .help = "its raw content as of then, whatever its format"},
};

static void disk_child(struct node *dir, const char *name, struct child *child)
{
	snprintf(child->name, sizeof(child->name), "%s", name);
	child->row = &node_dir(dir)->child;
}

static int disks_find(struct node *dir, const char *name, struct child *child)
{
	if (!snapshot_disk_exists(dir->snapshot, name))
		return -ENOENT;
	disk_child(dir, name, child);
	return 0;
}

static bool disks_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	char name[DISK_NAME_MAX + 1];

	(void)h;
	if (!snapshot_disk_at(dir->snapshot, *cursor, name))
		return false;
	(*cursor)++;
	disk_child(dir, name, child);
	return true;
}

static size_t disks_count(struct node *dir)
{
	char name[DISK_NAME_MAX + 1];
	size_t n = 0;

	while (snapshot_disk_at(dir->snapshot, n, name))
		n++;
	return n;
}

static const struct dir_ops disks_ops = {
    .find = disks_find, .next = disks_next, .count = disks_count};

static int disk_build(struct dir *d)
{
	int r = 0;

	d->title = "A disk as of a snapshot.";
	for (size_t i = 0; r == 0 && i < n_disk_keys; i++) {
		const struct row row = {
		    .name = disk_keys[i].name,
		    .kind = &kind_attribute,
		    .mode = 0444,
		    .aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
		    .show = key_show,
		    .arg = &disk_keys[i],
		    .help = disk_keys[i].help,
		};

		r = dir_add_rows(d, &row, 1);
	}
	return r < 0 ? r : dir_add_rows(d, disk_rows, nitems(disk_rows));
}

int tree_snapshot_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_SNAPSHOTS];

	d->ops = &snapshots_ops;
	d->takes_long = true;
	d->no_copies = true;
	d->child = (struct row){.kind = &kind_dir,
				.mode = 0777,
				.aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
				.dir = DIR_SNAPSHOT};
	dirs[DIR_SNAPSHOT].title = "A snapshot: what a machine was.";
	dirs[DIR_SNAPSHOT].rows = snapshot_rows;
	dirs[DIR_SNAPSHOT].n_rows = nitems(snapshot_rows);
	d = &dirs[DIR_SNAPSHOT_DISKS];
	d->ops = &disks_ops;
	d->child = (struct row){.kind = &kind_dir,
				.mode = 0555,
				.aspect = ASPECT_SNAPSHOT(SNAPSHOT_FIXED),
				.dir = DIR_SNAPSHOT_DISK};
	return disk_build(&dirs[DIR_SNAPSHOT_DISK]);
}
