// SPDX-License-Identifier: ISC
/*
 * Changing the network cards of a machine that runs, as its disks are (disk_live.c): steps from
 * how each is defined to how it is to be, done before the definition is stored, taken back where
 * a later one fails. One that has no network yet waits to be attached until it has.
 */
#define LOG_MODULE "nic"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "net/host_link.h"
#include "nic_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

#define LET_GO_MS 30000 /* for a guest that is asked to: ending a card takes longer than a disk */
#define TAKEN_MS  30000 /* for a VMM that takes it away */

bool nic_key_is_live(const struct config_key *key)
{
	return !key->needs_restart;
}

/* --- what a VMM has now -----------------------------------------------------------------------
 */

static void show_state(struct vmm *vmm, const char *name)
{
	pthread_mutex_lock(&vmm->m->lock);
	machine_touch(vmm->m, ASPECT_NIC, name);
	pthread_mutex_unlock(&vmm->m->lock);
	vmm_note(vmm);
}

void nic_event(struct machine *m, const char *kind, const char *name, const char *network,
	       const char *note)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "machine", m->name);
	event_text(&sb, "nic", name);
	if (network && *network)
		event_text(&sb, "network", network);
	if (note && *note)
		event_text(&sb, "note", note);
	model_event(m->model, &sb);
}

void vmm_nic_gone(struct vmm *vmm, const char *name, const char *note)
{
	struct machine *m = vmm->m;
	struct vmm_has_nic *has;

	pthread_mutex_lock(&m->lock);
	has = vmm_nic_take(vmm, name);
	if (has) {
		nic_event(m, "nic-detached", name, NULL, note);
		nic_release(m, has);
		machine_touch(m, ASPECT_NIC, name);
		pthread_cond_broadcast(&m->cond);
	}
	pthread_mutex_unlock(&m->lock);
	if (has)
		vmm_note(vmm);
}

/* --- the steps -------------------------------------------------------------------------------- */

static int note_plugged(struct vmm *vmm, const struct nic_plug *plug, struct err *err)
{
	LOCK_SCOPE(&vmm->m->lock);
	/* one that ends is released without it */
	if (vmm->gone)
		return err_set(err, -EBUSY, "the machine has ended");
	return vmm_nic_set(vmm, plug) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

/* Plugged in, and told: the VMM has it, or nobody. */
static int tell_plugged(struct vmm *vmm, const struct nic *n, struct nic_plug *plug,
			struct err *err)
{
	char words[VMM_TEXT_MAX] = "";
	int r = vmm_nic_tell(vmm, n, plug, NULL, words, err);

	nic_close_fds(plug);
	pthread_mutex_lock(&vmm->m->lock);
	if (r < 0)
		nic_release(vmm->m, vmm_nic_take(vmm, n->name));
	else
		nic_event(vmm->m, "nic-plugged", n->name, plug->network, words);
	pthread_mutex_unlock(&vmm->m->lock);
	show_state(vmm, n->name);
	return r;
}

/* Known before the VMM can use it, as at a start. */
static int attach(struct vmm *vmm, const struct nic *n, struct cancel *cancel, struct err *err)
{
	struct nic_plug plug;
	int r = nics_await_released(vmm->m, cancel, err);

	if (r == 0)
		r = nic_plug_in(vmm->m, n, vmm->cpus, &plug, cancel, err);
	if (r < 0)
		return r;
	r = note_plugged(vmm, &plug, err);
	if (r < 0) {
		nic_pull(vmm->m, &plug);
		return r;
	}
	vmm_note(vmm);
	return tell_plugged(vmm, n, &plug, err);
}

/* Under m->lock: until the VMM has it no longer, or is gone itself. */
static int await_detached(struct vmm *vmm, const char *name, unsigned ms, struct cancel *cancel)
{
	struct timespec deadline = deadline_in_ms(ms);
	struct machine *m = vmm->m;
	int r = 0;

	while (r == 0 && m->vmm == vmm && vmm_nic_find(vmm, name))
		r = cancel_requested(cancel) ? -ECANCELED : machine_wait(m, &deadline);
	return m->vmm == vmm && vmm_nic_find(vmm, name) ? r : 0;
}

static int ask_to_let_go(struct vmm *vmm, const char *name, bool force, struct err *err)
{
	struct vmm_nic_detach msg = {.force = force};
	struct vmm_request rq = {
	    .type = VMM_NIC_DETACH, .data = &msg, .len = sizeof(msg), .timeout_ms = VMM_ORDER_MS};
	struct vmm_has_nic *has;
	int r;

	strcpy(msg.name, name);
	r = vmm_call(vmm, &rq, NULL, err);
	if (r == -ENOENT) {
		vmm_nic_gone(vmm, name, NULL); /* it went before, and nobody heard */
		return 0;
	}
	pthread_mutex_lock(&vmm->m->lock);
	has = vmm_nic_find(vmm, name);
	if (r == 0 && has)
		has->waits = true;
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
		return r == -EPIPE ? 0 : r; /* with the machine, every card is gone */
	machine_cancel_wakes(m, cancel);
	pthread_mutex_lock(&m->lock);
	r = await_detached(vmm, name, force ? TAKEN_MS : LET_GO_MS, cancel);
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, cancel);
	if (r == -ECANCELED)
		return err_set(err, r, "ended before the guest had let go of network card %s",
			       name);
	if (r < 0)
		return err_set(err, -EBUSY,
			       "the guest does not let go of network card %s; it has been asked, "
			       "and may yet; `detach force` takes it away",
			       name);
	return 0;
}

