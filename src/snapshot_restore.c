// SPDX-License-Identifier: ISC
/*
 * Going back to a snapshot, in place.
 *
 * New, empty layers are made over the snapshot's chains, and all that needs room is written,
 * while the guest still runs. Then its VMM ends, and in one step the machine has those layers
 * and, where the snapshot has memory, is saved at that point (saved_finish()); from there it is
 * started as any saved machine is. Who kills the daemon in between finds the machine as it
 * was, without its guest, or saved at the snapshot.
 */
#define LOG_MODULE "snapshot"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "disk.h"
#include "layer_batch.h"
#include "nic_int.h"
#include "resume.h"
#include "save.h"
#include "snapshot_int.h"
#include "spare.h"
#include "sync_list.h"
#include "util/cleanup.h"
#include "vmm.h"

struct restore {
	struct snapshot *s;
	struct machine *m;
	struct layer_set layers; /* what the machine is to have */
	char (*made)[ID_TEXT];	 /* those of them that are new; a reference each */
	size_t n_made;
	struct layer_batch batch;
	struct sync_list written; /* that is to reach stable storage before the guest ends */
	struct vmm *vmm;	  /* launched for the guest that goes on */
	struct cancel *cancel;
	struct err *err;
};

/* --- does it fit? ----------------------------------------------------------------------------
 */

static int differs(struct err *err, const char *what)
{
	return err_set(err, -EBUSY, "the machine is another than it was then: %s", what);
}

static int differs_number(struct err *err, const char *what, uint64_t then, uint64_t now)
{
	return err_set(err, -EBUSY, "the machine is another than it was then: %s was %llu, is %llu",
		       what, (unsigned long long)then, (unsigned long long)now);
}

static int differs_disk(struct err *err, const char *disk, const char *how)
{
	return err_set(err, -EBUSY, "the machine is another than it was then: disk %s %s", disk,
		       how);
}

static int differs_nic(struct err *err, const char *nic, const char *how)
{
	return err_set(err, -EBUSY, "the machine is another than it was then: network card %s %s",
		       nic, how);
}

static int disk_fits(const struct disk *then, const struct disk *now, struct err *err)
{
	if (!now)
		return differs_disk(err, then->name, "is missing");
	if (strcmp(then->values.source, now->values.source) != 0)
		return differs_disk(err, then->name, "has another source");
	if (then->values.format != now->values.format)
		return differs_disk(err, then->name, "has another format");
	if (then->values.readonly != now->values.readonly)
		return differs_disk(err, then->name,
				    then->values.readonly ? "was read-only" : "is read-only");
	return 0;
}

/* The guest's drivers know these cards. */
static int nics_fit(const struct definition *then, const struct definition *now, struct err *err)
{
	for (size_t i = 0; i < then->n_nics; i++) {
		const struct nic *nic = definition_nic(now, then->nics[i].name);

		if (!nic || !nic_same_device(&then->nics[i], nic))
			return differs_nic(err, then->nics[i].name,
					   nic ? "is another" : "is missing");
	}
	for (size_t i = 0; i < now->n_nics; i++)
		if (!definition_nic(then, now->nics[i].name))
			return differs_nic(err, now->nics[i].name, "was not there");
	return 0;
}

int snapshot_fits(struct snapshot *s, const struct definition *now, struct err *err)
{
	const struct definition *then = s->def;
	int r = 0;

	if (s->memory && then->values.cpus != now->values.cpus)
		return differs_number(err, "cpus", then->values.cpus, now->values.cpus);
	if (s->memory && then->values.memory != now->values.memory)
		return differs_number(err, "memory", then->values.memory, now->values.memory);
	if (s->memory && then->values.hugepages != now->values.hugepages)
		return differs(err, "hugepages");
	for (size_t i = 0; r == 0 && i < then->n_disks; i++)
		r = disk_fits(&then->disks[i], definition_disk(now, then->disks[i].name), err);
	for (size_t i = 0; r == 0 && i < now->n_disks; i++)
		if (!definition_disk(then, now->disks[i].name))
			r = differs_disk(err, now->disks[i].name, "was not there");
	return r == 0 && s->memory ? nics_fit(then, now, err) : r;
}

static int look(struct restore *r)
{
	_cleanup_definition_ struct definition *now = machine_definition(r->m);
	bool damaged;

	pthread_mutex_lock(&r->m->lock);
	damaged = r->m->damaged;
	pthread_mutex_unlock(&r->m->lock);
	if (damaged)
		return err_set(r->err, -EINVAL, "its definition is damaged: replace config");
	return snapshot_fits(r->s, now, r->err);
}

/* --- layers ----------------------------------------------------------------------------------
 */

static int make_layers(struct restore *r)
{
	int e = layer_set_copy(&r->layers, &r->s->layers);

	if (e == 0)
		r->made = calloc(r->layers.n + 1, sizeof(*r->made));
	if (e < 0 || !r->made)
		return err_set(r->err, -ENOMEM, "out of memory");
	free(r->layers.parent);
	r->layers.parent = strdup(r->s->id);
	for (size_t i = 0; e == 0 && i < r->layers.n; i++) {
		const struct disk *disk = definition_disk(r->s->def, r->layers.disks[i].name);

		if (!disk || disk->values.readonly)
			continue;
		e = layer_batch_put_over(&r->batch, &r->layers.disks[i], &r->written,
					 r->made[r->n_made], r->err);
		r->n_made += e == 0;
	}
	return e;
}

