// SPDX-License-Identifier: ISC
/*
 * Taking a snapshot. Of a guest that runs or is paused:
 *
 *	stage    new, empty layers over its disks, noted durably: they change nothing
 *	instant  its VMM writes its state and switches to them; from here on the guest goes on,
 *		 and a holder has its memory as it was
 *	freeze   what is below the new layers reaches stable storage
 *	memory   the holder writes it: what differs from the snapshot that the machine went on
 *		 from, else all of it
 *	name     everything is synced, and the snapshot's directory gets its name
 *
 * The machine's op is held up to `freeze`: the guest may be stopped, reset or snapshot again
 * while its memory is written. Whatever fails leaves the layers that were staged, through
 * which the disks read as before, and which layers_tidy() merges.
 * A machine that stands still has its disks frozen alone.
 */
#define LOG_MODULE "snapshot"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "hold.h"
#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/log.h"

#define LOW_RAM_END 0xc0000000ull
#define HIGH_RAM    0x100000000ull

struct take {
	struct machine *m;
	struct vmm *vmm; /* NULL: the machine stands still */
	struct snapshot *s;
	int dir;	 /* where its files are made */
	bool begun;	 /* there is such a directory */
	bool has_op;	 /* the machine's */
	bool has_layers; /* s->layers has references */
	bool has_memory; /* s->memory has */
	struct snapshot *parent;
	struct instant instant;
	struct job *job;
	struct cancel *cancel;
	struct err *err;
};

/* --- the machine ------------------------------------------------------------------------------
 */

/* Under m->lock, its op is held: may it be taken now, and of what? */
static int look(struct take *t)
{
	struct machine *m = t->m;

	switch (m->state) {
	case MACHINE_RUNNING:
	case MACHINE_PAUSED:
		if (!m->vmm)
			return err_set(t->err, -EBUSY, "it has ended meanwhile");
		t->vmm = vmm_get(m->vmm);
		t->s->was = m->state;
		return 0;
	case MACHINE_DEFINED:
	case MACHINE_STOPPED:
	case MACHINE_CRASHED:
		if (m->vmm)
			return err_set(t->err, -EBUSY,
				       "it is crashed and preserved: kill it first");
		t->s->was = MACHINE_STOPPED;
		return 0;
	case MACHINE_SAVED:
		return err_set(t->err, -EBUSY,
			       "the machine is saved: start it, or discard its state first");
	case MACHINE_STARTING:
	case MACHINE_MIGRATING:
	case MACHINE_STATE_MAX:
		break;
	}
	return err_set(t->err, -EBUSY, "the machine is %s", machine_state_name(m->state));
}

static int claim(struct take *t)
{
	int r = machine_op_begin(t->m, "snapshot", t->err);

	if (r < 0)
		return r;
	t->has_op = true;
	LOCK_SCOPE(&t->m->lock);
	return look(t);
}

static void unclaim(struct take *t)
{
	if (t->has_op)
		machine_op_end(t->m);
	t->has_op = false;
}

static const struct config_key *machine_key(const char *name)
{
	for (size_t i = 0; i < n_machine_keys; i++)
		if (strcmp(machine_keys[i].name, name) == 0)
			return &machine_keys[i];
	return NULL;
}

/* The definition, but for what only the next start would have taken from it. */
static int note_definition(struct take *t)
{
	_cleanup_definition_ struct definition *now = machine_definition(t->m);
	struct definition *def = definition_copy(now);
	uint64_t cpus, memory;

	if (!def)
		return err_set(t->err, -ENOMEM, "out of memory");
	t->s->def = def;
	if (!t->vmm)
		return 0;
	pthread_mutex_lock(&t->m->lock);
	cpus = t->vmm->cpus;
	memory = t->vmm->status.memory_bytes;
	pthread_mutex_unlock(&t->m->lock);
	/* what a VMM says that was never possible is not believed */
	value_set_number(&def->values, machine_key("cpus"), cpus, NULL);
	value_set_number(&def->values, machine_key("memory"), memory, NULL);
	return 0;
}

/* --- the instant -----------------------------------------------------------------------------
 */

static int stage(struct take *t)
{
	int r = layers_stage(t->m, &t->s->layers, t->cancel, t->err);

	if (r < 0)
		return r;
	t->has_layers = true;
	return 0;
}

