// SPDX-License-Identifier: ISC
/*
 * Defining many machines at once. As one is defined (store.c), but step by step for all of
 * them: each is written under a hidden name, with its layers; then everything reaches stable
 * storage at once; then each gets its name. So a thousand cost the disk little more than one.
 * Whoever is killed in between leaves machines that are whole, and halves that the
 * next daemon removes.
 */
#define LOG_MODULE "clone"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access.h"
#include "clone_int.h"
#include "disk.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define FEW	 3    /* up to which each file is synced, and not all that the file system has */
#define MODE_MAX 0755 /* of a clone's directory, whatever others may do with what it came from */

/* --- names ------------------------------------------------------------------------------------ */

int clones_reserve(struct clones *c)
{
	int r = 0;

	c->n = clone_order_count(&c->order);
	c->list = calloc(c->n, sizeof(*c->list));
	if (!c->list)
		return err_set(c->err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < c->n; i++)
		cancel_init(&c->list[i].cancel);
	for (unsigned i = 0; r == 0 && i < c->n; i++) {
		clone_order_name(&c->order, i, c->list[i].name);
		r = registry_reserve(&c->model->registry, c->list[i].name, c->err);
		c->list[i].reserved = r == 0;
	}
	return r;
}

/* --- layers ------------------------------------------------------------------------------------
 */

/* The disk's place in the new machine's set: what is frozen. */
static int take_chain(struct clone *one, const struct disk_layers *from)
{
	struct disk_layers *to = &one->layers.disks[one->layers.n];

	*to = *from;
	to->source = strdup(from->source);
	if (!to->source)
		return -ENOMEM;
	one->layers.n++;
	return 0;
}

static bool are_few(const struct clones *c)
{
	return c->n <= FEW;
}

/* How new files reach stable storage: one by one where they are few (NULL: with all there is). */
static struct sync_list *written_of(struct clones *c)
{
	return are_few(c) ? &c->written : NULL;
}

/* A new, empty layer becomes the top. */
static int put_over(struct clones *c, struct clone *one)
{
	struct disk_layers *disk = &one->layers.disks[one->layers.n - 1];
	int r =
	    layer_batch_put_over(&c->batch, disk, written_of(c), one->made[one->n_made], c->err);

	one->n_made += r == 0;
	return r;
}

static int make_layers(struct clones *c, struct clone *one)
{
	const struct layer_set *frozen = &c->source.frozen;
	int r = 0;

	one->layers.disks = calloc(frozen->n + 1, sizeof(*one->layers.disks));
	one->made = calloc(frozen->n + 1, sizeof(*one->made));
	if (!one->layers.disks || !one->made)
		return err_set(c->err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < frozen->n; i++) {
		const struct disk_layers *from = &frozen->disks[i];
		const struct disk *d = definition_disk(c->def, from->name);

		if (!d || strcmp(d->values.source, from->source) != 0)
			continue; /* it has another content */
		if (d->values.readonly && from->chain.n == 0)
			continue;
		r = take_chain(one, from);
		if (r < 0)
			return err_set(c->err, r, "out of memory");
		if (!d->values.readonly)
			r = put_over(c, one);
	}
	return r;
}

/* --- one machine ------------------------------------------------------------------------------ */

/* Network cards have addresses of their own; where there are none, all share one definition. */
static struct definition *definition_of_one(const struct clones *c)
{
	struct definition *def;

	if (c->def->n_nics == 0)
		return definition_get(c->def);
	def = definition_copy(c->def);
	if (def && definition_complete(def, NULL) < 0) {
		definition_put(def);
		def = NULL;
	}
	return def;
}

static int make_machine(struct clones *c, struct clone *one)
{
	struct definition *def = definition_of_one(c);
	struct machine_access access;
	char id[ID_TEXT];

	model_make_id(id);
	if (def)
		one->m = machine_new(c->model, one->name, id, def);
	if (!one->m)
		return err_set(c->err, -ENOMEM, "out of memory");
	machine_access_get(c->source.m, &access);
	one->m->access = (struct machine_access){c->caller->uid, c->caller->gid,
						 (access.mode & MODE_MAX) | S_IRWXU};
	one->m->op = "clone";
	one->m->unnamed = true;
	return 0;
}

static int write_file(int dir, const char *name, const struct strbuf *sb, struct sync_list *list)
{
	_cleanup_close_ int fd =
	    openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0 || sb->failed)
		return fd < 0 ? -errno : -ENOMEM;
	r = file_write_all(fd, sb->data ? sb->data : "", sb->len);
	return r == 0 && list ? sync_list_add(list, take_fd(&fd)) : r;
}

static int write_files(const struct clone *one, int dir, struct sync_list *list)
{
	_cleanup_strbuf_ struct strbuf access = STRBUF_INIT, config = STRBUF_INIT,
				       layers = STRBUF_INIT;
	int r;

	access_format(one->m->id, &one->m->access, NULL, 0, &access);
	config_format(one->m->def, &config);
	r = write_file(dir, "access", &access, list);
	if (r == 0)
		r = write_file(dir, "config", &config, list);
	if (r == 0 && one->layers.n) {
		layer_set_format(&one->layers, &layers);
		r = write_file(dir, "layers", &layers, list);
	}
	return r;
}

static int refused(struct clones *c, const char *name, int r)
{
	if (r == -EDQUOT)
		r = -ENOSPC;
	return err_set(c->err, r, "cannot write %s: %s", name, strerror(-r));
}