static int sync_written(struct restore *r)
{
	int e = sync_list_sync(&r->written);

	return e < 0 ? err_set(r->err, e == -EDQUOT ? -ENOSPC : e, "cannot write the state: %s",
			       strerror(-e))
		     : 0;
}

/* --- the steps -------------------------------------------------------------------------------
 */

static int prepare_saved(struct restore *r)
{
	_cleanup_close_ int dir = snapshot_dir(r->s), state = -1;

	if (dir >= 0)
		state = openat(dir, "state", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (state < 0)
		return err_set(r->err, dir < 0 ? dir : -errno, "the snapshot's state: %s",
			       strerror(dir < 0 ? -dir : errno));
	return saved_prepare(r->m, state, r->s->memory, &r->layers, &r->written, r->err);
}

/* A disk-only snapshot: the machine stands still with those disks. */
static int go_back_to_disks(struct restore *r)
{
	int e = saved_drop(r->m, r->err);

	if (e < 0)
		return e;
	pthread_mutex_lock(&r->m->lock);
	r->m->saved = false;
	if (r->m->state == MACHINE_SAVED)
		machine_set_state(r->m, MACHINE_STOPPED, "restore");
	pthread_mutex_unlock(&r->m->lock);
	return machine_layers_set(r->m, &r->layers, r->err);
}

static void discard(struct restore *r)
{
	if (!r->vmm)
		return;
	vmm_discard(r->vmm);
	vmm_put(take_ptr(r->vmm));
}

/* A VMM is loaded meanwhile; where it cannot be, the start will say so. */
static int go_back_to_memory(struct restore *r)
{
	struct err ignored = ERR_INIT;
	int e;

	if (vmm_launch(r->m, NULL, &r->vmm, r->cancel, &ignored) < 0)
		r->vmm = NULL;
	if (r->vmm && machine_tell_ahead(r->m, r->vmm, r->s->memory, &ignored) < 0)
		discard(r);
	e = saved_finish(r->m, r->s->memory, &r->layers, "restore", r->err);
	if (e < 0)
		discard(r);
	return e;
}

/* The tops of what it has now go by name when it has others; what they hold goes later. */
static void keep_old_open(struct restore *r)
{
	_cleanup_(layer_set_free) struct layer_set old = {0};

	if (machine_layers(r->m, &old) < 0)
		return;
	for (size_t i = 0; i < old.n; i++)
		if (old.disks[i].chain.n)
			sync_list_add(&r->written,
				      layer_open(r->m->model, LAYER_DISK, old.disks[i].chain.ids[0],
						 false, NULL));
}

/* Where it goes on at once. Without memory its disks may be opened by anybody after this. */
static int end_guest(struct restore *r)
{
	return r->s->memory ? machine_leave_vmm(r->m, "restore", r->err)
			    : machine_end_vmm(r->m, "restore", r->err);
}

static int go_back(struct restore *r)
{
	int e = r->s->memory ? prepare_saved(r) : 0;

	if (e < 0)
		return e;
	e = sync_written(r);
	if (e == 0)
		keep_old_open(r);
	if (e == 0 && cancel_requested(r->cancel))
		e = err_set(r->err, -ECANCELED, "ended before anything was changed");
	if (e == 0)
		e = end_guest(r);
	if (e < 0) {
		if (r->s->memory)
			saved_unprepare(r->m);
		return e;
	}
	return r->s->memory ? go_back_to_memory(r) : go_back_to_disks(r);
}

static void show_disks(struct restore *r)
{
	for (size_t i = 0; i < r->layers.n; i++) {
		disk_size_note(r->m, r->layers.disks[i].name, r->layers.disks[i].bytes);
		LOCK_SCOPE(&r->m->lock);
		machine_touch(r->m, ASPECT_DISK_CONTENT, r->layers.disks[i].name);
	}
}

int snapshot_restore(struct snapshot *s, struct job *job, struct cancel *cancel, struct err *err)
{
	struct restore r = {.s = s, .m = s->m, .cancel = cancel, .err = err};
	int e = look(&r);

	(void)job;
	spares_hold(s->m->model->spares);
	layer_batch_begin(&r.batch, s->m->model);
	if (e == 0)
		e = make_layers(&r);
	if (e == 0)
		e = go_back(&r);
	if (e == 0)
		show_disks(&r);
	for (size_t i = 0; i < r.n_made; i++)
		layer_put(s->m->model, LAYER_DISK, r.made[i]); /* the machine has them now */
	if (e == 0 && s->memory) {
		e = machine_start_launched(s->m, r.vmm, cancel, err);
		if (e < 0)
			err_prefix(err, "it is saved at the snapshot");
	}
	if (r.n_made)
		layers_tidy(s->m);
	snapshots_tell_sizes(s->m);
	layer_batch_end(&r.batch);
	sync_list_free_later(&r.written);
	layer_set_free(&r.layers);
	free(r.made);
	spares_let_go(s->m->model->spares);
	return e;
}
