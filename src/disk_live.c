// SPDX-License-Identifier: ISC
/*
 * Changing the disks of a machine that runs. A change of the definition is planned as steps,
 * from how each disk is defined to how it is to be; they are done before the definition is
 * stored, so what is refused (a file that does not open, a guest that does not let go) leaves it
 * as it was, and they are taken back in reverse where a later one, or the storing, fails.
 *
 * One change of a machine's disks at a time (machine.disks_busy): layers gather at the VMM. Nothing
 * is locked while files are opened or a guest is waited for: `kill` and `stop` go on
 * meanwhile, and end the waiting.
 */
#define LOG_MODULE "disk"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "disk_limits.h"
#include "layer.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

#define LET_GO_MS 10000 /* for a guest that is asked to */
#define TAKEN_MS  30000 /* for a VMM that takes it away */
#define MERGE_MS  30000 /* for layers that are being exchanged */

int disks_claim(struct machine *m, struct err *err)
{
	struct timespec deadline = deadline_in_ms(MERGE_MS);

	LOCK_SCOPE(&m->lock);
	/* nobody asked for a merge: nobody is refused for one */
	while (m->disks_merging && machine_wait(m, &deadline) == 0)
		;
	if (!m->alive)
		return err_set(err, -ENOENT, "the machine is gone");
	if (m->starting)
		return err_set(err, -EBUSY, "the machine is being started");
	if (m->disks_busy)
		return err_set(err, -EBUSY, "another change of its disks is under way");
	m->disks_busy = true;
	return 0;
}

void disks_unclaim(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	m->disks_busy = false;
	m->disks_merging = false;
	pthread_cond_broadcast(&m->cond);
}

/* --- what a VMM has now -------------------------------------------------------------------------
 */

static void show_state(struct vmm *vmm, const char *name)
{
	pthread_mutex_lock(&vmm->m->lock);
	machine_touch(vmm->m, ASPECT_DISK, name);
	machine_touch(vmm->m, ASPECT_DISK_CONTENT, name);
	pthread_mutex_unlock(&vmm->m->lock);
	vmm_note(vmm);
}

static void disk_event(struct vmm *vmm, const char *kind, const char *name, const char *source,
		       const char *note)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct machine *m = vmm->m;

	LOCK_SCOPE(&m->lock);
	event_begin(&sb, kind);
	event_text(&sb, "machine", m->name);
	event_text(&sb, "disk", name);
	if (source)
		event_text(&sb, "source", source);
	if (note && *note)
		event_text(&sb, "note", note);
	model_event(m->model, &sb);
}

static int set_disk(struct vmm *vmm, const struct disk *d, const struct disk_opened *o,
		    struct err *err)
{
	LOCK_SCOPE(&vmm->m->lock);
	return vmm_disk_set(vmm, d, o) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static void drop_disk(struct vmm *vmm, const char *name)
{
	LOCK_SCOPE(&vmm->m->lock);
	vmm_disk_drop(vmm, name);
}

static bool has_volume(struct vmm *vmm, const char *name)
{
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&vmm->m->lock);
	has = vmm_disk_find(vmm, name);
	return has && has->volume;
}

/* Its pool is told that the VMM has this volume; nothing where it is none. */
static void tell_use(struct vmm *vmm, const char *name)
{
	_cleanup_free_ char *source = NULL;
	const struct vmm_has_disk *has;
	bool write = false, share = false;

	pthread_mutex_lock(&vmm->m->lock);
	has = vmm_disk_find(vmm, name);
	if (has && has->volume) {
		source = strdup(has->source);
		write = has->written &&
			!(vmm->m->layers && layer_set_find(vmm->m->layers, name, has->source));
		share = has->share;
	}
	pthread_mutex_unlock(&vmm->m->lock);
	if (source)
		volume_use_recover(vmm->m->model, source, vmm->m, name, write, share);
}

/* --- the steps ------------------------------------------------------------------------------- */

static int open_for(struct vmm *vmm, const struct disk *d, struct cancel *cancel,
		    struct disk_opened **opened, struct err *err)
{
	_cleanup_rights_ struct rights owner = {0};
	struct disk_asks asks = {.cancel = cancel};

