// SPDX-License-Identifier: ISC
/*
 * New layers over a machine's disks, around an instant:
 *
 *	make     an empty image over each disk's chain, on stable storage
 *	mark     the disk is `staged`, also in the VMM's note
 *	note     the machine has those layers: a disk reads the same through them
 *	stage    its VMM is handed each, and goes over to them at its next VMM_SNAPSHOT
 *	freeze   (after that) what is below reaches stable storage and is let go for readers
 *
 * Between note and freeze nobody but the VMM knows whether it writes to the new layer or
 * still to the one below: the disk is `staged` then, and its layers are not merged while it
 * runs. It is marked first: a daemon that found the layer without the mark would merge what the
 * VMM writes to, and what it writes from then on would be nowhere.
 * A machine without a VMM has its disks opened, and so locked, until its layers are noted.
 */
#define LOG_MODULE "layer"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer_int.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm.h"

/* A disk that is to have a new layer, or (read-only) is only told of. */
struct staged {
	bool write;
	struct disk_layers below; /* its source is this' own */
	struct disk_opened *opened;
	int fd; /* of the new layer; -1: none */
	char id[ID_TEXT];
};

struct stage {
	struct machine *m;
	struct model *model;
	struct vmm *vmm; /* NULL: none */
	struct definition *def;
	struct layer_set before; /* the machine's */
	struct staged *disks;
	size_t n;
	struct layer_set *frozen;
	bool has_frozen; /* ... has references */
	struct cancel *cancel;
	struct err *err;
};

static int no_memory(struct stage *s)
{
	return err_set(s->err, -ENOMEM, "out of memory");
}

/* What is below a new layer of that disk: noted already, or its source. */
static struct staged *add(struct stage *s, const char *name, const char *source, bool write)
{
	const struct disk_layers *had = layer_set_find(&s->before, name, source);
	struct staged *d = &s->disks[s->n];

	*d = (struct staged){.write = write, .fd = -1};
	if (had)
		d->below = *had;
	snprintf(d->below.name, sizeof(d->below.name), "%s", name);
	d->below.source = strdup(source);
	if (!d->below.source)
		return NULL;
	s->n++;
	return d;
}

static void note_source(struct disk_layers *below, const struct file_id *ids, unsigned n)
{
	if (below->chain.n)
		return; /* they were noted when the first layer was made */
	below->n_files = n < LAYER_FILES_MAX ? n : LAYER_FILES_MAX;
	if (below->n_files)
		memcpy(below->files, ids, below->n_files * sizeof(*ids));
}

/* --- of a VMM -------------------------------------------------------------------------------- */

/* Under m->lock. */
static int take_has(struct stage *s, const struct vmm_has_disk *has)
{
	const struct disk *d = definition_disk(s->def, has->name);
	struct staged *staged;

	if (has->state == VMM_DISK_EMPTY)
		return 0;
	if (has->state == VMM_DISK_WAITS)
		return err_set(s->err, -EBUSY, "disk %s is being detached", has->name);
	if (has->written && has->share)
		return err_set(s->err, -EBUSY, "disk %s is shared with other writers", has->name);
	if (!d || strcmp(d->values.source, has->source) != 0)
		return err_set(s->err, -EBUSY, "disk %s is being changed", has->name);
	staged = add(s, has->name, has->source, has->written);
	if (!staged)
		return no_memory(s);
	if (!staged->below.chain.n)
		staged->below.format = d->values.format;
	staged->below.bytes = has->bytes;
	note_source(&staged->below, has->ids, has->n_ids);
	return 0;
}

static int look_at_vmm(struct stage *s)
{
	int r = 0;

	LOCK_SCOPE(&s->m->lock);
	for (const struct vmm_has_disk *has = s->vmm->disks; r == 0 && has; has = has->next)
		if (s->n < VMM_DISKS_MAX)
			r = take_has(s, has);
	return r;
}

/* --- of a machine that stands still ---------------------------------------------------------- */

/* What was written by a VMM that is gone, or by anybody before it, reaches the disk. */
static int sync_opened(struct stage *s, const struct disk_opened *o)
{
	for (unsigned i = 0; i < o->chain.images.n; i++) {
		const struct image_layer *l = &o->chain.images.layers[i];

		if (fsync(l->fd) < 0 || (l->data_fd >= 0 && fsync(l->data_fd) < 0))
			return err_set(s->err, -errno, "it does not reach the disk: %m");
	}
	return 0;
}

