// SPDX-License-Identifier: ISC
/* What of a definition has changed, for events, times and watchers. All under machine.lock. */
#include <string.h>

#include "machine_edit.h"
#include "util/cleanup.h"

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

/* @dir: "disks" or "nics" where it is a part's. */
static void value_event(struct machine *m, const char *dir, const char *part,
			const struct config_key *key, const void *values,
			const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf value = STRBUF_INIT;
	char what[DISK_NAME_MAX + 64];

	if (part)
		snprintf(what, sizeof(what), "%s/%s/%s", dir, part, key->name);
	else
		snprintf(what, sizeof(what), "%s", key->name);
	value_show(values, key, &value);
	change_event(m, what, value.data ? value.data : "", caller);
}

/* @type: "disk" or "nic" */
static void part_event(struct machine *m, const char *kind, const char *type, const char *name,
		       const struct caller *caller)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	event_begin(&sb, kind);
	event_text(&sb, "machine", m->name);
	event_text(&sb, type, name);
	event_number(&sb, "uid", caller->uid);
	model_event(m->model, &sb);
}

static void show_keys(struct machine *m, const struct definition *old, struct timespec when,
		      const struct caller *caller)
{
	for (size_t i = 0; i < n_machine_keys; i++) {
		const struct config_key *key = &machine_keys[i];

		if (value_equal(&m->def->values, &old->values, key))
			continue;
		value_event(m, NULL, NULL, key, &m->def->values, caller);
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
			value_event(m, "disks", d->name, &disk_keys[k], &d->values, caller);
	}
	if (!changed)
		return;
	m->disk_changed[i] = when;
	if (old) {
		machine_touch(m, ASPECT_DISK, d->name);
		if (strcmp(old->values.source, d->values.source) != 0)
			machine_touch(m, ASPECT_DISK_CONTENT, d->name);
	} else {
		part_event(m, "disk-added", "disk", d->name, caller);
		machine_touch(m, ASPECT_DISKS, d->name);
	}
}

static void show_disks(struct machine *m, const struct definition *old, struct timespec when,
		       const struct caller *caller)
{
	for (size_t i = 0; i < old->n_disks; i++)
		if (!definition_disk(m->def, old->disks[i].name)) {
			part_event(m, "disk-removed", "disk", old->disks[i].name, caller);
			machine_touch(m, ASPECT_DISKS, old->disks[i].name);
		}
	for (size_t i = 0; i < m->def->n_disks; i++)
		show_disk(m, i, definition_disk(old, m->def->disks[i].name), when, caller);
}

static void show_nic(struct machine *m, size_t i, const struct nic *old, struct timespec when,
		     const struct caller *caller)
{
	const struct nic *n = &m->def->nics[i];
	bool changed = !old;

	for (size_t k = 0; old && k < n_nic_keys; k++) {
		if (value_equal(&n->values, &old->values, &nic_keys[k]))
			continue;
		changed = true;
		value_event(m, "nics", n->name, &nic_keys[k], &n->values, caller);
	}
	if (!changed)
		return;
	m->nic_changed[i] = when;
	if (!old)
		part_event(m, "nic-added", "nic", n->name, caller);
	machine_touch(m, old ? ASPECT_NIC : ASPECT_NICS, n->name);
}

static void show_nics(struct machine *m, const struct definition *old, struct timespec when,
		      const struct caller *caller)
{
	for (size_t i = 0; i < old->n_nics; i++)
		if (!definition_nic(m->def, old->nics[i].name)) {
			part_event(m, "nic-removed", "nic", old->nics[i].name, caller);
			machine_touch(m, ASPECT_NICS, old->nics[i].name);
		}
	for (size_t i = 0; i < m->def->n_nics; i++)
		show_nic(m, i, definition_nic(old, m->def->nics[i].name), when, caller);
}

void machine_tell_changes(struct machine *m, const struct definition *old, struct timespec when,
			  const struct caller *caller)
{
	show_keys(m, old, when, caller);
	show_disks(m, old, when, caller);
	show_nics(m, old, when, caller);
}
