/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_CREATE_H
#define FV_QCOW2_CREATE_H
/* Making qcow2 images, for image_create.c. */
#include "storage/qcow2_int.h"

/* Zero is the default; see struct image_create. */
struct qcow2_create {
	uint64_t bytes;
	uint32_t version, cluster_bytes, refcount_bits;
	bool extended_l2, zstd, lazy_refcounts;
	const char *backing, *backing_format;
	const char *data_file;
	bool data_file_raw;
};

/* Writes an empty image to @file (growing) and syncs it. */
int qcow2_create(struct block *file, const struct qcow2_create *create, struct err *err);
/* Gives every cluster of a new image a place; @file_end: where the last of them ends. */
int qcow2_preallocate(struct block *block, uint64_t *file_end, struct err *err);

#endif