static int open_disk(struct stage *s, const struct disk *d, struct disk_asks *asks)
{
	struct staged *staged = add(s, d->name, d->values.source, !d->values.readonly);
	int r;

	if (!staged)
		return no_memory(s);
	if (staged->write && d->values.share)
		return err_set(s->err, -EBUSY, "disk %s is shared with other writers", d->name);
	r = disk_open_source(s->m, d, asks, &staged->opened, s->err);
	if (r == 0)
		r = sync_opened(s, staged->opened);
	if (r < 0)
		return err_prefix(s->err, "disk %s", d->name), r;
	if (!staged->below.chain.n)
		staged->below.format = d->values.format;
	staged->below.bytes = staged->opened->bytes;
	note_source(&staged->below, staged->opened->ids, staged->opened->n_ids);
	return 0;
}

static int open_disks(struct stage *s)
{
	_cleanup_rights_ struct rights owner = {0};
	struct disk_asks asks = {.cancel = s->cancel};
	int r = machine_owner_rights(s->m, &owner);

	if (r < 0)
		return no_memory(s);
	asks.owner = owner;
	for (size_t i = 0; r == 0 && i < s->def->n_disks && s->n < VMM_DISKS_MAX; i++)
		if (*s->def->disks[i].values.source)
			r = open_disk(s, &s->def->disks[i], &asks);
	return r;
}

/* --- the steps ------------------------------------------------------------------------------- */

static int make_layers(struct stage *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n; i++) {
		struct staged *d = &s->disks[i];

		if (!d->write)
			continue;
		if (cancel_requested(s->cancel))
			return err_set(s->err, -ECANCELED, "ended before anything was changed");
		r = layer_make_over(s->model, &d->below, d->below.bytes, d->id, &d->fd, s->err);
		if (r == 0)
			r = image_lock(d->fd, true, false, s->err);
		if (r < 0)
			err_prefix(s->err, "disk %s", d->below.name);
	}
	return r;
}

/* Whether the machine still has what the new layers were made over. */
static bool is_same(const struct disk_layers *now, const struct disk_layers *below)
{
	if (!now)
		return below->chain.n == 0;
	return below->chain.n && strcmp(now->chain.ids[0], below->chain.ids[0]) == 0;
}

static int put_over(struct layer_set *set, const struct staged *d, struct err *err)
{
	struct disk_layers *now = layer_set_find(set, d->below.name, d->below.source);

	if (!is_same(now, &d->below))
		return err_set(err, -EBUSY, "layers of disk %s have changed meanwhile",
			       d->below.name);
	if (!now && layer_set_add(set, &d->below) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	now = now ? now : &set->disks[set->n - 1];
	now->bytes = d->below.bytes;
	return disk_layers_push(now, d->id, err);
}

/* The new set; what it is without the new layers is frozen. */
static int note(struct layer_set *set, void *arg, struct err *err)
{
	struct stage *s = arg;
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n; i++) {
		struct staged *d = &s->disks[i];
		const struct disk_layers *now = layer_set_find(set, d->below.name, d->below.source);

		if (layer_set_add(s->frozen, now ? now : &d->below) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		s->frozen->disks[s->frozen->n - 1].bytes = d->below.bytes;
		if (d->write)
			r = put_over(set, d, err);
	}
	/* before the set is the machine's, through which it could be merged */
	if (r == 0)
		layer_set_get(s->model, s->frozen);
	s->has_frozen = r == 0;
	return r;
}

/* From here on the VMM may write to new ones, whether it says so or not. */
static void mark_staged(struct stage *s)
{
	pthread_mutex_lock(&s->m->lock);
	for (size_t i = 0; i < s->n; i++) {
		struct vmm_has_disk *has = vmm_disk_find(s->vmm, s->disks[i].below.name);

		if (has && s->disks[i].write)
			has->staged = true;
	}
	pthread_mutex_unlock(&s->m->lock);
	vmm_note(s->vmm);
}

static int hand_over(struct stage *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n; i++) {
		const struct staged *d = &s->disks[i];
		struct vmm_disk_name msg = {0};
		struct vmm_request rq = {.type = VMM_DISK_STAGE,
					 .data = &msg,
					 .len = sizeof(msg),
					 .fds = &d->fd,
					 .n_fds = 1,
					 .timeout_ms = VMM_ORDER_MS,
					 .cancel = s->cancel};

		if (!d->write)
			continue;
		snprintf(msg.name, sizeof(msg.name), "%s", d->below.name);
		r = vmm_call(s->vmm, &rq, NULL, s->err);
		if (r < 0)
			err_prefix(s->err, "disk %s", d->below.name);
	}
	return r;
}

static int run(struct stage *s)
{
	int r = s->vmm ? look_at_vmm(s) : open_disks(s);

	if (r == 0)
		r = make_layers(s);
	if (r == 0 && s->vmm)
		mark_staged(s);
	if (r == 0)
		r = machine_layers_change(s->m, note, s, s->err);
	return r == 0 && s->vmm ? hand_over(s) : r;
}

