// SPDX-License-Identifier: ISC
/*
 * Opening a disk: its source is a path, opened by a process of its own with the rights of the
 * machine's owner (opener.h), or a volume, opened as its pool says (volume.h).
 * Who else has it is found by what VMMs were given; that nobody else has it is
 * seen to by locks of the files, which VMMs hold, so the daemon may come and go.
 */
#define LOG_MODULE "disk"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "disk.h"
#include "layer_int.h"
#include "storage/block_nbd.h"
#include "util/cleanup.h"
#include "util/log.h"

/* For a process that opened files for a merge that was ended, to end, too. */
#define LET_GO_TRIES   100
#define LET_GO_STEP_NS 10000000

int machine_owner_rights(struct machine *m, struct rights *rights)
{
	struct machine_access access;
	gid_t *groups;
	int r;

	machine_access_get(m, &access);
	*rights = (struct rights){.uid = access.uid, .gid = access.gid};
	r = rights_groups(rights->uid, rights->gid, &groups, &rights->n_groups);
	if (r == 0)
		rights->groups = groups;
	return r;
}

/* --- paths ----------------------------------------------------------------------------------- */

void disk_volume_path(struct model *model, const char *name, struct strbuf *sb)
{
	_cleanup_strbuf_ struct strbuf type = STRBUF_INIT, source = STRBUF_INIT;
	char pool_of[POOL_NAME_MAX + 1];
	int n = disk_source_pool(name);
	_cleanup_pool_ struct pool *pool = NULL;

	if (n <= 0)
		return;
	snprintf(pool_of, sizeof(pool_of), "%.*s", n, name);
	pool = model_pool_get(model, pool_of);
	for (size_t i = 0; pool && i < n_pool_keys; i++) {
		if (strcmp(pool_keys[i].name, "type") == 0)
			pool_key_show(pool, &pool_keys[i], &type);
		if (strcmp(pool_keys[i].name, "source") == 0)
			pool_key_show(pool, &pool_keys[i], &source);
	}
	if (!type.data || !source.data || !*source.data)
		return;
	if (strcmp(type.data, "dir") == 0)
		strbuf_printf(sb, "%s/%s", source.data, name + n + 1);
	else if (strcmp(type.data, "lvm") == 0)
		strbuf_printf(sb, "/dev/%s/%s", source.data, name + n + 1);
}

/* `backing` with paths in place of volumes. */
static int backing_paths(struct model *model, const char *backing, struct strbuf *sb)
{
	_cleanup_free_ char *copy = strdup(backing);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		size_t before = sb->len;

		if (sb->len)
			strbuf_putc(sb, ' ');
		if (*w == '/')
			strbuf_puts(sb, w);
		else
			disk_volume_path(model, w, sb);
		if (sb->len == before + 1)
			sb->data[--sb->len] = '\0';
	}
	return sb->failed ? -ENOMEM : 0;
}

static int in_use(struct model *model, const struct opened_disk *image, const char *source,
		  const struct disk_asks *asks, struct err *err)
{
	_cleanup_strbuf_ struct strbuf who = STRBUF_INIT;

	for (unsigned i = 0; i < asks->n_before; i++)
		if (asks->before[i] && file_ids_meet(asks->before[i]->ids, asks->before[i]->n_ids,
						     image->ids, image->n_ids))
			return err_set(err, -EBUSY, "%s is the same image as disk %s", source,
				       asks->before[i]->name);
	disk_find_user(model, image->ids, image->n_ids, &who);
	return err_set(err, -EBUSY, "%s is in use by %s", source, who.data ? who.data : "others");
}

static int open_path(struct disk_opened *o, const struct disk *d, const struct disk_asks *asks,
		     bool lock, struct err *err)
{
	struct model *model = o->model;
	_cleanup_strbuf_ struct strbuf backing = STRBUF_INIT;
	_cleanup_free_ struct opened_disk *image = calloc(1, sizeof(*image));
	struct opener_request rq = {
	    .rights = asks->owner, .path = d->values.source, .cancel = asks->cancel};
	struct opener_disk ask = {.format = (enum image_format)d->values.format,
				  .readonly = d->values.readonly,
				  .lock = lock,
				  .share = d->values.share};
	int r = image ? backing_paths(model, d->values.backing, &backing) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "out of memory");
	ask.backing = backing.data;
	r = opener_disk(model->opener, &rq, &ask, image, err);
	if (r == -EBUSY && image->n_ids)
		return in_use(model, image, d->values.source, asks, err);
	if (r < 0)
		return r;
	o->chain.images = image->chain;
	memcpy(o->ids, image->ids, sizeof(o->ids));
	o->n_ids = image->n_ids;
	o->n_written = image->n_written;
	o->bytes = image->bytes;
	return 0;
}

