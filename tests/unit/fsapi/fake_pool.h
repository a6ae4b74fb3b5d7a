/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_FAKE_POOL_H
#define FV_TEST_FAKE_POOL_H
/*
 * Pools and volumes in memory, for tests of the tree alone: a pool has one key, `source`,
 * a volume one, `size`, and as its content so many bytes. fake_hang makes storage hang.
 * Included by fake_model.h.
 */
#include "content.h"
#include "pool.h"

#define FAKE_POOLS   8
#define FAKE_VOLUMES 8
#define FAKE_MODES   8

struct volume {
	atomic_uint refs;
	struct pool *pool;
	uint64_t serial;
	char name[VOLUME_NAME_MAX + 1];
	bool alive, used;
	struct machine_access access;
	char *data; /* size bytes */
	uint64_t size;
	unsigned readers, writers, flushes;
	int fails; /* what a write or flush gives */
	char error[600];
	struct timespec changed;
};

struct pool {
	atomic_uint refs;
	struct model *model;
	uint64_t serial;
	char name[POOL_NAME_MAX + 1];
	bool alive;
	struct machine_access access;
	char source[128];
	char error[600];
	struct timespec changed;
	struct volume *volumes[FAKE_VOLUMES];
	struct {
		char path[256];
		mode_t mode;
	} modes[FAKE_MODES];
};

struct content {
	struct volume *volume; /* or a file: */
	int fd;
	bool write;
};

/* Storage hangs while it is set; who changes it broadcasts. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool hangs;
	unsigned waiting;
} fake_storage = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static inline void fake_storage_hangs(bool hangs)
{
	LOCK_SCOPE(&fake_storage.lock);
	fake_storage.hangs = hangs;
	pthread_cond_broadcast(&fake_storage.cond);
}

static inline void fake_storage_wait(void)
{
	LOCK_SCOPE(&fake_storage.lock);
	fake_storage.waiting++;
	while (fake_storage.hangs)
		pthread_cond_wait(&fake_storage.cond, &fake_storage.lock);
	fake_storage.waiting--;
}

const struct config_key pool_keys[] = {{.name = "source", .type = KEY_PATH, .help = "directory"}};
const size_t n_pool_keys = 1;
const struct config_key volume_keys[] = {{.name = "size", .type = KEY_SIZE, .help = "bytes"}};
const size_t n_volume_keys = 1;

/* --- pools ------------------------------------------------------------------------------ */

struct pool *pool_get(struct pool *pool)
{
	atomic_fetch_add(&pool->refs, 1);
	return pool;
}

void pool_put(struct pool *pool)
{
	if (atomic_fetch_sub(&pool->refs, 1) != 1)
		return;
	for (size_t i = 0; i < FAKE_VOLUMES; i++)
		if (pool->volumes[i])
			volume_put(pool->volumes[i]);
	free(pool);
}

static inline void fake_pool_changed(struct pool *pool, int aspect, const char *name)
{
	pool->changed = fake_now();
	TELL(pool->model, pool_changed, pool, aspect, name);
}

static inline int fake_pool_find(struct model *model, const char *name)
{
	for (int i = 0; i < FAKE_POOLS; i++)
		if (model->pools[i] && strcmp(model->pools[i]->name, name) == 0)
			return i;
	return -1;
}

struct pool *model_pool_get(struct model *model, const char *name)
{
	int i;

	LOCK_SCOPE(&model->lock);
	i = fake_pool_find(model, name);
	return i < 0 ? NULL : pool_get(model->pools[i]);
}

struct pool *model_pool_next(struct model *model, uint64_t *cursor)
{
	LOCK_SCOPE(&model->lock);
	while (*cursor < FAKE_POOLS)
		if (model->pools[(*cursor)++])
			return pool_get(model->pools[*cursor - 1]);
	return NULL;
}

size_t model_pool_count(struct model *model)
{
	size_t n = 0;

	LOCK_SCOPE(&model->lock);
	for (size_t i = 0; i < FAKE_POOLS; i++)
		n += model->pools[i] != NULL;
	return n;
}

struct timespec model_pools_changed(struct model *model)
{
	return model->opened;
}