/* The machine's set has the references that count. */
static void clean(struct stage *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct staged *d = &s->disks[i];

		if (d->fd >= 0) {
			close(d->fd);
			layer_put(s->model, LAYER_DISK, d->id);
		}
		disk_opened_free(d->opened);
		free(d->below.source);
	}
	free(s->disks);
	layer_set_free(&s->before);
	definition_put(s->def);
	vmm_put(s->vmm);
}

int layers_stage(struct machine *m, struct layer_set *frozen, struct cancel *cancel,
		 struct err *err)
{
	struct stage s = {.m = m,
			  .model = m->model,
			  .frozen = frozen,
			  .cancel = cancel,
			  .err = err,
			  .disks = calloc(VMM_DISKS_MAX, sizeof(*s.disks))};
	struct tidy_pause pause;
	int r;

	*frozen = (struct layer_set){0};
	r = s.disks ? disks_claim(m, err) : no_memory(&s);
	if (r < 0) {
		free(s.disks);
		return r;
	}
	s.vmm = machine_vmm(m);
	if (!s.vmm)
		layers_tidy_pause(m, &pause); /* its disks may be merged down to the top */
	s.def = machine_definition(m);
	r = machine_layers(m, &s.before) < 0 ? no_memory(&s) : run(&s);
	if (!s.vmm)
		layers_tidy_go(&pause);
	clean(&s);
	disks_unclaim(m);
	if (r < 0 && s.has_frozen)
		layer_set_put(m->model, frozen);
	if (r < 0)
		layer_set_free(frozen);
	return r;
}

/* --- after the instant ----------------------------------------------------------------------- */

static int freeze_disk(struct vmm *vmm, const char *name, struct cancel *cancel, struct err *err)
{
	struct vmm_disk_name msg = {0};
	struct vmm_request rq = {.type = VMM_DISK_FREEZE,
				 .data = &msg,
				 .len = sizeof(msg),
				 .timeout_ms = VMM_LOAD_MS,
				 .cancel = cancel};

	snprintf(msg.name, sizeof(msg.name), "%s", name);
	return vmm_call(vmm, &rq, NULL, err);
}

/* Under m->lock: the VMM writes to the machine's top layer @id, and reads what it wrote before. */
static void note_top(struct vmm_has_disk *has, struct file_id id)
{
	struct file_id *more = calloc(has->n_ids + 1, sizeof(*more));

	has->staged = false;
	has->n_written = 1;
	if (!more)
		return; /* words about who has it are all that is lost */
	more[0] = id;
	if (has->n_ids)
		memcpy(&more[1], has->ids, has->n_ids * sizeof(*more));
	free(has->ids);
	has->ids = more;
	if (has->n_ids < 2 * IMAGE_DEPTH_MAX)
		has->n_ids++;
}

/* The volume below is only read from now on, by others, too. */
static void release_volume(struct machine *m, const struct disk_layers *d)
{
	if (disk_source_pool(d->source) > 0)
		volume_use_recover(m->model, d->source, m, d->name, false, false);
}

static bool is_staged(struct vmm *vmm, const struct disk_layers *d, char top[ID_TEXT])
{
	struct machine *m = vmm->m;
	const struct disk_layers *now;
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&m->lock);
	now = m->layers ? layer_set_find(m->layers, d->name, d->source) : NULL;
	has = vmm_disk_find(vmm, d->name);
	if (!now || !has || !has->staged || strcmp(has->source, d->source) != 0)
		return false;
	memcpy(top, now->chain.ids[0], ID_TEXT);
	return true;
}

static int freeze(struct vmm *vmm, const struct disk_layers *d, struct cancel *cancel,
		  struct err *err)
{
	struct machine *m = vmm->m;
	struct vmm_has_disk *has;
	char top[ID_TEXT];
	int r;

	if (!is_staged(vmm, d, top))
		return 0;
	r = freeze_disk(vmm, d->name, cancel, err);
	if (r < 0)
		return err_prefix(err, "disk %s", d->name), r;
	pthread_mutex_lock(&m->lock);
	has = vmm_disk_find(vmm, d->name);
	if (has)
		note_top(has, layer_file_id(m->model, top));
	pthread_mutex_unlock(&m->lock);
	release_volume(m, d);
	return 0;
}

int layers_freeze(struct machine *m, const struct layer_set *frozen, struct cancel *cancel,
		  struct err *err)
{
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(m);
	int r = 0;

	if (!vmm)
		return 0; /* its disks were synced when they were opened */
	for (size_t i = 0; r == 0 && i < frozen->n; i++)
		r = freeze(vmm, &frozen->disks[i], cancel, err);
	vmm_note(vmm);
	return r;
}