/* Under m->lock: what it was plugged into is @old's now, which is to be pulled out. */
static int exchange(struct vmm *vmm, const struct nic *n, const struct nic_plug *plug,
		    struct nic_plug *old)
{
	struct vmm_has_nic *has = vmm_nic_find(vmm, n->name);

	if (!has)
		return -ENOENT;
	*old = has->plug;
	has->plug = *plug;
	has->plug.n_fds = 0;
	has->seen.n = 0;
	nic_event(vmm->m, "nic-moved", n->name, plug->network, "");
	machine_touch(vmm->m, ASPECT_NIC, n->name);
	machine_touch(vmm->m, ASPECT_NIC_ADDRESS, n->name);
	return 0;
}

/* As many queues as the VMM knows it with. */
static int plug_other(struct vmm *vmm, const struct nic *n, struct nic_plug *plug,
		      struct cancel *cancel, struct err *err)
{
	const struct vmm_has_nic *has;
	struct nic as = *n; /* its texts are borrowed */

	memset(plug, 0, sizeof(*plug));
	pthread_mutex_lock(&vmm->m->lock);
	has = vmm_nic_find(vmm, n->name);
	if (has && has->plug.queues)
		as.values.queues = has->plug.queues;
	if (has)
		strcpy(plug->replaces, has->plug.tap);
	pthread_mutex_unlock(&vmm->m->lock);
	if (!has)
		return err_set(err, -ENOENT, "the guest has let go of it");
	if (*n->values.network)
		return nic_plug_in(vmm->m, &as, vmm->cpus, plug, cancel, err);
	*plug = (struct nic_plug){.kind = VMM_NIC_NONE, .queues = (unsigned)as.values.queues};
	strcpy(plug->name, n->name);
	return 0;
}

/*
 * Into another network: there is a port for it in both until the VMM has gone over; where it does
 * not, all stays as it was.
 */
static int move(struct vmm *vmm, const struct nic *n, struct cancel *cancel, struct err *err)
{
	struct nic_plug plug, old;
	int r = plug_other(vmm, n, &plug, cancel, err);

	if (r == 0)
		r = vmm_nic_tell_cable(vmm, n, &plug, err);
	else
		return r;
	nic_close_fds(&plug);
	if (r == 0) {
		LOCK_SCOPE(&vmm->m->lock);
		r = exchange(vmm, n, &plug, &old);
		if (r < 0)
			err_set(err, r, "the guest has let go of it");
	}
	nic_pull(vmm->m, r < 0 ? &plug : &old);
	if (r == 0)
		vmm_note(vmm);
	return r;
}

