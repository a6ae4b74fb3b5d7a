// SPDX-License-Identifier: ISC
/* Archives are written: archive.h says what is where. By a few threads where zstd has them.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "archive.h"
#include "util/cleanup.h"
#include "util/file.h"

#define LEVEL	  1
#define WORKERS	  2
#define OUT_BYTES (256u << 10)

struct archive_out {
	int fd;
	ZSTD_CCtx *zstd;
	uint64_t records, bytes;
	uint32_t crc_file, crc_body;
	char buf[OUT_BYTES];
};

static int put_plain(struct archive_out *out, const void *data, size_t len, struct err *err)
{
	int r = file_write_all(out->fd, data, len);

	if (r == -EDQUOT)
		r = -ENOSPC;
	if (r < 0)
		return err_set(err, r, "cannot write the archive: %s", strerror(-r));
	out->crc_file = (uint32_t)crc32_z(out->crc_file, data, len);
	return 0;
}

static int put_packed(struct archive_out *out, const void *data, size_t len, ZSTD_EndDirective how,
		      struct err *err)
{
	ZSTD_inBuffer in = {.src = data, .size = len};
	size_t left;
	int r = 0;

	do {
		ZSTD_outBuffer to = {.dst = out->buf, .size = sizeof(out->buf)};

		left = ZSTD_compressStream2(out->zstd, &to, &in, how);
		if (ZSTD_isError(left))
			return err_set(err, -ENOMEM, "cannot compress: %s",
				       ZSTD_getErrorName(left));
		if (to.pos)
			r = put_plain(out, out->buf, to.pos, err);
	} while (r == 0 && (in.pos < in.size || (how == ZSTD_e_end && left)));
	return r;
}

static int put_body(struct archive_out *out, const void *data, size_t len, struct err *err)
{
	out->crc_body = (uint32_t)crc32_z(out->crc_body, data, len);
	return put_packed(out, data, len, ZSTD_e_continue, err);
}

static int set_up(struct archive_out *out)
{
	const struct {
		ZSTD_cParameter key;
		int value;
	} wants[] = {{ZSTD_c_compressionLevel, LEVEL},
		     {ZSTD_c_windowLog, ARCHIVE_WINDOW_LOG},
		     {ZSTD_c_checksumFlag, 1},
		     {ZSTD_c_contentSizeFlag, 0}};

	out->zstd = ZSTD_createCCtx();
	for (size_t i = 0; out->zstd && i < nitems(wants); i++)
		if (ZSTD_isError(ZSTD_CCtx_setParameter(out->zstd, wants[i].key, wants[i].value)))
			return -EINVAL;
	if (out->zstd) /* a library without threads refuses, and is slower */
		ZSTD_CCtx_setParameter(out->zstd, ZSTD_c_nbWorkers, WORKERS);
	return out->zstd ? 0 : -ENOMEM;
}

static int put_header(struct archive_out *out, struct err *err)
{
	struct {
		char magic[8];
		uint32_t version, bytes, zero[3], crc;
	} h = {.version = htole32(ARCHIVE_VERSION), .bytes = htole32(ARCHIVE_HEADER_BYTES)};

	_Static_assert(sizeof(h) == ARCHIVE_HEADER_BYTES, "as archive.h says");
	memcpy(h.magic, ARCHIVE_MAGIC, sizeof(h.magic));
	h.crc = htole32((uint32_t)crc32(0, (void *)&h, sizeof(h) - sizeof(h.crc)));
	return put_plain(out, &h, sizeof(h), err);
}

int archive_out_open(struct archive_out **result, int fd, struct err *err)
{
	struct archive_out *out = calloc(1, sizeof(*out));
	int r = out ? set_up(out) : -ENOMEM;

	if (r < 0) {
		archive_out_free(out);
		return err_set(err, r, "cannot set up the compression: %s", strerror(-r));
	}
	out->fd = fd;
	r = put_header(out, err);
	if (r < 0)
		archive_out_free(out);
	else
		*result = out;
	return r;
}

static int put_record(struct archive_out *out, const struct archive_record *record,
		      const void *data, struct err *err)
{
	struct {
		uint32_t kind, bytes;
		uint64_t offset;
		uint32_t crc, crc_header;
		char name[ARCHIVE_NAME_BYTES];
	} h = {.kind = htole32(record->kind),
	       .bytes = htole32(record->bytes),
	       .offset = htole64(record->offset),
	       .crc = htole32((uint32_t)crc32_z(0, data, record->bytes))};
	int r;

	_Static_assert(sizeof(h) == ARCHIVE_RECORD_BYTES, "as archive.h says");
	memcpy(h.name, record->name, strnlen(record->name, sizeof(h.name) - 1));
	h.crc_header = htole32((uint32_t)crc32(0, (void *)&h, sizeof(h)));
	r = put_body(out, &h, sizeof(h), err);
	return r == 0 ? put_body(out, data, record->bytes, err) : r;
}

int archive_out_put(struct archive_out *out, const struct archive_record *record, const void *data,
		    struct err *err)
{
	out->records++;
	out->bytes += record->bytes;
	return put_record(out, record, data, err);
}

int archive_out_end(struct archive_out *out, struct err *err)
{
	struct {
		uint64_t records, bytes;
		uint32_t crc, zero[3];
	} end = {.records = htole64(out->records),
		 .bytes = htole64(out->bytes),
		 .crc = htole32(out->crc_body)};
	struct {
		char magic[8];
		uint32_t zero, crc;
	} trailer = {.zero = 0};
	const struct archive_record record = {.kind = ARCHIVE_END, .bytes = sizeof(end)};
	int r;

	_Static_assert(sizeof(end) == ARCHIVE_END_BYTES, "as archive.h says");
	_Static_assert(sizeof(trailer) == ARCHIVE_TRAILER_BYTES, "as archive.h says");
	r = put_record(out, &record, &end, err);
	if (r == 0)
		r = put_packed(out, NULL, 0, ZSTD_e_end, err);
	if (r < 0)
		return r;
	memcpy(trailer.magic, ARCHIVE_END_MAGIC, sizeof(trailer.magic));
	trailer.crc = htole32(out->crc_file);
	return put_plain(out, &trailer, sizeof(trailer), err);
}

void archive_out_free(struct archive_out *out)
{
	if (out)
		ZSTD_freeCCtx(out->zstd);
	free(out);
}
