// SPDX-License-Identifier: ISC
/*
 * Chains of images: which file lies below which, and one node made of them all.
 * Finding reads headers only and opens by the caller's opener; making nodes opens
 * nothing. A hostile header can name any path: the opener decides. Names that
 * would mean something else than a path to other programs are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/image.h"
#include "storage/qcow2_int.h"

#define CACHE_TOP   (1u << 20)
#define CACHE_BELOW (256u << 10)
#define N_WORKERS   4

static const char *const format_names[] = {[IMAGE_RAW] = "raw", [IMAGE_QCOW2] = "qcow2"};

const char *image_format_name(enum image_format format)
{
	return (unsigned)format < nitems(format_names) ? format_names[format] : NULL;
}

int image_format_parse(const char *name, enum image_format *format, struct err *err)
{
	unsigned i;

	for (i = 0; i < nitems(format_names); i++) {
		if (!strcmp(name, format_names[i])) {
			*format = i;
			return 0;
		}
	}
	return err_set(err, -ENOTSUP, "image format %s is not known", name);
}

static int open_plain(void *arg, const char *path, bool write, struct err *err)
{
	int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);

	(void)arg;
	if (fd < 0) {
		int r = -errno;

		return err_set(err, r, "cannot open %s: %s", path, err_name(r));
	}
	return fd;
}

const struct image_opener image_opener_plain = {.open = open_plain};

int image_resolve(const char *overlay, const char *name, char **path, struct err *err)
{
	const char *colon = strchr(name, ':'), *slash = strchr(name, '/');
	int r;

	if (!strncmp(name, "file:", 5)) {
		name += 5;
	} else if (colon && (!slash || colon < slash)) {
		return err_set(err, -ENOTSUP, "the name %s is not a path", name);
	}
	slash = strrchr(overlay, '/');
	if (*name == '/' || !slash)
		r = asprintf(path, "%s", name);
	else
		r = asprintf(path, "%.*s/%s", (int)(slash - overlay), overlay, name);
	if (r < 0) {
		*path = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

void image_chain_close(struct image_chain *chain)
{
	unsigned i;

	for (i = 0; i < chain->n; i++) {
		struct image_layer *l = &chain->layers[i];

		if (l->fd >= 0)
			close(l->fd);
		if (l->data_fd >= 0)
			close(l->data_fd);
		free(l->path);
	}
	memset(chain, 0, sizeof(*chain));
}

/* Adds a file; takes @path. */
static int add_layer(struct image_chain *chain, char *path, enum image_format format, bool write,
		     const struct image_opener *opener, struct err *err)
{
	struct image_layer *l = &chain->layers[chain->n];
	struct stat st, other;
	unsigned i;

	if (chain->n == IMAGE_DEPTH_MAX) {
		free(path);
		return err_set(err, -ELOOP, "more than %d images over each other", IMAGE_DEPTH_MAX);
	}
	*l = (struct image_layer){.format = format, .fd = -1, .data_fd = -1, .path = path};
	chain->n++;
	l->fd = opener->open(opener->arg, path, write, err);
	if (l->fd < 0)
		return l->fd;
	if (fstat(l->fd, &st) < 0)
		return err_set(err, -errno, "cannot stat %s", path);
	for (i = 0; i + 1 < chain->n; i++)
		if (!fstat(chain->layers[i].fd, &other) && other.st_dev == st.st_dev &&
		    other.st_ino == st.st_ino &&
		    (S_ISREG(st.st_mode) || st.st_rdev == other.st_rdev))
			return err_set(err, -ELOOP, "%s is below itself", path);
	return 0;
}

/* Reads the header of the last layer; 0 where it is raw. */
static int read_info(const struct image_layer *l, struct qcow2_header_info *info, struct err *err)
{
	struct block *file;
	int r, fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor");
	r = block_file_open(&file, fd, BLOCK_OPEN_READONLY, err);
	if (!r) {
		r = qcow2_header_info(file, info, err);
		block_close(file);
	}
	return r < 0 ? err_prefix(err, "%s", l->path) : 0;
}

static int add_data_file(struct image_layer *l, const struct qcow2_header_info *info, bool write,
			 const struct image_opener *opener, struct err *err)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (!info->data_file)
		return err_set(err, -EINVAL, "%s does not name its data file", l->path);
	r = image_resolve(l->path, info->data_file, &path, err);
	if (r < 0)
		return r;
	l->data_fd = opener->open(opener->arg, path, write, err);
	return l->data_fd < 0 ? l->data_fd : 0;
}

/* What the last layer's header calls for: *path is the file below, or NULL. */
static int follow(struct image_chain *chain, bool write, const struct image_opener *opener,
		  char **path, enum image_format *format, struct err *err)
{
	struct image_layer *l = &chain->layers[chain->n - 1];
	struct qcow2_header_info info = {0};
	int r = 0;

	*path = NULL;
	if (l->format != IMAGE_QCOW2)
		return 0;
	r = read_info(l, &info, err);
	if (!r && info.needs_data_file)
		r = add_data_file(l, &info, write, opener, err);
	if (!r && info.backing && !info.backing_format)
		r = err_set(err, -ENOTSUP,
			    "%s does not say what format its backing file %s has: rebase it",
			    l->path, info.backing);
	if (!r && info.backing)
		r = image_format_parse(info.backing_format, format, err);
	if (!r && info.backing)
		r = image_resolve(l->path, info.backing, path, err);
	qcow2_header_info_free(&info);
	return r;
}

