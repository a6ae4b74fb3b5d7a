// SPDX-License-Identifier: ISC
/*
 * Opening a volume and what is below it. Headers are hostile: a name in one is followed only
 * where the owner of the volume that names it could have put the file (its own pool), or where
 * somebody who may read the file has said so by setting `backing`, with his rights.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"

char *volume_path(struct volume *v)
{
	_cleanup_storage_ struct storage *s = pool_storage(v->pool, NULL);

	return s && s->type->path ? s->type->path(s, v->meta.name) : NULL;
}

/* --- what may be opened ---------------------------------------------------------------------- */

static void allowed_free(struct allowed_file *f)
{
	free(f->path);
	volume_put(f->volume);
	free((gid_t *)f->rights.groups);
	memset(f, 0, sizeof(*f));
}

void volume_opener_free(struct volume_opener *o)
{
	for (unsigned i = 0; i < o->n; i++)
		allowed_free(&o->files[i]);
	allowed_free(&o->extra);
	o->n = 0;
}

static struct allowed_file *add(struct volume_opener *o, const char *path, struct volume *v,
				const struct rights *rights)
{
	struct allowed_file *f = &o->files[o->n];
	gid_t *groups = NULL;

	if (o->n == nitems(o->files))
		return NULL;
	*f = (struct allowed_file){.path = strdup(path), .volume = v ? volume_get(v) : NULL};
	if (rights) {
		groups = calloc(rights->n_groups + 1, sizeof(*groups));
		if (groups && rights->n_groups)
			memcpy(groups, rights->groups, rights->n_groups * sizeof(*groups));
		f->rights = (struct rights){rights->uid, rights->gid, groups, rights->n_groups};
	}
	if (!f->path || (rights && !groups)) {
		allowed_free(f);
		return NULL;
	}
	o->n++;
	return f;
}

/* Both in the same directory? */
static bool same_dir(const char *a, const char *b)
{
	const char *x = strrchr(a, '/'), *y = strrchr(b, '/');

	return x && y && x - a == y - b && strncmp(a, b, (size_t)(x - a)) == 0;
}

/* In the pool of @from, a volume of the name that the path ends in. */
static struct allowed_file *find_sibling(struct volume_opener *o, struct volume *from,
					 const char *path)
{
	_cleanup_free_ char *own = volume_path(from);
	_cleanup_volume_ struct volume *sibling = NULL;
	const char *name = strrchr(path, '/');

	if (!own || !name || !same_dir(own, path) || !storage_name_good(name + 1))
		return NULL;
	sibling = pool_volume_get(from->pool, name + 1);
	return sibling ? add(o, path, sibling, NULL) : NULL;
}

/* What the volume's `backing` was set to. */
static struct allowed_file *find_named(struct volume_opener *o, struct volume *from,
				       const char *path)
{
	_cleanup_free_ char *named = NULL, *there = NULL;
	_cleanup_free_ gid_t *groups = NULL;
	_cleanup_volume_ struct volume *v = NULL;
	struct rights rights = {0};

	pthread_mutex_lock(&from->pool->lock);
	named = strdup(from->meta.named);
	rights.uid = from->meta.named_uid;
	rights.gid = from->meta.named_gid;
	pthread_mutex_unlock(&from->pool->lock);
	if (!named || !*named)
		return NULL;
	if (rights_groups(rights.uid, rights.gid, &groups, &rights.n_groups) < 0)
		return NULL;
	rights.groups = groups;
	if (*named == '/')
		return strcmp(named, path) == 0 ? add(o, path, NULL, &rights) : NULL;
	if (model_volume_find(o->model, named, &v, NULL) < 0)
		return NULL;
	there = volume_path(v);
	if (!there || strcmp(there, path) != 0 || volume_may_use(v, &rights, false, NULL) < 0)
		return NULL;
	return add(o, path, v, NULL);
}

static struct allowed_file *find_allowed(struct volume_opener *o, const char *path)
{
	struct allowed_file *last = &o->files[o->last], *f = NULL;