static int do_step(struct vmm *vmm, const struct nic_step *s, struct cancel *cancel,
		   struct err *err)
{
	switch (s->what) {
	case NIC_ATTACH:
		return attach(vmm, s->to, cancel, err);
	case NIC_DETACH:
		return detach(vmm, s->from->name, false, cancel, err);
	case NIC_MOVE:
		return move(vmm, s->to, cancel, err);
	case NIC_SETTINGS:
		return vmm_nic_tell_settings(vmm, s->to, VMM_ORDER_MS, err);
	}
	return 0;
}

static int undo_step(struct vmm *vmm, const struct nic_step *s, struct err *err)
{
	switch (s->what) {
	case NIC_ATTACH:
		return detach(vmm, s->to->name, true, NULL, err);
	case NIC_DETACH:
		return attach(vmm, s->from, NULL, err);
	case NIC_MOVE:
		return move(vmm, s->from, NULL, err);
	case NIC_SETTINGS:
		return vmm_nic_tell_settings(vmm, s->from, VMM_ORDER_MS, err);
	}
	return 0;
}

/* --- from one definition to another -----------------------------------------------------------
 */

static void add_step(struct nic_steps *steps, enum nic_step_what what, const struct nic *from,
		     const struct nic *to)
{
	steps->list[steps->n_planned++] = (struct nic_step){what, from, to};
}

static void plan_nic(struct nic_steps *steps, bool has, const struct nic *from,
		     const struct nic *to)
{
	bool other = !from || strcmp(from->values.network, to->values.network) != 0;

	if (!has && *to->values.network && other)
		add_step(steps, NIC_ATTACH, from, to);
	if (has && from && (other || from->values.vlan != to->values.vlan))
		add_step(steps, NIC_MOVE, from, to);
	if (has && from &&
	    (from->values.link != to->values.link ||
	     strcmp(from->values.limits, to->values.limits) != 0))
		add_step(steps, NIC_SETTINGS, from, to);
}

static void plan(struct vmm *vmm, struct nic_steps *steps)
{
	const struct definition *old = steps->old, *def = steps->def;

	LOCK_SCOPE(&vmm->m->lock);
	for (size_t i = 0; i < old->n_nics; i++)
		if (!definition_nic(def, old->nics[i].name) && vmm_nic_find(vmm, old->nics[i].name))
			add_step(steps, NIC_DETACH, &old->nics[i], NULL);
	for (size_t i = 0; i < def->n_nics; i++)
		plan_nic(steps, vmm_nic_find(vmm, def->nics[i].name),
			 definition_nic(old, def->nics[i].name), &def->nics[i]);
}

/* The VMM whose cards can change: a reference, or NULL where none runs. */
static struct vmm *live_vmm(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->vmm && m->vmm->ready && !m->vmm->ended ? vmm_get(m->vmm) : NULL;
}

int nics_follow(struct machine *m, struct definition *old, struct definition *def,
		struct cancel *cancel, struct nic_steps **out, struct err *err)
{
	struct nic_steps *steps = calloc(1, sizeof(*steps));
	int r = 0;

	if (!steps)
		return err_set(err, -ENOMEM, "out of memory");
	steps->vmm = live_vmm(m);
	steps->old = definition_get(old);
	steps->def = definition_get(def);
	if (steps->vmm)
		plan(steps->vmm, steps);
	while (r == 0 && steps->n_done < steps->n_planned) {
		const struct nic_step *s = &steps->list[steps->n_done];

		r = do_step(steps->vmm, s, cancel, err);
		if (r < 0)
			err_prefix(err, "nics/%s", s->to ? s->to->name : s->from->name);
		else
			steps->n_done++;
	}
	if (r < 0)
		nic_steps_take_back(m, steps);
	else
		*out = steps;
	return r;
}

void nic_steps_free(struct nic_steps *steps)
{
	if (!steps)
		return;
	vmm_put(steps->vmm);
	definition_put(steps->old);
	definition_put(steps->def);
	free(steps);
}

void nic_steps_take_back(struct machine *m, struct nic_steps *steps)
{
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);

	while (steps && vmm && vmm == steps->vmm && steps->n_done) {
		struct err err = ERR_INIT;
		const struct nic_step *s = &steps->list[--steps->n_done];

		if (undo_step(vmm, s, &err) < 0)
			log_error("a change of network card %s cannot be taken back: %s",
				  s->to ? s->to->name : s->from->name, err.text);
	}
	nic_steps_free(steps);
}

