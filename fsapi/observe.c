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

void own_begin(struct own_op *op, struct node *dir, const char *name)
{
	op->dir = dir;
	op->name = name;
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
	if (node_dir(op->dir)->takes_long)
		notifier_go_on(fs->notifier);
}

bool own_takes_long(const struct node *n)
{
	for (; n; n = n->parent) {
		if (!node_is_dir(n) || !node_dir(n)->takes_long)
			continue;
		for (const struct own_op *op = n->fs->own_ops; op; op = op->next)
			if (op->dir == n)
				return true;
	}
	return false;
}

bool own_is(struct node *dir, const char *name)
{
	LOCK_SCOPE(&dir->fs->lock);
	for (struct own_op *op = dir->fs->own_ops; op; op = op->next)
		if (op->dir == dir && (pthread_equal(op->thread, pthread_self()) ||
				       (name && strcmp(op->name, name) == 0)))
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

static struct node *known_interfaces(struct fsapi *fs)
{
	_cleanup_node_ struct node *host = known_row(fs->root, "host");

	return known_row(host, "interfaces");
}

/* Where things of that kind are: a directory of the root, or the host's interfaces. */
static struct node *known_list(struct fsapi *fs, const char *list, struct thing t)
{
	return t.kind == THING_INTERFACE ? known_interfaces(fs) : known_row(fs->root, list);
}

/* The directory of a machine or pool, which is in @list. */
static struct node *known_thing(struct fsapi *fs, const char *list, struct thing t)
{
	_cleanup_node_ struct node *dir = known_list(fs, list, t);

	return dir ? node_find(dir, &node_dir(dir)->child, CHILD_ID(thing_number(t)), NULL) : NULL;
}

static struct node *known_machine(struct fsapi *fs, struct machine *m)
{
	return known_thing(fs, "machines", thing_of(THING_MACHINE, m));
}

static struct node *known_pool(struct fsapi *fs, struct pool *pool)
{
	return known_thing(fs, "pools", thing_of(THING_POOL, pool));
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

static void forget_attr(struct node *n, void *arg)
{
	(void)arg;
	if (node_known(n))
		wire_forget_attr(n);
}

/* --- what the root's directories hold: machines, pools, networks ---------------------- */

/* @old_name: by which it is no longer known; NULL: it came. */
static void came_or_went(struct fsapi *fs, const char *list, struct thing t, bool gone,
			 const char *old_name)
{
	_cleanup_node_ struct node *dir = known_list(fs, list, t);

	if (!dir)
		return;
	notify_changed(dir);
	if (own_is(dir, NULL))
		return;
	if (gone)
		notify_gone(dir, t, old_name);
	else
		notify_child(dir, 0, NULL, t);
}

static void went(struct fsapi *fs, const char *list, struct thing t)
{
	/* Its name may be known a while longer, but whoever asks is told ENOENT at once. */
	nodes_of_thing(fs, t, forget_attr, NULL);
	came_or_went(fs, list, t, true, NULL);
}

static void renamed(struct fsapi *fs, const char *list, struct thing t, const char *old_name)
{
	came_or_went(fs, list, t, true, old_name);
	came_or_went(fs, list, t, false, NULL);
}

/* --- machines ------------------------------------------------------------------------- */

static void machine_added(void *arg, struct machine *m)
{
	came_or_went(arg, "machines", thing_of(THING_MACHINE, m), false, NULL);
}

static void machine_removed(void *arg, struct machine *m)
{
	went(arg, "machines", thing_of(THING_MACHINE, m));
}

static void machine_renamed(void *arg, struct machine *m, const char *old_name)
{
	renamed(arg, "machines", thing_of(THING_MACHINE, m), old_name);
}

/* One of what is in the directory @list of @parent: a disk, a card, a snapshot, a volume. */
static void part_came_or_went(struct node *parent, const char *list, const char *name)
{
	_cleanup_node_ struct node *dir = known_row(parent, list);

	if (!dir)
		return;
	notify_changed(dir);
	if (name && !own_is(dir, name))
		notify_child(dir, 0, name, (struct thing){0});
}

/* @own: the aspect of its directory. */
static void part_changed(struct node *mdir, const char *list, int aspect, int own, const char *name)
{
	_cleanup_node_ struct node *dir = known_row(mdir, list);
	_cleanup_node_ struct node *part = NULL;

	if (!dir || !name)
		return;
	part = node_find(dir, &node_dir(dir)->child, 0, name);
	if (!part)
		return;
	if (aspect == own)
		notify_changed(part);
	rows_changed(part, aspect);
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
		nodes_of_thing(fs, thing_of(THING_MACHINE, m), forget_attr, NULL);
		return;
	case ASPECT_DISKS:
		part_came_or_went(mdir, "disks", name);
		return;
	case ASPECT_DISK:
	case ASPECT_DISK_CONTENT:
		part_changed(mdir, "disks", (int)aspect, ASPECT_DISK, name);
		return;
	case ASPECT_NICS:
		part_came_or_went(mdir, "nics", name);
		return;
	case ASPECT_NIC:
	case ASPECT_NIC_ADDRESS:
		part_changed(mdir, "nics", (int)aspect, ASPECT_NIC, name);
		return;
	case ASPECT_SNAPSHOTS:
		part_came_or_went(mdir, "snapshots", name);
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
	dir =
	    aspect >= ASPECT_KEY0 ? known_row(mdir, "vsock") : NULL; /* keys that are files there */
	if (dir)
		rows_changed(dir, (int)aspect);
}

static void snapshot_aspect_changed(void *arg, struct snapshot *s, int aspect)
{
	_cleanup_node_ struct node *mdir = known_machine(arg, snapshot_machine(s));
	_cleanup_node_ struct node *dir = known_row(mdir, "snapshots");
	_cleanup_node_ struct node *sdir = NULL;

	if (!dir)
		return;
	sdir = node_find(dir, &node_dir(dir)->child, CHILD_ID(snapshot_serial(s)), NULL);
	if (sdir)
		rows_changed(sdir, ASPECT_SNAPSHOT(aspect));
}

/* --- pools and volumes ---------------------------------------------------------------- */

static void pool_added(void *arg, struct pool *pool)
{
	came_or_went(arg, "pools", thing_of(THING_POOL, pool), false, NULL);
}

static void pool_removed(void *arg, struct pool *pool)
{
	went(arg, "pools", thing_of(THING_POOL, pool));
}

static void pool_renamed(void *arg, struct pool *pool, const char *old_name)
{
	renamed(arg, "pools", thing_of(THING_POOL, pool), old_name);
}

static void pool_aspect_changed(void *arg, struct pool *pool, int aspect, const char *name)
{
	struct fsapi *fs = arg;
	_cleanup_node_ struct node *pdir = known_pool(fs, pool);

	if (!pdir)
		return;
	if (aspect == POOL_ACCESS)
		nodes_of_thing(fs, thing_of(THING_POOL, pool), forget_attr, NULL);
	else if (aspect == POOL_VOLUMES)
		part_came_or_went(pdir, "volumes", name);
	else
		rows_changed(pdir, ASPECT_POOL(aspect));
}

static void volume_aspect_changed(void *arg, struct volume *volume, int aspect)
{
	struct fsapi *fs = arg;
	_cleanup_node_ struct node *pdir = known_pool(fs, volume_pool(volume));
	_cleanup_node_ struct node *dir = known_row(pdir, "volumes");
	_cleanup_node_ struct node *vdir = NULL;

	if (!dir)
		return;
	vdir = node_find(dir, &node_dir(dir)->child, CHILD_ID(volume_serial(volume)), NULL);
	if (!vdir)
		return;
	if (aspect == VOLUME_ACCESS) {
		nodes_of_thing(fs, thing_of(THING_VOLUME, volume), forget_attr, NULL);
		return;
	}
	if (aspect == VOLUME_DEFINITION)
		notify_changed(vdir);
	rows_changed(vdir, ASPECT_VOLUME(aspect));
}

/* --- networks ------------------------------------------------------------------------- */

static void network_added(void *arg, struct network *network)
{
	came_or_went(arg, "networks", thing_of(THING_NETWORK, network), false, NULL);
}

static void network_removed(void *arg, struct network *network)
{
	went(arg, "networks", thing_of(THING_NETWORK, network));
}

static void network_renamed(void *arg, struct network *network, const char *old_name)
{
	renamed(arg, "networks", thing_of(THING_NETWORK, network), old_name);
}

static void network_aspect_changed(void *arg, struct network *network, int aspect)
{
	struct fsapi *fs = arg;
	struct thing t = thing_of(THING_NETWORK, network);
	_cleanup_node_ struct node *dir = known_thing(fs, "networks", t);

	if (!dir)
		return;
	if (aspect == NETWORK_ACCESS)
		nodes_of_thing(fs, t, forget_attr, NULL);
	else
		rows_changed(dir, ASPECT_NETWORK(aspect));
}

/* --- interfaces of the host ----------------------------------------------------------- */

static void interface_added(void *arg, struct interface *i)
{
	came_or_went(arg, "interfaces", thing_of(THING_INTERFACE, i), false, NULL);
}

static void interface_removed(void *arg, struct interface *i)
{
	went(arg, "interfaces", thing_of(THING_INTERFACE, i));
}

static void interface_renamed(void *arg, struct interface *i, const char *old_name)
{
	renamed(arg, "interfaces", thing_of(THING_INTERFACE, i), old_name);
}

static void interface_aspect_changed(void *arg, struct interface *i, int aspect)
{
	_cleanup_node_ struct node *dir =
	    known_thing(arg, "interfaces", thing_of(THING_INTERFACE, i));

	if (dir)
		rows_changed(dir, ASPECT_INTERFACE(aspect));
}

static void interfaces_were_told(void *arg)
{
	_cleanup_node_ struct node *dir = known_interfaces(arg);

	if (dir)
		rows_changed(dir, ASPECT_INTERFACES_TOLD);
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
	struct machine *m = job_machine(job);
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
	if (!own_is(dir, NULL))
		notify_child(dir, id, NULL, (struct thing){0});
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
    .pool_added = pool_added,
    .pool_removed = pool_removed,
    .pool_renamed = pool_renamed,
    .pool_changed = pool_aspect_changed,
    .volume_changed = volume_aspect_changed,
    .snapshot_changed = snapshot_aspect_changed,
    .network_added = network_added,
    .network_removed = network_removed,
    .network_renamed = network_renamed,
    .network_changed = network_aspect_changed,
    .interface_added = interface_added,
    .interface_removed = interface_removed,
    .interface_renamed = interface_renamed,
    .interface_changed = interface_aspect_changed,
    .interfaces_told = interfaces_were_told,
    .events_grew = events_grew,
    .job_added = job_added,
    .job_changed = job_state_changed,
    .job_removed = job_removed,
};
