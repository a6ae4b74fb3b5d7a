// SPDX-License-Identifier: ISC
/* Who has a volume: machines that run with it, commands that change it, contents that are open. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "pool_int.h"
#include "util/cleanup.h"

#define CLOSE_WAIT_MS 2000

/* --- who may ---------------------------------------------------------------------------------- */

static bool in_group(const struct rights *who, gid_t gid)
{
	bool in = who->gid == gid;

	for (size_t i = 0; i < who->n_groups; i++)
		in |= who->groups[i] == gid;
	return in;
}

/* Whether the mode's bits for him include these (4 read, 2 write, 1 search). */
static bool permits(const struct machine_access *a, mode_t mode, const struct rights *who,
		    unsigned bits)
{
	unsigned shift = who->uid == a->uid ? 6 : in_group(who, a->gid) ? 3 : 0;

	return ((mode >> shift) & bits) == bits;
}

int volume_may_use(struct volume *v, const struct rights *who, bool write, struct err *err)
{
	char path[VOLUME_NAME_MAX + 32];
	struct machine_access pool, volume;
	mode_t mode = VOLUME_IMAGE_MODE, dir = 0755;

	/* a daemon of a plain user serves nobody else */
	if (who->uid == 0 || (geteuid() != 0 && who->uid == geteuid()))
		return 0;
	pool_access_get(v->pool, &pool);
	volume_access_get(v, &volume);
	snprintf(path, sizeof(path), "volumes/%s/image", v->meta.name);
	pool_file_mode_get(v->pool, path, &mode);
	pool_file_mode_get(v->pool, "volumes", &dir);
	if (permits(&pool, pool.mode, who, 1) && permits(&pool, dir, who, 1) &&
	    permits(&volume, volume.mode, who, 1) && permits(&volume, mode, who, write ? 6 : 4))
		return 0;
	return err_set(err, -EACCES, "the volume %s may not be %s by uid %u", v->meta.name,
		       write ? "written" : "read", who->uid);
}

/* --- finding -------------------------------------------------------------------------------------
 */

static int split(const char *name, char pool[POOL_NAME_MAX + 1], const char **volume,
		 struct err *err)
{
	const char *slash = strchr(name, '/');

	if (!slash || slash == name || slash - name > POOL_NAME_MAX ||
	    !storage_name_good(slash + 1))
		return err_set(err, -EINVAL, "'%.80s' is not POOL/VOLUME", name);
	snprintf(pool, POOL_NAME_MAX + 1, "%.*s", (int)(slash - name), name);
	*volume = slash + 1;
	return 0;
}

int model_volume_find(struct model *model, const char *name, struct volume **volume,
		      struct err *err)
{
	_cleanup_pool_ struct pool *pool = NULL;
	char pool_part[POOL_NAME_MAX + 1];
	const char *rest;
	int r = split(name, pool_part, &rest, err);

	if (r < 0)
		return r;
	pool = model_pool_get(model, pool_part);
	if (!pool)
		return err_set(err, -ENOENT, "there is no pool %s", pool_part);
	*volume = pool_volume_get(pool, rest);
	if (*volume)
		return 0;
	/* it may have come just now, or the pool was not asked yet */
	if (pool_state(pool) == POOL_FAILED) {
		_cleanup_storage_ struct storage *none = pool_storage(pool, err);

		if (!none)
			return -ENXIO;
	}
	r = pool_refresh(pool, true, NULL, err);
	if (r == 0)
		*volume = pool_volume_get(pool, rest);
	if (*volume)
		return 0;
	return r < 0
		   ? err_prefix(err, "pool %s", pool_part)
		   : err_set(err, -ENOENT, "there is no volume %s in the pool %s", rest, pool_part);
}

/* --- machines
 * -------------------------------------------------------------------------------------- */

const struct volume_use *volume_used(struct volume *v, bool any)
{
	for (const struct volume_use *u = v->pool->uses; u; u = u->next)
		if (strcmp(u->volume, v->meta.name) == 0 && (any || u->write))
			return u;
	return NULL;
}

static int used_by(const struct volume_use *u, struct err *err)
{
	char name[MACHINE_NAME_MAX + 1];

	machine_name(u->m, name);
	return err_set(err, -EBUSY, "machine %s has it (disk %s)", name, u->disk);
}