/* --- volumes --------------------------------------------------------------------------------- */

static void add_id(struct disk_opened *o, int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || o->n_ids == nitems(o->ids))
		return;
	o->ids[o->n_ids++] = S_ISBLK(st.st_mode) ? (struct file_id){st.st_rdev, 0}
						 : (struct file_id){st.st_dev, st.st_ino};
}

static void note_ids(struct disk_opened *o, bool write)
{
	for (unsigned i = 0; i < o->chain.images.n; i++) {
		add_id(o, o->chain.images.layers[i].fd);
		add_id(o, o->chain.images.layers[i].data_fd);
		if (i == 0 && write)
			o->n_written = o->n_ids;
	}
}

static int open_volume(struct disk_opened *o, const struct disk *d, const struct disk_asks *asks,
		       struct err *err)
{
	bool write = !d->values.readonly, share = d->values.share;
	int r = model_volume_find(o->model, d->values.source, &o->volume, err);

	if (r == 0)
		r = volume_may_use(o->volume, &asks->owner, write, err);
	if (r == 0 && o->m)
		r = volume_use_begin(o->volume, o->m, d->name, write, share, err);
	if (r < 0)
		return r;
	o->in_use = o->m;
	r = volume_chain_open(o->volume, write, share, asks->cancel, &o->chain, err);
	if (r < 0)
		return r;
	note_ids(o, write);
	o->bytes = o->chain.images.n ? volume_size(o->volume) : o->chain.link.bytes;
	return 0;
}

/* --- either ---------------------------------------------------------------------------------- */

void disk_opened_free(struct disk_opened *o)
{
	if (!o)
		return;
	volume_chain_close(&o->chain);
	if (o->in_use)
		volume_use_end(o->model, o->m, o->name);
	volume_put(o->volume);
	free(o);
}

static struct disk_opened *opened_new(struct model *model, struct machine *m, const char *name)
{
	struct disk_opened *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->model = model;
	o->m = m;
	o->chain.link.fd = -1;
	snprintf(o->name, sizeof(o->name), "%s", name);
	return o;
}

static int open_bottom(struct disk_opened *o, const struct disk *d, const struct disk_asks *asks,
		       bool lock, struct err *err)
{
	return disk_source_pool(d->values.source) > 0 ? open_volume(o, d, asks, err)
						      : open_path(o, d, asks, lock, err);
}

/* The layers that the machine has over it, in *@set; *@layers NULL: none. */
static int find_layers(struct machine *m, const struct disk *d, struct layer_set *set,
		       struct disk_layers **layers, struct err *err)
{
	bool damaged;

	pthread_mutex_lock(&m->lock);
	damaged = m->layers_damaged;
	pthread_mutex_unlock(&m->lock);
	if (damaged)
		return err_set(err, -EIO, "which layers are over it cannot be read");
	if (machine_layers(m, set) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	*layers = layer_set_find(set, d->name, d->values.source);
	return 0;
}

static int open_through_layers(struct machine *m, const struct disk *d,
			       const struct disk_asks *asks, struct disk_opened **out,
			       struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = opened_new(m->model, m, d->name);
	_cleanup_(layer_set_free) struct layer_set set = {0};
	struct disk_layers *layers = NULL;
	struct disk bottom = *d; /* texts are borrowed */
	int r;

	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	r = find_layers(m, d, &set, &layers, err);
	if (r < 0)
		return r;
	if (layers) {
		bottom.values.readonly = true;
		bottom.values.share = false;
		bottom.values.format = layers->format;
	}
	r = open_bottom(o, &bottom, asks, true, err);
	if (r == 0 && layers)
		r = layers_put_over(o, layers, !d->values.readonly, true, err);
	else if (r == 0 && !d->values.readonly)
		r = layers_refuse_source(m->model, d->values.source, o->ids, o->n_written, err);
	if (r == 0)
		*out = take_ptr(o);
	return r;
}

int disk_open_source(struct machine *m, const struct disk *d, const struct disk_asks *asks,
		     struct disk_opened **out, struct err *err)
{
	struct tidy_pause pause;
	unsigned tries = layers_tidy_pause(m, &pause) ? LET_GO_TRIES : 0;
	int r = open_through_layers(m, d, asks, out, err);

