// SPDX-License-Identifier: ISC
/*
 * The header of a qcow2 image: read with every field checked, and written. What
 * we do not know but may keep (additional fields, extensions) survives a rewrite.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/qcow2_int.h"
#include "util/strbuf.h"

#define EXTS_MAX 256

static const char *const incompatible_names[] = {
    "dirty bit", "corrupt bit", "external data file", "compression type", "extended L2 entries",
};
static const char *const compatible_names[] = {"lazy refcounts"};
static const char *const autoclear_names[] = {"bitmaps", "raw external data"};

void qcow2_header_free(struct qcow2_header *header)
{
	unsigned i;

	for (i = 0; i < header->n_exts; i++)
		free(header->exts[i].data);
	free(header->exts);
	free(header->more_fields);
	free(header->backing);
	free(header->backing_format);
	free(header->data_file);
	memset(header, 0, sizeof(*header));
}

/* --- reading ------------------------------------------------------------------------------ */

static void decode_fixed(const struct qcow2_disk_header *d, struct qcow2_header *h)
{
	h->version = be32toh(d->version);
	h->cluster_bits = be32toh(d->cluster_bits);
	h->size = be64toh(d->size);
	h->l1_size = be32toh(d->l1_size);
	h->l1_offset = be64toh(d->l1_table_offset);
	h->reftable_offset = be64toh(d->refcount_table_offset);
	h->reftable_clusters = be32toh(d->refcount_table_clusters);
	h->n_snapshots = be32toh(d->nb_snapshots);
	h->snapshots_offset = be64toh(d->snapshots_offset);
	h->refcount_order = 4;
	h->header_length = QCOW2_V2_HEADER_BYTES;
	if (h->version < 3)
		return;
	h->incompatible = be64toh(d->incompatible_features);
	h->compatible = be64toh(d->compatible_features);
	h->autoclear = be64toh(d->autoclear_features);
	h->refcount_order = be32toh(d->refcount_order);
	h->header_length = be32toh(d->header_length);
	if (h->header_length > QCOW2_V3_HEADER_BYTES)
		h->compression = d->compression_type;
}

static int check_basics(const struct qcow2_disk_header *d, const struct qcow2_header *h,
			struct err *err)
{
	if (be32toh(d->magic) != QCOW2_MAGIC)
		return err_set(err, -EINVAL, "not a qcow2 image");
	if (h->version != 2 && h->version != 3)
		return err_set(err, -ENOTSUP, "qcow version %u is not supported", h->version);
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return err_set(err, -EINVAL, "cluster size 2^%u is not supported", h->cluster_bits);
	if (h->version >= 3 && (h->header_length < QCOW2_V3_HEADER_BYTES || h->header_length % 8 ||
				h->header_length > 1u << h->cluster_bits))
		return err_set(err, -EINVAL, "header length %u is impossible", h->header_length);
	if (be32toh(d->crypt_method) == 1)
		return err_set(err, -ENOTSUP, "the image is encrypted (AES)");
	if (be32toh(d->crypt_method) == 2)
		return err_set(err, -ENOTSUP, "the image is encrypted (LUKS)");
	if (d->crypt_method)
		return err_set(err, -EINVAL, "unknown encryption method %u",
			       be32toh(d->crypt_method));
	return 0;
}

static char *copy_string(const uint8_t *data, uint32_t len)
{
	return strndup((const char *)data, len);
}

static int take_string(char **to, const uint8_t *data, uint32_t len, const char *what,
		       struct err *err)
{
	if (*to || !len || len > QCOW2_NAME_MAX || memchr(data, 0, len))
		return err_set(err, -EINVAL, "the header's %s is damaged", what);
	*to = copy_string(data, len);
	return *to ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int take_bitmaps(struct qcow2_header *h, const uint8_t *data, uint32_t len, struct err *err)
{
	struct qcow2_disk_bitmaps d;

	if (len != sizeof(d) || h->has_bitmaps)
		return err_set(err, -EINVAL, "the bitmaps extension is damaged");
	memcpy(&d, data, sizeof(d));
	h->has_bitmaps = true;
	h->n_bitmaps = be32toh(d.nb_bitmaps);
	h->bitmaps_size = be64toh(d.directory_size);
	h->bitmaps_offset = be64toh(d.directory_offset);
	if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0; /* stale: kept as it is, not used */
	if (!h->n_bitmaps || h->n_bitmaps > QCOW2_BITMAPS_MAX || d.reserved || !h->bitmaps_offset ||
	    h->bitmaps_offset % (1u << h->cluster_bits) || h->bitmaps_offset >= QCOW2_HOST_MAX ||
	    !h->bitmaps_size || h->bitmaps_size > QCOW2_BITMAP_DIR_MAX)
		return err_set(err, -EINVAL, "the bitmaps extension is damaged");
	return 0;
}

static int keep_ext(struct qcow2_header *h, uint32_t type, const uint8_t *data, uint32_t len,
		    struct err *err)
{
	struct qcow2_ext *exts;