/* Under pool.lock: whether one more use goes with those there are. */
static int may_begin(struct volume *v, const struct machine *m, const char *disk, bool write,
		     bool share, struct err *err)
{
	if (!v->alive)
		return err_set(err, -ENOENT, "the volume %s is gone", v->meta.name);
	if (v->op)
		return err_set(err, -EBUSY, "%s of the volume %s is under way", v->op,
			       v->meta.name);
	if (!share && volume_await_closed(v, write, err) < 0)
		return err_prefix(err, "the volume %s", v->meta.name);
	if (v->op)
		return err_set(err, -EBUSY, "%s of the volume %s is under way", v->op,
			       v->meta.name);
	if (write && v->entry.readonly)
		return err_set(err, -EROFS, "the volume %s can only be read", v->meta.name);
	if (v->meta.unmade)
		return err_set(err, -EINVAL, "the volume %s has no size yet", v->meta.name);
	for (const struct volume_use *u = v->pool->uses; u; u = u->next) {
		if (strcmp(u->volume, v->meta.name) != 0 || (u->m == m && !strcmp(u->disk, disk)))
			continue;
		if ((u->write || write) && !(u->share && share)) {
			used_by(u, err);
			err_prefix(err, "the volume %s", v->meta.name);
			return -EBUSY;
		}
	}
	return 0;
}

static void add_use(struct pool *pool, struct volume_use *use)
{
	use->next = pool->uses;
	pool->uses = use;
}

static struct volume_use *use_new(const char *volume, struct machine *m, const char *disk,
				  bool write, bool share)
{
	struct volume_use *use = calloc(1, sizeof(*use));

	if (!use)
		return NULL;
	snprintf(use->volume, sizeof(use->volume), "%s", volume);
	snprintf(use->disk, sizeof(use->disk), "%s", disk);
	use->m = machine_get(m);
	use->write = write;
	use->share = share;
	return use;
}

static void use_free(struct volume_use *use)
{
	if (!use)
		return;
	machine_put(use->m);
	free(use);
}

/* Under pool.lock. Takes it out; NULL: none of that machine's disk. */
static struct volume_use *cut_use(struct pool *pool, const struct machine *m, const char *disk)
{
	for (struct volume_use **link = &pool->uses; *link; link = &(*link)->next)
		if ((*link)->m == m && strcmp((*link)->disk, disk) == 0) {
			struct volume_use *use = *link;

			*link = use->next;
			return use;
		}
	return NULL;
}

static void show_use(struct volume *v)
{
	volume_touch(v, VOLUME_USERS);
	volume_touch(v, VOLUME_COMMANDS);
}

int volume_use_begin(struct volume *v, struct machine *m, const char *disk, bool write, bool share,
		     struct err *err)
{
	struct volume_use *use = use_new(v->meta.name, m, disk, write, share), *old = NULL;
	struct pool *pool = v->pool;
	bool settle;
	int r;

	if (!use)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&pool->lock);
	r = may_begin(v, m, disk, write, share, err);
	settle = r == 0 && (v->meta.fresh || !v->meta.decided || pool->unstored);
	if (r == 0) {
		old = cut_use(pool, m, disk);
		add_use(pool, use);
		show_use(v);
	}
	pthread_mutex_unlock(&pool->lock);
	if (r < 0) {
		use_free(use);
		return r;
	}
	use_free(old);
	if (settle && (r = volume_settle(v, err)) < 0)
		volume_use_end(pool->model, m, disk);
	return r;
}

/* From now on what it holds counts: its format is what it is. */
int volume_settle(struct volume *v, struct err *err)
{
	bool fresh, decided, stored;
	int r;

	LOCK_SCOPE(&v->pool->edit);
	pthread_mutex_lock(&v->pool->lock);
	fresh = v->meta.fresh;
	decided = v->meta.decided;
	stored = !v->pool->unstored;
	v->meta.fresh = false;
	v->meta.decided = true;
	if (fresh) {
		/* what it was set to be over is what it is over now */
		char *named = strdup(v->meta.wanted.backing);

		if (named) {
			free(v->meta.named);
			v->meta.named = named;
		}
	}
	pthread_mutex_unlock(&v->pool->lock);
	if (!fresh && decided && stored)
		return 0;
	r = pool_store_volumes(v->pool, err);
	LOCK_SCOPE(&v->pool->lock);
	if (r < 0) {
		v->meta.fresh = fresh;
		v->meta.decided = decided;
		return r;
	}
	volume_touch(v, VOLUME_DEFINITION);
	volume_touch(v, VOLUME_COMMANDS);
	return 0;
}