int model_pool_define(struct model *model, const char *name, mode_t mode,
		      const struct caller *caller, struct pool **out, struct err *err)
{
	struct pool *pool;
	int i = 0;

	if (machine_name_check(name, err) < 0)
		return -EINVAL;
	LOCK_SCOPE(&model->lock);
	if (fake_pool_find(model, name) >= 0)
		return err_set(err, -EEXIST, "it exists");
	while (i < FAKE_POOLS && model->pools[i])
		i++;
	if (i == FAKE_POOLS)
		return err_set(err, -ENOSPC, "too many");
	pool = calloc(1, sizeof(*pool));
	atomic_init(&pool->refs, 1);
	pool->model = model;
	pool->serial = 100000 + model->pool_serials++;
	pool->alive = true;
	pool->access = (struct machine_access){caller->uid, caller->gid, mode};
	pool->changed = fake_now();
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	model->pools[i] = pool;
	TELL(model, pool_added, pool);
	if (out)
		*out = pool_get(pool);
	return 0;
}

int model_pool_undefine(struct model *model, struct pool *pool, struct err *err)
{
	LOCK_SCOPE(&model->lock);
	if (!pool->alive)
		return err_set(err, -ENOENT, "gone");
	pool->alive = false;
	model->pools[fake_pool_find(model, pool->name)] = NULL;
	TELL(model, pool_removed, pool);
	pool_put(pool);
	return 0;
}

int model_pool_rename(struct model *model, struct pool *pool, const char *name, struct err *err)
{
	char old[POOL_NAME_MAX + 1];

	LOCK_SCOPE(&model->lock);
	if (fake_pool_find(model, name) >= 0)
		return err_set(err, -EEXIST, "it exists");
	memcpy(old, pool->name, sizeof(old));
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	TELL(model, pool_renamed, pool, old);
	return 0;
}

void pool_name(struct pool *pool, char name[POOL_NAME_MAX + 1])
{
	LOCK_SCOPE(&pool->model->lock);
	memcpy(name, pool->name, POOL_NAME_MAX + 1);
}

uint64_t pool_serial(const struct pool *pool)
{
	return pool->serial;
}

bool pool_alive(struct pool *pool)
{
	LOCK_SCOPE(&pool->model->lock);
	return pool->alive;
}

enum pool_state pool_state(struct pool *pool)
{
	LOCK_SCOPE(&pool->model->lock);
	return pool->source[0] ? POOL_ACTIVE : POOL_INACTIVE;
}

const char *pool_state_name(enum pool_state state)
{
	return state == POOL_ACTIVE ? "active" : "inactive";
}

struct timespec pool_changed(struct pool *pool, enum pool_aspect aspect)
{
	(void)aspect;
	LOCK_SCOPE(&pool->model->lock);
	return pool->changed;
}

void pool_space(struct pool *pool, uint64_t *capacity, uint64_t *allocation, uint64_t *free_bytes)
{
	(void)pool;
	*capacity = 1000;
	*allocation = 300;
	*free_bytes = 700;
}

void pool_access_get(struct pool *pool, struct machine_access *access)
{
	LOCK_SCOPE(&pool->model->lock);
	*access = pool->access;
}

int pool_access_set(struct pool *pool, const struct machine_access *access, struct err *err)
{
	(void)err;
	LOCK_SCOPE(&pool->model->lock);
	pool->access = *access;
	fake_pool_changed(pool, POOL_ACCESS, NULL);
	return 0;
}

bool pool_file_mode_get(struct pool *pool, const char *path, mode_t *mode)
{
	LOCK_SCOPE(&pool->model->lock);
	for (size_t i = 0; i < FAKE_MODES; i++) {
		if (strcmp(pool->modes[i].path, path) != 0 || !path[0])
			continue;
		*mode = pool->modes[i].mode;
		return true;
	}
	return false;
}

int pool_file_mode_set(struct pool *pool, const char *path, mode_t mode, struct err *err)
{
	LOCK_SCOPE(&pool->model->lock);
	for (size_t i = 0; i < FAKE_MODES; i++) {
		if (pool->modes[i].path[0] && strcmp(pool->modes[i].path, path) != 0)
			continue;
		snprintf(pool->modes[i].path, sizeof(pool->modes[i].path), "%s", path);
		pool->modes[i].mode = mode;
		fake_pool_changed(pool, POOL_ACCESS, NULL);
		return 0;
	}
	return err_set(err, -ENOSPC, "too many");
}

int pool_key_show(struct pool *pool, const struct config_key *key, struct strbuf *sb)
{
	(void)key;
	LOCK_SCOPE(&pool->model->lock);
	strbuf_puts(sb, pool->source);
	return 0;
}

