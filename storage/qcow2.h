/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_H
#define FV_QCOW2_H
/*
 * The qcow2 format over other nodes: opening one layer. Chains are put together
 * by storage/image.h, which is the door for everybody else.
 */
#include "storage/block.h"

struct qcow2_workers;

/* What an image's header says, for those who do not open it. */
struct qcow2_header_info {
	uint32_t version;
	uint64_t bytes; /* size of the disk */
	uint32_t cluster_bytes;
	uint32_t refcount_bits;
	char *backing;	      /* name as written in the header; NULL: none. Freed with the rest */
	char *backing_format; /* "raw", "qcow2", …; NULL where it is not named */
	char *data_file;      /* external data file; NULL: none named */
	bool needs_data_file;
	bool data_file_raw;
	bool dirty, corrupt, lazy_refcounts, extended_l2;
	bool zstd; /* else zlib */
	uint32_t n_snapshots;
	uint32_t n_bitmaps;
};

/*
 * Reads and checks the header at the start of @file. -EINVAL if it is not a
 * qcow2 image or a damaged one, -ENOTSUP with the names of what we do not know.
 */
int qcow2_header_info(struct block *file, struct qcow2_header_info *info, struct err *err);
void qcow2_header_info_free(struct qcow2_header_info *info);

enum {
	QCOW2_OPEN_READONLY = 1 << 0,
	QCOW2_OPEN_CHECK = 1 << 1, /* for check and repair: accepts the dirty and corrupt bits */
	QCOW2_OPEN_NO_BACKING = 1 << 2, /* leave the backing file that the header names aside */
};

struct qcow2_open_params {
	struct block *file;    /* taken, also on error; opened with BLOCK_OPEN_GROW to be written */
	struct block *data;    /* external data file; taken; NULL where the image has none */
	struct block *backing; /* taken; NULL: none (an error where the header names one) */
	unsigned flags;
	const char *snapshot; /* with READONLY: show the disk as in that internal snapshot */
	uint32_t cache_bytes; /* for metadata; 0: 1 MiB */
	struct qcow2_workers *workers; /* borrowed, outlives the image; NULL: submit may wait */
};

/*
 * Opens one image. For writing: repairs the refcounts first where the dirty
 * bit is set; refuses a corrupt one (-EROFS) unless opened for a check.
 */
int qcow2_open(struct block **block, const struct qcow2_open_params *params, struct err *err);

/*
 * Threads that carry out what needs to wait (metadata that is not cached,
 * allocation, decompression) for queues whose submit must not. One set for all
 * images of a chain; started at once.
 */
int qcow2_workers_new(struct qcow2_workers **workers, unsigned n, struct err *err);
void qcow2_workers_free(struct qcow2_workers *workers);

#endif
