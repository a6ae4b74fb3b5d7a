// SPDX-License-Identifier: ISC
/*
 * Changing a definition. Every way to do so makes a new one out of the old,
 * and hands it to change(), which checks it, stores it and then shows it; so
 * config and the one-value files cannot disagree. Paths are tried with the
 * caller's rights before any lock is taken, because that may take its time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "machine_edit.h"
#include "nic_int.h"
#include "paths.h"
#include "save.h"
#include "util/cleanup.h"

/* --- one change ----------------------------------------------------------------------------- */

static bool same_disks(const struct definition *a, const struct definition *b)
{
	bool same = a->n_disks == b->n_disks;

	for (size_t i = 0; same && i < a->n_disks; i++)
		same = strcmp(a->disks[i].name, b->disks[i].name) == 0;
	return same;
}

static bool same_nics(const struct definition *a, const struct definition *b)
{
	bool same = a->n_nics == b->n_nics;

	for (size_t i = 0; same && i < a->n_nics; i++)
		same = strcmp(a->nics[i].name, b->nics[i].name) == 0;
	return same;
}

/* Whether nothing differs that a VMM is told of at once. */
static bool same_live(const struct definition *a, const struct definition *b)
{
	bool same = same_disks(a, b) && same_nics(a, b);

	for (size_t d = 0; same && d < a->n_disks; d++)
		for (size_t i = 0; same && i < n_disk_keys; i++)
			same = disk_keys[i].needs_restart ||
			       value_equal(&a->disks[d].values, &b->disks[d].values, &disk_keys[i]);
	for (size_t n = 0; same && n < a->n_nics; n++)
		for (size_t i = 0; same && i < n_nic_keys; i++)
			same = !nic_key_is_live(&nic_keys[i]) ||
			       value_equal(&a->nics[n].values, &b->nics[n].values, &nic_keys[i]);
	return same;
}

static bool same_definition(const struct definition *a, const struct definition *b)
{
	bool same = same_disks(a, b) && same_nics(a, b);

	for (size_t i = 0; same && i < n_machine_keys; i++)
		same = value_equal(&a->values, &b->values, &machine_keys[i]);
	for (size_t d = 0; same && d < a->n_disks; d++)
		for (size_t i = 0; same && i < n_disk_keys; i++)
			same = value_equal(&a->disks[d].values, &b->disks[d].values, &disk_keys[i]);
	for (size_t n = 0; same && n < a->n_nics; n++)
		for (size_t i = 0; same && i < n_nic_keys; i++)
			same = value_equal(&a->nics[n].values, &b->nics[n].values, &nic_keys[i]);
	return same;
}

/* What was done to a VMM before the change is stored; all NULL: nothing. */
struct live {
	struct disk_steps *disks;
	struct nic_steps *nics;
	bool claimed; /* the machine's disks and cards: nobody else changes them meanwhile */
};

/* Room for the disks' times, those of disks that stay kept. */
static struct timespec *disk_times(struct machine *m, const struct definition *def)
{
	struct timespec *times = calloc(def->n_disks + 1, sizeof(*times));

	for (size_t i = 0; times && i < def->n_disks; i++) {
		const struct disk *old = definition_disk(m->def, def->disks[i].name);

		if (old)
			times[i] = m->disk_changed[old - m->def->disks];
	}
	return times;
}

/* The same of network cards. */
static struct timespec *nic_times(struct machine *m, const struct definition *def)
{
	struct timespec *times = calloc(def->n_nics + 1, sizeof(*times));

	for (size_t i = 0; times && i < def->n_nics; i++) {
		const struct nic *old = definition_nic(m->def, def->nics[i].name);

		if (old)
			times[i] = m->nic_changed[old - m->def->nics];
	}
	return times;
}

/* Under m->edit: whether it may change now, and from @old as was thought. */
static int may_change(struct machine *m, const struct live *live, const struct definition *old,
		      const struct definition *def, struct err *err)
{
	LOCK_SCOPE(&m->lock);
	if (!m->alive)
		return err_set(err, -ENOENT, "the machine is gone");
	if (m->def != old)
		return -EAGAIN;
	if (m->saved && saved_permits(old, def, err) < 0)
		return -EBUSY;
	if (same_live(old, def))
		return 0;
	if (m->starting)
		return err_set(err, -EBUSY, "the machine is being started");
	if (!live->claimed && m->vmm)
		return -EAGAIN; /* it has just started: told what changes */
	if (!live->claimed && m->disks_busy)
		return err_set(err, -EBUSY, "another change of its devices is under way");
	return 0;
}

/* Under m->edit: stores @def and shows it. Takes @def. */
static int commit(struct machine *m, struct definition *def, const struct caller *caller,
		  struct err *err)
{
	struct timespec *disks = disk_times(m, def), *nics = nic_times(m, def), when;
	struct definition *old;
	int r = disks && nics ? store_config(m, def, &when, err)
			      : err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(disks);
		free(nics);
		definition_put(def);
		return r;
	}
	pthread_mutex_lock(&m->lock);
	old = m->def;
	m->def = def;
	free(m->disk_changed);
	m->disk_changed = disks;
	free(m->nic_changed);
	m->nic_changed = nics;
	free(take_ptr(m->damaged));
	machine_tell_changes(m, old, when, caller);
	machine_touch(m, ASPECT_DEFINITION, NULL);
	m->changed[ASPECT_DEFINITION] = when;
	pthread_mutex_unlock(&m->lock);
	definition_put(old);
	return 0;
}

