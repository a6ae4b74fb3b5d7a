// SPDX-License-Identifier: ISC
/*
 * Whether somebody may have a copy of a machine: as the files that show it say. Who may write
 * `ctl` may start and stop it; but a clone is his who makes it, with all that was in its memory
 * and on its disks. A snapshot's files have no modes of their own: those of its machine count.
 */
#include <errno.h>
#include <string.h>

#include "clone_int.h"
#include "disk.h"
#include "util/cleanup.h"

#define MEMORY_MODE 0400

static bool in_group(const struct caller *caller, gid_t gid)
{
	bool in = caller->gid == gid;

	for (size_t i = 0; !in && i < caller->n_groups; i++)
		in = caller->groups[i] == gid;
	return in;
}

static bool mode_lets(mode_t mode, const struct machine_access *access, const struct caller *caller)
{
	if (caller->uid == 0)
		return true;
	if (caller->uid == access->uid)
		return mode & 0400;
	return mode & (in_group(caller, access->gid) ? 0040 : 0004);
}

/* Whether the caller may read that file of the machine's directory, as the tree shows it. */
static int may_read(const struct clones *c, const char *path, mode_t usual, const char *what)
{
	struct machine_access access;
	mode_t mode;

	machine_access_get(c->source.m, &access);
	if (!machine_file_mode_get(c->source.m, path, &mode))
		mode = usual & access.mode;
	return mode_lets(mode, &access, c->caller)
		   ? 0
		   : err_set(c->err, -EACCES, "%s: you may not read %s", what, path);
}

/* What is below our layers, by who is to own what is over it. */
static int may_read_source(const struct clones *c, const struct disk *d)
{
	struct probe_ask ask = {.format_known = true,
				.format = (enum image_format)d->values.format};
	struct probed_disk probed;
	int r = disk_probe_source(c->model, d->values.source, &ask, c->caller, &probed, c->err);

	if (r == -EBUSY)
		return 0;
	return r < 0 ? err_prefix(c->err, "disks/%s/source", d->name), r : 0;
}

int clone_may(const struct clones *c)
{
	const struct clone_source *from = &c->source;
	int r = from->resumed ? may_read(c, "memory.img", MEMORY_MODE, "its memory") : 0;

	for (size_t i = 0; r == 0 && i < from->def->n_disks; i++) {
		const struct disk *d = &from->def->disks[i];
		const struct disk *now = definition_disk(c->def, d->name);
		char path[DISK_NAME_MAX + 32], what[DISK_NAME_MAX + 32];

		if (!*d->values.source || !now || strcmp(now->values.source, d->values.source) != 0)
			continue;
		snprintf(path, sizeof(path), "disks/%s/image", d->name);
		snprintf(what, sizeof(what), "disk %s", d->name);
		r = may_read(c, path, VOLUME_IMAGE_MODE, what);
		if (r == 0)
			r = may_read_source(c, d);
	}
	return r;
}