int image_chain_find(struct image_chain *chain, const char *path, enum image_format format,
		     unsigned flags, const struct image_opener *opener, struct err *err)
{
	bool write = !(flags & IMAGE_READONLY);
	char *below = strdup(path);
	int r = 0;

	memset(chain, 0, sizeof(*chain));
	if (!below)
		return err_set(err, -ENOMEM, "out of memory");
	while (below && !r) {
		r = add_layer(chain, take_ptr(below), format, write, opener, err);
		if (!r && (flags & IMAGE_NO_BACKING)) {
			struct qcow2_header_info info = {0};

			if (format == IMAGE_QCOW2)
				r = read_info(&chain->layers[0], &info, err);
			if (!r && info.needs_data_file)
				r = add_data_file(&chain->layers[0], &info, write, opener, err);
			qcow2_header_info_free(&info);
			break;
		}
		if (!r)
			r = follow(chain, write, opener, &below, &format, err);
		write = false;
	}
	free(below);
	if (r < 0)
		image_chain_close(chain);
	return r;
}

static int open_layer(struct block **block, struct image_layer *l, struct block *below, bool top,
		      unsigned flags, struct qcow2_workers *workers, const char *snapshot,
		      struct err *err)
{
	struct qcow2_open_params p = {.backing = below, .workers = workers, .snapshot = snapshot};
	bool readonly = !top || (flags & IMAGE_READONLY);
	unsigned file_flags = (readonly ? BLOCK_OPEN_READONLY : 0) |
			      (flags & IMAGE_DIRECT ? BLOCK_OPEN_DIRECT : 0) |
			      (flags & IMAGE_NO_FLUSH ? BLOCK_OPEN_NO_FLUSH : 0);
	int r;

	if (l->format == IMAGE_RAW) {
		if (below) {
			block_close(below);
			return err_set(err, -EINVAL, "nothing can be below a raw image");
		}
		return block_file_open(block, take_fd(&l->fd), file_flags, err);
	}
	p.cache_bytes = top ? CACHE_TOP : CACHE_BELOW;
	p.flags = (readonly ? QCOW2_OPEN_READONLY : 0) |
		  (top && (flags & IMAGE_CHECK) ? QCOW2_OPEN_CHECK : 0) |
		  (flags & IMAGE_NO_BACKING ? QCOW2_OPEN_NO_BACKING : 0);
	r = block_file_open(&p.file, take_fd(&l->fd), file_flags | BLOCK_OPEN_GROW, err);
	if (!r && l->data_fd >= 0) {
		r = block_file_open(&p.data, take_fd(&l->data_fd), file_flags | BLOCK_OPEN_GROW,
				    err);
		if (r < 0)
			block_close(p.file);
	}
	if (r < 0) {
		block_close(below);
		return r;
	}
	return qcow2_open(block, &p, err);
}

/* @below and @workers (borrowed; NULL: those that IMAGE_ASYNC makes) as image_chain_open_over(). */
static int chain_open(struct block **block, struct image_chain *chain, struct block *below,
		      struct qcow2_workers *workers, unsigned flags, const char *snapshot,
		      struct err *err)
{
	struct qcow2_workers *own = NULL;
	unsigned i;
	int r = chain->n || below ? 0 : err_set(err, -EINVAL, "no image");

	if (!r && !workers && (flags & IMAGE_ASYNC) && chain->n &&
	    chain->layers[0].format == IMAGE_QCOW2) {
		r = qcow2_workers_new(&own, N_WORKERS, err);
		workers = own;
	}
	if (r < 0)
		block_close(take_ptr(below));
	for (i = chain->n; i-- > 0 && !r;) {
		struct image_layer *l = &chain->layers[i];

		r = open_layer(&below, l, below, i == 0, flags, workers, i ? NULL : snapshot, err);
		if (r < 0 && l->path)
			err_prefix(err, "%s", l->path);
	}
	image_chain_close(chain);
	if (r < 0) {
		qcow2_workers_free(own);
		return r;
	}
	if (own)
		qcow2_from_block(below)->owns_workers = true;
	*block = below;
	return 0;
}

int image_chain_open(struct block **block, struct image_chain *chain, unsigned flags,
		     struct err *err)
{
	return chain_open(block, chain, NULL, NULL, flags, NULL, err);
}

int image_chain_open_over(struct block **block, struct image_chain *chain, struct block *below,
			  struct qcow2_workers *workers, unsigned flags, struct err *err)
{
	return chain_open(block, chain, below, workers, flags, NULL, err);
}

int image_open(struct block **block, const char *path, enum image_format format, unsigned flags,
	       const struct image_opener *opener, struct err *err)
{
	struct image_chain chain;
	int r = image_chain_find(&chain, path, format, flags, opener, err);

	return r ? r : chain_open(block, &chain, NULL, NULL, flags, NULL, err);
}

int image_open_snapshot(struct block **block, const char *path, const char *snapshot,
			const struct image_opener *opener, struct err *err)
{
	struct image_chain chain;
	int r = image_chain_find(&chain, path, IMAGE_QCOW2, IMAGE_READONLY, opener, err);

	return r ? r : chain_open(block, &chain, NULL, NULL, IMAGE_READONLY, snapshot, err);
}
