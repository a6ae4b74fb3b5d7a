// SPDX-License-Identifier: ISC
/*
 * Making a qcow2 image: header, refcount table, refcount blocks and an empty L1
 * table, one after the other; and giving every cluster its place beforehand.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/qcow2_create.h"

struct layout {
	uint64_t l1_entries, l1_clusters;
	uint64_t table_clusters, n_blocks;
	uint64_t total; /* clusters */
};

static int plan(const struct qcow2_header *h, struct layout *l)
{
	uint64_t cluster = 1ull << h->cluster_bits;
	uint64_t entry = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 16 : 8;
	uint64_t per_block = cluster * 8 >> h->refcount_order;

	l->l1_entries = div_up(h->size, cluster / entry * cluster);
	if (l->l1_entries * 8 > QCOW2_L1_BYTES_MAX)
		return -EFBIG;
	l->l1_clusters = max_u64(div_up(l->l1_entries * 8, cluster), 1);
	l->n_blocks = l->table_clusters = 1;
	for (;;) {
		l->total = 1 + l->table_clusters + l->n_blocks + l->l1_clusters;
		if (div_up(l->total, per_block) > l->n_blocks)
			l->n_blocks = div_up(l->total, per_block);
		else if (div_up(l->n_blocks * 8, cluster) > l->table_clusters)
			l->table_clusters = div_up(l->n_blocks * 8, cluster);
		else
			return 0;
	}
}

static int write_counts(struct block_queue *queue, struct block *file, const struct qcow2_header *h,
			const struct layout *l)
{
	uint64_t cluster = 1ull << h->cluster_bits, per_block = cluster * 8 >> h->refcount_order;
	uint64_t table_bytes = l->table_clusters * cluster, blocks = 1 + l->table_clusters, i, k;
	_cleanup_free_ uint8_t *table = calloc(1, table_bytes);
	_cleanup_free_ uint8_t *block = malloc(cluster);
	int r;

	if (!table || !block)
		return -ENOMEM;
	for (i = 0; i < l->n_blocks; i++)
		put_be64(table + i * 8, (blocks + i) * cluster);
	r = block_pwrite(queue, file, table, table_bytes, cluster);
	for (i = 0; i < l->n_blocks && !r; i++) {
		memset(block, 0, cluster);
		for (k = 0; k < per_block && i * per_block + k < l->total; k++)
			qcow2_ref_write(block, h->refcount_order, k, 1);
		r = block_pwrite(queue, file, block, cluster, (blocks + i) * cluster);
	}
	return r;
}

static int write_image(struct block_queue *queue, struct block *file, struct qcow2_header *h,
		       struct err *err)
{
	uint64_t cluster = 1ull << h->cluster_bits;
	_cleanup_free_ uint8_t *buf = NULL;
	struct layout l;
	int r = plan(h, &l);

	if (r < 0)
		return err_set(err, r, "the disk is too large for its cluster size");
	buf = malloc(cluster);
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	h->reftable_offset = cluster;
	h->reftable_clusters = l.table_clusters;
	h->l1_size = l.l1_entries;
	h->l1_offset = (1 + l.table_clusters + l.n_blocks) * cluster;
	r = qcow2_header_encode(h, buf, err);
	if (r < 0)
		return r;
	/* What stood there before is no image until all is in place. */
	r = block_zero(queue, file, 0, cluster, 0);
	if (!r)
		r = write_counts(queue, file, h, &l);
	if (!r)
		r = block_zero(queue, file, h->l1_offset, l.l1_clusters * cluster, 0);
	if (!r)
		r = block_flush(queue, file);
	if (!r)
		r = block_pwrite(queue, file, buf, cluster, 0);
	if (!r)
		r = block_flush(queue, file);
	return r < 0 ? err_set(err, r, "cannot write the image: %s", err_name(r)) : 0;
}

