// SPDX-License-Identifier: ISC
/*
 * What a volume may be over: another volume, which the caller may read, or a file that he may
 * open. Its format is found here once, and then stands in the header of what is over it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"
#include "util/cleanup.h"

void backing_free(struct volume_backing *b)
{
	volume_put(b->volume);
	free(b->name);
	free(b->path);
	free(b->named);
	memset(b, 0, sizeof(*b));
}

static int look_at_path(const char *path, const struct rights *rights, struct cancel *cancel,
			struct volume_backing *b, struct err *err)
{
	_cleanup_close_ int fd = path_open_waiting(rights, path, false, cancel, err);
	struct qcow2_header_info h = {0};
	struct block_info info;
	struct block *file;
	int r, copy;

	if (fd < 0)
		return fd;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = copy < 0 ? -errno : block_file_open(&file, copy, BLOCK_OPEN_READONLY, err);
	if (r < 0)
		return r;
	block_info_get(file, &info);
	b->format = look_probe(fd);
	b->bytes = info.bytes;
	if (b->format == IMAGE_QCOW2) {
		r = qcow2_header_info(file, &h, err);
		b->bytes = h.bytes;
		qcow2_header_info_free(&h);
	}
	block_close(file);
	return r;
}

static int backing_path(const char *text, const struct rights *rights, struct cancel *cancel,
			struct volume_backing *b, struct err *err)
{
	b->name = strdup(text);
	b->path = strdup(text);
	b->named = strdup(text);
	if (!b->name || !b->path || !b->named)
		return err_set(err, -ENOMEM, "out of memory");
	return look_at_path(text, rights, cancel, b, err);
}

static int backing_volume(struct volume *v, const char *text, const struct rights *rights,
			  struct volume_backing *b, struct err *err)
{
	char full[POOL_NAME_MAX + VOLUME_NAME_MAX + 2], pool[POOL_NAME_MAX + 1];
	int r;

	pool_name(v->pool, pool);
	if (!strchr(text, '/') && strlen(text) <= VOLUME_NAME_MAX)
		snprintf(full, sizeof(full), "%s/%.127s", pool, text);
	else
		snprintf(full, sizeof(full), "%.191s", text);
	r = model_volume_find(v->pool->model, full, &b->volume, err);
	if (r < 0)
		return r;
	if (b->volume == v)
		return err_set(err, -ELOOP, "it would be over itself");
	r = volume_may_use(b->volume, rights, false, err);
	if (r < 0)
		return r;
	b->path = volume_path(b->volume);
	if (!b->path)
		return err_set(err, -EOPNOTSUPP, "%s is no file that an image can be over", full);
	pthread_mutex_lock(&b->volume->pool->lock);
	b->format = b->volume->meta.format;
	b->bytes = b->volume->values.size;
	if (b->volume->look.trouble)
		r = err_set(err, -EINVAL, "%s: %s", full, b->volume->look.trouble);
	pthread_mutex_unlock(&b->volume->pool->lock);
	if (b->volume->pool == v->pool) {
		b->name = strdup(b->volume->meta.name);
		b->named = strdup(b->volume->meta.name);
	} else {
		b->name = strdup(b->path);
		b->named = strdup(full);
	}
	return r == 0 && (!b->name || !b->named) ? err_set(err, -ENOMEM, "out of memory") : r;
}

int backing_find(struct volume *v, const char *text, const struct caller *caller,
		 struct volume_backing *b, struct err *err)
{
	struct rights rights = {caller->uid, caller->gid, caller->groups, caller->n_groups};
	int r;

	memset(b, 0, sizeof(*b));
	r = *text == '/' ? backing_path(text, &rights, caller->cancel, b, err)
			 : backing_volume(v, text, &rights, b, err);
	if (r < 0)
		backing_free(b);
	return r;
}
