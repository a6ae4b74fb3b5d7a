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
#include "paths.h"
#include "save.h"
#include "util/cleanup.h"

/* What a way to change does to the copy. */
struct edit {
	const struct config_key *key;
	const char *disk; /* whose key, or which to add or remove */
	const char *text;
	size_t len;	    /* of a whole config */
	const char *format; /* beside a source; NULL: not given */
	int (*apply)(const struct edit *e, struct definition **def, struct err *err);
};

/* --- showing what changed ------------------------------------------------------------------ */

static void change_event(struct machine *m, const char *what, const char *value,
			 const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, "config");
	event_text(&sb, "machine", m->name);
	event_text(&sb, "key", what);
	if (value)
		event_text(&sb, "value", value);
	event_number(&sb, "uid", caller->uid);
	model_event(m->model, &sb);
}

static void value_event(struct machine *m, const char *disk, const struct config_key *key,
			const void *values, const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf value = STRBUF_INIT;
	char what[DISK_NAME_MAX + 64];

	if (disk)
		snprintf(what, sizeof(what), "disks/%s/%s", disk, key->name);
	else
		snprintf(what, sizeof(what), "%s", key->name);
	value_show(values, key, &value);
	change_event(m, what, value.data ? value.data : "", caller);
}

static void disk_event(struct machine *m, const char *kind, const char *disk,
		       const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "machine", m->name);
	event_text(&sb, "disk", disk);
	event_number(&sb, "uid", caller->uid);
	model_event(m->model, &sb);
}

/* Under m->lock: m->def is new already. */
static void show_keys(struct machine *m, const struct definition *old, struct timespec when,
		      const struct caller *caller)
{
	for (size_t i = 0; i < n_machine_keys; i++) {
		const struct config_key *key = &machine_keys[i];

		if (value_equal(&m->def->values, &old->values, key))
			continue;
		value_event(m, NULL, key, &m->def->values, caller);
		machine_touch(m, ASPECT_KEY0 + (enum machine_aspect)i, NULL);
		m->changed[ASPECT_KEY0 + i] = when;
	}
}

static void show_disk(struct machine *m, size_t i, const struct disk *old, struct timespec when,
		      const struct caller *caller)
{
	const struct disk *d = &m->def->disks[i];
	bool changed = false;

	for (size_t k = 0; k < n_disk_keys; k++) {
		if (old && value_equal(&d->values, &old->values, &disk_keys[k]))
			continue;
		changed = true;
		if (old)
			value_event(m, d->name, &disk_keys[k], &d->values, caller);
	}
	if (!changed)
		return;
	m->disk_changed[i] = when;
	if (old) {
		machine_touch(m, ASPECT_DISK, d->name);
		if (strcmp(old->values.source, d->values.source) != 0)
			machine_touch(m, ASPECT_DISK_CONTENT, d->name);
	} else {
		disk_event(m, "disk-added", d->name, caller);
		machine_touch(m, ASPECT_DISKS, d->name);
	}
}

static void show_disks(struct machine *m, const struct definition *old, struct timespec when,
		       const struct caller *caller)
{
	for (size_t i = 0; i < old->n_disks; i++)
		if (!definition_disk(m->def, old->disks[i].name)) {
			disk_event(m, "disk-removed", old->disks[i].name, caller);
			machine_touch(m, ASPECT_DISKS, old->disks[i].name);
		}
	for (size_t i = 0; i < m->def->n_disks; i++)
		show_disk(m, i, definition_disk(old, m->def->disks[i].name), when, caller);
}

/* --- one change ----------------------------------------------------------------------------- */

static bool same_disks(const struct definition *a, const struct definition *b)
{
	bool same = a->n_disks == b->n_disks;

	for (size_t i = 0; same && i < a->n_disks; i++)
		same = strcmp(a->disks[i].name, b->disks[i].name) == 0;
	return same;
}

/* Whether nothing differs that a VMM is told of at once. */
static bool same_live(const struct definition *a, const struct definition *b)
{
	bool same = same_disks(a, b);

	for (size_t d = 0; same && d < a->n_disks; d++)
		for (size_t i = 0; same && i < n_disk_keys; i++)
			same = disk_keys[i].needs_restart ||
			       value_equal(&a->disks[d].values, &b->disks[d].values, &disk_keys[i]);
	return same;
}

static bool same_definition(const struct definition *a, const struct definition *b)
{
	bool same = same_disks(a, b);

	for (size_t i = 0; same && i < n_machine_keys; i++)
		same = value_equal(&a->values, &b->values, &machine_keys[i]);
	for (size_t d = 0; same && d < a->n_disks; d++)
		for (size_t i = 0; same && i < n_disk_keys; i++)
			same = value_equal(&a->disks[d].values, &b->disks[d].values, &disk_keys[i]);
	return same;
}

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

/* Under m->edit: whether it may change now, and from @old as was thought. */
static int may_change(struct machine *m, const struct disk_steps *live,
		      const struct definition *old, const struct definition *def, struct err *err)
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
	if (!live && m->vmm)
		return -EAGAIN; /* it has just started: told what changes */
	if (!live && m->disks_busy)
		return err_set(err, -EBUSY, "another change of its disks is under way");
	return 0;
}

/* Under m->edit: stores @def and shows it. Takes @def. */
static int commit(struct machine *m, struct definition *def, const struct caller *caller,
		  struct err *err)
{
	struct timespec *times = disk_times(m, def), when;
	struct definition *old;
	int r = times ? store_config(m, def, &when, err) : err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(times);
		definition_put(def);
		return r;
	}
	pthread_mutex_lock(&m->lock);
	old = m->def;
	m->def = def;
	free(m->disk_changed);
	m->disk_changed = times;
	free(take_ptr(m->damaged));
	show_keys(m, old, when, caller);
	show_disks(m, old, when, caller);
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

