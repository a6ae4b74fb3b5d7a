// SPDX-License-Identifier: ISC
/*
 * Snapshots on disk: STATE/machines/NAME/snapshots/SNAP/, see snapshot_int.h.
 *
 * One appears by the rename(2) of .new-ID, made when all of it and all that it refers to is on
 * stable storage, and goes by that to .trash-ID. What begins with a dot is thus the left-over
 * of a daemon that was killed. What a snapshot refers to (layers, files of memory) has its
 * references from when its VMM was asked for the instant; when it is loaded, from
 * snapshots_load().
 */
#define LOG_MODULE "snapshot"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define HIDDEN_MAX 64
#define META_MAX   4096
#define TEXT_MAX   (4u << 20) /* of `layers` and `memory` */

static int refused(struct err *err, int code, const char *what)
{
	if (code == -EDQUOT)
		code = -ENOSPC;
	return err_set(err, code, "cannot write %s: %s", what, strerror(-code));
}

static void hidden_name(char name[HIDDEN_MAX], const char *kind, const struct snapshot *s)
{
	snprintf(name, HIDDEN_MAX, ".%s-%s", kind, s->id);
}

/* --- directories ------------------------------------------------------------------------------
 */

int snapshots_dir(struct machine *m, bool make)
{
	_cleanup_close_ int dir = -1;
	int fd = store_open_file(m, "snapshots", O_RDONLY | O_DIRECTORY), r;

	if (fd != -ENOENT || !make)
		return fd;
	dir = store_open_dir(m);
	if (dir < 0)
		return dir;
	if (mkdirat(dir, "snapshots", 0700) < 0 && errno != EEXIST)
		return -errno;
	r = file_sync_dir(dir);
	if (r < 0)
		return r;
	fd = openat(dir, "snapshots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_sub(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int snapshot_dir(struct snapshot *s)
{
	_cleanup_close_ int parent = snapshots_dir(s->m, false);
	char name[SNAPSHOT_NAME_MAX + 1];
	int fd;

	if (parent < 0)
		return parent;
	snapshot_name(s, name);
	fd = open_sub(parent, name);
	if (fd == -ENOENT) {
		LOCK_SCOPE(&s->m->edit); /* waits for a rename between disk and memory */
		snapshot_name(s, name);
		fd = open_sub(parent, name);
	}
	return fd;
}

/* Removes a directory and the files in it. */
static void remove_dir(int parent, const char *name)
{
	_cleanup_closedir_ DIR *d = NULL;
	int fd = open_sub(parent, name);
	struct dirent *e;

	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    unlinkat(fd, e->d_name, 0) < 0)
			log_warn("cannot remove %s/%s: %m", name, e->d_name);
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0)
		log_warn("cannot remove %s: %m", name);
}

/* --- writing ----------------------------------------------------------------------------------
 */

/* A new file of a directory that nobody knows yet: it needs no second name meanwhile. */
static int write_file(int dir, const char *name, const struct strbuf *sb)
{
	_cleanup_close_ int fd =
	    openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0 || sb->failed)
		return fd < 0 ? -errno : -ENOMEM;
	r = file_write_all(fd, sb->data ? sb->data : "", sb->len);
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int snapshot_store_begin(struct snapshot *s, int *dir, struct err *err)
{
	_cleanup_close_ int parent = snapshots_dir(s->m, true);
	char hidden[HIDDEN_MAX];
	int r = parent;

	hidden_name(hidden, "new", s);
	if (r >= 0 && mkdirat(parent, hidden, 0700) < 0)
		r = -errno;
	if (r >= 0)
		r = *dir = open_sub(parent, hidden);
	return r < 0 ? refused(err, r, "the snapshot's directory") : 0;
}

static int sync_file(int dir, const char *name)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int write_all(struct snapshot *s, int dir)
{
	_cleanup_strbuf_ struct strbuf meta = STRBUF_INIT, config = STRBUF_INIT,
				       layers = STRBUF_INIT, memory = STRBUF_INIT;
	int r = 0;

	snapshot_meta_format(s, &meta);
	config_format(s->def, &config);
	layer_set_format(&s->layers, &layers);
	if (s->memory) {
		memory_map_format(s->memory, &memory);
		r = sync_file(dir, "state");
		if (r == 0)
			r = sync_file(dir, "registers");
		if (r == 0)
			r = write_file(dir, "memory", &memory);
	}
	if (r == 0)
		r = write_file(dir, "config", &config);
	if (r == 0)
		r = write_file(dir, "layers", &layers);
	if (r == 0)
		r = write_file(dir, "meta", &meta);
	return r == 0 ? file_sync_dir(dir) : r;
}