	if (h->n_exts >= EXTS_MAX)
		return err_set(err, -EINVAL, "too many header extensions");
	exts = reallocarray(h->exts, h->n_exts + 1, sizeof(*exts));
	if (!exts)
		return err_set(err, -ENOMEM, "out of memory");
	h->exts = exts;
	exts[h->n_exts] = (struct qcow2_ext){.type = type, .len = len, .data = malloc(len + 1)};
	if (!exts[h->n_exts].data)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(exts[h->n_exts++].data, data, len);
	return 0;
}

static int take_ext(struct qcow2_header *h, uint32_t type, const uint8_t *data, uint32_t len,
		    struct err *err)
{
	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT:
		return take_string(&h->backing_format, data, len, "backing format", err);
	case QCOW2_EXT_DATA_FILE:
		return take_string(&h->data_file, data, len, "data file name", err);
	case QCOW2_EXT_BITMAPS:
		return take_bitmaps(h, data, len, err);
	case QCOW2_EXT_ENCRYPTION:
		return err_set(err, -ENOTSUP, "the image is encrypted (LUKS)");
	default:
		return keep_ext(h, type, data, len, err);
	}
}

static int read_exts(struct qcow2_header *h, const uint8_t *cluster, uint64_t end, struct err *err)
{
	uint64_t pos = h->header_length;

	while (end - pos >= 8) {
		uint32_t type = get_be32(cluster + pos);
		uint32_t len = get_be32(cluster + pos + 4);
		int r;

		pos += 8;
		if (type == QCOW2_EXT_END)
			return 0;
		if (len > end - pos)
			return err_set(err, -EINVAL, "header extension 0x%x is too long", type);
		r = take_ext(h, type, cluster + pos, len, err);
		if (r < 0)
			return r;
		pos += min_u64(round_up(len, 8), end - pos);
	}
	return 0;
}

/* The words for bits of a feature word, with names of the image's own table where we have none. */
static void name_bits(const struct qcow2_header *h, uint64_t bits, struct strbuf *words)
{
	unsigned bit, i, k;

	for (bit = 0; bit < 64; bit++) {
		char name[47] = "";

		if (!(bits >> bit & 1))
			continue;
		for (i = 0; i < h->n_exts; i++) {
			const struct qcow2_ext *e = &h->exts[i];

			for (k = 0; e->type == QCOW2_EXT_FEATURE_NAMES &&
				    (k + 1) * sizeof(struct qcow2_disk_feature) <= e->len;
			     k++) {
				struct qcow2_disk_feature f;

				memcpy(&f, e->data + k * sizeof(f), sizeof(f));
				if (f.type == 0 && f.bit == bit)
					memcpy(name, f.name, sizeof(f.name));
			}
		}
		strbuf_printf(words, "%s%s (bit %u)", words->len ? ", " : "",
			      *name ? name : "unnamed", bit);
	}
}

