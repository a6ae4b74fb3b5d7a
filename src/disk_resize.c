// SPDX-License-Identifier: ISC
/* Another size for a disk: where a VMM has it, by the VMM, which tells the guest; else here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk.h"
#include "layer.h"
#include "util/cleanup.h"
#include "vmm.h"

/* The machine's VMM if it has the disk, and how large that is now. */
static struct vmm *vmm_with(struct machine *m, const char *name, uint64_t *bytes)
{
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&m->lock);
	has = m->vmm && m->vmm->ready && !m->vmm->ended ? vmm_disk_find(m->vmm, name) : NULL;
	if (!has || has->state == VMM_DISK_EMPTY)
		return NULL;
	*bytes = has->bytes;
	return vmm_get(m->vmm);
}

/* What the VMM says it is: a number to be shown, no more. */
static void note_size(struct vmm *vmm, const char *name, uint64_t bytes)
{
	struct machine *m = vmm->m;
	struct vmm_has_disk *has;
	bool changed;

	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, name);
	changed = has && has->bytes != bytes;
	if (changed) {
		_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

		has->bytes = bytes;
		event_begin(&sb, "disk-resized");
		event_text(&sb, "machine", m->name);
		event_text(&sb, "disk", name);
		event_number(&sb, "bytes", bytes);
		model_event(m->model, &sb);
		machine_touch(m, ASPECT_DISK_CONTENT, name);
	}
	pthread_mutex_unlock(&m->lock);
	if (changed)
		vmm_note(vmm);
}

int machine_disk_resize(struct machine *m, const char *name, uint64_t bytes, struct cancel *cancel,
			struct err *err)
{
	uint64_t now, answer = 0;
	_cleanup_vmm_ struct vmm *vmm = vmm_with(m, name, &now);
	struct vmm_disk_resize msg = {.bytes = bytes};
	struct vmm_reply reply = {.data = &answer, .room = sizeof(answer)};
	struct vmm_request rq = {.type = VMM_DISK_RESIZE,
				 .data = &msg,
				 .len = sizeof(msg),
				 .timeout_ms = VMM_LOAD_MS,
				 .cancel = cancel};
	int r;

	if (!vmm)
		return err_set(err, -EBUSY, "no machine runs with it");
	snprintf(msg.name, sizeof(msg.name), "%s", name);
	r = vmm_call(vmm, &rq, &reply, err);
	if (r < 0)
		return r == -EPIPE ? err_set(err, -EBUSY, "the machine has ended meanwhile") : r;
	if (reply.len < sizeof(answer) || answer > INT64_MAX)
		return err_set(err, -EIO, "the VMM does not say what size it has now");
	note_size(vmm, name, answer);
	return 0;
}

static int refuse_smaller(uint64_t now, uint64_t bytes, bool shrink, struct err *err)
{
	if (bytes >= now || shrink)
		return 0;
	return err_set(err, -EINVAL,
		       "it has %llu bytes: what is behind the new end would be lost; `resize SIZE "
		       "shrink` does that",
		       (unsigned long long)now);
}

/* A volume that no VMM has here: by its own command. */
static int resize_volume(struct model *model, const char *source, uint64_t bytes, bool shrink,
			 const struct caller *caller, struct err *err)
{
	struct rights rights = {caller->uid, caller->gid, caller->groups, caller->n_groups};
	_cleanup_volume_ struct volume *volume = NULL;
	char line[64];
	int r = model_volume_find(model, source, &volume, err);

	if (r < 0)
		return r;
	r = volume_may_use(volume, &rights, true, err);
	if (r == 0)
		r = refuse_smaller(volume_size(volume), bytes, shrink, err);
	snprintf(line, sizeof(line), "resize %llu%s", (unsigned long long)bytes,
		 shrink ? " shrink" : "");
	return r == 0 ? volume_command_run(volume, line, caller, err) : r;
}

static void look_again(struct model *model, const char *source)
{
	_cleanup_volume_ struct volume *volume = NULL;

	if (model_volume_find(model, source, &volume, NULL) == 0)
		volume_look_again(volume);
}

static int resize_image(struct machine *m, const struct disk *d, uint64_t bytes, bool shrink,
			const struct caller *caller, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	_cleanup_rights_ struct rights owner = {0};
	struct disk_asks asks = {.cancel = caller->cancel};
	struct block_info info;
	struct block *block;
	int r = machine_owner_rights(m, &owner);

	if (r < 0)
		return err_set(err, r, "out of memory");
	asks.owner = owner;
	r = disk_open_source(m, d, &asks, &o, err);
	if (r == 0)
		r = disk_opened_block(o, true, &block, err);
	if (r < 0)
		return r;
	block_info_get(block, &info);
	r = refuse_smaller(info.bytes, bytes, shrink, err);
	if (r == 0)
		r = block_resize(block, bytes, err);
	block_info_get(block, &info);
	block_close(block);
	disk_size_note(m, d->name, info.bytes);
	return r;
}

/* Then the top one of them is what has a size. */
static bool has_layers(struct machine *m, const struct disk *d)
{
	LOCK_SCOPE(&m->lock);
	return m->layers && layer_set_find(m->layers, d->name, d->values.source);
}

int disk_resize(struct machine *m, const char *name, uint64_t bytes, bool shrink,
		const struct caller *caller, struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	const struct disk *d = definition_disk(def, name);
	uint64_t now = 0;
	_cleanup_vmm_ struct vmm *vmm = vmm_with(m, name, &now);
	bool volume = d && disk_source_pool(d->values.source) > 0 && !has_layers(m, d);
	int r;

	if (!d)
		return err_set(err, -ENOENT, "the disk is gone");
	if (!*d->values.source)
		return err_set(err, -EINVAL, "it has no source");
	if (d->values.readonly)
		return err_set(err, -EROFS, "it is read-only");
	if (!vmm && volume)
		return resize_volume(m->model, d->values.source, bytes, shrink, caller, err);
	if (!vmm)
		return resize_image(m, d, bytes, shrink, caller, err);
	r = refuse_smaller(now, bytes, shrink, err);
	if (r == 0)
		r = machine_disk_resize(m, name, bytes, caller->cancel, err);
	if (r == 0 && volume)
		look_again(m->model, d->values.source);
	return r;
}
