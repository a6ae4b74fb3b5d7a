// SPDX-License-Identifier: ISC
/*
 * Many new layers at once. Those over the same chain are alike to the last byte: one is made in
 * memory, and they are copies of what it holds; all reach stable storage with one syncfs(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer_batch.h"
#include "layer_int.h"
#include "util/cleanup.h"
#include "util/file.h"

#define IMAGE_MAX (64u << 20) /* an empty image */

/* What an empty layer over a chain holds. */
struct layer_model {
	struct layer_model *next;
	char over[ID_TEXT]; /* top of the chain; "": none, then: */
	char *source;
	uint64_t format, bytes;
	char *data;
	size_t len;
};

void layer_batch_begin(struct layer_batch *batch, struct model *model)
{
	*batch = (struct layer_batch){.model = model};
}

void layer_batch_end(struct layer_batch *batch)
{
	while (batch->models) {
		struct layer_model *one = batch->models;

		batch->models = one->next;
		free(one->source);
		free(one->data);
		free(one);
	}
}

static const char *top_of(const struct disk_layers *below)
{
	return below->chain.n ? below->chain.ids[0] : "";
}

static const struct layer_model *find(const struct layer_batch *batch,
				      const struct disk_layers *below)
{
	const struct layer_model *one = batch->models;

	while (one && (one->bytes != below->bytes || strcmp(one->over, top_of(below)) != 0 ||
		       one->format != below->format || strcmp(one->source, below->source) != 0))
		one = one->next;
	return one;
}

/* In memory: nothing waits for a disk before all are there. */
static int make_model(struct layer_batch *batch, const struct disk_layers *below, struct err *err)
{
	_cleanup_close_ int fd = memfd_create("layer", MFD_CLOEXEC);
	struct layer_model *one;
	struct stat st;
	int r;

	if (fd < 0)
		return err_set(err, -errno, "cannot make a layer: %m");
	r = layer_write_over(batch->model, below, below->bytes, fd, err);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > IMAGE_MAX)
		return err_set(err, -EFBIG, "an empty layer is too large");
	one = calloc(1, sizeof(*one));
	if (!one)
		return err_set(err, -ENOMEM, "out of memory");
	one->next = batch->models;
	batch->models = one;
	strcpy(one->over, top_of(below));
	one->format = below->format;
	one->bytes = below->bytes;
	one->len = (size_t)st.st_size;
	one->source = strdup(below->source);
	one->data = malloc(one->len);
	if (!one->source || !one->data)
		return err_set(err, -ENOMEM, "out of memory");
	r = file_pread_all(fd, one->data, one->len, 0);
	return r < 0 ? err_set(err, r, "cannot make a layer: %s", strerror(-r)) : 0;
}

static bool is_zero(const char *p, size_t len)
{
	return !*p && memcmp(p, p + 1, len - 1) == 0;
}

/* Holes stay holes. */
static int write_copy(const struct layer_model *one, int fd)
{
	int r = ftruncate(fd, (off_t)one->len) < 0 ? -errno : 0;

	for (size_t at = 0, part; r == 0 && at < one->len; at += part) {
		part = one->len - at < 4096 ? one->len - at : 4096;
		if (!is_zero(one->data + at, part))
			r = file_pwrite_all(fd, one->data + at, part, (off_t)at);
	}
	return r;
}

/* The file, and the directory that has its name: once is enough, as all are there by then. */
static int add_written(struct layer_batch *batch, struct sync_list *written, int *fd, bool first)
{
	int dir, r = sync_list_add(written, take_fd(fd));

	if (r < 0 || !first)
		return r;
	dir = fcntl(batch->model->layers->dir, F_DUPFD_CLOEXEC, 3);
	return dir < 0 ? -errno : sync_list_add(written, dir);
}

int layer_batch_put_over(struct layer_batch *batch, struct disk_layers *disk,
			 struct sync_list *written, char id[ID_TEXT], struct err *err)
{
	bool first = !batch->models;
	const struct layer_model *one = find(batch, disk);
	_cleanup_close_ int fd = -1;
	int r = one ? 0 : make_model(batch, disk, err);

	if (r == 0)
		r = layer_make(batch->model, LAYER_DISK, id, &fd, err);
	if (r < 0)
		return r;
	r = write_copy(one ? one : batch->models, fd);
	if (r == 0 && written)
		r = add_written(batch, written, &fd, first);
	if (r < 0)
		err_set(err, r, "cannot make a layer: %s", strerror(-r));
	else
		r = disk_layers_push(disk, id, err);
	if (r < 0)
		layer_put(batch->model, LAYER_DISK, id);
	return r;
}

int layer_batch_sync(struct layer_batch *batch, struct err *err)
{
	if (syncfs(batch->model->layers->dir) == 0)
		return 0;
	return err_set(err, -errno, "new layers do not reach the disk: %m");
}