	if (machine_owner_rights(vmm->m, &owner) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	asks.owner = owner;
	return disk_open_source(vmm->m, d, &asks, opened, err);
}

/* Known before the VMM can use it, as at a start. */
static int attach(struct vmm *vmm, const struct disk *d, struct cancel *cancel, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	char words[VMM_TEXT_MAX] = "";
	int r = open_for(vmm, d, cancel, &o, err);

	if (r == 0)
		r = set_disk(vmm, d, o, err);
	if (r < 0)
		return r;
	vmm_note(vmm);
	r = vmm_disk_tell(vmm, VMM_DISK, d, o, NULL, words, err);
	if (r < 0)
		drop_disk(vmm, d->name);
	else
		o->in_use = false; /* the VMM's, until it ends or lets go */
	show_state(vmm, d->name);
	if (r == 0)
		disk_event(vmm, "disk-plugged", d->name, d->values.source, words);
	return r;
}

/* Other contents, or (without a source) none. */
static int change(struct vmm *vmm, const struct disk *d, struct cancel *cancel, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	bool had_volume = has_volume(vmm, d->name);
	int r = *d->values.source ? open_for(vmm, d, cancel, &o, err) : 0;

	if (r == 0)
		r = vmm_disk_tell(vmm, VMM_DISK_CHANGE, d, o, NULL, NULL, err);
	if (r == 0)
		r = set_disk(vmm, d, o, err);
	if (o)
		o->in_use = false;
	/* pools know one volume of a disk, and now perhaps that which it has not, or both */
	if (had_volume || disk_source_pool(d->values.source) > 0) {
		volume_use_end(vmm->m->model, vmm->m, d->name);
		tell_use(vmm, d->name);
	}
	if (r < 0)
		return r;
	show_state(vmm, d->name);
	disk_event(vmm, o ? "disk-changed" : "disk-ejected", d->name, o ? d->values.source : NULL,
		   NULL);
	return 0;
}

static int set_limits(struct vmm *vmm, const struct disk *d, unsigned timeout_ms, struct err *err)
{
	struct vmm_disk_limits msg = {0};
	struct vmm_request rq = {
	    .type = VMM_DISK_LIMITS, .data = &msg, .len = sizeof(msg), .timeout_ms = timeout_ms};
	int r = disk_limits_parse(d->values.limits, &msg.limits, err);

	strcpy(msg.name, d->name);
	return r == 0 ? vmm_call(vmm, &rq, NULL, err) : r;
}

/* Under m->lock: until the VMM has it no longer, or is gone itself. */
static int await_detached(struct vmm *vmm, const char *name, uint64_t ms, struct cancel *cancel)
{
	struct timespec deadline = deadline_in_ms(ms);
	struct machine *m = vmm->m;
	int r = 0;

	while (r == 0 && m->vmm == vmm && vmm_disk_find(vmm, name)) {
		if (cancel_requested(cancel))
			return -ECANCELED;
		r = machine_wait(m, &deadline);
	}
	return m->vmm == vmm && vmm_disk_find(vmm, name) ? r : 0;
}

static int ask_to_let_go(struct vmm *vmm, const char *name, bool force, struct err *err)
{
	struct vmm_disk_detach msg = {.force = force};
	struct vmm_request rq = {
	    .type = VMM_DISK_DETACH, .data = &msg, .len = sizeof(msg), .timeout_ms = VMM_ORDER_MS};
	struct vmm_has_disk *has;
	int r;

	strcpy(msg.name, name);
	r = vmm_call(vmm, &rq, NULL, err);
	if (r == -ENOENT) {
		vmm_disk_gone(vmm, name, NULL); /* it went before, and nobody heard */
		return 0;
	}
	pthread_mutex_lock(&vmm->m->lock);
	has = vmm_disk_find(vmm, name);
	if (r == 0 && has)
		has->state = VMM_DISK_WAITS;
	pthread_mutex_unlock(&vmm->m->lock);
	if (r == 0 && has)
		show_state(vmm, name);
	return r;
}

static int detach(struct vmm *vmm, const char *name, bool force, struct cancel *cancel,
		  struct err *err)
{
	struct machine *m = vmm->m;
	int r = ask_to_let_go(vmm, name, force, err);

