// SPDX-License-Identifier: ISC
/*
 * The model's observer: finds the nodes that show what changed, where anybody
 * knows them, and says so to the notifier. Called with the model's locks held,
 * perhaps: it takes only locks of its own, asks the model nothing, waits for nothing.
 */
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

/* --- a client's own doing ----------------------------------------------------------------------
 */

void own_begin(struct own_op *op, struct node *dir)
{
	op->dir = dir;
	op->thread = pthread_self();
	LOCK_SCOPE(&dir->fs->lock);
	op->next = dir->fs->own_ops;
	dir->fs->own_ops = op;
}

void own_end(struct own_op *op)
{
	struct fsapi *fs = op->dir->fs;
	struct own_op **p = &fs->own_ops;

	LOCK_SCOPE(&fs->lock);
	while (*p != op)
		p = &(*p)->next;
	*p = op->next;
}

bool own_is(struct node *dir)
{
	LOCK_SCOPE(&dir->fs->lock);
	for (struct own_op *op = dir->fs->own_ops; op; op = op->next)
		if (op->dir == dir && pthread_equal(op->thread, pthread_self()))
			return true;
	return false;
}

/* --- finding nodes -------------------------------------------------------------------- */

/* A row of @dir by name, if somebody knows its node. */
static struct node *known_row(struct node *dir, const char *name)
{
	const struct row *row = dir ? dir_row(node_dir(dir), name) : NULL;

	return row ? node_find(dir, row, 0, NULL) : NULL;
}

static struct node *known_machine(struct fsapi *fs, const struct machine *m)
{
	_cleanup_node_ struct node *machines = known_row(fs->root, "machines");

	if (!machines)
		return NULL;
	return node_find(machines, &node_dir(machines)->child, CHILD_ID(machine_serial(m)), NULL);
}

/* Tells of each known row of @dir that shows @aspect. */
static void rows_changed(struct node *dir, int aspect)
{
	const struct dir *d = node_dir(dir);

	for (size_t i = 0; i < d->n_rows; i++) {
		_cleanup_node_ struct node *n = NULL;

		if (d->rows[i].aspect != aspect || d->rows[i].kind == &kind_dir)
			continue;
		n = node_find(dir, &d->rows[i], 0, NULL);
		if (n)
			notify_changed(n);
	}
}

static void forget_attr(struct node *n)
{
	if (node_known(n))
		wire_forget_attr(n);
}

/* --- machines ------------------------------------------------------------------------- */

static void machine_came_or_went(struct fsapi *fs, struct machine *m, bool gone, const char *name)
{
	_cleanup_node_ struct node *dir = known_row(fs->root, "machines");

	if (!dir)
		return;
	notify_changed(dir);
	if (own_is(dir))
		return;
	if (gone)
		notify_gone(dir, m, name);
	else
		notify_child(dir, CHILD_ID(machine_serial(m)), NULL, m);
}

static void machine_added(void *arg, struct machine *m)
{
	machine_came_or_went(arg, m, false, NULL);
}

static void machine_removed(void *arg, struct machine *m)
{
	/* Its name may be known a while longer, but whoever asks is told ENOENT at once. */
	nodes_of_machine(arg, m, forget_attr);
	machine_came_or_went(arg, m, true, NULL);
}

static void machine_renamed(void *arg, struct machine *m, const char *old_name)
{
	machine_came_or_went(arg, m, true, old_name);
	machine_came_or_went(arg, m, false, NULL);
}

static void disk_came_or_went(struct node *mdir, const char *name)
{
	_cleanup_node_ struct node *dir = known_row(mdir, "disks");

	if (!dir)
		return;
	notify_changed(dir);
	if (name && !own_is(dir))
		notify_child(dir, 0, name, NULL);
}

static void disk_changed(struct node *mdir, const char *name)
{
	_cleanup_node_ struct node *dir = known_row(mdir, "disks");
	_cleanup_node_ struct node *disk = NULL;

	if (!dir || !name)
		return;
	disk = node_find(dir, &node_dir(dir)->child, 0, name);
	if (!disk)
		return;
	notify_changed(disk);
	rows_changed(disk, ASPECT_DISK);
}

static void machine_aspect_changed(void *arg, struct machine *m, enum machine_aspect aspect,
				   const char *name)
{
	struct fsapi *fs = arg;
	_cleanup_node_ struct node *mdir = known_machine(fs, m);
	_cleanup_node_ struct node *dir = NULL;

	if (!mdir)
		return;
	switch ((int)aspect) {
	case ASPECT_ACCESS: /* of its directory, and so of all in it */
		nodes_of_machine(fs, m, forget_attr);
		return;
	case ASPECT_DISKS:
		disk_came_or_went(mdir, name);
		return;
	case ASPECT_DISK:
		disk_changed(mdir, name);
		return;
	case ASPECT_VCPUS:
		dir = known_row(mdir, "vcpu");
		if (dir)
			notify_vcpus(dir);
		return;
	case ASPECT_JOBS:
		dir = known_row(mdir, "jobs");
		if (dir)
			notify_changed(dir);
		return;
	}
	rows_changed(mdir, (int)aspect);
}

static void events_grew(void *arg)
{
	struct fsapi *fs = arg;
	_cleanup_node_ struct node *n = known_row(fs->root, "events");

	if (n)
		notify_changed(n);
}

/* --- jobs: in jobs/ of the root and of their machine ---------------------------------- */

static void with_job_dirs(struct fsapi *fs, const struct job *job,
			  void (*fn)(struct node *dir, uint64_t id))
{
	const struct machine *m = job_machine(job);
	_cleanup_node_ struct node *all = known_row(fs->root, "jobs");
	_cleanup_node_ struct node *mdir = m ? known_machine(fs, m) : NULL;
	_cleanup_node_ struct node *own = known_row(mdir, "jobs");

	if (all)
		fn(all, CHILD_ID(job_number(job)));
	if (own)
		fn(own, CHILD_ID(job_number(job)));
}

static void job_came_or_went(struct node *dir, uint64_t id)
{
	notify_changed(dir);
	if (!own_is(dir))
		notify_child(dir, id, NULL, NULL);
}

static void job_rows_changed(struct node *dir, uint64_t id)
{
	_cleanup_node_ struct node *n = node_find(dir, &node_dir(dir)->child, id, NULL);

	if (!n)
		return;
	notify_changed(n);
	rows_changed(n, ASPECT_JOB);
}

static void job_added(void *arg, struct job *job)
{
	with_job_dirs(arg, job, job_came_or_went);
}

static void job_state_changed(void *arg, struct job *job)
{
	with_job_dirs(arg, job, job_rows_changed);
}

static void job_removed(void *arg, struct job *job)
{
	with_job_dirs(arg, job, job_came_or_went);
}

const struct model_observer fsapi_observer = {
    .machine_added = machine_added,
    .machine_removed = machine_removed,
    .machine_renamed = machine_renamed,
    .machine_changed = machine_aspect_changed,
    .events_grew = events_grew,
    .job_added = job_added,
    .job_changed = job_state_changed,
    .job_removed = job_removed,
};