/* --- after a restart of the daemon ------------------------------------------------------------ */

void nics_recover(struct vmm *vmm)
{
	_cleanup_definition_ struct definition *def = machine_definition(vmm->m);
	char names[VMM_NICS_MAX][DISK_NAME_MAX + 1];
	unsigned n = 0;
	int r = 0;

	pthread_mutex_lock(&vmm->m->lock);
	for (struct vmm_has_nic *has = vmm->nics; has && n < VMM_NICS_MAX; has = has->next) {
		strcpy(names[n++], has->plug.name);
		has->stranger = false; /* or it is told again */
	}
	pthread_mutex_unlock(&vmm->m->lock);
	for (unsigned i = 0; i < n; i++) {
		const struct nic *nic = definition_nic(def, names[i]);
		struct err err = ERR_INIT;

		if (nic && r != -ETIMEDOUT)
			r = vmm_nic_tell_settings(vmm, nic, VMM_QUERY_MS, &err);
		if (r == -ENOENT)
			vmm_nic_gone(vmm, names[i], NULL);
	}
}

/* --- an interface that came back ----------------------------------------------------------------
 */

/* One whose tap is gone; false: there is none. */
static bool find_lost(struct vmm *vmm, const char *network, char name[DISK_NAME_MAX + 1])
{
	struct vmm_has_nic *lost = NULL;
	struct host_link link;

	LOCK_SCOPE(&vmm->m->lock);
	for (struct vmm_has_nic *has = vmm->nics; has && !lost; has = has->next)
		if (has->plug.tap[0] && strcmp(has->plug.network, network) == 0 &&
		    host_link_find(has->plug.tap, 0, &link) == -ENODEV)
			lost = has;
	if (lost)
		strcpy(name, lost->plug.name);
	return lost;
}

static int replug(struct machine *m, struct vmm *vmm, const char *name, struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct nic *n = definition_nic(def, name);
	int r = n ? disks_claim(m, err) : err_set(err, -ENOENT, "the network card is gone");

	if (r < 0)
		return r;
	r = move(vmm, n, NULL, err);
	disks_unclaim(m);
	return r;
}

void machine_nics_replug(struct machine *m, const char *network)
{
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);
	char name[DISK_NAME_MAX + 1];

	for (unsigned i = 0; vmm && i < VMM_NICS_MAX && find_lost(vmm, network, name); i++) {
		struct err err = ERR_INIT;

		if (replug(m, vmm, name, &err) < 0) {
			log_warn("network card %s: %s", name, err.text);
			return;
		}
	}
}

/* --- commands --------------------------------------------------------------------------------- */

static bool has_nic(struct vmm *vmm, const char *name)
{
	LOCK_SCOPE(&vmm->m->lock);
	return vmm_nic_find(vmm, name);
}

static int attach_defined(struct machine *m, const char *name, struct cancel *cancel,
			  struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);
	const struct nic *n = definition_nic(def, name);

	if (!n)
		return err_set(err, -ENOENT, "the network card is gone");
	if (!vmm)
		return err_set(err, -EBUSY, "the machine has ended");
	if (has_nic(vmm, name))
		return err_set(err, -EBUSY, "it is attached");
	return attach(vmm, n, cancel, err);
}

int nic_attach(struct machine *m, const char *name, struct cancel *cancel, struct err *err)
{
	int r = disks_claim(m, err);

	if (r < 0)
		return r;
	r = attach_defined(m, name, cancel, err);
	disks_unclaim(m);
	return r;
}

int nic_detach(struct machine *m, const char *name, bool force, struct cancel *cancel,
	       struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = live_vmm(m);
	int r;

	if (!vmm)
		return err_set(err, -EBUSY, "the machine has ended");
	if (!has_nic(vmm, name))
		return err_set(err, -EBUSY, "it is not attached");
	r = disks_claim(m, err);
	if (r < 0)
		return r;
	r = detach(vmm, name, force, cancel, err);
	disks_unclaim(m);
	return r;
}
