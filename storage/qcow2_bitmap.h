/* SPDX-License-Identifier: ISC */
#ifndef FV_QCOW2_BITMAP_H
#define FV_QCOW2_BITMAP_H
/* The bitmap directory, for those inside qcow2 who walk it. */
#include "storage/qcow2_int.h"

struct qcow2_bitmap_entry {
	uint64_t at; /* byte in the directory */
	uint64_t table_offset;
	uint32_t table_size; /* entries */
	uint32_t flags;
	uint8_t type;
	uint8_t granularity_bits;
	uint32_t extra_size;
	const char *name; /* in the directory, not terminated */
	uint16_t name_size;
};

/* Reads the directory; the caller frees it. Only where the autoclear bit is set. */
int qcow2_bitmap_dir_load(struct qcow2 *q, uint8_t **dir);
/* The entry at *@pos, which moves on: 1, 0 at the end, -EINVAL where it is damaged. */
int qcow2_bitmap_next(const struct qcow2 *q, const uint8_t *dir, uint64_t *pos,
		      struct qcow2_bitmap_entry *entry);

/* --- qcow2_track.c. Under meta, but for setting bits --- */
/* Reads the bitmaps that are enabled and in step (@dir says which); what cannot be is left out. */
int qcow2_track_load(struct qcow2 *q, const uint8_t *dir);
/* The last thing of a clean close: writes them, and that they are in step again. */
int qcow2_track_store(struct qcow2 *q);
void qcow2_track_free(struct qcow2 *q);

#endif
