/* SPDX-License-Identifier: ISC */
#ifndef FV_CONTENT_INT_H
#define FV_CONTENT_INT_H
/* Kinds of content, for those who make one: what is behind content.h's calls. */
#include "content.h"
#include "storage/image.h"

/* As content.h says of each call. Those that may be NULL: nothing is ever written. */
struct content_ops {
	uint64_t (*size)(struct content *content);
	ssize_t (*read)(struct content *content, void *buf, size_t len, uint64_t offset);
	int (*write)(struct content *content, const void *buf, size_t len, uint64_t offset);
	int (*resize)(struct content *content, uint64_t size);
	int (*zero)(struct content *content, uint64_t offset, uint64_t len, bool punch);
	int (*flush)(struct content *content);
	int64_t (*seek)(struct content *content, int64_t offset, int whence);
	int (*close)(struct content *content); /* frees it */
};

/* First in every kind. */
struct content {
	const struct content_ops *ops;
};

/* --- content_block.c: over a node ----------------------------------------------------- */

struct content_block_params {
	bool write;
	bool may_grow;	     /* by writes beyond the end, and by content_resize() */
	bool may_resize;     /* by content_resize() only */
	uint64_t step_bytes; /* how much at once, given back at the end; 0: just what is needed */
	/* NULL, or called last when it is closed; @written: whether anything was. */
	void (*closed)(void *arg, bool written);
	void *arg;
};

/* Takes @block, also on error (->closed() is called then, too). */
int content_block_open(struct content **content, struct block *block,
		       const struct content_block_params *params, struct err *err);

/* --- content.c ----------------------------------------------------------------------- */

/* The extent at @offset, within @bytes of it: how long it is alike, and whether it reads as zero.
 */
typedef int content_extent_fn(struct content *content, uint64_t offset, uint64_t bytes,
			      uint64_t *alike, bool *zero);
/* SEEK_DATA and SEEK_HOLE for content of @size by asking @extent. */
int64_t content_seek_extents(struct content *content, uint64_t size, int64_t offset, int whence,
			     content_extent_fn *extent);

#endif