	if (r < 0)
		return r == -EPIPE ? 0 : r; /* with the machine, every disk is gone */
	machine_cancel_wakes(m, cancel);
	pthread_mutex_lock(&m->lock);
	r = await_detached(vmm, name, force ? TAKEN_MS : LET_GO_MS, cancel);
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, cancel);
	if (r == -ECANCELED)
		return err_set(err, r, "ended before the guest had let go of disk %s", name);
	if (r < 0)
		return err_set(err, -EBUSY,
			       "the guest does not let go of disk %s; it has been asked, and may "
			       "yet; `detach force` takes it away",
			       name);
	return 0;
}

static int do_step(struct vmm *vmm, const struct disk_step *s, struct cancel *cancel,
		   struct err *err)
{
	switch (s->what) {
	case STEP_ATTACH:
		return attach(vmm, s->to, cancel, err);
	case STEP_DETACH:
		return detach(vmm, s->from->name, false, cancel, err);
	case STEP_CHANGE:
		return change(vmm, s->to, cancel, err);
	case STEP_LIMITS:
		return set_limits(vmm, s->to, VMM_ORDER_MS, err);
	}
	return 0;
}

static int undo_step(struct vmm *vmm, const struct disk_step *s, struct err *err)
{
	switch (s->what) {
	case STEP_ATTACH:
		return detach(vmm, s->to->name, true, NULL, err);
	case STEP_DETACH:
		return attach(vmm, s->from, NULL, err);
	case STEP_CHANGE:
		return change(vmm, s->from, NULL, err);
	case STEP_LIMITS:
		return set_limits(vmm, s->from, VMM_ORDER_MS, err);
	}
	return 0;
}

/* --- from one definition to another -------------------------------------------------------------
 */

static void add_step(struct disk_steps *steps, enum disk_step_what what, const struct disk *from,
		     const struct disk *to)
{
	steps->list[steps->n_planned++] = (struct disk_step){what, from, to};
}

/* At most one of its steps can be needed: a change takes the limits along. */
static void plan_disk(struct disk_steps *steps, bool has, const struct disk *from,
		      const struct disk *to)
{
	bool other = !from || strcmp(from->values.source, to->values.source) != 0;

	if (!has && *to->values.source && other)
		add_step(steps, STEP_ATTACH, from, to);
	else if (has && from && other)
		add_step(steps, STEP_CHANGE, from, to);
	else if (has && from && strcmp(from->values.limits, to->values.limits) != 0)
		add_step(steps, STEP_LIMITS, from, to);
}

static void plan(struct vmm *vmm, struct disk_steps *steps)
{
	const struct definition *old = steps->old, *def = steps->def;

	LOCK_SCOPE(&vmm->m->lock);
	for (size_t i = 0; i < old->n_disks; i++)
		if (!definition_disk(def, old->disks[i].name) &&
		    vmm_disk_find(vmm, old->disks[i].name))
			add_step(steps, STEP_DETACH, &old->disks[i], NULL);
	for (size_t i = 0; i < def->n_disks; i++)
		plan_disk(steps, vmm_disk_find(vmm, def->disks[i].name),
			  definition_disk(old, def->disks[i].name), &def->disks[i]);
}

/* The VMM whose disks can change: a reference, or NULL where none runs. */
static struct vmm *live_vmm(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->vmm && m->vmm->ready && !m->vmm->ended ? vmm_get(m->vmm) : NULL;
}

int disks_follow(struct machine *m, struct definition *old, struct definition *def,
		 struct cancel *cancel, struct disk_steps **out, struct err *err)
{
	struct disk_steps *steps = calloc(1, sizeof(*steps));
	struct vmm *vmm;
	int r = 0;

