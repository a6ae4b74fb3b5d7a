// SPDX-License-Identifier: ISC
/* Files that a definition names. See paths.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "model.h"
#include "paths.h"
#include "util/cleanup.h"
#include "util/rights.h"

int path_open(const struct rights *rights, const char *path, int flags, bool disk, struct err *err)
{
	int fd = rights_open(rights, path, flags, disk);

	if (fd >= 0)
		return fd;
	if (fd == -EINVAL)
		return err_set(err, fd, "%s is no %s", path,
			       disk ? "file or block device" : "regular file");
	return err_set(err, fd, "%s: %s", path, strerror(-fd));
}

static int try_open(const struct caller *caller, const char *path, int flags, bool disk,
		    struct err *err)
{
	struct rights rights = {caller->uid, caller->gid, caller->groups, caller->n_groups};
	_cleanup_close_ int fd = -1;

	if (!*path)
		return 0;
	fd = path_open(&rights, path, flags, disk, err);
	/* what the host has mounted now may be free when it starts */
	return fd < 0 && !(disk && fd == -EBUSY) ? fd : 0;
}

static int check_disk(const struct disk *disk, const struct disk *old, const struct caller *caller,
		      struct err *err)
{
	const struct disk_values *v = &disk->values;
	int r;

	if (old && strcmp(old->values.source, v->source) == 0 &&
	    (v->readonly || !old->values.readonly))
		return 0;
	r = try_open(caller, v->source, v->readonly ? O_RDONLY : O_RDWR, true, err);
	if (r < 0)
		err_prefix(err, "disks/%s/source", disk->name);
	return r;
}

int paths_check(const struct definition *def, const struct definition *old,
		const struct caller *caller, struct err *err)
{
	int r;

	for (size_t i = 0; i < n_machine_keys; i++) {
		const struct config_key *key = &machine_keys[i];

		if (key->type != KEY_PATH || (old && value_equal(&def->values, &old->values, key)))
			continue;
		r = try_open(caller, value_text(&def->values, key), O_RDONLY, false, err);
		if (r < 0) {
			err_prefix(err, "%s", key->name);
			return r;
		}
	}
	for (size_t i = 0; i < def->n_disks; i++) {
		const struct disk *disk = &def->disks[i];

		r = check_disk(disk, old ? definition_disk(old, disk->name) : NULL, caller, err);
		if (r < 0)
			return r;
	}
	return 0;
}