static int check_features(const struct qcow2_header *h, struct err *err)
{
	bool compression = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;
	uint64_t unknown = h->incompatible & ~(uint64_t)QCOW2_INCOMPAT_KNOWN;

	if (unknown) {
		_cleanup_strbuf_ struct strbuf words = STRBUF_INIT;

		name_bits(h, unknown, &words);
		return err_set(err, -ENOTSUP,
			       "the image needs features that are not known here: %s",
			       words.data ? words.data : "");
	}
	if (compression != (h->compression != QCOW2_COMPRESSION_ZLIB))
		return err_set(err, -EINVAL, "compression type and its feature bit disagree");
	if (h->compression > QCOW2_COMPRESSION_ZSTD)
		return err_set(err, -ENOTSUP, "unknown compression type %u", h->compression);
	if ((h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits < 14)
		return err_set(err, -EINVAL, "clusters are too small for extended L2 entries");
	if ((h->autoclear & QCOW2_AUTOCLEAR_BITMAPS) && !h->has_bitmaps)
		return err_set(err, -EINVAL, "bitmaps are announced and missing");
	if ((h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA) &&
	    (!(h->incompatible & QCOW2_INCOMPAT_DATA_FILE) || h->backing))
		return err_set(err, -EINVAL,
			       "a raw external data file is announced where none can be");
	return 0;
}

static int check_table(const struct qcow2_header *h, const char *what, uint64_t offset,
		       uint64_t bytes, uint64_t max, struct err *err)
{
	if (bytes > max)
		return err_set(err, -EFBIG, "the %s is too large", what);
	if (bytes &&
	    (!offset || offset % (1u << h->cluster_bits) || offset > QCOW2_HOST_MAX - bytes))
		return err_set(err, -EINVAL, "the %s's place is impossible", what);
	return 0;
}

static int check_tables(const struct qcow2_header *h, struct err *err)
{
	uint32_t entry = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 16 : 8;
	uint64_t covered = (uint64_t)(1u << h->cluster_bits) / entry << h->cluster_bits;
	int r;

	if (h->refcount_order > 6)
		return err_set(err, -EINVAL, "refcount width 2^%u is impossible",
			       h->refcount_order);
	if (h->size > INT64_MAX)
		return err_set(err, -EFBIG, "the disk is too large");
	r = check_table(h, "L1 table", h->l1_offset, (uint64_t)h->l1_size * 8, QCOW2_L1_BYTES_MAX,
			err);
	if (!r)
		r = check_table(h, "refcount table", h->reftable_offset,
				(uint64_t)h->reftable_clusters << h->cluster_bits,
				QCOW2_REFTABLE_BYTES_MAX, err);
	if (r < 0)
		return r;
	if (div_up(h->size, covered) > h->l1_size)
		return err_set(err, -EINVAL, "the L1 table is too small for the disk");
	if (!h->reftable_clusters)
		return err_set(err, -EINVAL, "there is no refcount table");
	if (h->n_snapshots > QCOW2_SNAPSHOTS_MAX)
		return err_set(err, -EFBIG, "too many snapshots");
	return check_table(h, "snapshot table", h->snapshots_offset,
			   h->n_snapshots ? QCOW2_SNAPSHOT_FIXED_BYTES : 0, UINT64_MAX, err);
}

static int read_backing(struct qcow2_header *h, const struct qcow2_disk_header *d,
			const uint8_t *cluster, uint64_t have, struct err *err)
{
	uint64_t offset = be64toh(d->backing_file_offset);
	uint32_t len = be32toh(d->backing_file_size);

	if (!offset || !len)
		return 0;
	if (len > QCOW2_NAME_MAX || offset > have || len > have - offset)
		return err_set(err, -EINVAL, "the backing file's name is damaged");
	return take_string(&h->backing, cluster + offset, len, "backing file name", err);
}

static int read_rest(struct qcow2_header *h, const struct qcow2_disk_header *d,
		     const uint8_t *cluster, uint64_t have, struct err *err)
{
	uint64_t name = be64toh(d->backing_file_offset);
	uint64_t end = name && name <= have ? name : have;
	int r;

	if (h->header_length > have || h->header_length > end)
		return err_set(err, -EINVAL, "the header is cut off");
	if (h->header_length > QCOW2_OUR_HEADER_BYTES) {
		uint32_t n = h->header_length - QCOW2_OUR_HEADER_BYTES;

		h->more_fields = malloc(n);
		if (!h->more_fields)
			return err_set(err, -ENOMEM, "out of memory");
		memcpy(h->more_fields, cluster + QCOW2_OUR_HEADER_BYTES, n);
	}
	r = read_exts(h, cluster, end, err);
	if (!r)
		r = read_backing(h, d, cluster, have, err);
	if (!r)
		r = check_features(h, err);
	return r ? r : check_tables(h, err);
}

int qcow2_header_read(struct block_queue *queue, struct block *file, struct qcow2_header *header,
		      struct err *err)
{
	_cleanup_free_ uint8_t *cluster = NULL;
	struct qcow2_disk_header disk = {0};
	uint64_t size = block_size(file), have;
	int r;

	memset(header, 0, sizeof(*header));
	if (size < QCOW2_V2_HEADER_BYTES)
		return err_set(err, -EINVAL, "too short for a qcow2 image");
	r = block_pread(queue, file, &disk, min_u64(size, sizeof(disk)), 0);
	if (r < 0)
		return err_set(err, r, "cannot read the header: %s", err_name(r));
	decode_fixed(&disk, header);
	r = check_basics(&disk, header, err);
	if (r < 0)
		return r;
	have = min_u64(size, 1u << header->cluster_bits);
	cluster = malloc(have);
	if (!cluster)
		return err_set(err, -ENOMEM, "out of memory");
	r = block_pread(queue, file, cluster, have, 0);
	if (r < 0)
		return err_set(err, r, "cannot read the header: %s", err_name(r));
	r = read_rest(header, &disk, cluster, have, err);
	if (r < 0)
		qcow2_header_free(header);
	return r;
}

int qcow2_header_info(struct block *file, struct qcow2_header_info *info, struct err *err)
{
	struct block_queue *queue;
	struct qcow2_header h;
	int r;

	memset(info, 0, sizeof(*info));
	r = block_queue_new_sync(&queue, err);
	if (r < 0)
		return r;
	r = qcow2_header_read(queue, file, &h, err);
	block_queue_free(queue);
	if (r < 0)
		return r;
	*info = (struct qcow2_header_info){
	    .version = h.version,
	    .bytes = h.size,
	    .cluster_bytes = 1u << h.cluster_bits,
	    .refcount_bits = 1u << h.refcount_order,
	    .needs_data_file = h.incompatible & QCOW2_INCOMPAT_DATA_FILE,
	    .data_file_raw = h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA,
	    .dirty = h.incompatible & QCOW2_INCOMPAT_DIRTY,
	    .corrupt = h.incompatible & QCOW2_INCOMPAT_CORRUPT,
	    .lazy_refcounts = h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS,
	    .extended_l2 = h.incompatible & QCOW2_INCOMPAT_EXTENDED_L2,
	    .zstd = h.compression == QCOW2_COMPRESSION_ZSTD,
	    .n_snapshots = h.n_snapshots,
	    .n_bitmaps = h.autoclear & QCOW2_AUTOCLEAR_BITMAPS ? h.n_bitmaps : 0,
	};
	info->backing = take_ptr(h.backing);
	info->backing_format = take_ptr(h.backing_format);
	info->data_file = take_ptr(h.data_file);
	qcow2_header_free(&h);
	return 0;
}

void qcow2_header_info_free(struct qcow2_header_info *info)
{
	free(info->backing);
	free(info->backing_format);
	free(info->data_file);
	memset(info, 0, sizeof(*info));
}

/* --- writing ------------------------------------------------------------------------------ */

static void encode_fixed(const struct qcow2_header *h, struct qcow2_disk_header *d)
{
	d->magic = htobe32(QCOW2_MAGIC);
	d->version = htobe32(h->version);
	d->cluster_bits = htobe32(h->cluster_bits);
	d->size = htobe64(h->size);
	d->l1_size = htobe32(h->l1_size);
	d->l1_table_offset = htobe64(h->l1_offset);
	d->refcount_table_offset = htobe64(h->reftable_offset);
	d->refcount_table_clusters = htobe32(h->reftable_clusters);
	d->nb_snapshots = htobe32(h->n_snapshots);
	d->snapshots_offset = htobe64(h->snapshots_offset);
	if (h->version < 3)
		return;
	d->incompatible_features = htobe64(h->incompatible);
	d->compatible_features = htobe64(h->compatible);
	d->autoclear_features = htobe64(h->autoclear);
	d->refcount_order = htobe32(h->refcount_order);
	d->header_length = htobe32(h->header_length);
	if (h->header_length > QCOW2_V3_HEADER_BYTES)
		d->compression_type = h->compression;
}

struct writer {
	uint8_t *buf;
	uint64_t pos, size;
};

/* Where @len bytes go next, with padding to 8; NULL where they do not fit. */
static uint8_t *room_for(struct writer *w, uint64_t len)
{
	uint8_t *p = w->buf + w->pos;

	if (round_up(len, 8) > w->size - w->pos)
		return NULL;
	w->pos += round_up(len, 8);
	return p;
}

static bool put_ext(struct writer *w, uint32_t type, const void *data, uint32_t len)
{
	uint8_t *p = room_for(w, 8 + (uint64_t)len);

	if (!p)
		return false;
	put_be32(p, type);
	put_be32(p + 4, len);
	if (len)
		memcpy(p + 8, data, len);
	return true;
}

static unsigned add_names(struct qcow2_disk_feature *f, uint8_t type, const char *const *names,
			  unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		f[i].type = type;
		f[i].bit = i;
		memcpy(f[i].name, names[i], strlen(names[i]));
	}
	return n;
}

