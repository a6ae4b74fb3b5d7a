// SPDX-License-Identifier: ISC
/*
 * What of the model is on disk:
 *
 *   STATE/lock                   flock'd by the daemon, holds its pid
 *   STATE/machines/NAME/access   id, owner, modes: always there
 *                       config   the definition; absent: all presets
 *                       console, console.old
 *
 * A machine appears and goes by one rename(2) of its directory: it is made as
 * .new-ID and unmade as .trash-ID. What begins with a dot is therefore the
 * left-over of a daemon that was killed, and removed at the next start.
 */
#define LOG_MODULE "store"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access.h"
#include "model_int.h"
#include "save.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define HIDDEN_MAX 64 /* ".trash-" and an id */

/* --- opening --------------------------------------------------------------------------- */

/* Makes a directory and those above it; a descriptor or -errno. */
static int open_tree(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);
	int fd;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return -errno;
	fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_sub(int dir, const char *name)
{
	int fd;

	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Locks the directory against a second daemon, and says who holds it. */
static int lock_dir(int dir, const char *path, int *lock, struct err *err)
{
	_cleanup_close_ int fd =
	    openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	char pid[32] = "";
	ssize_t n;

	if (fd < 0)
		return err_set(err, -errno, "%s/lock: %m", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		n = pread(fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
		return err_set(err, -EBUSY, "%s is in use by another filevisord (pid %s)", path,
			       pid[0] ? pid : "unknown");
	}
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		log_warn("cannot note the pid in %s/lock", path);
	*lock = take_fd(&fd);
	return 0;
}

/* Opens one of the two directories with its machines/ and locks it. */
static int open_dir(const char *path, int *dir, int *machines, int *lock, struct err *err)
{
	int r = *dir = open_tree(path, 0700);

	if (r >= 0)
		r = lock_dir(*dir, path, lock, err);
	else
		return err_set(err, r, "%s: %s", path, strerror(-r));
	if (r < 0)
		return r;
	r = *machines = open_sub(*dir, "machines");
	return r < 0 ? err_set(err, r, "%s/machines: %s", path, strerror(-r)) : 0;
}

int store_open(struct model *model, struct err *err)
{
	int r = open_dir(model->state_dir, &model->state_fd, &model->machines_fd,
			 &model->state_lock_fd, err);

	if (r == 0 && strcmp(model->state_dir, model->run_dir) == 0)
		r = err_set(err, -EINVAL, "the directories for state and run time are the same: %s",
			    model->state_dir);
	if (r == 0)
		r = open_dir(model->run_dir, &model->run_fd, &model->run_machines_fd,
			     &model->run_lock_fd, err);
	return r;
}

void store_close(struct model *model)
{
	int *fds[] = {&model->machines_fd, &model->run_machines_fd, &model->state_fd,
		      &model->run_fd,	   &model->state_lock_fd,   &model->run_lock_fd};

	for (size_t i = 0; i < nitems(fds); i++)
		if (*fds[i] >= 0)
			close(take_fd(fds[i]));
}

static void hidden_name(char name[HIDDEN_MAX], const char *kind, const struct machine *m)
{
	snprintf(name, HIDDEN_MAX, ".%s-%s", kind, m->id);
}

/* --- files of a machine ----------------------------------------------------------------- */

static int refused(struct err *err, int code, const char *what)
{
	if (code == -EDQUOT)
		code = -ENOSPC;
	return err_set(err, code, "cannot write %s: %s", what, strerror(-code));
}

void store_dir_name(struct machine *m, char name[MACHINE_NAME_MAX + 1])
{
	LOCK_SCOPE(&m->lock);
	if (m->unnamed)
		hidden_name(name, "new", m);
	else
		strcpy(name, m->name);
}

static int open_file(struct machine *m, const char *file, int flags)
{
	char path[MACHINE_NAME_MAX + 64];
	int fd;

	store_dir_name(m, path);
	snprintf(path + strlen(path), 64, "/%s", file);
	fd = openat(m->model->machines_fd, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int store_open_file(struct machine *m, const char *file, int flags)
{
	int fd = open_file(m, file, flags);

	if (fd == -ENOENT) {
		LOCK_SCOPE(&m->edit); /* waits for a rename that is between disk and memory */
		fd = open_file(m, file, flags);
	}
	return fd;
}

int store_open_dir(struct machine *m)
{
	return store_open_file(m, ".", O_RDONLY | O_DIRECTORY);
}

int store_stat_file(struct machine *m, const char *file, struct stat *st)
{
	char path[MACHINE_NAME_MAX + 64];

	store_dir_name(m, path);
	snprintf(path + strlen(path), 64, "/%s", file);
	return fstatat(m->model->machines_fd, path, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int store_config(struct machine *m, const struct definition *def, struct timespec *mtime,
		 struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	_cleanup_close_ int dir = open_file(m, ".", O_RDONLY | O_DIRECTORY);
	struct stat st;
	int r = dir;

	config_format(def, &sb);
	if (sb.failed)
		r = -ENOMEM;
	if (r >= 0)
		r = file_replace(dir, "config", sb.data, sb.len, 0600);
	if (r < 0)
		return refused(err, r, "the definition");
	*mtime = fstatat(dir, "config", &st, 0) == 0 ? st.st_mtim : time_now();
	return 0;
}

int store_access(struct machine *m, const struct machine_access *access,
		 const struct file_mode *modes, size_t n_modes, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	_cleanup_close_ int dir = open_file(m, ".", O_RDONLY | O_DIRECTORY);
	int r = dir;

	access_format(m->id, access, modes, n_modes, &sb);
	if (sb.failed)
		r = -ENOMEM;
	if (r >= 0)
		r = file_replace(dir, "access", sb.data, sb.len, 0600);
	return r < 0 ? refused(err, r, "who may do what") : 0;
}

/* --- come, go, change its name ------------------------------------------------------------ */

/* Removes a directory and all that is in it. */
static void remove_dir(int parent, const char *name)
{
	_cleanup_closedir_ DIR *d = NULL;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;

	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, e->d_name, 0) == 0)
			continue;
		if (errno == EISDIR)
			remove_dir(fd, e->d_name); /* snapshots/ */
		else
			log_warn("cannot remove %s/%s: %m", name, e->d_name);
	}
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0)
		log_warn("cannot remove %s: %m", name);
}

/* The directory, complete and synced, under its hidden name. */
static int prepare(struct machine *m, const char *hidden)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	_cleanup_close_ int dir = -1, fd = -1;
	int r;

	access_format(m->id, &m->access, NULL, 0, &sb);
	if (sb.failed)
		return -ENOMEM;
	if (mkdirat(m->model->machines_fd, hidden, 0700) < 0)
		return -errno;
	dir = openat(m->model->machines_fd, hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0)
		fd = openat(dir, "access", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = file_write_all(fd, sb.data, sb.len);
	if (r == 0 && (fsync(fd) < 0 || fsync(dir) < 0))
		r = -errno;
	return r;
}

int store_define(struct machine *m, struct err *err)
{
	int parent = m->model->machines_fd;
	char hidden[HIDDEN_MAX];
	int r;

	hidden_name(hidden, "new", m);
	r = prepare(m, hidden);
	if (r == 0 && renameat(parent, hidden, parent, m->name) < 0)
		r = -errno;
	if (r == 0) {
		r = file_sync_dir(parent);
		if (r < 0 && renameat(parent, m->name, parent, hidden) < 0)
			log_error("cannot take back %s: %m", m->name);
	}
	if (r < 0) {
		remove_dir(parent, hidden);
		return refused(err, r, m->name);
	}
	return 0;
}

int store_name(struct machine *m, struct err *err)
{
	int parent = m->model->machines_fd;
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "new", m);
	if (renameat(parent, hidden, parent, m->name) < 0)
		return refused(err, -errno, m->name);
	LOCK_SCOPE(&m->lock);
	m->unnamed = false;
	return 0;
}

int store_undefine(struct machine *m, struct err *err)
{
	int parent = m->model->machines_fd;
	char hidden[HIDDEN_MAX], name[MACHINE_NAME_MAX + 1];
	int r;

	hidden_name(hidden, "trash", m);
	store_dir_name(m, name);
	if (renameat(parent, name, parent, hidden) < 0)
		return err_set(err, -errno, "cannot remove %s: %m", m->name);
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, hidden, parent, name) == 0)
		return err_set(err, r, "cannot remove %s: %s", m->name, strerror(-r));
	return 0;
}