static int fill_header(struct qcow2_header *h, const struct qcow2_create *c, struct err *err)
{
	uint32_t cluster = c->cluster_bytes ? c->cluster_bytes : 64 << 10;
	uint32_t bits = c->refcount_bits ? c->refcount_bits : 16;
	bool extras = c->extended_l2 || c->zstd || c->lazy_refcounts || c->data_file || bits != 16;

	*h = (struct qcow2_header){.version = c->version ? c->version : 3, .size = c->bytes};
	if (h->version != 2 && h->version != 3)
		return err_set(err, -EINVAL, "qcow2 has versions 2 and 3");
	if (cluster < 512 || cluster > 2 << 20 || (cluster & (cluster - 1)))
		return err_set(err, -EINVAL, "a cluster has 512 bytes to 2 MiB, a power of two");
	if (bits > 64 || (bits & (bits - 1)))
		return err_set(err, -EINVAL, "a refcount has 1, 2, 4, … or 64 bits");
	if (h->version == 2 && extras)
		return err_set(err, -EINVAL, "that needs version 3 of the format");
	if (c->extended_l2 && cluster < 16 << 10)
		return err_set(err, -EINVAL, "extended L2 entries need clusters of 16 KiB or more");
	if (c->data_file_raw && (!c->data_file || c->backing))
		return err_set(err, -EINVAL,
			       "a raw data file needs a data file and goes with no backing file");
	h->cluster_bits = __builtin_ctz(cluster);
	h->refcount_order = __builtin_ctz(bits);
	h->header_length = h->version == 2 ? QCOW2_V2_HEADER_BYTES : QCOW2_OUR_HEADER_BYTES;
	h->compression = c->zstd ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
	h->incompatible = (c->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0) |
			  (c->extended_l2 ? QCOW2_INCOMPAT_EXTENDED_L2 : 0) |
			  (c->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0);
	h->compatible = c->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
	h->autoclear = c->data_file_raw ? QCOW2_AUTOCLEAR_RAW_DATA : 0;
	h->backing = (char *)c->backing;
	h->backing_format = (char *)c->backing_format;
	h->data_file = (char *)c->data_file;
	return 0;
}

int qcow2_create(struct block *file, const struct qcow2_create *create, struct err *err)
{
	struct block_queue *queue;
	struct qcow2_header h;
	int r = fill_header(&h, create, err);

	if (!r)
		r = block_queue_new_sync(&queue, err);
	if (r < 0)
		return r;
	r = write_image(queue, file, &h, err);
	block_queue_free(queue);
	return r;
}

/* --- every cluster in its place ----------------------------------------------------------- */

static int place_run(struct qcow2 *q, uint64_t cluster, uint64_t want, uint64_t *got,
		     uint64_t *host)
{
	uint64_t i;
	int r = qcow2_l2_prepare(q, cluster);

	*got = want;
	*host = cluster << q->cluster_bits;
	if (!r && !q->external)
		r = qcow2_alloc_clusters(q, want, false, host, got);
	for (i = 0; i < *got && !r; i++) {
		struct l2_entry e = {.word = (*host + (i << q->cluster_bits)) | QCOW2_COPIED,
				     .bitmap = q->extended ? UINT32_MAX : 0};

		r = qcow2_l2_set(q, cluster + i, e);
	}
	return r;
}

int qcow2_preallocate(struct block *block, uint64_t *file_end, struct err *err)
{
	struct qcow2 *q = qcow2_from_block(block);
	uint64_t n = div_up(block_size(block), q->cluster_bytes), cluster = 0, got = 0, host = 0;
	uint64_t end = 0;
	int r = 0;

	pthread_mutex_lock(&q->meta);
	while (cluster < n && !r) {
		uint64_t table_end = ((cluster >> q->l2_bits) + 1) << q->l2_bits;

		r = place_run(q, cluster, min_u64(n, table_end) - cluster, &got, &host);
		cluster += got;
		end = max_u64(end, host + (got << q->cluster_bits));
	}
	if (!r)
		r = qcow2_flush(q);
	pthread_mutex_unlock(&q->meta);
	*file_end = end;
	return r < 0 ? err_set(err, r, "cannot preallocate: %s", err_name(r)) : 0;
}
