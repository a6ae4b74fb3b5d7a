// SPDX-License-Identifier: ISC
/*
 * What of a pool is on disk:
 *
 *   STATE/pools/NAME/access   id, owner, modes: always there
 *                    config   type and source, as libconfig text; absent: none
 *                    volumes  what is known of its volumes besides their content: pool_meta.c
 *
 * It appears and goes by one rename(2), as a machine does: see store.c.
 */
#define LOG_MODULE "store"
#include <errno.h>
#include <fcntl.h>
#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool_int.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define HIDDEN_MAX  64
#define VOLUMES_MAX (32u << 20) /* bytes of `volumes` */

int pools_store_open(struct pools *pools, struct err *err)
{
	int state = pools->model->state_fd;

	if (mkdirat(state, "pools", 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s/pools: %m", pools->model->state_dir);
	pools->dir = openat(state, "pools", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (pools->dir < 0)
		return err_set(err, -errno, "%s/pools: %m", pools->model->state_dir);
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static int refused(struct err *err, int code, const char *what)
{
	if (code == -EDQUOT)
		code = -ENOSPC;
	return err_set(err, code, "cannot write %s: %s", what, strerror(-code));
}

/* Under pool.edit, which keeps the name. */
static int open_dir(struct pool *pool)
{
	int fd = openat(pool->model->pools->dir, pool->name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int replace(struct pool *pool, const char *file, struct strbuf *sb, struct err *err)
{
	_cleanup_close_ int dir = open_dir(pool);
	int r = dir < 0 ? dir : sb->failed ? -ENOMEM : 0;

	if (pool->damaged)
		return err_set(err, -EROFS, "what is known of the pool is damaged: see `error`");
	if (r == 0)
		r = file_replace(dir, file, sb->data ? sb->data : "", sb->len, 0600);
	return r < 0 ? refused(err, r, file) : 0;
}

/* As libconfig reads strings. */
static void add_string(struct strbuf *sb, const char *key, const char *value)
{
	strbuf_printf(sb, "%s = \"", key);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			strbuf_putc(sb, '\\');
		strbuf_putc(sb, *value);
	}
	strbuf_puts(sb, "\";\n");
}

int pool_store_config(struct pool *pool, const struct storage_type *type, const char *source,
		      struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	add_string(&sb, "type", type->name);
	add_string(&sb, "source", source);
	return replace(pool, "config", &sb, err);
}

int pool_store_access(struct pool *pool, const struct machine_access *access,
		      const struct file_mode *modes, size_t n_modes, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	access_format(pool->id, access, modes, n_modes, &sb);
	return replace(pool, "access", &sb, err);
}

int pool_store_volumes(struct pool *pool, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r;

	pthread_mutex_lock(&pool->lock);
	pool->unstored = false;
	for (size_t i = 0; i < pool->n_volumes; i++)
		meta_format(&pool->by_name[i]->meta, &sb);
	for (size_t i = 0; i < pool->n_absent; i++)
		meta_format(&pool->absent[i], &sb);
	pthread_mutex_unlock(&pool->lock);
	r = replace(pool, "volumes", &sb, err);
	if (r < 0) {
		LOCK_SCOPE(&pool->lock);
		pool->unstored = true;
	}
	return r;
}

/* --- come, go, change its name ------------------------------------------------------------------
 */

static void hidden_name(char name[HIDDEN_MAX], const char *kind, const struct pool *pool)
{
	snprintf(name, HIDDEN_MAX, ".%s-%s", kind, pool->id);
}

static void remove_dir(int parent, const char *name)
{
	static const char *const files[] = {"access",	   "config",	  "volumes",
					    ".access.new", ".config.new", ".volumes.new"};
	_cleanup_close_ int dir =
	    openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	for (size_t i = 0; dir >= 0 && i < nitems(files); i++)
		unlinkat(dir, files[i], 0);
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_warn("cannot remove pools/%s: %m", name);
}

static int prepare(struct pool *pool, const char *hidden)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	_cleanup_close_ int dir = -1;
	int parent = pool->model->pools->dir;

	access_format(pool->id, &pool->access, NULL, 0, &sb);
	if (sb.failed)
		return -ENOMEM;
	if (mkdirat(parent, hidden, 0700) < 0)
		return -errno;
	dir = openat(parent, hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -errno : file_replace(dir, "access", sb.data, sb.len, 0600);
}

int pool_store_define(struct pool *pool, struct err *err)
{
	int parent = pool->model->pools->dir, r;
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "new", pool);
	r = prepare(pool, hidden);
	if (r == 0 && renameat2(parent, hidden, parent, pool->name, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r == 0) {
		r = file_sync_dir(parent);
		if (r < 0 && renameat(parent, pool->name, parent, hidden) < 0)
			log_error("cannot take back %s: %m", pool->name);
	}
	if (r < 0) {
		remove_dir(parent, hidden);
		return refused(err, r, pool->name);
	}
	return 0;
}

int pool_store_undefine(struct pool *pool, struct err *err)
{
	int parent = pool->model->pools->dir, r;
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "trash", pool);
	if (renameat(parent, pool->name, parent, hidden) < 0)
		return err_set(err, -errno, "cannot remove %s: %m", pool->name);
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, hidden, parent, pool->name) == 0)
		return err_set(err, r, "cannot remove %s: %s", pool->name, strerror(-r));
	return 0;
}

void pool_store_sweep(struct pool *pool)
{
	char hidden[HIDDEN_MAX];

	hidden_name(hidden, "trash", pool);
	remove_dir(pool->model->pools->dir, hidden);
}

int pool_store_rename(struct pool *pool, const char *new_name, struct err *err)
{
	int parent = pool->model->pools->dir, r;

	if (renameat2(parent, pool->name, parent, new_name, RENAME_NOREPLACE) < 0)
		return err_set(err, -errno, "cannot rename %s: %m", pool->name);
	r = file_sync_dir(parent);
	if (r < 0 && renameat(parent, new_name, parent, pool->name) == 0)
		return err_set(err, r, "cannot rename %s: %s", pool->name, strerror(-r));
	return 0;
}

/* --- loading
 * --------------------------------------------------------------------------------------
 */

static int take_config(struct pool *pool, const config_t *config, struct err *err)
{
	const char *type = "", *source = "";

	config_lookup_string(config, "type", &type);
	config_lookup_string(config, "source", &source);
	for (size_t i = 0; i < n_storage_types; i++)
		if (strcmp(storage_types[i]->name, type) == 0) {
			free(pool->source);
			pool->type = storage_types[i];
			pool->source = strdup(source);
			return pool->source ? 0 : -ENOMEM;
		}
	return err_set(err, -EINVAL, "the definition is damaged: '%.40s' is no type of pool", type);
}

static int load_config(struct pool *pool, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	config_t config;
	int r = file_read(dir, "config", 65536, &text, NULL);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_set(err, r, "the definition is damaged: %s", strerror(-r));
	config_init(&config);
	if (config_read_string(&config, text) == CONFIG_TRUE)
		r = take_config(pool, &config, err);
	else
		r = err_set(err, -EINVAL, "the definition is damaged: line %d: %s",
			    config_error_line(&config), config_error_text(&config));
	config_destroy(&config);
	return r;
}

static int add_absent(struct pool *pool, struct volume_meta *meta)
{
	struct volume_meta *more = realloc(pool->absent, (pool->n_absent + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	pool->absent = more;
	more[pool->n_absent++] = *meta;
	return 0;
}

/* Volumes are shown when their storage has been asked; what is known of them waits. */
static int load_volumes(struct pool *pool, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	char *next;
	int r = file_read(dir, "volumes", VOLUMES_MAX, &text, NULL);

	if (r == -ENOENT)
		return 0;
	for (char *line = text; r == 0 && *line; line = next) {
		struct volume_meta meta;

		next = strchr(line, '\n');
		if (!next) {
			r = -EINVAL;
			break;
		}
		*next++ = '\0';
		r = meta_parse(line, &meta);
		if (r == 0)
			r = add_absent(pool, &meta);
		if (r < 0)
			meta_free(&meta);
	}
	return r < 0 ? err_set(err, r, "what is known of its volumes is damaged: %s", strerror(-r))
		     : 0;
}

static int load_access(struct pool *pool, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	struct access_file file = {0};
	int r = file_read(dir, "access", VOLUMES_MAX, &text, NULL);

	if (r == 0)
		r = access_parse(text, &file);
	if (r < 0) {
		access_free(&file);
		pool->access = (struct machine_access){geteuid(), getegid(), 0700};
		return err_set(err, r, "who may do what is damaged: %s", strerror(-r));
	}
	strcpy(pool->id, file.id);
	pool->access = file.access;
	pool->modes = file.modes;
	pool->n_modes = file.n_modes;
	return 0;
}

static int load_pool(struct pools *pools, const char *name)
{
	_cleanup_close_ int dir =
	    openat(pools->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_pool_ struct pool *pool = NULL;
	struct err err = ERR_INIT;
	char id[ID_TEXT];
	struct stat st;
	int r;

	if (dir < 0 || fstat(dir, &st) < 0)
		return -errno;
	model_make_id(id);
	pool = pool_new(pools->model, name, id);
	if (!pool)
		return -ENOMEM;
	r = load_access(pool, dir, &err);
	if (r == 0)
		r = load_config(pool, dir, &err);
	if (r == 0)
		r = load_volumes(pool, dir, &err);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		log_error("pool %s: %s", name, err.text);
		outcome_set(&pool->error, "load", &err, false);
		pool->damaged = true;
		pool_set_state(pool, POOL_FAILED, pool->error.text);
	}
	for (size_t i = 0; i < POOL_ASPECT_MAX; i++)
		pool->changed[i] = st.st_mtim;
	return pools_insert(pools, pool);
}

int pools_store_load(struct pools *pools, struct err *err)
{
	struct dirent **entries;
	int n = scandirat(pools->dir, ".", &entries, NULL, alphasort), r = 0;

	if (n < 0)
		return err_set(err, -errno, "%s/pools: %m", pools->model->state_dir);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		int one = 0;

		if (strncmp(name, ".new-", 5) == 0 || strncmp(name, ".trash-", 7) == 0)
			remove_dir(pools->dir, name);
		else if (*name != '.')
			one = machine_name_check(name, NULL) < 0 ? -EINVAL : load_pool(pools, name);
		if (one == -ENOMEM)
			r = one;
		else if (one < 0)
			log_error("pool %s cannot be loaded: %s", name, strerror(-one));
		free(entries[i]);
	}
	free(entries);
	return r < 0 ? err_set(err, r, "%s/pools: out of memory", pools->model->state_dir) : 0;
}
