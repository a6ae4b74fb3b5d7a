// SPDX-License-Identifier: ISC
/*
 * What stat(2), chmod(2) and chown(2) do to a node.
 *
 * Owner and group of everything in a machine's, pool's, volume's or network's directory are those
 * of the directory; a file's mode is its row's, masked by the directory's, unless a
 * chmod of that very file was stored. Times are those of the
 * aspect of the model that the file shows, sizes are those of what a read would give now.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

bool node_alive(struct node *n)
{
	return (!n->m || machine_alive(n->m)) && (!n->pool || pool_alive(n->pool)) &&
	       (!n->volume || volume_alive(n->volume)) &&
	       (!n->snapshot || snapshot_alive(n->snapshot)) &&
	       (!n->network || network_alive(n->network)) &&
	       (!n->interface || interface_alive(n->interface));
}

bool node_attr_told(const struct node *n)
{
	const struct row *row = n->row;

	if (n->scratch || (row->flags & ROW_VOLATILE))
		return false;
	if (row->kind != &kind_attribute && row->kind != &kind_document && row->kind != &kind_dir)
		return false;
	return row->aspect != ASPECT_HOST && row->aspect != ASPECT_LIVE &&
	       row->aspect != ASPECT_EVENTS && row->aspect != ASPECT_JOBLIST;
}

bool node_stat_waits(const struct node *n)
{
	return (n->row->flags & (ROW_SLOW | ROW_FIXED_SIZE)) == ROW_SLOW &&
	       n->row->kind == &kind_attribute;
}

/* Of the disk or the network card that it shows something of. */
static const char *part_name(const struct node *n)
{
	for (; n; n = n->parent)
		if (n->name && (n->row->dir == DIR_DISK || n->row->dir == DIR_NIC))
			return n->name;
	return NULL;
}

/* Of an aspect of what it belongs to. */
static struct timespec thing_mtime(struct node *n, int aspect, struct timespec otherwise)
{
	if (n->interface && aspect >= ASPECT_INTERFACE(0))
		return interface_changed(n->interface,
					 (enum interface_aspect)(aspect - ASPECT_INTERFACE(0)));
	if (n->network && aspect >= ASPECT_NETWORK(0))
		return network_changed(n->network,
				       (enum network_aspect)(aspect - ASPECT_NETWORK(0)));
	if (n->volume && aspect >= ASPECT_VOLUME(0))
		return volume_changed(n->volume, (enum volume_aspect)(aspect - ASPECT_VOLUME(0)));
	if (n->pool && aspect >= ASPECT_POOL(0))
		return pool_changed(n->pool, (enum pool_aspect)(aspect - ASPECT_POOL(0)));
	if (n->snapshot && aspect >= ASPECT_SNAPSHOT(0))
		return snapshot_changed(n->snapshot,
					(enum snapshot_aspect)(aspect - ASPECT_SNAPSHOT(0)));
	if (n->m)
		return machine_changed(n->m, (enum machine_aspect)aspect, part_name(n));
	return otherwise;
}

struct timespec node_mtime(struct node *n)
{
	struct model *model = n->fs->model;
	struct timespec ts = model_opened(model);
	uint64_t size;

	switch (n->row->aspect) {
	case ASPECT_FIXED:
		return ts;
	case ASPECT_MACHINES:
		return model_machines_changed(model);
	case ASPECT_POOLS:
		return model_pools_changed(model);
	case ASPECT_NETWORKS:
		return model_networks_changed(model);
	case ASPECT_INTERFACES:
		return model_interfaces_changed(model);
	case ASPECT_INTERFACES_TOLD:
		return interfaces_told(model);
	case ASPECT_JOB:
		return n->job ? job_changed(n->job) : ts;
	case ASPECT_JOBLIST:
		if (n->m)
			return machine_changed(n->m, ASPECT_JOBS, NULL);
		model_events_stat(model, false, &size, &ts);
		return ts;
	case ASPECT_EVENTS:
		model_events_stat(model, false, &size, &ts);
		return ts;
	case ASPECT_HOST:
		clock_gettime(CLOCK_REALTIME, &ts);
		return ts;
	}
	return thing_mtime(n, n->row->aspect, ts);
}

/*
 * What always shows the present has been modified now; but copiers take a change of this time
 * while they read for damage.
 */
static struct timespec node_ctime(struct node *n, const struct timespec *mtime)
{
	if (n->row->aspect == ASPECT_HOST)
		return model_opened(n->fs->model);
	if (n->row->aspect == ASPECT_LIVE)
		return machine_changed(n->m, ASPECT_STATE, NULL);
	return *mtime;
}

/* Owner and mode of what it belongs to; false where that has none. */
static bool owner_access(struct node *n, struct machine_access *access)
{
	if (n->m)
		machine_access_get(n->m, access);
	else if (n->volume)
		volume_access_get(n->volume, access);
	else if (n->pool)
		pool_access_get(n->pool, access);
	else if (n->network)
		network_access_get(n->network, access);
	return n->m || n->pool || n->network;
}

/* The mode that was set for it alone. */
static bool own_mode(struct node *n, mode_t *mode)
{
	char path[512];

	if (node_owner_path(n, path, sizeof(path)) < 0)
		return false;
	if (n->network)
		return network_file_mode_get(n->network, path, mode);
	return n->m ? machine_file_mode_get(n->m, path, mode)
		    : pool_file_mode_get(n->pool, path, mode);
}