/* Our feature names, unless the image brought a table. Left out where there is no room. */
static void put_feature_names(const struct qcow2_header *h, struct writer *w)
{
	struct qcow2_disk_feature
	    f[nitems(incompatible_names) + nitems(compatible_names) + nitems(autoclear_names)];
	unsigned i, n = 0;

	for (i = 0; i < h->n_exts; i++)
		if (h->exts[i].type == QCOW2_EXT_FEATURE_NAMES)
			return;
	if (h->version < 3 || w->size - w->pos < sizeof(f) + 16 + QCOW2_NAME_MAX)
		return;
	memset(f, 0, sizeof(f));
	n += add_names(f, 0, incompatible_names, nitems(incompatible_names));
	n += add_names(f + n, 1, compatible_names, nitems(compatible_names));
	n += add_names(f + n, 2, autoclear_names, nitems(autoclear_names));
	put_ext(w, QCOW2_EXT_FEATURE_NAMES, f, n * sizeof(f[0]));
}

static bool put_exts(const struct qcow2_header *h, struct writer *w)
{
	bool ok = true;
	unsigned i;

	if (h->backing && h->backing_format)
		ok = put_ext(w, QCOW2_EXT_BACKING_FORMAT, h->backing_format,
			     strlen(h->backing_format));
	if (h->data_file)
		ok = ok && put_ext(w, QCOW2_EXT_DATA_FILE, h->data_file, strlen(h->data_file));
	if (h->has_bitmaps) {
		struct qcow2_disk_bitmaps d = {
		    .nb_bitmaps = htobe32(h->n_bitmaps),
		    .directory_size = htobe64(h->bitmaps_size),
		    .directory_offset = htobe64(h->bitmaps_offset),
		};

		ok = ok && put_ext(w, QCOW2_EXT_BITMAPS, &d, sizeof(d));
	}
	for (i = 0; i < h->n_exts; i++)
		ok = ok && put_ext(w, h->exts[i].type, h->exts[i].data, h->exts[i].len);
	put_feature_names(h, w);
	return ok && put_ext(w, QCOW2_EXT_END, NULL, 0);
}

