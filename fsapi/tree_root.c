// SPDX-License-Identifier: ISC
/*
 * The root of the tree, the directory of machines, and how the tables of all
 * directories are put together.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"
#include "version.h"

static int version_show(struct node *n, struct strbuf *sb)
{
	(void)n;
	strbuf_printf(sb, "release %s\ntree %d\n", FILEVISOR_RELEASE, FILEVISOR_VERSION);
	return 0;
}

static int ctl_show(struct node *n, struct strbuf *sb)
{
	model_command_list(n->fs->model, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return model_command_run(n->fs->model, line, caller, err);
}

static int error_show(struct node *n, struct strbuf *sb)
{
	model_error_show(n->fs->model, sb);
	return 0;
}

static int events_open(struct node *n)
{
	return model_events_open(n->fs->model, n->row->arg != NULL);
}

static int events_stat(struct node *n, uint64_t *size, struct timespec *mtime)
{
	return model_events_stat(n->fs->model, n->row->arg != NULL, size, mtime);
}

static const struct log_ops events_ops = {.open = events_open, .stat = events_stat};

/* What the tree itself uses: a leak shows here first. */
static int stats_show(struct node *n, struct strbuf *sb)
{
	struct fsapi *fs = n->fs;
	struct notifier_stats nt;

	notifier_stats(fs->notifier, &nt);
	strbuf_printf(sb, "machines %zu\n", model_machine_count(fs->model));
	strbuf_printf(sb, "pools %zu\n", model_pool_count(fs->model));
	strbuf_printf(sb, "networks %zu\n", model_network_count(fs->model));
	strbuf_printf(sb, "nodes %llu\n", (unsigned long long)atomic_load(&fs->n_nodes));
	strbuf_printf(sb, "handles %llu\n", (unsigned long long)atomic_load(&fs->n_handles));
	strbuf_printf(sb, "requests %llu\n", (unsigned long long)atomic_load(&fs->n_calls));
	strbuf_printf(sb, "notifications_queued %llu\n", (unsigned long long)nt.queued);
	strbuf_printf(sb, "notifications_sent %llu\n", (unsigned long long)nt.sent);
	strbuf_printf(sb, "notifications_dropped %llu\n", (unsigned long long)nt.dropped);
	pthread_mutex_lock(&fs->lock);
	strbuf_printf(sb, "scratch_bytes %zu\n", fs->scratch_bytes);
	pthread_mutex_unlock(&fs->lock);
	return 0;
}

static const struct row root_rows[] = {
    {.name = "README",
     .kind = &kind_document,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = help_show,
     .help = "this text"},
    {.name = "version",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = version_show,
     .help = "of the program, and of the tree's format"},
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0644,
     .aspect = ASPECT_FIXED,
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands to the daemon; reading lists them"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_EVENTS,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = error_show,
     .help = "why the last such command, or mkdir of a machine or pool, was refused"},
    {.name = "events",
     .kind = &kind_log,
     .mode = 0444,
     .aspect = ASPECT_EVENTS,
     .ops = &events_ops,
     .help = "every command and change of state, one JSON object a line"},
    {.name = "events.old",
     .kind = &kind_log,
     .mode = 0444,
     .aspect = ASPECT_EVENTS,
     .ops = &events_ops,
     .arg = "old",
     .help = "what was too old for `events`"},
    {.name = "stats",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_HOST,
     .flags = ROW_VOLATILE,
     .show = stats_show,
     .help = "what the daemon itself uses"},
    {.name = "host",
     .kind = &kind_dir,
     .mode = 0555,
     .aspect = ASPECT_FIXED,
     .dir = DIR_HOST,
     .help = "what this host offers"},
    {.name = "jobs",
     .kind = &kind_dir,
     .mode = 01777,
     .aspect = ASPECT_JOBLIST,
     .dir = DIR_JOBS,
     .help = "long commands under way; rmdir cancels one"},
    {.name = "machines",
     .kind = &kind_dir,
     .mode = 01777,
     .aspect = ASPECT_MACHINES,
     .dir = DIR_MACHINES,
     .help = "mkdir defines one, rmdir undefines it, mv renames it"},
    {.name = "networks",
     .kind = &kind_dir,
     .mode = 01777,
     .aspect = ASPECT_NETWORKS,
     .dir = DIR_NETWORKS,
     .help = "mkdir defines one (its machines reach the host and what it reaches), rmdir, mv"},
    {.name = "pools",
     .kind = &kind_dir,
     .mode = 01777,
     .aspect = ASPECT_POOLS,
     .dir = DIR_POOLS,
     .help = "storage: mkdir defines one, rmdir forgets it, mv renames it"},
};