	if (!steps)
		return err_set(err, -ENOMEM, "out of memory");
	vmm = steps->vmm = live_vmm(m);
	steps->old = definition_get(old);
	steps->def = definition_get(def);
	if (vmm)
		plan(vmm, steps);
	while (r == 0 && steps->n_done < steps->n_planned) {
		const struct disk_step *s = &steps->list[steps->n_done];

		r = do_step(vmm, s, cancel, err);
		if (r < 0)
			err_prefix(err, "disks/%s", s->to ? s->to->name : s->from->name);
		else
			steps->n_done++;
	}
	if (r < 0)
		disk_steps_take_back(m, steps);
	else
		*out = steps;
	return r;
}

void disk_steps_free(struct disk_steps *steps)
{
	if (!steps)
		return;
	vmm_put(steps->vmm);
	definition_put(steps->old);
	definition_put(steps->def);
	free(steps);
}

void disk_steps_take_back(struct machine *m, struct disk_steps *steps)
{
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);

	while (vmm && vmm == steps->vmm && steps->n_done) {
		struct err err = ERR_INIT;
		const struct disk_step *s = &steps->list[--steps->n_done];

		if (undo_step(vmm, s, &err) < 0)
			log_error("a change of disk %s cannot be taken back: %s",
				  s->to ? s->to->name : s->from->name, err.text);
	}
	disk_steps_free(steps);
}

/* --- after a restart of the daemon ----------------------------------------------------------- */

static unsigned names_of(struct vmm *vmm, char names[VMM_DISKS_MAX][DISK_NAME_MAX + 1])
{
	unsigned n = 0;

	LOCK_SCOPE(&vmm->m->lock);
	for (struct vmm_has_disk *d = vmm->disks; d && n < VMM_DISKS_MAX; d = d->next)
		strcpy(names[n++], d->name);
	return n;
}

/* Limits are told to each once more: one that it has not is known by that. */
void disks_recover(struct vmm *vmm)
{
	_cleanup_definition_ struct definition *def = machine_definition(vmm->m);
	char names[VMM_DISKS_MAX][DISK_NAME_MAX + 1];
	unsigned n = names_of(vmm, names);
	int r = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct disk *d = definition_disk(def, names[i]);
		struct err err = ERR_INIT;

		tell_use(vmm, names[i]);
		if (d && r != -ETIMEDOUT)
			r = set_limits(vmm, d, VMM_QUERY_MS, &err);
		if (r == -ENOENT)
			vmm_disk_gone(vmm, names[i], NULL);
	}
}

/* --- commands -------------------------------------------------------------------------------- */

static int attach_defined(struct machine *m, const char *name, struct cancel *cancel,
			  struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);
	const struct disk *d = definition_disk(def, name);
	bool has = false;

	if (!d)
		return err_set(err, -ENOENT, "the disk is gone");
	if (!vmm)
		return err_set(err, -EBUSY, "the machine has ended");
	if (!*d->values.source)
		return err_set(err, -EINVAL, "it has no source");
	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, name);
	pthread_mutex_unlock(&m->lock);
	if (has)
		return err_set(err, -EBUSY, "it is attached");
	return attach(vmm, d, cancel, err);
}

int disk_attach(struct machine *m, const char *name, struct cancel *cancel, struct err *err)
{
	int r = disks_claim(m, err);

	if (r < 0)
		return r;
	r = attach_defined(m, name, cancel, err);
	disks_unclaim(m);
	return r;
}

int disk_detach(struct machine *m, const char *name, bool force, struct cancel *cancel,
		struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);
	bool has;
	int r;

	if (!vmm)
		return err_set(err, -EBUSY, "the machine has ended");
	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, name);
	pthread_mutex_unlock(&m->lock);
	if (!has)
		return err_set(err, -EBUSY, "it is not attached");
	r = disks_claim(m, err);
	if (r < 0)
		return r;
	r = detach(vmm, name, force, cancel, err);
	disks_unclaim(m);
	return r;
}

int machine_disk_state_show(struct machine *m, const char *name, struct strbuf *sb)
{
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&m->lock);
	if (!definition_disk(m->def, name))
		return -ENOENT;
	has = m->vmm ? vmm_disk_find(m->vmm, name) : NULL;
	strbuf_puts(sb, has ? vmm_disk_state_name(has->state) : "detached");
	return sb->failed ? -ENOMEM : 0;
}