void store_sweep(struct machine *m)
{
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "trash", m);
	remove_dir(m->model->machines_fd, hidden);
}

int store_rename(struct machine *m, const char *new_name, struct err *err)
{
	int parent = m->model->machines_fd;
	int r;

	if (renameat(parent, m->name, parent, new_name) < 0)
		return err_set(err, -errno, "cannot rename %s: %m", m->name);
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, new_name, parent, m->name) == 0)
		return err_set(err, r, "cannot rename %s: %s", m->name, strerror(-r));
	return 0;
}

/* --- loading ------------------------------------------------------------------------------ */

/* What file_replace() leaves when its daemon is killed. */
static void remove_halves(int dir)
{
	static const char *const halves[] = {".config.new", ".access.new", ".layers.new"};

	for (size_t i = 0; i < nitems(halves); i++)
		if (unlinkat(dir, halves[i], 0) == 0)
			log_info("removed the half-written %s", halves[i]);
}

/* Reads `config`: presets where there is none; a damaged text goes to *damaged. */
static struct definition *load_config(int dir, char **damaged, struct timespec *mtime,
				      struct err *err)
{
	struct definition *def = NULL;
	_cleanup_free_ char *text = NULL;
	struct stat st;
	size_t len;
	int r = file_read(dir, "config", CONFIG_MAX, &text, &len);

