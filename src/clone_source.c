// SPDX-License-Identifier: ISC
/*
 * What clones come from.
 *
 * A snapshot is frozen already. A machine is frozen now: new layers go over its disks, and what is
 * below them is the clones'. Where it runs, its VMM switches to them at the same instant at
 * which a holder is forked, from which the clones' VMMs are forked in turn: no memory is copied.
 * A forked process keeps the rights of the one it came from; so where the clones belong to
 * another user than the guest runs as, the holder writes memory to a file, which they map.
 */
#define LOG_MODULE "clone"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clone_int.h"
#include "util/cleanup.h"
#include "util/file.h"

#define STATUS_MAX 65536

/* --- what there is ---------------------------------------------------------------------------- */

/* Under m->lock. */
static int look(struct clone_source *from, struct err *err)
{
	struct machine *m = from->m;

	if (m->damaged)
		return err_set(err, -EINVAL, "its definition is damaged: replace config");
	switch (m->state) {
	case MACHINE_RUNNING:
	case MACHINE_PAUSED:
		if (!m->vmm)
			return err_set(err, -EBUSY, "it has ended meanwhile");
		from->vmm = vmm_get(m->vmm);
		from->resumed = true;
		return 0;
	case MACHINE_SAVED:
		from->resumed = true;
		return 0;
	case MACHINE_DEFINED:
	case MACHINE_STOPPED:
	case MACHINE_CRASHED:
		if (m->vmm)
			return err_set(err, -EBUSY, "it is crashed and preserved: kill it first");
		return 0;
	case MACHINE_STARTING:
	case MACHINE_MIGRATING:
	case MACHINE_STATE_MAX:
		break;
	}
	return err_set(err, -EBUSY, "the machine is %s", machine_state_name(m->state));
}

static const struct config_key *machine_key(const char *name)
{
	for (size_t i = 0; i < n_machine_keys; i++)
		if (strcmp(machine_keys[i].name, name) == 0)
			return &machine_keys[i];
	return NULL;
}

/* The definition, but for what only the next start would have taken from it. */
static int note_definition(struct clone_source *from, struct err *err)
{
	_cleanup_definition_ struct definition *now = machine_definition(from->m);
	uint64_t cpus, memory;

	from->def = definition_copy(now);
	if (!from->def)
		return err_set(err, -ENOMEM, "out of memory");
	if (!from->vmm)
		return 0;
	pthread_mutex_lock(&from->m->lock);
	cpus = from->vmm->cpus;
	memory = from->vmm->status.memory_bytes;
	pthread_mutex_unlock(&from->m->lock);
	/* what a VMM says that was never possible is not believed */
	value_set_number(&from->def->values, machine_key("cpus"), cpus, NULL);
	value_set_number(&from->def->values, machine_key("memory"), memory, NULL);
	return 0;
}

int clone_source_begin(struct clones *c)
{
	struct clone_source *from = &c->source;
	int r;

	from->state = -1;
	from->saved = (struct saved_opened)SAVED_NOT_OPEN;
	if (from->snapshot) {
		from->def = definition_get(from->snapshot->def);
		from->resumed = from->snapshot->memory;
		return 0;
	}
	r = machine_op_begin(from->m, "clone", c->err);
	if (r < 0)
		return r;
	from->has_op = true;
	pthread_mutex_lock(&from->m->lock);
	r = look(from, c->err);
	pthread_mutex_unlock(&from->m->lock);
	return r == 0 ? note_definition(from, c->err) : r;
}

static void let_go(struct clone_source *from)
{
	if (from->has_op)
		machine_op_end(from->m);
	from->has_op = false;
}

/* --- a snapshot ------------------------------------------------------------------------------ */

static int open_snapshot_memory(struct clones *c)
{
	struct clone_source *from = &c->source;
	const struct memory_map *map = from->snapshot->memory;
	_cleanup_close_ int dir = snapshot_dir(from->snapshot);
	int r;

	if (dir >= 0)
		from->state = openat(dir, "state", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from->state < 0)
		return err_set(c->err, dir < 0 ? dir : -errno, "the snapshot's state: %s",
			       strerror(dir < 0 ? -dir : errno));
	r = memory_map_open(c->model, map, from->memory_fds, c->err);
	if (r < 0)
		return err_prefix(c->err, "the snapshot's memory"), r;
	from->n_memory_fds = map->n_files;
	from->resume.memory = map;
	from->resume.memory_fds = from->memory_fds;
	return 0;
}

static int open_snapshot(struct clones *c)
{
	struct clone_source *from = &c->source;

	if (layer_set_copy(&from->frozen, &from->snapshot->layers) < 0)
		return err_set(c->err, -ENOMEM, "out of memory");
	layer_set_get(c->model, &from->frozen);
	from->has_layers = true;
	return from->resumed ? open_snapshot_memory(c) : 0;
}

/* --- a guest that runs ----------------------------------------------------------------------- */

/* The "Uid:" and "Gid:" of a process, real ones; false where it is gone. */
static bool runs_as(pid_t pid, uid_t *uid, gid_t *gid)
{
	_cleanup_free_ char *text = NULL;
	char path[40];
	const char *u, *g;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (file_read(AT_FDCWD, path, STATUS_MAX, &text, NULL) < 0)
		return false;
	u = strstr(text, "\nUid:");
	g = strstr(text, "\nGid:");
	return u && g && sscanf(u, "\nUid: %u", uid) == 1 && sscanf(g, "\nGid: %u", gid) == 1;
}