/* Takes the name, unless there is something of it. */
static int publish(int parent, const char *hidden, const char *name)
{
	int r;

	if (renameat2(parent, hidden, parent, name, RENAME_NOREPLACE) < 0 &&
	    (errno != EINVAL || renameat(parent, hidden, parent, name) < 0))
		return -errno;
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, name, parent, hidden) < 0)
		log_error("cannot take back snapshot %s: %m", name);
	return r;
}

int snapshot_store_end(struct snapshot *s, int dir, struct err *err)
{
	_cleanup_close_ int parent = snapshots_dir(s->m, false);
	char hidden[HIDDEN_MAX];
	int r = parent < 0 ? parent : write_all(s, dir);

	hidden_name(hidden, "new", s);
	if (r == 0)
		r = publish(parent, hidden, s->name);
	if (r == 0)
		return 0;
	snapshot_store_abort(s);
	return refused(err, r, "the snapshot");
}

void snapshot_store_abort(struct snapshot *s)
{
	_cleanup_close_ int parent = snapshots_dir(s->m, false);
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "new", s);
	if (parent >= 0)
		remove_dir(parent, hidden);
}

int snapshot_store_meta(struct snapshot *s, struct err *err)
{
	_cleanup_close_ int dir = snapshot_dir(s);
	_cleanup_strbuf_ struct strbuf meta = STRBUF_INIT;
	int r = dir;

	LOCK_SCOPE(&s->m->edit);
	snapshot_meta_format(s, &meta);
	if (r >= 0)
		r = meta.failed ? -ENOMEM : file_replace(dir, "meta", meta.data, meta.len, 0600);
	return r < 0 ? refused(err, r, "the snapshot's meta") : 0;
}

int snapshot_store_rename(struct snapshot *s, int parent, const char *name, struct err *err)
{
	int r = publish(parent, s->name, name);

	return r < 0 ? err_set(err, r, "cannot rename snapshot %s: %s", s->name, strerror(-r)) : 0;
}

int snapshot_store_remove(struct snapshot *s, int parent, struct err *err)
{
	char hidden[HIDDEN_MAX];
	int r;

	hidden_name(hidden, "trash", s);
	r = publish(parent, s->name, hidden);
	return r < 0 ? err_set(err, r, "cannot remove snapshot %s: %s", s->name, strerror(-r)) : 0;
}

void snapshot_store_sweep(struct snapshot *s)
{
	_cleanup_close_ int parent = snapshots_dir(s->m, false);
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "trash", s);
	if (parent >= 0)
		remove_dir(parent, hidden);
}

/* --- loading ----------------------------------------------------------------------------------
 */

static int read_meta(struct snapshot *s, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(dir, "meta", META_MAX, &text, &len);

	if (r == 0 && strlen(text) != len)
		r = -EINVAL;
	if (r == 0)
		r = snapshot_meta_parse(s, text);
	if (r == -EOPNOTSUPP)
		return err_set(err, r, "meta: made by a later version of filevisor");
	return r < 0 ? err_set(err, r, "meta: %s", r == -EINVAL ? "damaged" : strerror(-r)) : 0;
}

static int read_config(struct snapshot *s, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(dir, "config", CONFIG_MAX, &text, &len);

	r = r < 0 ? err_set(err, r, "%s", strerror(-r)) : config_parse(text, len, &s->def, err);
	if (r < 0)
		err_prefix(err, "config");
	return r;
}

static int read_layers(struct snapshot *s, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(dir, "layers", TEXT_MAX, &text, &len);

	r = r < 0 ? err_set(err, r, "%s", strerror(-r))
		  : layer_set_parse(text, len, &s->layers, err);
	if (r < 0)
		err_prefix(err, "layers");
	return r;
}

static int read_memory(struct snapshot *s, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(dir, "memory", TEXT_MAX, &text, &len);

	r = r < 0 ? err_set(err, r, "%s", strerror(-r))
		  : memory_map_parse(text, len, &s->memory, err);
	if (r < 0)
		err_prefix(err, "memory");
	return r;
}