int pool_key_store(struct pool *pool, const struct config_key *key, const char *text,
		   const struct caller *caller, struct err *err)
{
	(void)caller;
	LOCK_SCOPE(&pool->model->lock);
	if (text[0] != '/') {
		snprintf(pool->error, sizeof(pool->error), "EINVAL %s: not absolute\n", key->name);
		return err_set(err, -EINVAL, "not absolute");
	}
	snprintf(pool->source, sizeof(pool->source), "%s", text);
	pool->error[0] = '\0';
	fake_pool_changed(pool, POOL_DEFINITION, NULL);
	fake_pool_changed(pool, POOL_STATE, NULL);
	return 0;
}

int pool_command_run(struct pool *pool, const char *line, const struct caller *caller,
		     struct err *err)
{
	(void)pool;
	(void)caller;
	return strcmp(line, "refresh") == 0 ? 0 : err_set(err, -EINVAL, "no such command");
}

void pool_command_list(struct pool *pool, struct strbuf *sb)
{
	(void)pool;
	strbuf_puts(sb, "# refresh\n");
}

void pool_command_help(struct strbuf *sb)
{
	strbuf_puts(sb, "refresh\tlook again\n");
}

void pool_error_show(struct pool *pool, struct strbuf *sb)
{
	LOCK_SCOPE(&pool->model->lock);
	strbuf_puts(sb, pool->error);
}

void pool_error_set(struct pool *pool, const char *what, const struct err *err)
{
	LOCK_SCOPE(&pool->model->lock);
	snprintf(pool->error, sizeof(pool->error), "%s %s: %s\n", err_name(err->code), what,
		 err->text);
	fake_pool_changed(pool, POOL_ERROR, NULL);
}

/* --- volumes ---------------------------------------------------------------------------- */

struct volume *volume_get(struct volume *v)
{
	atomic_fetch_add(&v->refs, 1);
	return v;
}