static mode_t owned_mode(struct node *n, const struct machine_access *access)
{
	mode_t mode = n->row->mode & access->mode & 07777;
	mode_t stored;

	if (node_is_owner(n))
		return access->mode & 07777;
	if (own_mode(n, &stored))
		return stored & 07777;
	return mode;
}

/* As find(1) and others expect: two, and one for each subdirectory. */
static nlink_t count_links(struct node *n)
{
	const struct dir *d = node_dir(n);
	nlink_t links = 2;

	for (size_t i = 0; i < d->n_rows; i++)
		links += d->rows[i].kind == &kind_dir;
	if (d->ops && d->ops->count)
		links += d->ops->count(n);
	return links;
}

int node_stat(struct node *n, struct stat *st)
{
	struct machine_access access;
	uint64_t size = 0, occupied;
	int r;

	memset(st, 0, sizeof(*st));
	st->st_ino = n->ino;
	st->st_nlink = 1;
	st->st_blksize = 4096;
	if (!node_alive(n))
		return -ENOENT;
	if (n->scratch)
		return scratch_stat(n->scratch, st);
	st->st_uid = n->fs->uid;
	st->st_gid = n->fs->gid;
	st->st_mode = n->row->mode;
	if (owner_access(n, &access)) {
		st->st_uid = access.uid;
		st->st_gid = access.gid;
		st->st_mode = owned_mode(n, &access);
	} else if (n->job) {
		st->st_uid = job_uid(n->job);
	}
	st->st_mode |= n->row->kind->format;
	if (node_is_dir(n))
		st->st_nlink = count_links(n);
	if (n->row->kind->size) {
		r = n->row->kind->size(n, &size);
		if (r < 0)
			return r;
	}
	st->st_size = (off_t)size;
	occupied = n->row->kind->occupies ? n->row->kind->occupies(n) : size;
	st->st_blocks = (blkcnt_t)((occupied + 511) / 512);
	st->st_mtim = node_mtime(n);
	st->st_atim = st->st_mtim;
	st->st_ctim = node_ctime(n, &st->st_mtim);
	return 0;
}

/* chmod and chown of a machine's, pool's or volume's directory hand it over. */
static int chattr_owner(struct node *n, const struct stat *st, unsigned which, struct err *err)
{
	struct machine_access access = {0};

	owner_access(n, &access);
	if (which & CHATTR_MODE)
		access.mode = st->st_mode & 07777;
	if (which & CHATTR_UID)
		access.uid = st->st_uid;
	if (which & CHATTR_GID)
		access.gid = st->st_gid;
	if (n->m)
		return machine_access_set(n->m, &access, err);
	if (n->network)
		return network_access_set(n->network, &access, err);
	return n->volume ? volume_access_set(n->volume, &access, err)
			 : pool_access_set(n->pool, &access, err);
}

int node_chattr(struct node *n, const struct stat *st, unsigned which, struct err *err)
{
	struct stat now;
	mode_t possible;
	char path[512];
	int r;

	if (n->scratch)
		return scratch_chattr(n->scratch, st, which);
	if (node_is_owner(n))
		return chattr_owner(n, st, which, err);
	r = node_stat(n, &now);
	if (r < 0)
		return err_set(err, r, "it is gone");
	/* Copiers give files the owner they have already: let that pass. */
	if (((which & CHATTR_UID) && st->st_uid != now.st_uid) ||
	    ((which & CHATTR_GID) && st->st_gid != now.st_gid))
		return err_set(err, -EPERM,
			       n->m || n->pool || n->network
				   ? "its owner is that of the %s's directory: chown that"
				   : "its owner is the daemon's",
			       n->m	    ? "machine"
			       : n->volume  ? "volume"
			       : n->network ? "network"
					    : "pool");
	if (!(which & CHATTR_MODE) || (st->st_mode & 07777) == (now.st_mode & 07777))
		return 0;
	if ((!n->m && !n->pool && !n->network) || n->job || n->snapshot)
		return err_set(err, -EPERM, "its mode is fixed");
	r = node_owner_path(n, path, sizeof(path));
	if (r < 0)
		return err_set(err, r, "name too long");
	/* What nobody may write stays so: the mode says what is possible. */
	possible = (n->row->mode & 0222) ? 0777 : 0555;
	if (n->network)
		return network_file_mode_set(n->network, path, st->st_mode & possible, err);
	return n->m ? machine_file_mode_set(n->m, path, st->st_mode & possible, err)
		    : pool_file_mode_set(n->pool, path, st->st_mode & possible, err);
}

/* Of host/interfaces, or below. */
static bool of_interfaces(const struct node *n)
{
	for (; n; n = n->parent)
		if (n->row->dir == DIR_INTERFACES)
			return true;
	return false;
}

void node_complain(struct node *n, const char *what, const struct err *err)
{
	if (!err->code)
		return;
	if (n->snapshot && snapshot_alive(n->snapshot))
		snapshot_error_set(n->snapshot, what, err);
	else if (n->m && machine_alive(n->m))
		machine_error_set(n->m, what, err);
	else if (n->volume && volume_alive(n->volume))
		volume_error_set(n->volume, what, err);
	else if (n->pool && pool_alive(n->pool))
		pool_error_set(n->pool, what, err);
	else if (n->network && network_alive(n->network))
		network_error_set(n->network, what, err);
	else if (of_interfaces(n))
		interfaces_error_set(n->fs->model, what, err);
	else
		model_error_set(n->fs->model, what, err);
}
