// SPDX-License-Identifier: ISC
/* Ways to change a definition's disks and network cards, and to look at them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine_edit.h"
#include "nic.h"
#include "util/cleanup.h"

/* --- disks ------------------------------------------------------------------------------------ */

static const struct config_key *disk_key(const char *name)
{
	for (size_t i = 0; i < n_disk_keys; i++)
		if (strcmp(disk_keys[i].name, name) == 0)
			return &disk_keys[i];
	return NULL;
}

static int apply_disk_key(const struct edit *e, struct definition **def, struct err *err)
{
	struct disk *disk = definition_disk(*def, e->part);

	if (!disk)
		return err_set(err, -ENOENT, "there is no disk %s", e->part);
	if (strcmp(e->key->name, "source") == 0)
		disk->format_given = false;
	return value_parse(&disk->values, e->key, e->text, err);
}

int machine_disk_key_store(struct machine *m, const char *disk, const struct config_key *key,
			   const char *text, const struct caller *caller, struct err *err)
{
	struct edit e = {.key = key, .part = disk, .text = text, .apply = apply_disk_key};
	char what[DISK_NAME_MAX + 64];

	snprintf(what, sizeof(what), "disks/%.31s/%s", disk, key->name);
	return machine_change(m, what, &e, caller, err);
}

static int apply_source(const struct edit *e, struct definition **def, struct err *err)
{
	struct disk *disk = definition_disk(*def, e->part);
	int r;

	if (!disk)
		return err_set(err, -ENOENT, "there is no disk %s", e->part);
	disk->format_given = e->format;
	r = value_parse(&disk->values, disk_key("source"), e->text, err);
	if (r == 0 && e->format)
		r = value_parse(&disk->values, disk_key("format"), e->format, err);
	return r;
}

int machine_disk_source_set(struct machine *m, const char *disk, const char *source,
			    const char *format, const struct caller *caller, struct err *err)
{
	struct edit e = {.part = disk, .text = source, .format = format, .apply = apply_source};
	char what[DISK_NAME_MAX + 64];

	snprintf(what, sizeof(what), "disks/%.31s/source", disk);
	return machine_change(m, what, &e, caller, err);
}

static int apply_add(const struct edit *e, struct definition **def, struct err *err)
{
	struct disk *disk;

	return definition_add_disk(*def, e->part, &disk, err);
}

static int apply_remove(const struct edit *e, struct definition **def, struct err *err)
{
	if (definition_remove_disk(*def, e->part) < 0)
		return err_set(err, -ENOENT, "there is no disk %s", e->part);
	return 0;
}

int machine_disk_add(struct machine *m, const char *name, const struct caller *caller,
		     struct err *err)
{
	struct edit e = {.part = name, .apply = apply_add};

	return machine_change(m, "disks", &e, caller, err);
}

int machine_disk_remove(struct machine *m, const char *name, const struct caller *caller,
			struct err *err)
{
	struct edit e = {.part = name, .apply = apply_remove};

	return machine_change(m, "disks", &e, caller, err);
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

/* --- network cards ---------------------------------------------------------------------------- */

static int apply_nic_key(const struct edit *e, struct definition **def, struct err *err)
{
	struct nic *nic = definition_nic(*def, e->part);

	if (!nic)
		return err_set(err, -ENOENT, "there is no network card %s", e->part);
	return value_parse(&nic->values, e->key, e->text, err);
}

int machine_nic_key_store(struct machine *m, const char *nic, const struct config_key *key,
			  const char *text, const struct caller *caller, struct err *err)
{
	struct edit e = {.key = key, .part = nic, .text = text, .apply = apply_nic_key};
	char what[DISK_NAME_MAX + 64];

	snprintf(what, sizeof(what), "nics/%.31s/%s", nic, key->name);
	return machine_change(m, what, &e, caller, err);
}

static int apply_nic_add(const struct edit *e, struct definition **def, struct err *err)
{
	struct nic *nic;

	return definition_add_nic(*def, e->part, &nic, err);
}

static int apply_nic_remove(const struct edit *e, struct definition **def, struct err *err)
{
	if (definition_remove_nic(*def, e->part) < 0)
		return err_set(err, -ENOENT, "there is no network card %s", e->part);
	return 0;
}

int machine_nic_add(struct machine *m, const char *name, const struct caller *caller,
		    struct err *err)
{
	struct edit e = {.part = name, .apply = apply_nic_add};

	return machine_change(m, "nics", &e, caller, err);
}

int machine_nic_remove(struct machine *m, const char *name, const struct caller *caller,
		       struct err *err)
{
	struct edit e = {.part = name, .apply = apply_nic_remove};

	return machine_change(m, "nics", &e, caller, err);
}

bool machine_nic_exists(struct machine *m, const char *name)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);

	return definition_nic(def, name);
}

bool machine_nic_at(struct machine *m, size_t index, char name[DISK_NAME_MAX + 1])
{
	_cleanup_definition_ struct definition *def = machine_definition(m);

	if (index >= def->n_nics)
		return false;
	strcpy(name, def->nics[index].name);
	return true;
}

int machine_nic_key_show(struct machine *m, const char *nic, const struct config_key *key,
			 struct strbuf *sb)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct nic *n = definition_nic(def, nic);

	if (!n)
		return -ENOENT;
	value_show(&n->values, key, sb);
	return sb->failed ? -ENOMEM : 0;
}
