// SPDX-License-Identifier: ISC
/*
 * The directory of persistent dirty bitmaps, walked with every length checked. By the
 * rules of the format an enabled one ("auto") is marked as in use before the first
 * write, which tells everybody that it is not in step with the disk (qcow2_track.c keeps it so
 * in memory). Disabled ones stay valid.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_bitmap.h"

int qcow2_bitmap_dir_load(struct qcow2 *q, uint8_t **dir)
{
	int r;

	*dir = malloc(q->header.bitmaps_size);
	if (!*dir)
		return -ENOMEM;
	r = qcow2_meta_read(q, *dir, q->header.bitmaps_size, q->header.bitmaps_offset);
	if (r < 0)
		free(take_ptr(*dir));
	return r;
}

int qcow2_bitmap_next(const struct qcow2 *q, const uint8_t *dir, uint64_t *pos,
		      struct qcow2_bitmap_entry *entry)
{
	uint64_t left = q->header.bitmaps_size - *pos, bytes;
	struct qcow2_disk_bitmap d;

	if (!left)
		return 0;
	if (left < sizeof(d))
		return -EINVAL;
	memcpy(&d, dir + *pos, sizeof(d));
	*entry = (struct qcow2_bitmap_entry){
	    .at = *pos,
	    .table_offset = be64toh(d.table_offset),
	    .table_size = be32toh(d.table_size),
	    .flags = be32toh(d.flags),
	    .type = d.type,
	    .granularity_bits = d.granularity_bits,
	    .extra_size = be32toh(d.extra_data_size),
	    .name = (const char *)dir + *pos + sizeof(d) + be32toh(d.extra_data_size),
	    .name_size = be16toh(d.name_size),
	};
	bytes = round_up(sizeof(d) + (uint64_t)be32toh(d.extra_data_size) + entry->name_size, 8);
	if (bytes > left || !entry->name_size ||
	    (entry->table_size && !qcow2_host_ok(q, entry->table_offset)) ||
	    entry->table_size > QCOW2_L1_BYTES_MAX / 8)
		return -EINVAL;
	*pos += bytes;
	return 1;
}

int qcow2_bitmaps_begin_writing(struct qcow2 *q, struct err *err)
{
	_cleanup_free_ uint8_t *dir = NULL;
	struct qcow2_bitmap_entry e;
	bool changed = false;
	uint64_t pos = 0;
	int r;

	if (!(q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	r = qcow2_bitmap_dir_load(q, &dir);
	if (r < 0)
		return err_set(err, r, "cannot read the bitmaps: %s", err_name(r));
	r = qcow2_track_load(q, dir);
	if (r < 0)
		return err_set(err, r, "out of memory");
	while ((r = qcow2_bitmap_next(q, dir, &pos, &e)) == 1) {
		if (!(e.flags & QCOW2_BITMAP_AUTO) || (e.flags & QCOW2_BITMAP_IN_USE))
			continue;
		put_be32(dir + e.at + offsetof(struct qcow2_disk_bitmap, flags),
			 e.flags | QCOW2_BITMAP_IN_USE);
		changed = true;
	}
	if (r < 0)
		return err_set(err, r, "the bitmap directory is damaged");
	if (!changed)
		return 0;
	r = qcow2_meta_write(q, dir, q->header.bitmaps_size, q->header.bitmaps_offset);
	if (!r)
		r = qcow2_meta_sync(q);
	if (r < 0)
		return err_set(err, r, "cannot mark the bitmaps: %s", err_name(r));
	q->bitmap_dir = take_ptr(dir);
	return 0;
}