	for (unsigned i = 0; i < o->n; i++)
		if (strcmp(o->files[i].path, path) == 0)
			return &o->files[i];
	if (o->extra.path && strcmp(o->extra.path, path) == 0)
		return add(o, path, o->extra.volume, o->extra.volume ? NULL : &o->extra.rights);
	if (last->volume) {
		f = find_sibling(o, last->volume, path);
		return f ? f : find_named(o, last->volume, path);
	}
	return same_dir(last->path, path) ? add(o, path, NULL, &last->rights) : NULL;
}

static int open_allowed(void *arg, const char *path, bool write, struct err *err)
{
	struct volume_opener *o = arg;
	struct allowed_file *f = find_allowed(o, path);
	_cleanup_storage_ struct storage *s = NULL;

	if (!f)
		return err_set(
		    err, -EACCES,
		    "the image is over %s, which is not in its pool: echo that > backing, "
		    "if it is meant",
		    path);
	o->last = (unsigned)(f - o->files);
	if (write && o->last != 0 && (!f->volume || f->volume != o->writable))
		return err_set(err, -EACCES, "%s may not be written here", path);
	if (!f->volume)
		return path_open_waiting(&f->rights, path, write, o->cancel, err);
	s = pool_storage(f->volume->pool, err);
	if (!s)
		return -ENXIO;
	return storage_open_waiting(s, f->volume->meta.name, write, o->cancel, err);
}

int volume_opener_init(struct volume_opener *o, struct volume *v, struct cancel *cancel,
		       struct err *err)
{
	_cleanup_free_ char *path = volume_path(v);

	memset(o, 0, sizeof(*o));
	o->opener = (struct image_opener){open_allowed, o};
	o->model = v->pool->model;
	o->cancel = cancel;
	if (!path)
		return err_set(err, -EOPNOTSUPP, "the volume %s is no file", v->meta.name);
	return add(o, path, v, NULL) ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* --- a chain for a machine, or for its content ---------------------------------------------------
 */

static int attach(struct volume *v, struct storage *s, bool write, struct cancel *cancel,
		  struct volume_chain *chain, struct err *err)
{
	return storage_attach_waiting(s, v->meta.name, write, cancel, &chain->link, err);
}

static int open_images(struct volume *v, bool write, bool share, struct cancel *cancel,
		       struct volume_chain *chain, struct err *err)
{
	struct volume_opener o;
	enum image_format format;
	int r;

	pthread_mutex_lock(&v->pool->lock);
	format = v->meta.format;
	pthread_mutex_unlock(&v->pool->lock);
	r = volume_opener_init(&o, v, cancel, err);
	if (r == 0)
		r = image_chain_find(&chain->images, o.files[0].path, format,
				     write ? 0 : IMAGE_READONLY, &o.opener, err);
	volume_opener_free(&o);
	if (r == 0)
		r = image_chain_lock(&chain->images, write, share, err);
	return r;
}

int volume_chain_open(struct volume *v, bool write, bool share, struct cancel *cancel,
		      struct volume_chain *chain, struct err *err)
{
	_cleanup_storage_ struct storage *s = pool_storage(v->pool, err);
	bool unmade, readonly;
	int r;

	memset(chain, 0, sizeof(*chain));
	chain->link.fd = -1;
	if (!s)
		return -ENXIO;
	pthread_mutex_lock(&v->pool->lock);
	unmade = v->meta.unmade;
	readonly = v->entry.readonly;
	pthread_mutex_unlock(&v->pool->lock);
	if (unmade)
		return err_set(err, -EINVAL, "the volume %s has no size yet", v->meta.name);
	if (write && readonly)
		return err_set(err, -EROFS, "the volume %s can only be read", v->meta.name);
	r = s->type->attach ? attach(v, s, write, cancel, chain, err)
			    : open_images(v, write, share, cancel, chain, err);
	if (r < 0)
		volume_chain_close(chain);
	return r;
}

void volume_chain_close(struct volume_chain *chain)
{
	image_chain_close(&chain->images);
	if (chain->link.fd >= 0)
		close(take_fd(&chain->link.fd));
}
