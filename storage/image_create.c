// SPDX-License-Identifier: ISC
/* Making images, raw and qcow2, with as much space reserved as is asked for. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/image.h"
#include "storage/qcow2_create.h"

static const char *const prealloc_words[] = {"off", "metadata", "falloc", "full"};

/* Reserves or writes the bytes of @fd from 0 to @bytes that a disk's data will take. */
static int reserve(int fd, uint64_t bytes, enum image_prealloc how, struct err *err)
{
	struct block_queue *queue = NULL;
	struct block *file = NULL;
	uint8_t *zero = NULL;
	uint64_t at, n;
	int r;

	if (how < IMAGE_PREALLOC_FALLOC || !bytes)
		return 0;
	if (fallocate(fd, 0, 0, bytes) < 0 && errno != EOPNOTSUPP) {
		r = -errno;
		return err_set(err, r, "cannot reserve space: %s", err_name(r));
	}
	if (how < IMAGE_PREALLOC_FULL)
		return 0;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = fd < 0 ? -errno : block_file_open(&file, fd, BLOCK_OPEN_GROW, err);
	if (!r)
		r = block_queue_new_sync(&queue, err);
	zero = calloc(1, 1 << 20);
	if (!r && !zero)
		r = -ENOMEM;
	/* Only what holds nothing yet: tables are there already. */
	for (at = 0; at < bytes && !r; at += n) {
		struct block_extent e;

		r = block_status(file, at, bytes - at, &e);
		n = r ? 0 : min_u64(e.bytes, 1 << 20);
		if (!r && e.zero)
			r = block_pwrite(queue, file, zero, n, at);
	}
	free(zero);
	block_queue_free(queue);
	block_close(file);
	return r < 0
		   ? err_set(err, r, "cannot write %s space: %s", prealloc_words[how], err_name(r))
		   : 0;
}

static int create_raw(int fd, const struct image_create *p, struct err *err)
{
	struct block *file;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r;

	if (p->prealloc == IMAGE_PREALLOC_METADATA)
		return err_set(err, -EINVAL, "a raw image has no metadata");
	if (copy < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor");
	r = block_file_open(&file, copy, 0, err);
	if (r < 0)
		return r;
	r = block_resize(file, p->bytes, err);
	block_close(file);
	return r ? r : reserve(fd, p->bytes, p->prealloc, err);
}

static int preallocate(int fd, const struct image_create *p, struct err *err)
{
	struct image_chain chain = {.n = 1};
	struct block *block;
	uint64_t end;
	int r;

	chain.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	if (p->data_file)
		chain.layers[0].data_fd = fcntl(p->data_fd, F_DUPFD_CLOEXEC, 3);
	r = image_chain_open(&block, &chain, 0, err);
	if (r < 0)
		return r;
	r = qcow2_preallocate(block, &end, err);
	block_close(block);
	if (r < 0)
		return r;
	if (p->data_file)
		return reserve(p->data_fd, p->bytes, p->prealloc, err);
	/* The file is as long as its clusters reach. */
	if (lseek(fd, 0, SEEK_END) < (off_t)end && ftruncate(fd, end) < 0)
		return err_set(err, -errno, "cannot set the size of the file");
	return reserve(fd, end, p->prealloc, err);
}

static int create_qcow2(int fd, const struct image_create *p, struct err *err)
{
	struct qcow2_create c = {
	    .bytes = p->bytes,
	    .version = p->version,
	    .cluster_bytes = p->cluster_bytes,
	    .refcount_bits = p->refcount_bits,
	    .extended_l2 = p->extended_l2,
	    .zstd = p->zstd,
	    .lazy_refcounts = p->lazy_refcounts,
	    .backing = p->backing,
	    .backing_format = p->backing ? image_format_name(p->backing_format) : NULL,
	    .data_file = p->data_file,
	    .data_file_raw = p->data_file_raw,
	};
	struct block *file;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r;

	if (copy < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor");
	if (p->prealloc != IMAGE_PREALLOC_OFF && p->backing)
		r = err_set(err, -EINVAL, "preallocation would hide the backing file");
	else if (p->data_file && ftruncate(p->data_fd, p->bytes) < 0)
		r = err_set(err, -errno, "cannot set the size of the data file");
	else
		r = 0;
	if (r < 0) {
		close(copy);
		return r;
	}
	r = block_file_open(&file, copy, BLOCK_OPEN_GROW, err);
	if (r < 0)
		return r;
	r = qcow2_create(file, &c, err);
	block_close(file);
	return r || p->prealloc == IMAGE_PREALLOC_OFF ? r : preallocate(fd, p, err);
}

int image_create(int fd, const struct image_create *params, struct err *err)
{
	int r;

	if (params->bytes % 512 || params->bytes > INT64_MAX)
		r = err_set(err, -EINVAL, "a disk's size is a multiple of 512 bytes below 8 EiB");
	else if (params->format == IMAGE_RAW)
		r = create_raw(fd, params, err);
	else
		r = create_qcow2(fd, params, err);
	if (!r && fdatasync(fd) < 0) {
		r = -errno;
		err_set(err, r, "cannot sync the image: %s", err_name(r));
	}
	close(fd);
	return r;
}