/* --- machines/ ------------------------------------------------------------------------ */

static int machines_find(struct node *dir, const char *name, struct child *child)
{
	struct machine *m = model_machine_get(dir->fs->model, name);

	if (!m)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_MACHINE, m), child);
	return 0;
}

static bool machines_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	struct machine *m = model_machine_next(dir->fs->model, cursor);

	(void)h;
	if (!m)
		return false;
	child_of_thing(dir, thing_of(THING_MACHINE, m), child);
	return true;
}

static size_t machines_count(struct node *dir)
{
	return model_machine_count(dir->fs->model);
}

static int machines_make(struct node *dir, const char *name, mode_t mode,
			 const struct caller *caller, struct child *child, struct err *err)
{
	struct machine *m = NULL;
	int r;

	r = model_machine_define(dir->fs->model, name, mode & 07777, caller, &m, err);
	if (r < 0)
		return r;
	child_of_thing(dir, thing_of(THING_MACHINE, m), child);
	return 0;
}

static int machines_remove(struct node *dir, const char *name, const struct caller *caller,
			   struct err *err)
{
	struct machine *m = model_machine_get(dir->fs->model, name);
	int r;

	(void)caller;
	if (!m)
		return err_set(err, -ENOENT, "no machine %s", name);
	r = model_machine_undefine(dir->fs->model, m, err);
	machine_put(m);
	return r;
}

static int machines_rename(struct node *dir, const char *name, const char *new_name,
			   struct err *err)
{
	struct machine *m = model_machine_get(dir->fs->model, name);
	int r;

	if (!m)
		return err_set(err, -ENOENT, "no machine %s", name);
	r = model_machine_rename(dir->fs->model, m, new_name, err);
	machine_put(m);
	return r;
}

static const struct dir_ops machines_ops = {
    .find = machines_find,
    .next = machines_next,
    .count = machines_count,
    .make = machines_make,
    .remove = machines_remove,
    .rename = machines_rename,
};

int tree_root_build(struct dir dirs[DIR_MAX])
{
	dirs[DIR_ROOT].rows = root_rows;
	dirs[DIR_ROOT].n_rows = nitems(root_rows);
	dirs[DIR_ROOT].title = "filevisor: a hypervisor that is a file system";
	dirs[DIR_MACHINES].ops = &machines_ops;
	dirs[DIR_MACHINES].child = (struct row){
	    .kind = &kind_dir, .mode = 0777, .aspect = ASPECT_ACCESS, .dir = DIR_MACHINE};
	return 0;
}

/* --- all tables ----------------------------------------------------------------------- */

int dir_add_rows(struct dir *d, const struct row *rows, size_t n)
{
	struct row *made = realloc(d->made, (d->n_rows + n) * sizeof(made[0]));

	if (!made)
		return -ENOMEM;
	memcpy(made + d->n_rows, rows, n * sizeof(made[0]));
	d->made = made;
	d->rows = made;
	d->n_rows += n;
	return 0;
}

int dir_add_keys(struct dir *d, const struct config_key *keys, size_t n, const struct row *row)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct row copy = *row;

		copy.name = keys[i].name;
		copy.kind = &kind_attribute;
		copy.mode = 0666;
		copy.arg = &keys[i];
		copy.help = keys[i].help;
		r = dir_add_rows(d, &copy, 1);
	}
	return r;
}

int tree_build(struct dir dirs[DIR_MAX])
{
	int (*const builders[])(struct dir *) = {
	    tree_root_build,   tree_machine_build,  tree_disk_build, tree_vcpu_build,
	    tree_jobs_build,   tree_pool_build,	    tree_nic_build,  tree_network_build,
	    tree_volume_build, tree_snapshot_build, tree_host_build, tree_interfaces_build,
	    tree_vsock_build,
	};

	for (size_t i = 0; i < nitems(builders); i++) {
		int r = builders[i](dirs);

		if (r < 0)
			return r;
	}
	return 0;
}

void tree_destroy(struct dir dirs[DIR_MAX])
{
	for (size_t i = 0; i < DIR_MAX; i++) {
		free(dirs[i].made);
		free(dirs[i].made_name);
	}
}
