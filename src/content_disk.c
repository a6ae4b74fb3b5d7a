// SPDX-License-Identifier: ISC
/*
 * The content of a machine's disk. Where no VMM has it, its image is opened here, with the rights
 * of the machine's owner and the locks of any user of it, so no machine starts to write it
 * meanwhile. Where one has it, the VMM keeps it as it is now for us (VMM_DISK_SNAPSHOT):
 * what the guest overwrites goes to a file without a name in the machine's directory of
 * the daemon's state, and we read from it (peek.h). When there is no more room the snapshot is
 * lost, not the guest's write: reads give EIO then.
 */
#define LOG_MODULE "disk"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content_int.h"
#include "disk.h"
#include "layer.h"
#include "peek.h"
#include "util/cleanup.h"

#define ANSWER_MS 60000 /* for one peek */

/* --- a disk that a VMM has ---------------------------------------------------------------------
 */

/* For what the guest overwrites: no name, gone with its last user. */
static int old_file(struct vmm *vmm)
{
	int fd = openat(vmm->state_dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		fd = openat(vmm->state_dir, ".old", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0 && unlinkat(vmm->state_dir, ".old", 0) < 0)
			close(take_fd(&fd));
	}
	return fd < 0 ? -errno : fd;
}

static int open_snapshot(struct vmm *vmm, const char *disk, struct cancel *cancel,
			 struct content **content, struct err *err)
{
	_cleanup_close_ int old = old_file(vmm);
	struct vmm_disk_name msg = {0};
	struct peek_params params = {.type = VMM_DISK_SNAPSHOT,
				     .data = &msg,
				     .len = sizeof(msg),
				     .fds = &old,
				     .n_fds = 1,
				     .order_ms = VMM_ORDER_MS,
				     .cancel = cancel,
				     .answer_ms = ANSWER_MS};

	if (old < 0)
		return err_set(err, old, "no file for what the guest overwrites: %s",
			       strerror(-old));
	snprintf(msg.name, sizeof(msg.name), "%s", disk);
	return peek_open(vmm, &params, content, err);
}

/* --- one that nobody has --------------------------------------------------------------------- */

struct still {
	struct machine *m;
	char name[DISK_NAME_MAX + 1];
};

static void still_closed(void *arg, bool written)
{
	struct still *s = arg;

	if (written) {
		LOCK_SCOPE(&s->m->lock);
		machine_touch(s->m, ASPECT_DISK_CONTENT, s->name);
	}
	layers_tidy(s->m); /* it was in the way of merging them */
	machine_put(s->m);
	free(s);
}

static int open_still(struct machine *m, const struct disk *d, bool write,
		      const struct rights *owner, struct cancel *cancel, struct content **content,
		      struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	struct disk_asks asks = {.owner = *owner, .cancel = cancel};
	struct content_block_params params = {.write = write, .closed = still_closed};
	struct still *still = calloc(1, sizeof(*still));
	struct disk copy = *d; /* texts are borrowed */
	struct block *block;
	struct block_info info;
	int r;

	if (!still)
		return err_set(err, -ENOMEM, "out of memory");
	copy.values.readonly = !write;
	r = disk_open_source(m, &copy, &asks, &o, err);
	if (r == 0)
		r = disk_opened_block(o, write, &block, err);
	if (r < 0) {
		free(still);
		return r;
	}
	block_info_get(block, &info);
	disk_size_note(m, d->name, info.bytes);
	still->m = machine_get(m);
	strcpy(still->name, d->name);
	params.arg = still;
	return content_block_open(content, block, &params, err);
}

/* --- content.h ------------------------------------------------------------------------------- */

/* The VMM that has it, or NULL. */
static struct vmm *vmm_with(struct machine *m, const char *disk, bool *empty)
{
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&m->lock);
	has = m->vmm && m->vmm->ready && !m->vmm->ended ? vmm_disk_find(m->vmm, disk) : NULL;
	*empty = has && has->state == VMM_DISK_EMPTY;
	return has ? vmm_get(m->vmm) : NULL;
}

static bool has_layers(struct machine *m, const struct disk *d)
{
	LOCK_SCOPE(&m->lock);
	return m->layers && layer_set_find(m->layers, d->name, d->values.source);
}

/* A volume's own content, as the machine's owner may have it. */
static int open_volume(struct machine *m, const char *source, bool write,
		       const struct rights *owner, struct cancel *cancel, struct content **content,
		       struct err *err)
{
	struct caller caller = {.uid = owner->uid,
				.gid = owner->gid,
				.groups = owner->groups,
				.n_groups = owner->n_groups,
				.cancel = cancel};
	_cleanup_volume_ struct volume *volume = NULL;
	int r = model_volume_find(m->model, source, &volume, err);

	if (r == 0)
		r = volume_may_use(volume, owner, write, err);
	if (r == 0)
		r = volume_content_open(volume, write, &caller, content, err);
	return r;
}

int machine_disk_content_open(struct machine *m, const char *disk, bool write,
			      const struct caller *caller, struct content **content,
			      struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct disk *d = definition_disk(def, disk);
	_cleanup_rights_ struct rights owner = {0};
	bool empty;
	_cleanup_vmm_ struct vmm *vmm = vmm_with(m, disk, &empty);

	if (!d)
		return err_set(err, -ENOENT, "there is no disk %s", disk);
	if (vmm && write)
		return err_set(err, -EBUSY,
			       "the machine runs with it: its content can only be read");
	if (write && machine_state(m) == MACHINE_SAVED)
		return err_set(err, -EBUSY,
			       "the machine is saved and goes on with it: its content can only be "
			       "read");
	if (empty || !*d->values.source)
		return err_set(err, -ENXIO, "disk %s has no source", disk);
	if (vmm)
		return open_snapshot(vmm, disk, caller->cancel, content, err);
	if (machine_owner_rights(m, &owner) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (disk_source_pool(d->values.source) > 0 && !has_layers(m, d))
		return open_volume(m, d->values.source, write, &owner, caller->cancel, content,
				   err);
	return open_still(m, d, write, &owner, caller->cancel, content, err);
}