void volume_use_recover(struct model *model, const char *name, struct machine *m, const char *disk,
			bool write, bool share)
{
	_cleanup_pool_ struct pool *pool = NULL;
	char pool_part[POOL_NAME_MAX + 1];
	struct volume_use *use, *old;
	struct volume *v;
	const char *rest;

	if (split(name, pool_part, &rest, NULL) < 0 || !(pool = model_pool_get(model, pool_part)))
		return;
	use = use_new(rest, m, disk, write, share);
	if (!use)
		return;
	pthread_mutex_lock(&pool->lock);
	old = cut_use(pool, m, disk);
	add_use(pool, use);
	v = pool_find_volume(pool, rest);
	if (v)
		show_use(v);
	pthread_mutex_unlock(&pool->lock);
	use_free(old);
}

void volume_use_end(struct model *model, struct machine *m, const char *disk)
{
	uint64_t cursor = 0;
	struct pool *next;

	while (model->pools && (next = model_pool_next(model, &cursor))) {
		_cleanup_pool_ struct pool *pool = next;
		struct volume_use *use;
		struct volume *v;

		pthread_mutex_lock(&pool->lock);
		use = cut_use(pool, m, disk);
		v = use ? pool_find_volume(pool, use->volume) : NULL;
		if (v)
			show_use(v);
		pthread_mutex_unlock(&pool->lock);
		if (!use)
			continue;
		use_free(use);
		pool_refresh(pool, false, NULL, NULL); /* it grew, perhaps */
	}
}

void volume_look_again(struct volume *v)
{
	pthread_mutex_lock(&v->pool->lock);
	volume_touch(v, VOLUME_CONTENT);
	pthread_mutex_unlock(&v->pool->lock);
	pool_refresh(v->pool, false, NULL, NULL);
}

void volume_users_show(struct volume *v, struct strbuf *sb)
{
	LOCK_SCOPE(&v->pool->lock);
	for (const struct volume_use *u = v->pool->uses; u; u = u->next) {
		char name[MACHINE_NAME_MAX + 1];

		if (strcmp(u->volume, v->meta.name) != 0)
			continue;
		machine_name(u->m, name);
		strbuf_printf(sb, "%s disks/%s\n", name, u->disk);
	}
}

/* --- commands
 * ----------------------------------------------------------------------------------------- */

int volume_await_closed(struct volume *v, bool all, struct err *err)
{
	struct timespec deadline = deadline_in_ms(CLOSE_WAIT_MS);
	int r = 0;

	while (r == 0 && (v->writer || (all && v->n_readers)))
		r = pthread_cond_timedwait(&v->pool->cond, &v->pool->lock, &deadline);
	if (v->writer || (all && v->n_readers))
		return err_set(err, -EBUSY, "its image is open for %s",
			       v->writer ? "writing" : "reading");
	return v->alive ? 0 : err_set(err, -ENOENT, "the volume is gone");
}

int volume_claim(struct volume *v, const char *op, struct err *err)
{
	const struct volume_use *use;
	/* to copy it is to read it */
	int r = strcmp(op, "copy") == 0 ? 0 : layers_refuse_volume(v, err);

	if (r < 0)
		return r;
	LOCK_SCOPE(&v->pool->lock);
	if (!v->alive)
		return err_set(err, -ENOENT, "the volume is gone");
	if (v->op)
		return err_set(err, -EBUSY, "another command: %s is under way", v->op);
	use = volume_used(v, true);
	if (use)
		return used_by(use, err);
	r = volume_await_closed(v, true, err);
	if (r < 0)
		return r;
	use = volume_used(v, true);
	if (use)
		return used_by(use, err);
	if (v->op)
		return err_set(err, -EBUSY, "another command: %s is under way", v->op);
	v->op = op;
	return 0;
}

void volume_unclaim(struct volume *v)
{
	LOCK_SCOPE(&v->pool->lock);
	v->op = NULL;
	v->pool->changes++;
	pthread_cond_broadcast(&v->pool->cond);
}