	while (r == -EBUSY && tries-- && !cancel_requested(asks->cancel)) {
		nanosleep(&(struct timespec){.tv_nsec = LET_GO_STEP_NS}, NULL);
		r = open_through_layers(m, d, asks, out, err);
	}
	layers_tidy_go(&pause);
	return r;
}

static int open_below(struct disk_opened *o, const struct disk_layers *layers,
		      const struct disk_asks *asks, bool write, bool lock, struct err *err)
{
	struct disk d = {.values = {.source = layers->source,
				    .backing = (char *)(asks->backing ? asks->backing : ""),
				    .format = layers->format,
				    .readonly = !write}};
	int r;

	strcpy(d.name, layers->name);
	r = open_bottom(o, &d, asks, lock, err);
	return r == 0 ? layers_put_over(o, layers, false, lock, err) : r;
}

int disk_open_layers(struct model *model, const struct disk_layers *layers,
		     const struct disk_asks *asks, bool lock, struct disk_opened **out,
		     struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = opened_new(model, NULL, layers->name);
	int r = o ? open_below(o, layers, asks, false, lock, err)
		  : err_set(err, -ENOMEM, "out of memory");

	if (r == 0)
		*out = take_ptr(o);
	return r;
}

int disk_open_to_merge(struct machine *m, const struct disk_layers *layers,
		       const struct disk_asks *asks, struct disk_opened **out, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = opened_new(m->model, m, layers->name);
	int r = o ? open_below(o, layers, asks, true, true, err)
		  : err_set(err, -ENOMEM, "out of memory");

	if (r == 0)
		*out = take_ptr(o);
	return r;
}

int disk_opened_block(struct disk_opened *o, bool write, struct block **block, struct err *err)
{
	struct block_nbd_params nbd = {.bytes = o->chain.link.bytes,
				       .flags = o->chain.link.flags,
				       .readonly = !write || o->chain.images.n};
	int flags = write ? 0 : IMAGE_READONLY, r;
	struct block *below = NULL;

	if (o->chain.link.fd >= 0) {
		r = block_nbd_open(&below, take_fd(&o->chain.link.fd), &nbd, err);
		if (r < 0)
			return r;
	}
	return image_chain_open_over(block, &o->chain.images, below, NULL, (unsigned)flags, err);
}

static int probe_volume(struct model *model, const char *source, bool write,
			const struct rights *rights, struct probed_disk *probed, struct err *err)
{
	_cleanup_volume_ struct volume *volume = NULL;
	_cleanup_strbuf_ struct strbuf format = STRBUF_INIT;
	int r = model_volume_find(model, source, &volume, err);

	if (r == 0)
		r = volume_may_use(volume, rights, write, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_volume_keys; i++)
		if (strcmp(volume_keys[i].name, "format") == 0)
			volume_key_show(volume, &volume_keys[i], &format);
	probed->format = IMAGE_RAW;
	if (format.data && strcmp(format.data, "qcow2") == 0)
		probed->format = IMAGE_QCOW2;
	probed->bytes = volume_size(volume);
	return 0;
}

int disk_probe_source(struct model *model, const char *source, const struct probe_ask *ask,
		      const struct caller *caller, struct probed_disk *probed, struct err *err)
{
	struct opener_request rq = {
	    .rights = {caller->uid, caller->gid, caller->groups, caller->n_groups},
	    .path = source,
	    .cancel = caller->cancel,
	    .timeout_ms = ask->timeout_ms};

	if (disk_source_pool(source) > 0)
		return probe_volume(model, source, ask->write, &rq.rights, probed, err);
	return opener_probe(model->opener, &rq, ask, probed, err);
}