/* What goes with memory. */
static int check_files(struct snapshot *s, int dir, struct err *err)
{
	struct stat st;

	if (fstatat(dir, "state", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size == 0)
		return err_set(err, -EINVAL, "state: it is missing");
	if (fstatat(dir, "registers", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size < s->cpus * sizeof(struct vmm_vcpu_state))
		return err_set(err, -EINVAL, "registers: they are missing");
	return 0;
}

/* What it refers to stays, whatever else is wrong with it. Takes both. */
static void keep(struct machine *m, struct layer_set *layers, struct memory_map *memory)
{
	struct snapshots *all = m->snapshots ? m->snapshots : calloc(1, sizeof(*all));
	struct layer_set *sets;
	struct memory_map **maps;

	m->snapshots = all;
	layers_keep_all(m->model);
	layer_set_get(m->model, layers);
	if (memory)
		memory_map_get(m->model, memory);
	sets = all ? realloc(all->kept_layers, (all->n_kept_layers + 1) * sizeof(*sets)) : NULL;
	if (sets) {
		all->kept_layers = sets;
		sets[all->n_kept_layers++] = *layers;
		*layers = (struct layer_set){0};
	}
	maps = all ? realloc(all->kept_memory, (all->n_kept_memory + 1) * sizeof(*maps)) : NULL;
	if (maps) {
		all->kept_memory = maps;
		maps[all->n_kept_memory++] = memory;
		return;
	}
	free(memory);
}

/* What a daemon left that was killed while it made one. */
static void remove_half_archive(const struct snapshot *s, int dir)
{
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "archive", s);
	if (unlinkat(dir, hidden, 0) == 0)
		log_info("removed the half-written archive of snapshot %s", s->name);
}

static int load_one(struct machine *m, int parent, const char *name, struct err *err)
{
	_cleanup_close_ int dir = open_sub(parent, name);
	_cleanup_(snapshot_putp) struct snapshot *s = snapshot_new(m, name, "");
	struct err ignored = ERR_INIT;
	int r, r_layers, r_memory = 0;

	if (dir >= 0)
		unlinkat(dir, ".meta.new", 0); /* of a daemon that was killed */
	if (dir < 0 || !s)
		return err_set(err, dir < 0 ? dir : -ENOMEM, "%s",
			       strerror(dir < 0 ? -dir : ENOMEM));
	r = read_meta(s, dir, err);
	if (r == 0)
		remove_half_archive(s, dir);
	r_layers = read_layers(s, dir, r == 0 ? err : &ignored);
	if (faccessat(dir, "memory", F_OK, AT_SYMLINK_NOFOLLOW) == 0 || s->was != MACHINE_STOPPED)
		r_memory = read_memory(s, dir, r == 0 && r_layers == 0 ? err : &ignored);
	r = r < 0 ? r : r_layers < 0 ? r_layers : r_memory;
	if (r == 0)
		r = read_config(s, dir, err);
	if (r == 0 && s->memory)
		r = check_files(s, dir, err);
	if (r < 0) {
		if (r_layers < 0 || r_memory < 0)
			layers_keep_all(m->model); /* it cannot be told what it refers to */
		keep(m, &s->layers, take_ptr(s->memory));
		return r;
	}
	layer_set_get(m->model, &s->layers);
	if (s->memory)
		memory_map_get(m->model, s->memory);
	for (size_t i = 0; i < SNAPSHOT_ASPECT_MAX; i++)
		s->changed[i] = s->time;
	r = snapshots_insert(s);
	if (r == 0)
		s = NULL;
	return r;
}

static bool is_left_over(const char *name)
{
	return strncmp(name, ".new-", 5) == 0 || strncmp(name, ".trash-", 7) == 0;
}

static int not_dot(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int by_time(const void *a, const void *b)
{
	const struct timespec *x = &(*(struct snapshot *const *)a)->time;
	const struct timespec *y = &(*(struct snapshot *const *)b)->time;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

/* The oldest first: serials follow. */
static void sort(struct machine *m)
{
	struct snapshots *all;

	LOCK_SCOPE(&m->lock);
	all = m->snapshots;
	if (!all || !all->n)
		return;
	qsort(all->list, all->n, sizeof(*all->list), by_time);
	for (size_t i = 0; i < all->n; i++)
		all->list[i]->serial = model_next_serial(m->model);
}

int snapshots_load(struct machine *m, struct err *err)
{
	_cleanup_close_ int parent = snapshots_dir(m, false);
	struct dirent **entries;
	int n, r = 0;

	if (parent == -ENOENT)
		return 0;
	n = parent < 0 ? -1 : scandirat(parent, ".", &entries, not_dot, alphasort);
	if (n < 0)
		return err_set(err, parent < 0 ? parent : -errno, "snapshots: they cannot be read");
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		struct err why = ERR_INIT;

		if (is_left_over(name)) {
			remove_dir(parent, name);
		} else if (machine_name_check(name, NULL) == 0 &&
			   load_one(m, parent, name, &why) < 0) {
			log_error("machine %s: snapshot %s: %s", m->name, name, why.text);
			r = err_set(err, why.code, "snapshot %s is damaged: %.300s", name,
				    why.text);
		}
		free(entries[i]);
	}
	free(entries);
	sort(m);
	return r;
}

void snapshots_load_all(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		struct err err = ERR_INIT;

		if (snapshots_load(m, &err) < 0)
			machine_outcome(m, "load", &err);
		machine_put(m);
	}
}