static int new_file(struct take *t, const char *name)
{
	int fd = openat(t->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(t->err, -errno, "cannot make %s: %s", name, strerror(errno)) : fd;
}

/* The first address behind so much RAM. */
static uint64_t top_of(uint64_t memory)
{
	return memory <= LOW_RAM_END ? memory : memory - LOW_RAM_END + HIGH_RAM;
}

/* What the VMM says of it, against what it is. */
static int check_done(struct take *t, int registers)
{
	const struct vmm_snapshot_done *done = &t->instant.done;
	struct stat st;

	if (done->vcpus != t->s->def->values.cpus ||
	    done->ram_top != top_of(t->s->def->values.memory) || fstat(registers, &st) < 0 ||
	    (uint64_t)st.st_size < done->vcpus * sizeof(struct vmm_vcpu_state))
		return err_set(t->err, -EIO, "the VMM tells of another guest than this");
	return 0;
}

static int take_instant(struct take *t)
{
	_cleanup_close_ int state = new_file(t, "state"), registers = -1;
	int r = state;

	if (r >= 0)
		r = registers = new_file(t, "registers");
	if (r >= 0)
		r = instant_take(t->vmm, 0, state, registers, &t->instant, t->cancel, t->err);
	if (r < 0)
		return r;
	t->s->time = time_now();
	t->s->pause_ns = t->instant.done.pause_ns;
	t->s->cpus = t->instant.done.vcpus;
	return check_done(t, registers);
}

/* --- memory ----------------------------------------------------------------------------------
 */

/* Whose memory the new one may be told from: the caller's to close. False: nobody's. */
static bool open_parent(struct take *t, int fds[VMM_MEMORY_FILES_MAX])
{
	struct err ignored = ERR_INIT;
	const struct memory_map *map = t->parent ? t->parent->memory : NULL;

	return map && map->kind == VMM_MEMORY_RAW && map->n_files < VMM_MEMORY_FILES_MAX &&
	       map->bytes == t->instant.done.ram_top &&
	       memory_map_open(t->m->model, map, fds, &ignored) == 0;
}

static int write_memory_to(struct take *t, int fd, const char *id, struct memory_map *map)
{
	int parent_fds[VMM_MEMORY_FILES_MAX];
	bool parent = open_parent(t, parent_fds);
	struct vmm_hold_done done;
	int r;

	map->kind = VMM_MEMORY_RAW;
	map->bytes = t->instant.done.ram_top;
	r = hold_write(t->instant.hold, VMM_MEMORY_RAW, fd, id, parent ? t->parent->memory : NULL,
		       parent ? parent_fds : NULL, map, &done, t->job, t->cancel, t->err);
	for (unsigned i = 0; parent && i < t->parent->memory->n_files; i++)
		close(parent_fds[i]);
	if (r == 0 && fsync(fd) < 0)
		r = err_set(t->err, -errno, "cannot write the guest's memory: %s", strerror(errno));
	if (r == 0)
		job_progress(t->job, t->s->def->values.memory, t->s->def->values.memory, "bytes");
	return r;
}

static int write_memory(struct take *t)
{
	struct model *model = t->m->model;
	_cleanup_free_ struct memory_map *map = calloc(1, sizeof(*map));
	_cleanup_close_ int fd = -1;
	char id[ID_TEXT];
	int r;

	if (!map)
		return err_set(t->err, -ENOMEM, "out of memory");
	r = layer_make(model, LAYER_MEMORY, id, &fd, t->err);
	if (r < 0)
		return r;
	r = write_memory_to(t, fd, id, map);
	if (r == 0) {
		memory_map_get(model, map);
		t->s->memory = take_ptr(map);
		t->has_memory = true;
	}
	layer_put(model, LAYER_MEMORY, id);
	return r;
}

/* --- all of it -------------------------------------------------------------------------------
 */

/* The snapshot that the machine goes on from, which stays there meanwhile. */
static void find_parent(struct take *t)
{
	_cleanup_(layer_set_free) struct layer_set set = {0};
	struct err ignored = ERR_INIT;

	if (machine_layers(t->m, &set) < 0 || !set.parent)
		return;
	t->parent = machine_snapshot_by_id(t->m, set.parent);
	if (t->parent && snapshot_use(t->parent, &ignored) < 0)
		snapshot_put(take_ptr(t->parent));
	if (t->parent)
		strcpy(t->s->parent, t->parent->id);
}

static int run(struct take *t)
{
	int r = claim(t);

	if (r == 0)
		r = note_definition(t);
	if (r == 0) {
		find_parent(t);
		r = snapshot_store_begin(t->s, &t->dir, t->err);
	}
	if (r == 0) {
		t->begun = true;
		r = stage(t);
	}
	if (r == 0 && t->vmm)
		r = take_instant(t);
	if (r == 0)
		r = layers_freeze(t->m, &t->s->layers, t->cancel, t->err);
	unclaim(t);
	if (r == 0 && t->vmm)
		r = write_memory(t);
	if (r == 0 && cancel_requested(t->cancel))
		r = err_set(t->err, -ECANCELED, "ended before it was whole");
	return r == 0 ? snapshot_store_end(t->s, t->dir, t->err) : r;
}

/* It is there, on disk. */
static int show(struct take *t, const struct caller *caller)
{
	struct err ignored = ERR_INIT;
	int r;

	r = snapshots_insert(snapshot_get(t->s));
	snapshots_unreserve(t->m, t->s->name);
	if (r < 0) {
		snapshot_put(t->s); /* the next daemon finds it */
		return err_set(t->err, r, "out of memory");
	}
	if (machine_layers_parent(t->m, NULL, t->s->id, &ignored) < 0)
		log_warn("%s", ignored.text);
	snapshot_event(t->s, "snapshot-taken", NULL, caller);
	snapshots_tell_sizes(t->m);
	return 0;
}

static void take_back(struct take *t)
{
	if (t->begun)
		snapshot_store_abort(t->s);
	if (t->has_memory)
		memory_map_put(t->m->model, t->s->memory);
	if (t->has_layers)
		layer_set_put(t->m->model, &t->s->layers);
	snapshots_unreserve(t->m, t->s->name);
	if (t->has_layers)
		layers_tidy(t->m);
}

int lifecycle_snapshot(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err)
{
	struct take t = {.m = m, .dir = -1, .job = call->job, .cancel = caller->cancel, .err = err};
	char id[ID_TEXT];
	int r = snapshots_reserve(m, call->args[0], err);

	(void)model;
	if (r < 0)
		return r;
	model_make_id(id);
	t.s = snapshot_new(m, call->args[0], id);
	if (!t.s) {
		snapshots_unreserve(m, call->args[0]);
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = run(&t);
	hold_end(t.instant.hold);
	if (r < 0)
		take_back(&t);
	else
		r = show(&t, caller);
	if (t.dir >= 0)
		close(t.dir);
	if (t.parent)
		snapshot_unuse(t.parent);
	snapshot_put(t.parent);
	snapshot_put(t.s);
	vmm_put(t.vmm);
	return r;
}
