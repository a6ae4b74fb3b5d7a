// SPDX-License-Identifier: ISC
/*
 * Layers opened and put over what their source opened as. They are files of the daemon's own
 * directory, so nobody's rights are asked; what is in them was written by VMMs, so nothing
 * in their headers is followed: the chain is what was noted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_int.h"
#include "layer_int.h"
#include "util/cleanup.h"

static struct file_id id_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? (struct file_id){0, 0} : (struct file_id){st.st_dev, st.st_ino};
}

/* Size of the disk that the image at @fd is. */
static int disk_bytes(int fd, uint64_t *bytes, struct err *err)
{
	struct qcow2_header_info info = {0};
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r;
	struct block *file;

	if (copy < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor: %m");
	r = block_file_open(&file, copy, BLOCK_OPEN_READONLY, err);
	if (r < 0)
		return r;
	r = qcow2_header_info(file, &info, err);
	*bytes = r == 0 ? info.bytes : 0;
	qcow2_header_info_free(&info);
	block_close(file);
	return r;
}

static int lock_layer(struct disk_opened *o, int fd, bool write, struct err *err)
{
	_cleanup_strbuf_ struct strbuf who = STRBUF_INIT;
	struct file_id id = id_of(fd);
	int r = image_lock(fd, write, false, err);

	if (r != -EBUSY)
		return r;
	disk_find_user(o->model, &id, 1, &who);
	return err_set(err, r, "a layer over it is in use by %s", who.data ? who.data : "others");
}

static bool same_file(int a, int b)
{
	struct file_id x = id_of(a), y = id_of(b);

	return x.dev == y.dev && x.ino == y.ino;
}

/* All that @chain says, the top first, into @layers; on failure those that are open. */
static int open_all(struct disk_opened *o, const struct layer_chain *chain, bool write, bool lock,
		    struct image_layer *layers, unsigned *n, struct err *err)
{
	int r = 0;

	*n = 0;
	for (unsigned i = 0; r == 0 && i < chain->n; i++) {
		bool top = i == 0 && write;
		int fd = layer_open(o->model, LAYER_DISK, chain->ids[i], top, err);

		if (fd < 0)
			return fd;
		if (i > 0 && same_file(fd, layers[*n - 1].fd)) {
			close(fd); /* a merge was cut short: both names are of the merged one */
			continue;
		}
		layers[(*n)++] = (struct image_layer){
		    .format = IMAGE_QCOW2, .fd = fd, .data_fd = -1, .path = strdup(chain->ids[i])};
		if (lock)
			r = lock_layer(o, fd, top, err);
	}
	return r;
}

static void note_ids(struct disk_opened *o, const struct image_layer *layers, unsigned n,
		     bool write)
{
	unsigned kept = o->n_ids < nitems(o->ids) - n ? o->n_ids : (unsigned)nitems(o->ids) - n;

	memmove(&o->ids[n], &o->ids[0], kept * sizeof(o->ids[0]));
	for (unsigned i = 0; i < n; i++)
		o->ids[i] = id_of(layers[i].fd);
	o->n_ids = kept + n;
	o->n_written = write ? 1 : 0;
}

int layers_put_over(struct disk_opened *o, const struct disk_layers *disk, bool write, bool lock,
		    struct err *err)
{
	struct image_chain *below = &o->chain.images;
	struct image_layer layers[LAYERS_MAX];
	unsigned n = disk->chain.n, opened = 0;
	int r = 0;

	if (n == 0)
		return 0;
	if (n + below->n + (o->chain.link.fd >= 0) > IMAGE_DEPTH_MAX)
		return err_set(err, -ELOOP, "too many layers and images over each other");
	r = open_all(o, &disk->chain, write, lock, layers, &opened, err);
	if (r == 0)
		r = disk_bytes(layers[0].fd, &o->bytes, err);
	if (r < 0) {
		while (opened) {
			close(layers[--opened].fd);
			free(layers[opened].path);
		}
		return r;
	}
	n = opened;
	memmove(&below->layers[n], &below->layers[0], below->n * sizeof(below->layers[0]));
	memcpy(&below->layers[0], layers, n * sizeof(layers[0]));
	below->n += n;
	o->n_layers = n;
	note_ids(o, layers, n, write);
	return 0;
}

bool layers_disk_bytes(struct machine *m, const struct disk *d, uint64_t *bytes)
{
	const struct disk_layers *layers;
	_cleanup_close_ int fd = -1;
	char top[ID_TEXT] = "";

	pthread_mutex_lock(&m->lock);
	layers = m->layers ? layer_set_find(m->layers, d->name, d->values.source) : NULL;
	if (layers && layers->chain.n)
		memcpy(top, layers->chain.ids[0], ID_TEXT);
	pthread_mutex_unlock(&m->lock);
	if (!*top)
		return false;
	fd = layer_open(m->model, LAYER_DISK, top, false, NULL);
	return fd >= 0 && disk_bytes(fd, bytes, NULL) == 0;
}

/* --- as content ------------------------------------------------------------------------------ */

/* What is open is referred to, so that nobody merges it meanwhile. */
struct held {
	struct model *model;
	struct layer_chain chain;
};

static void held_free(void *arg, bool written)
{
	struct held *held = arg;

	(void)written;
	for (unsigned i = 0; i < held->chain.n; i++)
		layer_put(held->model, LAYER_DISK, held->chain.ids[i]);
	free(held);
}

int layers_content_open(struct model *model, const struct disk_layers *disk,
			const struct rights *owner, struct content **content, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	struct disk_asks asks = {.owner = *owner, .cancel = &model->stopping};
	struct held *held = malloc(sizeof(*held));
	struct content_block_params params = {.closed = held_free, .arg = held};
	struct block *block;
	int r;

	if (!held)
		return err_set(err, -ENOMEM, "out of memory");
	*held = (struct held){model, disk->chain};
	for (unsigned i = 0; i < held->chain.n; i++)
		layer_get(model, LAYER_DISK, held->chain.ids[i]);
	r = disk_open_layers(model, disk, &asks, true, &o, err);
	if (r == 0)
		r = disk_opened_block(o, false, &block, err);
	if (r < 0) {
		held_free(held, false);
		return r;
	}
	return content_block_open(content, block, &params, err);
}
