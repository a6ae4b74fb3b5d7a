// SPDX-License-Identifier: ISC
/*
 * Making the image of a new volume: a file is made beside its place and then takes it, so that
 * there is the old one or the new one and never half of one; a device is made once it has a size.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pool_int.h"
#include "util/cleanup.h"

/* Looks at the file as it is now. */
static void entry_of(int fd, struct volume *v, struct storage_entry *e)
{
	struct statx x;

	pthread_mutex_lock(&v->pool->lock);
	*e = v->entry;
	pthread_mutex_unlock(&v->pool->lock);
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &x) < 0)
		return;
	storage_entry_of_file(e, &x);
}

int volume_look_now(struct volume *v, struct cancel *cancel, struct err *err)
{
	_cleanup_storage_ struct storage *s = pool_storage(v->pool, err);
	struct volume_look look = {0};
	_cleanup_close_ int fd = -1;
	struct storage_entry entry;
	enum image_format format;

	if (!s)
		return -ENXIO;
	if (!s->type->rename)
		return pool_refresh(v->pool, true, cancel, err);
	fd = storage_open_waiting(s, v->meta.name, false, cancel, err);
	if (fd < 0)
		return fd;
	entry_of(fd, v, &entry);
	pthread_mutex_lock(&v->pool->lock);
	format = v->meta.format;
	pthread_mutex_unlock(&v->pool->lock);
	look_into(fd, s, v->meta.name, format, entry.bytes, &look);
	pthread_mutex_lock(&v->pool->lock);
	v->pool->changes++;
	volume_seen(v, &entry, &look);
	pthread_mutex_unlock(&v->pool->lock);
	look_free(&look);
	return 0;
}

/* The new image is in its place: what is known follows. @fd: its file, or -1. */
int volume_settle_new(struct volume *v, const struct volume_values *values,
		      const struct caller *named_by, int fd, struct err *err)
{
	struct volume_values copy = {0};
	struct storage_entry e = {0};
	char *named = strdup(values->backing);

	if (!named || volume_values_copy(&copy, values) < 0) {
		free(named);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (fd >= 0)
		entry_of(fd, v, &e);
	LOCK_SCOPE(&v->pool->edit);
	pthread_mutex_lock(&v->pool->lock);
	volume_values_free(&v->meta.wanted);
	v->meta.wanted = copy;
	v->meta.format = (enum image_format)values->format;
	v->meta.decided = true;
	v->meta.next_id = 0;
	if (fd >= 0) {
		v->meta.id = e.id;
		v->meta.born_ns = e.born_ns;
		v->meta.unmade = false;
	}
	free(v->meta.named);
	v->meta.named = named;
	if (named_by) {
		v->meta.named_uid = named_by->uid;
		v->meta.named_gid = named_by->gid;
	}
	v->pool->changes++;
	pthread_mutex_unlock(&v->pool->lock);
	return pool_store_volumes(v->pool, err);
}

int volume_announce(struct volume *v, int fd, enum image_format format, struct err *err)
{
	struct storage_entry e = {0};

	entry_of(fd, v, &e);
	LOCK_SCOPE(&v->pool->edit);
	pthread_mutex_lock(&v->pool->lock);
	v->meta.next_id = e.id;
	v->meta.next_born_ns = e.born_ns;
	v->meta.next_format = format;
	pthread_mutex_unlock(&v->pool->lock);
	return pool_store_volumes(v->pool, err);
}

/* A new file in the place of the old one, if there was one. */
static int make_file(struct volume *v, struct storage *s, const struct volume_values *values,
		     const struct volume_backing *backing, struct cancel *cancel, int *out,
		     struct err *err)
{
	char hidden[STORAGE_NAME_MAX + 64];
	struct image_create create;
	_cleanup_close_ int fd = -1;
	bool replace;
	int r, copy;

	pthread_mutex_lock(&v->pool->lock);
	replace = v->meta.id != 0;
	pthread_mutex_unlock(&v->pool->lock);
	fd = storage_create_waiting(s, v->meta.name, 0, cancel, hidden, err);
	if (fd < 0)
		return fd;
	values_to_create(values, &create);
	if (backing) {
		create.backing = backing->name;
		create.backing_format = backing->format;
	}
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = copy < 0 ? err_set(err, -errno, "cannot duplicate a descriptor")
		     : image_create(copy, &create, err);
	if (r == 0 && cancel_requested(cancel))
		r = err_set(err, -ECANCELED, "ended before it was made");
	if (r == 0)
		r = storage_rename_waiting(s, hidden, v->meta.name, replace, cancel, err);
	if (r < 0)
		storage_remove_waiting(s, hidden, NULL, NULL);
	else
		*out = take_fd(&fd);
	return r;
}

/* A device: made when it has a size, then resized. */
static int make_device(struct volume *v, struct storage *s, const struct volume_values *values,
		       struct cancel *cancel, struct err *err)
{
	char hidden[STORAGE_NAME_MAX + 64];
	bool unmade;
	int r;

	if (values->format != IMAGE_RAW || *values->backing)
		return err_set(err, -EOPNOTSUPP, "volumes of a pool of type %s are raw",
			       s->type->name);
	pthread_mutex_lock(&v->pool->lock);
	unmade = v->meta.unmade;
	pthread_mutex_unlock(&v->pool->lock);
	if (!values->size)
		return unmade ? 0 : err_set(err, -EINVAL, "it has a size already");
	r = unmade ? storage_create_waiting(s, v->meta.name, values->size, cancel, hidden, err)
		   : storage_resize_waiting(s, v->meta.name, values->size, cancel, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&v->pool->lock);
	v->meta.unmade = false;
	return 0;
}

int volume_make_anew(struct volume *v, struct volume_values *values,
		     const struct volume_backing *backing, const struct caller *named_by,
		     struct cancel *cancel, struct err *err)
{
	_cleanup_storage_ struct storage *s = pool_storage(v->pool, err);
	_cleanup_close_ int fd = -1;
	int r;

	if (!s)
		return -ENXIO;
	r = s->type->rename ? make_file(v, s, values, backing, cancel, &fd, err)
			    : make_device(v, s, values, cancel, err);
	if (r == 0)
		r = volume_settle_new(v, values, named_by, fd, err);
	if (r == 0)
		r = volume_look_now(v, cancel, err);
	return r;
}