/* May its VMM's children be VMMs of who clones it? */
static bool may_fork(const struct clones *c)
{
	const struct machine_access access = {.uid = c->caller->uid, .gid = c->caller->gid};
	uid_t uid;
	gid_t gid;

	return runs_as(c->source.vmm->pid, &uid, &gid) && uid == vmm_uid(&access) &&
	       gid == vmm_gid(&access);
}

/* For those that are not to write it. */
static int open_again(int fd)
{
	char path[40];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

static int take_instant(struct clones *c)
{
	struct clone_source *from = &c->source;
	_cleanup_close_ int state = memfd_create("state", MFD_CLOEXEC);
	_cleanup_close_ int registers = memfd_create("registers", MFD_CLOEXEC);
	int r;

	if (state < 0 || registers < 0)
		return err_set(c->err, -errno, "no memory for the guest's state: %m");
	r = instant_take(from->vmm, 0, state, registers, &from->instant, c->caller->cancel, c->err);
	if (r < 0)
		return r == -EPIPE ? err_set(c->err, -EBUSY, "it has ended meanwhile") : r;
	from->state = open_again(state);
	if (from->state < 0)
		return err_set(c->err, from->state, "the guest's state: %s",
			       strerror(-from->state));
	from->resume.hold = from->instant.hold;
	return 0;
}

static int write_memory_to(struct clones *c, int fd, const char *id)
{
	struct clone_source *from = &c->source;
	struct vmm_hold_done done;
	int r = hold_write(from->instant.hold, VMM_MEMORY_RAW, fd, id, NULL, NULL, from->written,
			   &done, c->job, c->caller->cancel, c->err);

	if (r == 0)
		r = memory_map_open(c->model, from->written, from->memory_fds, c->err);
	if (r < 0)
		return r;
	from->n_memory_fds = from->written->n_files;
	from->resume = (struct resume){.memory = from->written, .memory_fds = from->memory_fds};
	return 0;
}

/* Memory as a file, which goes when its last user does: nothing of it needs to be synced. */
static int write_memory(struct clones *c)
{
	struct clone_source *from = &c->source;
	struct memory_map *map = calloc(1, sizeof(*map));
	_cleanup_close_ int fd = -1;
	char id[ID_TEXT];
	int r;

	if (!map)
		return err_set(c->err, -ENOMEM, "out of memory");
	r = layer_make(c->model, LAYER_MEMORY, id, &fd, c->err);
	if (r < 0) {
		free(map);
		return r;
	}
	*map = (struct memory_map){.kind = VMM_MEMORY_RAW, .bytes = from->instant.done.ram_top};
	from->written = map;
	r = write_memory_to(c, fd, id);
	if (r < 0) {
		layer_put(c->model, LAYER_MEMORY, id);
		free(take_ptr(from->written));
	}
	return r;
}

/* --- a machine ------------------------------------------------------------------------------- */

static int open_saved(struct clones *c)
{
	struct clone_source *from = &c->source;
	int r = saved_open(from->m, &from->saved, c->err);

	if (r < 0)
		return r;
	from->state = open_again(from->saved.state);
	if (from->state < 0)
		return err_set(c->err, from->state, "the saved state: %s", strerror(-from->state));
	from->resume.memory = from->saved.memory;
	from->resume.memory_fds = from->saved.fds;
	return 0;
}

static int stage(struct clones *c)
{
	struct clone_source *from = &c->source;
	int r = layers_stage(from->m, &from->frozen, c->caller->cancel, c->err);

	if (r < 0)
		return r;
	from->has_layers = from->staged = true;
	return 0;
}

static int open_machine(struct clones *c)
{
	struct clone_source *from = &c->source;
	bool fork = from->vmm && may_fork(c);
	int r = from->resumed && !from->vmm ? open_saved(c) : 0;

	if (r == 0)
		r = stage(c);
	if (r == 0 && from->vmm)
		r = take_instant(c);
	if (r == 0)
		r = layers_freeze(from->m, &from->frozen, c->caller->cancel, c->err);
	let_go(from);
	return r == 0 && from->vmm && !fork ? write_memory(c) : r;
}

/* --- either ---------------------------------------------------------------------------------- */

int clone_source_open(struct clones *c)
{
	struct clone_source *from = &c->source;
	int r = from->snapshot ? open_snapshot(c) : open_machine(c);

	from->resume.state = from->state;
	from->resume.clone = true;
	return r;
}

void clone_source_free(struct clones *c)
{
	struct clone_source *from = &c->source;

	let_go(from);
	hold_end(from->instant.hold);
	for (unsigned i = 0; i < from->n_memory_fds; i++)
		close(from->memory_fds[i]);
	if (from->written)
		memory_map_put(c->model, from->written);
	free(from->written);
	saved_close(&from->saved);
	if (from->state >= 0)
		close(from->state);
	if (from->has_layers)
		layer_set_put(c->model, &from->frozen);
	layer_set_free(&from->frozen);
	if (from->staged)
		layers_tidy(from->m);
	definition_put(from->def);
	vmm_put(from->vmm);
}
