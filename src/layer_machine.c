// SPDX-License-Identifier: ISC
/*
 * The layers of a machine: machine.layers, and STATE/machines/NAME/layers. The file is replaced
 * before memory is, under machine.edit, so that changes come one after the other; references of
 * what is new are taken before, of what is gone given up after. Where there is no file there are no
 * layers.
 */
#define LOG_MODULE "layer"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define LAYERS_FILE "layers"
#define TEXT_MAX    (4u << 20)

int machine_layers(struct machine *m, struct layer_set *set)
{
	LOCK_SCOPE(&m->lock);
	if (m->layers)
		return layer_set_copy(set, m->layers);
	*set = (struct layer_set){0};
	return 0;
}

static uint64_t next_version(struct model *model)
{
	LOCK_SCOPE(&model->layers->lock);
	return ++model->layers->version;
}

static void set_free(struct layer_set *set)
{
	if (set)
		layer_set_free(set);
	free(set);
}

/* Under m->edit: its directory. Who was undefined has none, whatever has its name by now. */
static int open_dir(struct machine *m)
{
	char name[MACHINE_NAME_MAX + 1];
	bool alive;
	int fd;

	pthread_mutex_lock(&m->lock);
	alive = m->alive;
	pthread_mutex_unlock(&m->lock);
	if (!alive)
		return -ENOENT;
	store_dir_name(m, name);
	fd = openat(m->model->machines_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int store(struct machine *m, const struct layer_set *set)
{
	_cleanup_close_ int dir = open_dir(m);
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	if (dir < 0)
		return dir;
	layer_set_format(set, &sb);
	return sb.failed ? -ENOMEM : file_replace(dir, LAYERS_FILE, sb.data, sb.len, 0600);
}

/* Those without layers need no note; who has no snapshot to go on from, neither. */
static void cut_empty(struct layer_set *set)
{
	for (size_t i = set->n; i > 0; i--)
		if (set->disks[i - 1].chain.n == 0)
			layer_set_cut(set, i - 1);
}

/* Under m->edit, as all that changes them: what is noted already is the machine's. Takes @set. */
static void take_over(struct machine *m, struct layer_set *set)
{
	struct layer_set *old;

	set->version = next_version(m->model);
	pthread_mutex_lock(&m->lock);
	old = m->layers;
	m->layers = set;
	pthread_mutex_unlock(&m->lock);
	if (old)
		layer_set_put(m->model, old);
	set_free(old);
}

/* Under m->edit. Takes @set. */
static int replace(struct machine *m, struct layer_set *set, struct err *err)
{
	int r;

	cut_empty(set);
	layer_set_get(m->model, set);
	r = store(m, set);
	if (r < 0) {
		layer_set_put(m->model, set);
		set_free(set);
		r = r == -EDQUOT ? -ENOSPC : r;
		return err_set(err, r, "cannot note its layers: %s", strerror(-r));
	}
	take_over(m, set);
	return 0;
}

int machine_layers_take(struct machine *m, const struct layer_set *set, int dir, const char *file,
			struct err *err)
{
	struct layer_set *copy = calloc(1, sizeof(*copy));
	int r;

	if (!copy || layer_set_copy(copy, set) < 0) {
		free(copy);
		return err_set(err, -ENOMEM, "out of memory");
	}
	LOCK_SCOPE(&m->edit);
	if (renameat(dir, file, dir, LAYERS_FILE) < 0) {
		set_free(copy);
		return err_set(err, -errno, "cannot note its layers: %m");
	}
	/* before what it had until now goes, which a crash might bring back */
	r = file_sync_dir(dir);
	if (r < 0)
		layers_keep_all(m->model);
	layer_set_get(m->model, copy);
	take_over(m, copy);
	return r < 0 ? err_set(err, r, "cannot note its layers: %s", strerror(-r)) : 0;
}

void layer_set_format_noted(const struct layer_set *set, struct strbuf *sb)
{
	struct layer_set copy = {0};

	if (layer_set_copy(&copy, set) < 0) {
		sb->failed = true;
		return;
	}
	cut_empty(&copy);
	layer_set_format(&copy, sb);
	layer_set_free(&copy);
}

/* Under m->edit. */
static uint64_t version_now(struct machine *m)
{
	LOCK_SCOPE(&m->lock);
	return m->layers ? m->layers->version : 0;
}

int machine_layers_set(struct machine *m, const struct layer_set *set, struct err *err)
{
	struct layer_set *copy = calloc(1, sizeof(*copy));

	if (!copy || layer_set_copy(copy, set) < 0) {
		free(copy);
		return err_set(err, -ENOMEM, "out of memory");
	}
	LOCK_SCOPE(&m->edit);
	if (set->version && set->version != version_now(m)) {
		set_free(copy);
		return err_set(err, -EBUSY, "its layers have changed meanwhile");
	}
	return replace(m, copy, err);
}

int machine_layers_change(struct machine *m, layers_change_fn *change, void *arg, struct err *err)
{
	struct layer_set *copy = calloc(1, sizeof(*copy));
	int r;

	LOCK_SCOPE(&m->edit);
	if (!copy || machine_layers(m, copy) < 0) {
		free(copy);
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = change(copy, arg, err);
	if (r < 0) {
		set_free(copy);
		return r;
	}
	return replace(m, copy, err);
}

struct parent_change {
	const char *from, *to;
};

static int change_parent(struct layer_set *set, void *arg, struct err *err)
{
	const struct parent_change *c = arg;

	if (c->from && (!set->parent || strcmp(set->parent, c->from) != 0))
		return -EALREADY;
	free(set->parent);
	set->parent = *c->to ? strdup(c->to) : NULL;
	return *c->to && !set->parent ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int machine_layers_parent(struct machine *m, const char *from, const char *to, struct err *err)
{
	struct parent_change change = {from, to};
	int r = machine_layers_change(m, change_parent, &change, err);

	return r == -EALREADY ? 0 : r;
}

/* --- come and go ----------------------------------------------------------------------------- */

int machine_layers_load(struct machine *m, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	struct layer_set *set = calloc(1, sizeof(*set));
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = !set ? -ENOMEM : dir < 0 ? dir : file_read(dir, LAYERS_FILE, TEXT_MAX, &text, &len);

	if (r == -ENOENT) {
		free(set);
		return 0;
	}
	if (r < 0)
		err_set(err, r, "%s", strerror(-r));
	else
		r = layer_set_parse(text, len, set, err);
	if (r < 0) {
		free(set);
		layers_keep_all(m->model);
		err_prefix(err, "layers");
		return r;
	}
	layer_set_get(m->model, set);
	take_over(m, set);
	return 0;
}

void machine_layers_drop(struct machine *m)
{
	struct layer_set *old;

	pthread_mutex_lock(&m->lock);
	old = take_ptr(m->layers);
	pthread_mutex_unlock(&m->lock);
	if (old)
		layer_set_put(m->model, old);
	set_free(old);
}

void layers_load_all(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		struct err err = ERR_INIT;

		if (machine_layers_load(m, &err) < 0) {
			log_error("machine %s: %s", m->name, err.text);
			machine_outcome(m, "load", &err);
			pthread_mutex_lock(&m->lock);
			m->layers_damaged = true;
			pthread_mutex_unlock(&m->lock);
		}
		machine_put(m);
	}
}

void machine_layers_free(struct machine *m)
{
	set_free(take_ptr(m->layers));
}

/* --- shown ------------------------------------------------------------------------------------ */

int machine_disk_layers_show(struct machine *m, const char *disk, struct strbuf *sb)
{
	const struct disk_layers *layers = NULL;
	const struct disk *d;

	LOCK_SCOPE(&m->lock);
	d = definition_disk(m->def, disk);
	if (!d)
		return -ENOENT;
	if (m->layers)
		layers = layer_set_find(m->layers, disk, d->values.source);
	for (unsigned i = 0; layers && i < layers->chain.n; i++)
		strbuf_printf(sb, "%s/layers/%s.qcow2\n", m->model->state_dir,
			      layers->chain.ids[i]);
	return sb->failed ? -ENOMEM : 0;
}