int qcow2_header_encode(const struct qcow2_header *header, uint8_t *buf, struct err *err)
{
	struct writer w = {
	    .buf = buf, .pos = header->header_length, .size = 1u << header->cluster_bits};
	struct qcow2_disk_header d = {0};
	uint8_t *name;

	memset(buf, 0, w.size);
	encode_fixed(header, &d);
	if (header->header_length > QCOW2_OUR_HEADER_BYTES)
		memcpy(buf + QCOW2_OUR_HEADER_BYTES, header->more_fields,
		       header->header_length - QCOW2_OUR_HEADER_BYTES);
	if (!put_exts(header, &w))
		return err_set(err, -EFBIG, "the header does not fit into a cluster");
	if (header->backing) {
		size_t len = strlen(header->backing);

		name = len <= QCOW2_NAME_MAX ? room_for(&w, len) : NULL;
		if (!name)
			return err_set(err, -EFBIG, "the backing file's name is too long");
		memcpy(name, header->backing, len);
		d.backing_file_offset = htobe64(name - buf);
		d.backing_file_size = htobe32(len);
	}
	memcpy(buf, &d, min_u64(header->header_length, sizeof(d)));
	return 0;
}

int qcow2_header_write(struct qcow2 *q, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_bytes);
	int r;

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	r = qcow2_header_encode(&q->header, buf, err);
	if (r < 0)
		return r;
	r = qcow2_meta_write(q, buf, q->cluster_bytes, 0);
	if (!r)
		r = qcow2_meta_sync(q);
	return r < 0 ? err_set(err, r, "cannot write the header: %s", err_name(r)) : 0;
}

int qcow2_header_update(struct qcow2 *q)
{
	struct qcow2_disk_header d;
	uint32_t len = min_u64(q->header.header_length, sizeof(d));
	int r;

	/* The backing file's name stays where it is: read first. */
	r = qcow2_meta_read(q, &d, len, 0);
	if (r < 0)
		return r;
	encode_fixed(&q->header, &d);
	r = qcow2_meta_write(q, &d, len, 0);
	return r < 0 ? r : qcow2_meta_sync(q);
}

int qcow2_set_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear)
{
	uint64_t old = q->header.incompatible, bits = (old | set) & ~clear;
	int r;

	if (q->header.version < 3 || bits == old)
		return 0;
	q->header.incompatible = bits;
	r = qcow2_header_update(q);
	if (r < 0)
		q->header.incompatible = old;
	return r;
}
