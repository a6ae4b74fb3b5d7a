// SPDX-License-Identifier: ISC
/*
 * Which files of STATE/images are nobody's any more. A file is its machine's, whose id its name
 * begins with; when that has gone it stays as long as something names it: another machine's
 * definition or layers (a clone's disk is over it), or those of a snapshot, or layers that are
 * being made. Where not everything that might name it can be read, nothing is removed.
 */
#define LOG_MODULE "snapshot"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive_images.h"
#include "layer_int.h"
#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/log.h"

struct look {
	struct model *model;
	const char *name; /* of the file */
	bool used;
};

static void look_text(struct look *l, const char *text)
{
	if (text && strstr(text, l->name))
		l->used = true;
}

static void look_definition(struct look *l, const struct definition *def)
{
	look_text(l, def->values.kernel);
	look_text(l, def->values.initrd);
	for (size_t i = 0; i < def->n_disks; i++) {
		look_text(l, def->disks[i].values.source);
		look_text(l, def->disks[i].values.backing);
	}
}

static void look_layers(struct look *l, const struct layer_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		look_text(l, set->disks[i].source);
}

static void look_snapshots(struct look *l, struct machine *m)
{
	uint64_t cursor = 0;
	struct snapshot *s;

	while ((s = machine_snapshot_next(m, &cursor))) {
		look_definition(l, s->def);
		look_layers(l, &s->layers);
		snapshot_put(s);
	}
}

static void look_machine(struct look *l, struct machine *m)
{
	_cleanup_definition_ struct definition *def = machine_definition(m);
	_cleanup_(layer_set_free) struct layer_set set = {0};

	pthread_mutex_lock(&m->lock);
	if (strncmp(l->name, m->id, strlen(m->id)) == 0)
		l->used = true;
	look_text(l, m->damaged);
	if (m->layers_damaged)
		l->used = true;
	pthread_mutex_unlock(&m->lock);
	look_definition(l, def);
	if (machine_layers(m, &set) < 0)
		l->used = true;
	look_layers(l, &set);
	look_snapshots(l, m);
}

static bool in_use(struct model *model, int dir, const char *name)
{
	struct look l = {.model = model, .name = name};
	struct err ignored = ERR_INIT;
	uint64_t cursor = 0;
	struct machine *m;
	struct stat st;

	while (!l.used && (m = model_machine_next(model, &cursor))) {
		look_machine(&l, m);
		machine_put(m);
	}
	if (l.used || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return true;
	return layers_refuse_frozen(model, &(struct file_id){st.st_dev, st.st_ino}, 1, &ignored) <
	       0;
}

/* Whether every machine of the state is known. */
static bool all_known(struct model *model)
{
	_cleanup_closedir_ DIR *d = NULL;
	int fd = openat(model->machines_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct machine *m;
	uint64_t cursor = 0;
	size_t there = 0, known = 0;
	struct dirent *e;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((e = readdir(d)))
		there += e->d_name[0] != '.';
	while ((m = model_machine_next(model, &cursor))) {
		known++;
		machine_put(m);
	}
	return there <= known;
}

static bool keeps_all(struct model *model)
{
	LOCK_SCOPE(&model->layers->lock);
	return model->layers->keep_all;
}

void archive_images_sweep(struct model *model, bool start)
{
	_cleanup_closedir_ DIR *d = NULL;
	int dir = archive_files_dir(model, false);
	bool may = dir >= 0 && !keeps_all(model) && all_known(model);
	struct dirent *e;

	d = dir < 0 ? NULL : fdopendir(dir);
	if (!d) {
		if (dir >= 0)
			close(dir);
		return;
	}
	while ((e = readdir(d))) {
		bool half = strncmp(e->d_name, ".new-", 5) == 0;

		if (half ? !start
			 : e->d_name[0] == '.' || !may || strlen(e->d_name) < ID_TEXT ||
			       in_use(model, dir, e->d_name))
			continue;
		if (unlinkat(dir, e->d_name, 0) < 0)
			log_warn("cannot remove images/%s: %m", e->d_name);
		else
			log_info("images/%s belongs to no machine any more: removed", e->d_name);
	}
}