/* Under no lock: what was seen of the sources that are new. */
static void note_sizes(struct machine *m, const struct definition *def)
{
	for (size_t i = 0; i < def->n_disks; i++)
		if (def->disks[i].bytes_seen)
			disk_size_note(m, def->disks[i].name, def->disks[i].bytes_seen);
}

static int follow_claimed(struct machine *m, struct live *live, struct definition *old,
			  struct definition *def, const struct caller *caller, struct err *err)
{
	int r = disks_follow(m, old, def, caller->cancel, &live->disks, err);

	if (r < 0)
		return r;
	r = nics_follow(m, old, def, caller->cancel, &live->nics, err);
	if (r < 0)
		disk_steps_take_back(m, take_ptr(live->disks));
	return r;
}

/* Before the change is stored. Claims the disks, so that nobody else changes them meanwhile. */
static int follow(struct machine *m, struct live *live, struct definition *old,
		  struct definition *def, const struct caller *caller, struct err *err)
{
	int r;

	if (live->claimed || same_live(old, def) || !machine_has_vmm(m))
		return 0;
	r = disks_claim(m, err);
	if (r < 0)
		return r;
	r = follow_claimed(m, live, old, def, caller, err);
	if (r < 0)
		disks_unclaim(m);
	else
		live->claimed = true;
	return r;
}

/* The change is stored, or failed with @r: then the VMM's devices are as before. */
static void settle(struct machine *m, struct live *live, int r)
{
	if (!live->claimed)
		return;
	if (r < 0) {
		nic_steps_take_back(m, live->nics);
		disk_steps_take_back(m, live->disks);
	} else {
		nic_steps_free(live->nics);
		disk_steps_free(live->disks);
	}
	disks_unclaim(m);
}

static int try_change(struct machine *m, const struct edit *e, const struct caller *caller,
		      struct live *live, struct err *err)
{
	_cleanup_definition_ struct definition *old = machine_definition(m);
	_cleanup_definition_ struct definition *def = definition_copy(old);
	int r;

	if (!def)
		return err_set(err, -ENOMEM, "out of memory");
	r = e->apply(e, &def, err);
	/* made-up addresses that a guest has been given by now stay */
	if (r == 0 && definition_complete(def, live->nics ? live->nics->def : old) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = definition_check(def, err);
	if (r == 0)
		r = paths_check(m->model, def, old, caller, err);
	if (r == 0)
		r = follow(m, live, old, def, caller, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->edit);
	r = may_change(m, live, old, def, err);
	if (r == 0 && (!same_definition(old, def) || m->damaged))
		r = commit(m, definition_get(def), caller, err);
	pthread_mutex_unlock(&m->edit);
	if (r == 0)
		note_sizes(m, def);
	return r;
}

int machine_change(struct machine *m, const char *what, const struct edit *e,
		   const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	struct live live = {0};
	bool damaged;
	int r;

	pthread_mutex_lock(&m->lock);
	damaged = m->damaged;
	pthread_mutex_unlock(&m->lock);
	if (damaged && e->key)
		r = err_set(words, -EINVAL, "the definition is damaged: replace config first");
	else
		do {
			*words = (struct err)ERR_INIT;
			r = try_change(m, e, caller, &live, words);
		} while (r == -EAGAIN); /* somebody else was faster */
	settle(m, &live, r);
	words->code = r;
	/* paths_check() says of which key; the one-value file's name says so already */
	if (r < 0 && e->key && strncmp(words->text, what, strlen(what)) == 0 &&
	    strncmp(words->text + strlen(what), ": ", 2) == 0)
		memmove(words->text, words->text + strlen(what) + 2,
			strlen(words->text + strlen(what) + 2) + 1);
	machine_outcome(m, what, words);
	return r;
}

/* --- the ways to change ------------------------------------------------------------------------
 */

static int apply_key(const struct edit *e, struct definition **def, struct err *err)
{
	return value_parse(&(*def)->values, e->key, e->text, err);
}

int machine_key_store(struct machine *m, const struct config_key *key, const char *text,
		      const struct caller *caller, struct err *err)
{
	struct edit e = {.key = key, .text = text, .apply = apply_key};

	return machine_change(m, key->name, &e, caller, err);
}

static int apply_config(const struct edit *e, struct definition **def, struct err *err)
{
	struct definition *parsed = NULL;
	int r = config_parse(e->text, e->len, &parsed, err);

	if (r < 0)
		return r;
	definition_put(*def);
	*def = parsed;
	return 0;
}

int machine_config_store(struct machine *m, const char *text, size_t len,
			 const struct caller *caller, struct err *err)
{
	struct edit e = {.text = text, .len = len, .apply = apply_config};

	return machine_change(m, "config", &e, caller, err);
}

/* --- showing
 * --------------------------------------------------------------------------------------- */

int machine_key_show(struct machine *m, const struct config_key *key, struct strbuf *sb)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);

	value_show(&def->values, key, sb);
	return sb->failed ? -ENOMEM : 0;
}

int machine_config_show(struct machine *m, struct strbuf *sb)
{
	_cleanup_definition_ struct definition *def = NULL;

	pthread_mutex_lock(&m->lock);
	def = definition_get(m->def);
	if (m->damaged)
		strbuf_puts(sb, m->damaged); /* to be repaired */
	else
		config_format(def, sb);
	pthread_mutex_unlock(&m->lock);
	return sb->failed ? -ENOMEM : 0;
}