	if (fstatat(dir, "config", &st, AT_SYMLINK_NOFOLLOW) == 0)
		*mtime = st.st_mtim;
	if (r == -ENOENT)
		return definition_new();
	if (r == 0)
		r = config_parse(text, len, &def, err);
	else
		err_set(err, r, "%s", strerror(-r));
	if (r == 0)
		return def;
	err_prefix(err, "the definition is damaged");
	*damaged = text ? take_ptr(text) : strdup("");
	return definition_new();
}

/* Reads `access`; a damaged one gives the machine to the daemon's user, and to nobody else. */
static int load_access(int dir, struct access_file *file, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	int r = file_read(dir, "access", CONFIG_MAX, &text, NULL);

	if (r == 0)
		r = access_parse(text, file);
	if (r == 0)
		return 0;
	access_free(file);
	file->access = (struct machine_access){geteuid(), getegid(), 0700};
	file->id[0] = '\0';
	return err_set(err, r, "who may do what is damaged: %s", strerror(-r));
}

static void set_times(struct machine *m, struct timespec when)
{
	for (int i = 0; i < ASPECT_MAX; i++)
		if (i == ASPECT_DEFINITION || i == ASPECT_DISKS || i == ASPECT_DISK ||
		    i == ASPECT_NICS || i == ASPECT_NIC || i == ASPECT_ACCESS || i >= ASPECT_KEY0)
			m->changed[i] = when;
	for (size_t i = 0; i < m->def->n_disks; i++)
		m->disk_changed[i] = when;
	for (size_t i = 0; i < m->def->n_nics; i++)
		m->nic_changed[i] = when;
}

/* Whether a machine has this id already: who copies directories of the state by hand copies it. */
static bool id_taken(const struct registry *reg, const char *id)
{
	for (size_t i = 0; i < reg->n_order; i++)
		if (memcmp(reg->order[i]->id, id, ID_TEXT) == 0)
			return true;
	return false;
}

/* Before anybody else knows the model. */
static int load_machine(struct model *model, const char *name)
{
	_cleanup_close_ int dir =
	    openat(model->machines_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct access_file file = {0};
	struct err err = ERR_INIT;
	bool saved;
	_cleanup_machine_ struct machine *m = NULL;
	struct definition *def;
	char *damaged = NULL;
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0)
		return -errno;
	remove_halves(dir);
	load_access(dir, &file, &err);
	if (!file.id[0] || id_taken(&model->registry, file.id))
		model_make_id(file.id);
	saved = saved_look(dir);
	def = load_config(dir, &damaged, &st.st_mtim, &err);
	if (def)
		m = machine_new(model, name, file.id, def);
	if (!m || registry_reserve(&model->registry, name, NULL) < 0) {
		access_free(&file);
		free(damaged);
		return -ENOMEM;
	}
	m->damaged = damaged;
	m->saved = saved;
	if (m->saved)
		m->state = MACHINE_SAVED;
	m->access = file.access;
	m->modes = file.modes;
	m->n_modes = file.n_modes;
	set_times(m, st.st_mtim);
	if (err.code) {
		log_error("machine %s: %s", name, err.text);
		outcome_set(&m->error, "load", &err, false);
	}
	return registry_insert(&model->registry, m);
}

static int is_machine(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static int is_left_over(const struct dirent *e)
{
	return strncmp(e->d_name, ".new-", 5) == 0 || strncmp(e->d_name, ".trash-", 7) == 0;
}

/* Calls @each for the entries of machines/ that @select, in order of names. */
static int each_entry(struct model *model, int (*select)(const struct dirent *),
		      int (*each)(struct model *model, const char *name))
{
	struct dirent **entries;
	int n = scandirat(model->machines_fd, ".", &entries, select, alphasort), r = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = each(model, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int load_entry(struct model *model, const char *name)
{
	int r;

	if (machine_name_check(name, NULL) < 0) {
		log_warn("%s/machines/%s is no machine: ignored", model->state_dir, name);
		return 0;
	}
	r = load_machine(model, name);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		log_error("machine %s cannot be loaded: %s", name, strerror(-r));
	return 0;
}

static int remove_entry(struct model *model, const char *name)
{
	remove_dir(model->machines_fd, name);
	return 0;
}

int store_load(struct model *model, struct err *err)
{
	int r = each_entry(model, is_left_over, remove_entry);

	if (r == 0)
		r = each_entry(model, is_machine, load_entry);
	return r < 0 ? err_set(err, r, "%s/machines: %s", model->state_dir, strerror(-r)) : 0;
}