/* Its directory, complete, under its hidden name. */
static int write_machine(struct clones *c, struct clone *one)
{
	struct sync_list *list = written_of(c);
	_cleanup_close_ int dir = -1;
	char hidden[MACHINE_NAME_MAX + 1];
	int r = 0;

	store_dir_name(one->m, hidden);
	if (mkdirat(c->model->machines_fd, hidden, 0700) < 0)
		return refused(c, one->name, -errno);
	dir = openat(c->model->machines_fd, hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : write_files(one, dir, list);
	if (r == 0 && list)
		r = sync_list_add(list, take_fd(&dir));
	return r < 0 ? refused(c, one->name, r) : 0;
}

/* --- all of them ------------------------------------------------------------------------------ */

static int sync_few(struct clones *c)
{
	int r = sync_list_sync(&c->written);

	return r < 0 ? refused(c, "the definitions", r) : 0;
}

/* Layers may be on another file system than definitions. */
static int sync_many(struct clones *c)
{
	struct stat layers, machines;

	if (syncfs(c->model->machines_fd) < 0)
		return refused(c, "the definitions", -errno);
	if (fstatat(c->model->state_fd, "layers", &layers, 0) == 0 &&
	    fstat(c->model->machines_fd, &machines) == 0 && layers.st_dev == machines.st_dev)
		return 0;
	return layer_batch_sync(&c->batch, c->err);
}

static int write_all(struct clones *c)
{
	int r = 0;

	layer_batch_begin(&c->batch, c->model);
	for (unsigned i = 0; r == 0 && i < c->n; i++) {
		struct clone *one = &c->list[i];

		if (cancel_requested(c->caller->cancel))
			return err_set(c->err, -ECANCELED, "ended before all were made");
		r = make_machine(c, one);
		if (r == 0)
			r = make_layers(c, one);
		if (r == 0)
			r = write_machine(c, one);
	}
	return r;
}

static int name_all(struct clones *c)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < c->n; i++) {
		struct clone *one = &c->list[i];

		LOCK_SCOPE(&one->m->edit);
		r = store_name(one->m, c->err);
	}
	if (r < 0)
		return r;
	r = file_sync_dir(c->model->machines_fd);
	return r < 0 ? refused(c, "the definitions", r) : 0;
}

int clones_store(struct clones *c)
{
	int r = are_few(c) ? sync_few(c) : sync_many(c);

	return r == 0 ? name_all(c) : r;
}

static void defined_event(const struct clones *c, const struct clone *one)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	char from[SNAPSHOT_NAME_MAX + 1];

	event_begin(&sb, "defined");
	event_text(&sb, "machine", one->name);
	event_number(&sb, "uid", c->caller->uid);
	machine_name(c->source.m, from);
	event_text(&sb, "clone_of", from);
	if (c->source.snapshot) {
		snapshot_name(c->source.snapshot, from);
		event_text(&sb, "snapshot", from);
	}
	model_event(c->model, &sb);
}

static int show(struct clones *c, struct clone *one)
{
	int r = machine_layers_load(one->m, c->err);

	if (r == 0 && registry_insert(&c->model->registry, one->m) < 0)
		r = err_set(c->err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	one->shown = true;
	one->reserved = false;
	for (size_t i = 0; i < one->layers.n; i++)
		disk_size_note(one->m, one->layers.disks[i].name, one->layers.disks[i].bytes);
	defined_event(c, one);
	tell_added(one->m);
	return 0;
}

int clones_make(struct clones *c)
{
	int r = write_all(c);

	for (unsigned i = 0; r == 0 && i < c->n; i++)
		r = show(c, &c->list[i]);
	return r;
}

/* --- taking it back --------------------------------------------------------------------------- */

/* Out of the tree: as rmdir(2) does it. */
static void hide(struct clones *c, struct clone *one)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct machine *m = one->m;

	pthread_mutex_lock(&m->lock);
	m->alive = false;
	m->op = NULL;
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
	registry_remove(&c->model->registry, m);
	event_begin(&sb, "undefined");
	event_text(&sb, "machine", one->name);
	model_event(c->model, &sb);
	tell_removed(m);
	jobs_drop_machine(c->model->jobs, m);
	rundir_clear(m, true);
}

static void unmake(struct clones *c, struct clone *one)
{
	struct err ignored = ERR_INIT;

	if (!one->m)
		return;
	if (one->shown && machine_end_vmm(one->m, "clone failed", &ignored) < 0)
		log_warn("%s", ignored.text);
	pthread_mutex_lock(&one->m->edit);
	if (store_undefine(one->m, &ignored) < 0)
		log_warn("%s", ignored.text);
	store_sweep(one->m);
	if (one->shown)
		hide(c, one);
	pthread_mutex_unlock(&one->m->edit);
	machine_layers_drop(one->m);
	one->shown = false;
}

void clones_unmake(struct clones *c)
{
	for (unsigned i = 0; i < c->n; i++)
		unmake(c, &c->list[i]);
}

void clones_free(struct clones *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct clone *one = &c->list[i];

		if (one->reserved)
			registry_unreserve(&c->model->registry, one->name);
		if (one->shown)
			machine_op_end(one->m);
		for (size_t k = 0; k < one->n_made; k++)
			layer_put(c->model, LAYER_DISK, one->made[k]);
		free(one->made);
		layer_set_free(&one->layers);
		machine_put(one->m);
		cancel_destroy(&one->cancel);
	}
	free(c->list);
	layer_batch_end(&c->batch);
	sync_list_free(&c->written);
	definition_put(c->def);
	clone_order_free(&c->order);
}