/* Before the change is stored. Claims the disks, so that nobody else changes them meanwhile. */
static int follow(struct machine *m, struct disk_steps **live, struct definition *old,
		  struct definition *def, const struct caller *caller, struct err *err)
{
	int r;

	if (*live || same_live(old, def) || !machine_has_vmm(m))
		return 0;
	r = disks_claim(m, err);
	if (r < 0)
		return r;
	r = disks_follow(m, old, def, caller->cancel, live, err);
	if (r < 0)
		disks_unclaim(m);
	return r;
}

/* The change is stored, or failed with @r: then the VMM's disks are as before. */
static void settle(struct machine *m, struct disk_steps *live, int r)
{
	if (!live)
		return;
	if (r < 0)
		disk_steps_take_back(m, live);
	else
		disk_steps_free(live);
	disks_unclaim(m);
}

static int try_change(struct machine *m, const struct edit *e, const struct caller *caller,
		      struct disk_steps **live, struct err *err)
{
	_cleanup_definition_ struct definition *old = machine_definition(m);
	_cleanup_definition_ struct definition *def = definition_copy(old);
	int r;

	if (!def)
		return err_set(err, -ENOMEM, "out of memory");
	r = e->apply(e, &def, err);
	if (r == 0 && definition_complete(def, old) < 0)
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
	r = may_change(m, *live, old, def, err);
	if (r == 0 && (!same_definition(old, def) || m->damaged))
		r = commit(m, definition_get(def), caller, err);
	pthread_mutex_unlock(&m->edit);
	if (r == 0)
		note_sizes(m, def);
	return r;
}

static int change(struct machine *m, const char *what, const struct edit *e,
		  const struct caller *caller, struct err *err)
{
	struct err own = ERR_INIT, *words = err ? err : &own;
	struct disk_steps *live = NULL;
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
	settle(m, live, r);
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

	return change(m, key->name, &e, caller, err);
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

	return change(m, "config", &e, caller, err);
}

static const struct config_key *disk_key(const char *name)
{
	for (size_t i = 0; i < n_disk_keys; i++)
		if (strcmp(disk_keys[i].name, name) == 0)
			return &disk_keys[i];
	return NULL;
}

static int apply_disk_key(const struct edit *e, struct definition **def, struct err *err)
{
	struct disk *disk = definition_disk(*def, e->disk);

	if (!disk)
		return err_set(err, -ENOENT, "there is no disk %s", e->disk);
	if (strcmp(e->key->name, "source") == 0)
		disk->format_given = false;
	return value_parse(&disk->values, e->key, e->text, err);
}

int machine_disk_key_store(struct machine *m, const char *disk, const struct config_key *key,
			   const char *text, const struct caller *caller, struct err *err)
{
	struct edit e = {.key = key, .disk = disk, .text = text, .apply = apply_disk_key};
	char what[DISK_NAME_MAX + 64];

	snprintf(what, sizeof(what), "disks/%.31s/%s", disk, key->name);
	return change(m, what, &e, caller, err);
}

static int apply_source(const struct edit *e, struct definition **def, struct err *err)
{
	struct disk *disk = definition_disk(*def, e->disk);
	int r;

	if (!disk)
		return err_set(err, -ENOENT, "there is no disk %s", e->disk);
	disk->format_given = e->format;
	r = value_parse(&disk->values, disk_key("source"), e->text, err);
	if (r == 0 && e->format)
		r = value_parse(&disk->values, disk_key("format"), e->format, err);
	return r;
}

int machine_disk_source_set(struct machine *m, const char *disk, const char *source,
			    const char *format, const struct caller *caller, struct err *err)
{
	struct edit e = {.disk = disk, .text = source, .format = format, .apply = apply_source};
	char what[DISK_NAME_MAX + 64];

	snprintf(what, sizeof(what), "disks/%.31s/source", disk);
	return change(m, what, &e, caller, err);
}

static int apply_add(const struct edit *e, struct definition **def, struct err *err)
{
	struct disk *disk;

	return definition_add_disk(*def, e->disk, &disk, err);
}

static int apply_remove(const struct edit *e, struct definition **def, struct err *err)
{
	if (definition_remove_disk(*def, e->disk) < 0)
		return err_set(err, -ENOENT, "there is no disk %s", e->disk);
	return 0;
}

int machine_disk_add(struct machine *m, const char *name, const struct caller *caller,
		     struct err *err)
{
	struct edit e = {.disk = name, .apply = apply_add};

	return change(m, "disks", &e, caller, err);
}

int machine_disk_remove(struct machine *m, const char *name, const struct caller *caller,
			struct err *err)
{
	struct edit e = {.disk = name, .apply = apply_remove};

	return change(m, "disks", &e, caller, err);
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

bool machine_disk_exists(struct machine *m, const char *name)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);

	return definition_disk(def, name);
}

bool machine_disk_at(struct machine *m, size_t index, char name[DISK_NAME_MAX + 1])
{
	_cleanup_definition_ struct definition *def = machine_definition(m);

	if (index >= def->n_disks)
		return false;
	strcpy(name, def->disks[index].name);
	return true;
}

int machine_disk_key_show(struct machine *m, const char *disk, const struct config_key *key,
			  struct strbuf *sb)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct disk *d = definition_disk(def, disk);

	if (!d)
		return -ENOENT;
	value_show(&d->values, key, sb);
	return sb->failed ? -ENOMEM : 0;
}
