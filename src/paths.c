// SPDX-License-Identifier: ISC
/* Files that a definition names. See paths.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "paths.h"
#include "util/cleanup.h"

static int check_file(struct model *model, const char *path, const struct caller *caller,
		      struct err *err)
{
	struct opener_request rq = {
	    .rights = {caller->uid, caller->gid, caller->groups, caller->n_groups},
	    .path = path,
	    .cancel = caller->cancel};
	_cleanup_close_ int fd = -1;

	if (!*path)
		return 0;
	fd = opener_file(model->opener, &rq, O_RDONLY, false, err);
	return fd < 0 ? fd : 0;
}

static int check_disk(struct model *model, struct disk *disk, const struct disk *old,
		      const struct caller *caller, struct err *err)
{
	struct disk_values *v = &disk->values;
	bool same = old && strcmp(old->values.source, v->source) == 0;
	struct probe_ask ask = {.write = !v->readonly,
				.format_known = disk->format_given || same,
				.format = (enum image_format)v->format};
	struct probed_disk probed;
	int r;

	if (same && !disk->format_given)
		v->format = old->values.format;
	if (!*v->source || (same && (v->readonly || !old->values.readonly)))
		return 0;
	ask.format = (enum image_format)v->format;
	r = disk_probe_source(model, v->source, &ask, caller, &probed, err);
	if (r == -EBUSY)
		return 0; /* what the host has mounted now may be free when it starts */
	if (r < 0) {
		err_prefix(err, "disks/%s/source", disk->name);
		return r;
	}
	v->format = probed.format;
	disk->bytes_seen = probed.bytes;
	return 0;
}

int paths_check(struct model *model, struct definition *def, const struct definition *old,
		const struct caller *caller, struct err *err)
{
	int r;

	for (size_t i = 0; i < n_machine_keys; i++) {
		const struct config_key *key = &machine_keys[i];

		if (key->type != KEY_PATH || (old && value_equal(&def->values, &old->values, key)))
			continue;
		r = check_file(model, value_text(&def->values, key), caller, err);
		if (r < 0) {
			err_prefix(err, "%s", key->name);
			return r;
		}
	}
	for (size_t i = 0; i < def->n_disks; i++) {
		struct disk *disk = &def->disks[i];

		r = check_disk(model, disk, old ? definition_disk(old, disk->name) : NULL, caller,
			       err);
		if (r < 0)
			return r;
	}
	return 0;
}