void volume_put(struct volume *v)
{
	if (atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	free(v->data);
	free(v);
}

static inline struct volume **fake_volume(struct pool *pool, const char *name)
{
	for (size_t i = 0; i < FAKE_VOLUMES; i++)
		if (pool->volumes[i] && strcmp(pool->volumes[i]->name, name) == 0)
			return &pool->volumes[i];
	return NULL;
}

struct volume *pool_volume_get(struct pool *pool, const char *name)
{
	struct volume **v;

	LOCK_SCOPE(&pool->model->lock);
	v = fake_volume(pool, name);
	return v ? volume_get(*v) : NULL;
}

struct volume *pool_volume_next(struct pool *pool, uint64_t *cursor)
{
	LOCK_SCOPE(&pool->model->lock);
	while (*cursor < FAKE_VOLUMES)
		if (pool->volumes[(*cursor)++])
			return volume_get(pool->volumes[*cursor - 1]);
	return NULL;
}

size_t pool_volume_count(struct pool *pool)
{
	size_t n = 0;

	LOCK_SCOPE(&pool->model->lock);
	for (size_t i = 0; i < FAKE_VOLUMES; i++)
		n += pool->volumes[i] != NULL;
	return n;
}

int pool_volume_make(struct pool *pool, const char *name, mode_t mode, const struct caller *caller,
		     struct volume **out, struct err *err)
{
	struct volume *v;
	size_t i = 0;

	LOCK_SCOPE(&pool->model->lock);
	if (!pool->source[0])
		return err_set(err, -EINVAL, "the pool has no source");
	if (fake_volume(pool, name))
		return err_set(err, -EEXIST, "it exists");
	while (i < FAKE_VOLUMES && pool->volumes[i])
		i++;
	if (i == FAKE_VOLUMES)
		return err_set(err, -ENOSPC, "too many");
	v = calloc(1, sizeof(*v));
	atomic_init(&v->refs, 1);
	v->pool = pool;
	v->serial = 100000 + pool->model->pool_serials++;
	v->alive = true;
	v->access = (struct machine_access){caller->uid, caller->gid, mode};
	v->changed = fake_now();
	snprintf(v->name, sizeof(v->name), "%s", name);
	pool->volumes[i] = v;
	if (out)
		*out = volume_get(v);
	fake_pool_changed(pool, POOL_VOLUMES, name);
	return 0;
}

int pool_volume_remove(struct pool *pool, struct volume *v, const struct caller *caller,
		       struct err *err)
{
	(void)caller;
	LOCK_SCOPE(&pool->model->lock);
	if (!v->alive)
		return err_set(err, -ENOENT, "gone");
	if (v->used)
		return err_set(err, -EBUSY, "in use");
	v->alive = false;
	*fake_volume(pool, v->name) = NULL;
	fake_pool_changed(pool, POOL_VOLUMES, v->name);
	volume_put(v);
	return 0;
}

struct pool *volume_pool(const struct volume *v)
{
	return v->pool;
}

void volume_name(struct volume *v, char name[VOLUME_NAME_MAX + 1])
{
	memcpy(name, v->name, VOLUME_NAME_MAX + 1);
}

uint64_t volume_serial(const struct volume *v)
{
	return v->serial;
}

bool volume_alive(struct volume *v)
{
	LOCK_SCOPE(&v->pool->model->lock);
	return v->alive;
}

struct timespec volume_changed(struct volume *v, enum volume_aspect aspect)
{
	(void)aspect;
	LOCK_SCOPE(&v->pool->model->lock);
	return v->changed;
}

static inline void fake_volume_changed(struct volume *v, int aspect)
{
	v->changed = fake_now();
	TELL(v->pool->model, volume_changed, v, aspect);
}

void volume_access_get(struct volume *v, struct machine_access *access)
{
	LOCK_SCOPE(&v->pool->model->lock);
	*access = v->access;
}

int volume_access_set(struct volume *v, const struct machine_access *access, struct err *err)
{
	(void)err;
	LOCK_SCOPE(&v->pool->model->lock);
	v->access = *access;
	fake_volume_changed(v, VOLUME_ACCESS);
	return 0;
}

static inline int fake_volume_grow(struct volume *v, uint64_t size)
{
	char *data = realloc(v->data, size ? size : 1);

	if (!data)
		return -ENOMEM;
	if (size > v->size)
		memset(data + v->size, 0, size - v->size);
	v->data = data;
	v->size = size;
	fake_volume_changed(v, VOLUME_CONTENT);
	fake_volume_changed(v, VOLUME_DEFINITION);
	return 0;
}

int volume_key_show(struct volume *v, const struct config_key *key, struct strbuf *sb)
{
	(void)key;
	LOCK_SCOPE(&v->pool->model->lock);
	strbuf_printf(sb, "%llu", (unsigned long long)v->size);
	return 0;
}

int volume_key_store(struct volume *v, const struct config_key *key, const char *text,
		     const struct caller *caller, struct err *err)
{
	uint64_t size;

	(void)key;
	(void)caller;
	LOCK_SCOPE(&v->pool->model->lock);
	if (size_parse(text, &size) < 0 || size > 64 << 20)
		return err_set(err, -EINVAL, "not a size");
	return fake_volume_grow(v, size);
}

uint64_t volume_allocation(struct volume *v)
{
	(void)v;
	return 0;
}

uint64_t volume_size(struct volume *v)
{
	LOCK_SCOPE(&v->pool->model->lock);
	return v->size;
}

void volume_users_show(struct volume *v, struct strbuf *sb)
{
	if (v->used)
		strbuf_puts(sb, "a disks/root\n");
}

void volume_info_show(struct volume *v, struct strbuf *sb)
{
	(void)v;
	strbuf_puts(sb, "cluster_size 65536\n");
}

void volume_snapshots_show(struct volume *v, struct strbuf *sb)
{
	(void)v;
	(void)sb;
}

int volume_command_run(struct volume *v, const char *line, const struct caller *caller,
		       struct err *err)
{
	(void)v;
	(void)caller;
	return strcmp(line, "check") == 0 ? 0 : err_set(err, -EINVAL, "no such command");
}

void volume_command_list(struct volume *v, struct strbuf *sb)
{
	(void)v;
	strbuf_puts(sb, "# check\n");
}

void volume_command_help(struct strbuf *sb)
{
	strbuf_puts(sb, "check\tlook for damage\n");
}

void volume_error_show(struct volume *v, struct strbuf *sb)
{
	LOCK_SCOPE(&v->pool->model->lock);
	strbuf_puts(sb, v->error);
}

void volume_error_set(struct volume *v, const char *what, const struct err *err)
{
	LOCK_SCOPE(&v->pool->model->lock);
	snprintf(v->error, sizeof(v->error), "%s %s: %s\n", err_name(err->code), what, err->text);
	fake_volume_changed(v, VOLUME_ERROR);
}

/* --- content ---------------------------------------------------------------------------- */

int volume_content_open(struct volume *v, bool write, const struct caller *caller,
			struct content **content, struct err *err)
{
	(void)caller;
	fake_storage_wait();
	LOCK_SCOPE(&v->pool->model->lock);
	if (write && v->used)
		return err_set(err, -EBUSY, "machine a uses it");
	*content = calloc(1, sizeof(**content));
	(*content)->volume = volume_get(v);
	(*content)->write = write;
	*(write ? &v->writers : &v->readers) += 1;
	return 0;
}

int machine_disk_content_open(struct machine *m, const char *disk, bool write,
			      const struct caller *caller, struct content **content,
			      struct err *err)
{
	(void)m;
	(void)disk;
	(void)write;
	(void)caller;
	(void)content;
	return err_set(err, -EBUSY, "not here");
}

uint64_t machine_disk_size(struct machine *m, const char *disk)
{
	(void)m;
	(void)disk;
	return 4096;
}

int content_fd_open(struct content **content, int fd)
{
	*content = calloc(1, sizeof(**content));
	(*content)->fd = fd;
	return 0;
}

uint64_t content_size(struct content *c)
{
	struct stat st;

	if (!c->volume)
		return fstat(c->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	return volume_size(c->volume);
}

ssize_t content_read(struct content *c, void *buf, size_t len, uint64_t offset)
{
	struct volume *v = c->volume;

	if (!v)
		return pread(c->fd, buf, len, (off_t)offset);
	fake_storage_wait();
	LOCK_SCOPE(&v->pool->model->lock);
	if (offset >= v->size)
		return 0;
	if (len > v->size - offset)
		len = v->size - offset;
	memcpy(buf, v->data + offset, len);
	return (ssize_t)len;
}

int content_write(struct content *c, const void *buf, size_t len, uint64_t offset)
{
	struct volume *v = c->volume;

	fake_storage_wait();
	LOCK_SCOPE(&v->pool->model->lock);
	if (v->fails)
		return v->fails;
	if (offset > v->size || len > v->size - offset)
		return -ENOSPC;
	memcpy(v->data + offset, buf, len);
	fake_volume_changed(v, VOLUME_CONTENT);
	return 0;
}

int content_resize(struct content *c, uint64_t size)
{
	struct volume *v = c->volume;

	LOCK_SCOPE(&v->pool->model->lock);
	if (size == 0 && v->size)
		memset(v->data, 0, v->size);
	return size > v->size ? fake_volume_grow(v, size) : 0;
}

int content_zero(struct content *c, uint64_t offset, uint64_t len, bool punch)
{
	struct volume *v = c->volume;

	(void)punch;
	LOCK_SCOPE(&v->pool->model->lock);
	if (offset > v->size || len > v->size - offset)
		return -ENOSPC;
	memset(v->data + offset, 0, len);
	return 0;
}

int content_flush(struct content *c)
{
	struct volume *v = c->volume;

	LOCK_SCOPE(&v->pool->model->lock);
	v->flushes++;
	return v->fails;
}

/* Bytes that are not zero are data. */
int64_t content_seek(struct content *c, int64_t offset, int whence)
{
	struct volume *v = c->volume;
	off_t at;

	if (!v) {
		at = lseek(c->fd, offset, whence);
		return at < 0 ? -errno : at;
	}
	LOCK_SCOPE(&v->pool->model->lock);
	if (offset < 0 || (uint64_t)offset >= v->size)
		return -ENXIO;
	while ((uint64_t)offset < v->size && (v->data[offset] != 0) != (whence == SEEK_DATA))
		offset++;
	return whence == SEEK_DATA && (uint64_t)offset == v->size ? -ENXIO : offset;
}

int content_close(struct content *c)
{
	if (!c)
		return 0;
	if (!c->volume) {
		close(c->fd);
		free(c);
		return 0;
	}
	pthread_mutex_lock(&c->volume->pool->model->lock);
	*(c->write ? &c->volume->writers : &c->volume->readers) -= 1;
	pthread_mutex_unlock(&c->volume->pool->model->lock);
	volume_put(c->volume);
	free(c);
	return 0;
}

#endif
