/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_FAKE_SNAPSHOT_H
#define FV_TEST_FAKE_SNAPSHOT_H
/*
 * Snapshots that are names, for tests of the tree alone: each is of a machine with the disk
 * `root`, and its memory is the text "memory of NAME". One that is called `slow` is made when
 * the storage of fake_pool.h does not hang; one called `full` never. An archive
 * is whole when it ends in "END".
 */
#include "snapshot.h"

struct snapshot {
	atomic_uint refs;
	struct machine *m; /* outlives it */
	uint64_t serial;
	char name[SNAPSHOT_NAME_MAX + 1];
	bool alive, archived;
	char error[600];
	struct timespec changed;
};

struct archive_import {
	struct machine *m;
	char data[64];
	size_t len;
};

struct snapshot *snapshot_get(struct snapshot *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void snapshot_put(struct snapshot *s)
{
	if (s && atomic_fetch_sub(&s->refs, 1) == 1)
		free(s);
}

static inline int fake_snapshot_find(struct machine *m, const char *name)
{
	for (int i = 0; i < FAKE_SNAPS; i++)
		if (m->snapshots[i] && strcmp(m->snapshots[i]->name, name) == 0)
			return i;
	return -1;
}

struct snapshot *machine_snapshot_get(struct machine *m, const char *name)
{
	int i;

	LOCK_SCOPE(&m->model->lock);
	i = fake_snapshot_find(m, name);
	return i < 0 ? NULL : snapshot_get(m->snapshots[i]);
}

struct snapshot *machine_snapshot_next(struct machine *m, uint64_t *cursor)
{
	LOCK_SCOPE(&m->model->lock);
	while (*cursor < FAKE_SNAPS)
		if (m->snapshots[(*cursor)++])
			return snapshot_get(m->snapshots[*cursor - 1]);
	return NULL;
}

size_t machine_snapshot_count(struct machine *m)
{
	size_t n = 0;

	LOCK_SCOPE(&m->model->lock);
	for (size_t i = 0; i < FAKE_SNAPS; i++)
		n += m->snapshots[i] != NULL;
	return n;
}

int machine_snapshot_make(struct machine *m, const char *name, const struct caller *caller,
			  struct snapshot **out, struct err *err)
{
	struct snapshot *s;
	int i = 0;

	(void)caller;
	if (strcmp(name, "full") == 0)
		return err_set(err, -ENOSPC, "no room");
	if (strcmp(name, "slow") == 0)
		fake_storage_wait();
	LOCK_SCOPE(&m->model->lock);
	if (fake_snapshot_find(m, name) >= 0)
		return err_set(err, -EEXIST, "it exists");
	while (i < FAKE_SNAPS && m->snapshots[i])
		i++;
	if (i == FAKE_SNAPS)
		return err_set(err, -ENOSPC, "too many");
	s = calloc(1, sizeof(*s));
	atomic_init(&s->refs, 1);
	s->m = m;
	s->serial = 200000 + m->model->pool_serials++;
	s->alive = true;
	s->changed = fake_now();
	snprintf(s->name, sizeof(s->name), "%s", name);
	m->snapshots[i] = s;
	fake_changed(m, ASPECT_SNAPSHOTS, name);
	if (out)
		*out = snapshot_get(s);
	return 0;
}

int machine_snapshot_remove(struct machine *m, struct snapshot *s, const struct caller *caller,
			    struct err *err)
{
	(void)caller, (void)err;
	LOCK_SCOPE(&m->model->lock);
	s->alive = false;
	m->snapshots[fake_snapshot_find(m, s->name)] = NULL;
	fake_changed(m, ASPECT_SNAPSHOTS, s->name);
	snapshot_put(s);
	return 0;
}

int machine_snapshot_rename(struct machine *m, struct snapshot *s, const char *name,
			    struct err *err)
{
	char old[SNAPSHOT_NAME_MAX + 1];

	LOCK_SCOPE(&m->model->lock);
	if (fake_snapshot_find(m, name) >= 0)
		return err_set(err, -EEXIST, "it exists");
	memcpy(old, s->name, sizeof(old));
	snprintf(s->name, sizeof(s->name), "%s", name);
	fake_changed(m, ASPECT_SNAPSHOTS, old);
	fake_changed(m, ASPECT_SNAPSHOTS, name);
	return 0;
}

struct machine *snapshot_machine(const struct snapshot *s)
{
	return s->m;
}

void snapshot_name(struct snapshot *s, char name[SNAPSHOT_NAME_MAX + 1])
{
	LOCK_SCOPE(&s->m->model->lock);
	memcpy(name, s->name, sizeof(s->name));
}

uint64_t snapshot_serial(const struct snapshot *s)
{
	return s->serial;
}

bool snapshot_alive(struct snapshot *s)
{
	LOCK_SCOPE(&s->m->model->lock);
	return s->alive;
}

struct timespec snapshot_changed(struct snapshot *s, enum snapshot_aspect aspect)
{
	(void)aspect;
	LOCK_SCOPE(&s->m->model->lock);
	return s->changed;
}

struct timespec snapshot_time(struct snapshot *s)
{
	(void)s;
	return (struct timespec){.tv_sec = 1790000000, .tv_nsec = 7999999};
}

void snapshot_parent_show(struct snapshot *s, struct strbuf *sb)
{
	(void)s, (void)sb;
}

void snapshot_size_show(struct snapshot *s, struct strbuf *sb)
{
	(void)s;
	strbuf_puts(sb, "own 1\nshared 2");
}

void snapshot_state_show(struct snapshot *s, struct strbuf *sb)
{
	(void)s;
	strbuf_puts(sb, "running");
}

uint64_t snapshot_pause_ns(struct snapshot *s)
{
	(void)s;
	return 1234567;
}

int snapshot_config_show(struct snapshot *s, struct strbuf *sb)
{
	(void)s;
	strbuf_puts(sb, "cpus = 1;\n");
	return 0;
}

bool snapshot_disk_at(struct snapshot *s, size_t index, char name[DISK_NAME_MAX + 1])
{
	(void)s;
	strcpy(name, "root");
	return index == 0;
}

bool snapshot_disk_exists(struct snapshot *s, const char *disk)
{
	(void)s;
	return strcmp(disk, "root") == 0;
}

uint64_t snapshot_disk_size(struct snapshot *s, const char *disk)
{
	(void)s, (void)disk;
	return 4;
}

int snapshot_disk_key_show(struct snapshot *s, const char *disk, const struct config_key *key,
			   struct strbuf *sb)
{
	(void)s, (void)disk, (void)key;
	strbuf_puts(sb, "/srv/root");
	return 0;
}

static inline int fake_bytes(const char *text, struct content **content)
{
	int fd = memfd_create("bytes", MFD_CLOEXEC);

	return pwrite(fd, text, strlen(text), 0) < 0 ? -errno : content_fd_open(content, fd);
}

int snapshot_disk_content_open(struct snapshot *s, const char *disk, const struct caller *caller,
			       struct content **content, struct err *err)
{
	(void)s, (void)disk, (void)caller, (void)err;
	return fake_bytes("disk", content);
}

uint64_t snapshot_memory_size(struct snapshot *s)
{
	return 10 + strlen(s->name);
}

int snapshot_memory_open(struct snapshot *s, struct content **content, struct err *err)
{
	char text[128];

	(void)err;
	snprintf(text, sizeof(text), "memory of %s", s->name);
	return fake_bytes(text, content);
}

uint64_t snapshot_core_size(struct snapshot *s)
{
	(void)s;
	return 0;
}

int snapshot_core_open(struct snapshot *s, struct content **content, struct err *err)
{
	(void)s, (void)content;
	return err_set(err, -ENODEV, "without memory");
}

uint64_t snapshot_archive_size(struct snapshot *s)
{
	LOCK_SCOPE(&s->m->model->lock);
	return s->archived ? 7 : 0;
}

int snapshot_archive_open(struct snapshot *s, struct err *err)
{
	int fd;

	LOCK_SCOPE(&s->m->model->lock);
	if (!s->archived)
		return err_set(err, -ENOENT, "none is at hand");
	fd = memfd_create("archive", MFD_CLOEXEC);
	return pwrite(fd, "archive", 7, 0) < 0 ? -errno : fd;
}

int machine_archive_begin(struct machine *m, const struct caller *caller,
			  struct archive_import **import, struct err *err)
{
	(void)caller;
	LOCK_SCOPE(&m->model->lock);
	if (m->state != MACHINE_DEFINED || m->imported[0])
		return err_set(err, -EBUSY, "not a new machine");
	*import = calloc(1, sizeof(**import));
	(*import)->m = m;
	return 0;
}

int machine_archive_write(struct archive_import *import, const void *data, size_t len,
			  struct err *err)
{
	if (len >= sizeof(import->data) - import->len)
		return err_set(err, -EINVAL, "no archive");
	memcpy(import->data + import->len, data, len);
	import->len += len;
	return 0;
}

int machine_archive_end(struct archive_import *import, struct err *err)
{
	struct machine *m = import->m;
	int r = 0;

	pthread_mutex_lock(&m->model->lock);
	if (import->len < 3 || strcmp(import->data + import->len - 3, "END") != 0)
		r = err_set(err, -EINVAL, "it ends at byte %zu", import->len);
	else
		memcpy(m->imported, import->data, sizeof(m->imported));
	pthread_mutex_unlock(&m->model->lock);
	free(import);
	return r;
}

void machine_archive_abort(struct archive_import *import)
{
	free(import);
}

int snapshot_command_run(struct snapshot *s, const char *line, const struct caller *caller,
			 struct err *err)
{
	(void)caller;
	if (strcmp(line, "archive") != 0)
		return err_set(err, -EINVAL, "no such command");
	LOCK_SCOPE(&s->m->model->lock);
	s->archived = true;
	TELL(s->m->model, snapshot_changed, s, SNAPSHOT_ARCHIVE);
	return 0;
}

void snapshot_command_list(struct snapshot *s, struct strbuf *sb)
{
	(void)s;
	strbuf_puts(sb, "# archive\n");
}

void snapshot_command_help(struct strbuf *sb)
{
	strbuf_puts(sb, "archive\tmake one\n");
}

void snapshot_error_show(struct snapshot *s, struct strbuf *sb)
{
	LOCK_SCOPE(&s->m->model->lock);
	strbuf_puts(sb, s->error);
}

void snapshot_error_set(struct snapshot *s, const char *what, const struct err *err)
{
	LOCK_SCOPE(&s->m->model->lock);
	snprintf(s->error, sizeof(s->error), "%s %s: %s\n", err_name(err->code), what, err->text);
	TELL(s->m->model, snapshot_changed, s, SNAPSHOT_ERROR);
}

#endif
