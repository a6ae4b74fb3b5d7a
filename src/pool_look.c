// SPDX-License-Identifier: ISC
/*
 * Looking into a volume: what its header says, in words for `info` and in numbers. Runs where it
 * may hang, knows no locks. What is wrong with an image is found out here and shown, not hidden.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool_int.h"
#include "util/cleanup.h"

#define SNAPSHOTS_SHOWN 10000

void look_free(struct volume_look *look)
{
	free(take_ptr(look->trouble));
	free(take_ptr(look->info));
	free(take_ptr(look->snapshots));
	free(take_ptr(look->below));
}

enum image_format look_probe(int fd)
{
	static const char magic[4] = {'Q', 'F', 'I', (char)0xfb};
	char first[4];

	return pread(fd, first, 4, 0) == 4 && memcmp(first, magic, 4) == 0 ? IMAGE_QCOW2
									   : IMAGE_RAW;
}

static void add_number(struct strbuf *sb, const char *key, uint64_t value)
{
	strbuf_printf(sb, "%s %llu\n", key, (unsigned long long)value);
}

/* Names in headers are hostile: one line, printable. */
static void add_text(struct strbuf *sb, const char *key, const char *value)
{
	strbuf_printf(sb, "%s ", key);
	for (; *value; value++)
		strbuf_putc(sb, (unsigned char)*value < 0x20 || *value == 0x7f ? '?' : *value);
	strbuf_putc(sb, '\n');
}

static void describe(const struct qcow2_header_info *h, struct strbuf *sb)
{
	add_text(sb, "format", "qcow2");
	add_number(sb, "version", h->version);
	add_number(sb, "cluster_size", h->cluster_bytes);
	add_number(sb, "refcount_bits", h->refcount_bits);
	add_text(sb, "compression", h->zstd ? "zstd" : "zlib");
	add_text(sb, "extended_l2", h->extended_l2 ? "true" : "false");
	add_text(sb, "lazy_refcounts", h->lazy_refcounts ? "true" : "false");
	add_text(sb, "dirty", h->dirty ? "true" : "false");
	add_text(sb, "corrupt", h->corrupt ? "true" : "false");
	add_number(sb, "snapshots", h->n_snapshots);
	add_number(sb, "bitmaps", h->n_bitmaps);
	if (h->backing)
		add_text(sb, "backing_file", h->backing);
	if (h->backing_format)
		add_text(sb, "backing_format", h->backing_format);
	if (h->data_file)
		add_text(sb, "data_file", h->data_file);
}

/* Which file the header names: a sibling, or a path. */
static void find_below(const struct storage *s, const char *name, const struct qcow2_header_info *h,
		       struct volume_look *look)
{
	_cleanup_free_ char *self = s->type->path ? s->type->path(s, name) : NULL, *path = NULL;
	struct err err = ERR_INIT;
	const char *slash;

	if (!h->backing || !self)
		return;
	if (image_resolve(self, h->backing, &path, &err) < 0) {
		look->trouble = strdup(err.text);
		return;
	}
	slash = strrchr(path, '/');
	if (slash && storage_name_good(slash + 1)) {
		_cleanup_free_ char *own = s->type->path(s, slash + 1);

		look->sibling = own && strcmp(own, path) == 0;
	}
	look->below = look->sibling ? strdup(slash + 1) : take_ptr(path);
}

static void list_snapshots(int fd, int data_fd, struct volume_look *look)
{
	struct image_chain chain = {.n = 1};
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct qcow2_snapshot_info info;
	struct block *block = NULL;

	(void)data_fd;
	chain.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .data_fd = -1};
	if (image_chain_open(&block, &chain, IMAGE_READONLY | IMAGE_NO_BACKING, NULL) < 0)
		return;
	for (unsigned i = 0; i < SNAPSHOTS_SHOWN && qcow2_snapshot_info(block, i, &info) == 0;
	     i++) {
		for (const char *p = info.name; *p; p++)
			strbuf_putc(&sb, (unsigned char)*p <= 0x20 || *p == 0x7f ? '?' : *p);
		strbuf_printf(&sb, " id=");
		for (const char *p = info.id; *p; p++)
			strbuf_putc(&sb, (unsigned char)*p <= 0x20 || *p == 0x7f ? '?' : *p);
		strbuf_printf(&sb, " size=%llu time=%llu\n", (unsigned long long)info.bytes,
			      (unsigned long long)info.time_s);
	}
	block_close(block);
	if (sb.len && !sb.failed)
		look->snapshots = strbuf_steal(&sb);
}

static int look_qcow2(int fd, const struct storage *s, const char *name, struct volume_look *look,
		      struct strbuf *sb, struct err *err)
{
	struct qcow2_header_info h = {0};
	struct block *file;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int r = copy < 0 ? -errno : block_file_open(&file, copy, BLOCK_OPEN_READONLY, err);

	if (r < 0)
		return r;
	r = qcow2_header_info(file, &h, err);
	block_close(file);
	if (r < 0)
		return r;
	look->qcow2 = true;
	look->bytes = h.bytes;
	look->cluster_bytes = h.cluster_bytes;
	look->version = h.version;
	look->refcount_bits = h.refcount_bits;
	look->extended_l2 = h.extended_l2;
	look->lazy_refcounts = h.lazy_refcounts;
	look->zstd = h.zstd;
	describe(&h, sb);
	find_below(s, name, &h, look);
	if (h.n_snapshots && !h.needs_data_file)
		list_snapshots(fd, -1, look);
	if (h.corrupt && !look->trouble)
		look->trouble = strdup("its header says that it is corrupt: echo repair all > ctl");
	qcow2_header_info_free(&h);
	return 0;
}

void look_into(int fd, const struct storage *s, const char *name, enum image_format format,
	       uint64_t bytes, struct volume_look *look)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;
	int r = 0;

	look_free(look);
	memset(look, 0, sizeof(*look));
	look->bytes = bytes;
	if (format == IMAGE_QCOW2) {
		look->bytes = 0;
		r = look_qcow2(fd, s, name, look, &sb, &err);
	} else {
		add_text(&sb, "format", "raw");
	}
	if (r < 0) {
		free(look->trouble);
		look->trouble = strdup(err.text[0] ? err.text : strerror(-r));
	}
	add_number(&sb, "file_bytes", bytes);
	look->info = strbuf_steal(&sb);
}
