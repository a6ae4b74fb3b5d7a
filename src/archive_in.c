// SPDX-License-Identifier: ISC
/*
 * Archives are read as they come, in whatever pieces: archive.h says what is where.
 *
 * `stage_*` eat the file's bytes: header, start of the frame, body, trailer. The body's go through
 * zstd into a buffer that is handed on each time; there `take_*` collect first a record's header,
 * then, once that is known to be sound, its contents. No length is believed before it is
 * compared to what its kind may have, so the memory is that of zstd's window (whose size the first
 * bytes of the frame must say), one buffer, and one record.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "archive.h"
#include "util/cleanup.h"

#define OUT_BYTES  (256u << 10)
#define PAGE	   4096u
#define START	   6 /* bytes of the frame that are always the same */
#define OFFSET_MAX (1ull << 62)

static const uint8_t frame_start[START] = {0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58};

enum where { IN_HEADER, IN_START, IN_BODY, IN_TRAILER, AT_END };

struct record_header {
	uint32_t kind, bytes;
	uint64_t offset;
	uint32_t crc, crc_header;
	char name[ARCHIVE_NAME_BYTES];
};

_Static_assert(sizeof(struct record_header) == ARCHIVE_RECORD_BYTES, "as archive.h says");

struct archive_in {
	archive_record_fn *record;
	void *arg;
	struct err *err; /* of the call under way */
	ZSTD_DCtx *zstd;
	enum where where;
	uint32_t crc_file;
	uint8_t head[ARCHIVE_HEADER_BYTES]; /* header, start of the frame, trailer */
	size_t n_head;
	uint64_t at; /* bytes of the file */

	/* the body */
	struct record_header raw;
	size_t n_raw;		   /* bytes of it that are there */
	struct archive_record now; /* what it says, when it is whole */
	uint32_t crc_now;
	size_t n_data; /* bytes of its contents that are there */
	bool ended;    /* END was there */
	enum archive_kind last;
	char last_name[ARCHIVE_NAME_BYTES];
	uint64_t next; /* offset behind the last piece of the same */
	uint64_t records, bytes;
	uint32_t crc_body;
	uint8_t data[ARCHIVE_PIECE_MAX];
	uint8_t out[OUT_BYTES];
};

/* What each kind may have. */
static const struct {
	const char *name;
	uint32_t max, min;
	bool once, gapless, named;
	uint32_t align;
} kinds[ARCHIVE_KIND_MAX] = {
    [ARCHIVE_META] = {"meta", ARCHIVE_META_MAX, 1, .once = true},
    [ARCHIVE_CONFIG] = {"config", CONFIG_MAX, 0, .once = true},
    [ARCHIVE_KERNEL] = {"kernel", ARCHIVE_PIECE_MAX, 1, .gapless = true},
    [ARCHIVE_INITRD] = {"initrd", ARCHIVE_PIECE_MAX, 1, .gapless = true},
    [ARCHIVE_DISK] = {"disk", ARCHIVE_PIECE_MAX, 1, .named = true},
    [ARCHIVE_MEMORY] = {"memory", ARCHIVE_PIECE_MAX, 1, .align = PAGE},
    [ARCHIVE_STATE] = {"state", ARCHIVE_PIECE_MAX, 1, .gapless = true},
    [ARCHIVE_REGISTERS] = {"registers", ARCHIVE_PIECE_MAX, 1, .gapless = true},
    [ARCHIVE_END] = {"end", ARCHIVE_END_BYTES, ARCHIVE_END_BYTES, .once = true},
};

_Static_assert(CONFIG_MAX <= ARCHIVE_PIECE_MAX && ARCHIVE_META_MAX <= ARCHIVE_PIECE_MAX,
	       "a record's contents have room");

static int damaged(struct archive_in *in, const char *what)
{
	return err_set(in->err, -EINVAL, "the archive is damaged before byte %llu: %s",
		       (unsigned long long)in->at, what);
}

/* --- records --------------------------------------------------------------------------------- */

static bool zeroes(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static bool name_good(const struct archive_record *r, const char raw[ARCHIVE_NAME_BYTES])
{
	size_t len = strnlen(raw, ARCHIVE_NAME_BYTES);

	if (len == ARCHIVE_NAME_BYTES || !zeroes(raw + len, ARCHIVE_NAME_BYTES - len))
		return false;
	return kinds[r->kind].named ? disk_name_check(raw, NULL) == 0 : len == 0;
}

/* Whether it may come now, and there. */
static int check_place(struct archive_in *in, const struct archive_record *r)
{
	bool same = r->kind == in->last && strcmp(r->name, in->last_name) == 0;

	if (in->last < ARCHIVE_CONFIG ? r->kind != in->last + 1 : r->kind < in->last)
		return damaged(in, "a record that may not come there");
	if (kinds[r->kind].once && (r->kind == in->last || r->offset))
		return damaged(in, "a record that may come once");
	if (!same)
		in->next = 0;
	if (r->offset < in->next || (kinds[r->kind].gapless && r->offset != in->next) ||
	    r->offset > OFFSET_MAX)
		return damaged(in, "a piece that is not where it may be");
	return 0;
}

static int take_header(struct archive_in *in)
{
	struct archive_record r = {.bytes = le32toh(in->raw.bytes),
				   .offset = le64toh(in->raw.offset)};
	uint32_t kind = le32toh(in->raw.kind), crc = in->raw.crc_header;

	in->raw.crc_header = 0;
	if (le32toh(crc) != (uint32_t)crc32(0, (void *)&in->raw, sizeof(in->raw)))
		return damaged(in, "a record's header does not match its checksum");
	in->raw.crc_header = crc;
	if (kind < ARCHIVE_META || kind >= ARCHIVE_KIND_MAX)
		return damaged(in, "a record of an unknown kind");
	r.kind = (enum archive_kind)kind;
	if (r.bytes > kinds[kind].max || r.bytes < kinds[kind].min)
		return damaged(in, "a record of a length that cannot be");
	if (kinds[kind].align && (r.offset | r.bytes) % kinds[kind].align)
		return damaged(in, "memory that is no whole number of pages");
	if (!name_good(&r, in->raw.name))
		return damaged(in, "a record's name");
	memcpy(r.name, in->raw.name, sizeof(r.name));
	in->now = r;
	in->crc_now = le32toh(in->raw.crc);
	return check_place(in, &r);
}

static int take_end(struct archive_in *in, uint32_t crc_before)
{
	struct {
		uint64_t records, bytes;
		uint32_t crc, zero[3];
	} end;

	memcpy(&end, in->data, sizeof(end));
	if (le64toh(end.records) != in->records || le64toh(end.bytes) != in->bytes ||
	    le32toh(end.crc) != crc_before || !zeroes(end.zero, sizeof(end.zero)))
		return damaged(in, "its records are not those that were written");
	in->ended = true;
	return 0;
}

/* The contents are there. */
static int take_record(struct archive_in *in)
{
	const struct archive_record *r = &in->now;
	uint32_t crc = (uint32_t)crc32_z(0, in->data, r->bytes), before = in->crc_body;
	char words[80];

	if (crc != in->crc_now) {
		snprintf(words, sizeof(words), "%s does not match its checksum",
			 kinds[r->kind].name);
		return damaged(in, words);
	}
	in->n_raw = in->n_data = 0;
	if (r->kind == ARCHIVE_END)
		return take_end(in, before);
	in->crc_body = (uint32_t)crc32_z(before, (void *)&in->raw, sizeof(in->raw));
	in->crc_body = (uint32_t)crc32_z(in->crc_body, in->data, r->bytes);
	in->records++;
	in->bytes += r->bytes;
	in->last = r->kind;
	memcpy(in->last_name, r->name, sizeof(r->name));
	in->next = r->offset + r->bytes;
	return in->record(in->arg, r, in->data, in->err);
}

/* Bytes of the body. */
static int take_body(struct archive_in *in, const uint8_t *data, size_t len)
{
	int r = 0;

	while (r == 0 && len) {
		bool header = in->n_raw < sizeof(in->raw);
		size_t want = header ? sizeof(in->raw) - in->n_raw : in->now.bytes - in->n_data;
		size_t n = want < len ? want : len;

		if (in->ended)
			return damaged(in, "there is something behind its last record");
		memcpy(header ? (uint8_t *)&in->raw + in->n_raw : in->data + in->n_data, data, n);
		*(header ? &in->n_raw : &in->n_data) += n;
		data += n;
		len -= n;
		if (n < want)
			break;
		if (header)
			r = take_header(in);
		if (r == 0 && in->n_data == in->now.bytes)
			r = take_record(in);
	}
	return r;
}

/* --- the file -------------------------------------------------------------------------------- */

/* Collects @want bytes in head. True: they are there. */
static bool collect(struct archive_in *in, const uint8_t **data, size_t *len, size_t want)
{
	size_t n = want - in->n_head < *len ? want - in->n_head : *len;

	memcpy(in->head + in->n_head, *data, n);
	if (in->where != IN_TRAILER)
		in->crc_file = (uint32_t)crc32_z(in->crc_file, *data, n);
	in->n_head += n;
	in->at += n;
	*data += n;
	*len -= n;
	if (in->n_head < want)
		return false;
	in->n_head = 0;
	return true;
}

static uint32_t head32(const struct archive_in *in, size_t at)
{
	uint32_t value;

	memcpy(&value, in->head + at, sizeof(value));
	return le32toh(value);
}

static int stage_header(struct archive_in *in, const uint8_t **data, size_t *len)
{
	bool whole = collect(in, data, len, ARCHIVE_HEADER_BYTES);
	size_t n = whole || in->n_head > 8 ? 8 : in->n_head;

	/* as soon as it shows: many a writer does not hear what close(2) says */
	if (memcmp(in->head, ARCHIVE_MAGIC, n) != 0)
		return err_set(in->err, -EINVAL, "it is no archive of a snapshot");
	if (!whole)
		return 0;
	if (head32(in, 28) != (uint32_t)crc32(0, in->head, 28))
		return damaged(in, "the header does not match its checksum");
	if (head32(in, 8) != ARCHIVE_VERSION)
		return err_set(in->err, -EOPNOTSUPP,
			       "it is of version %u, made by a later version of filevisor",
			       head32(in, 8));
	if (head32(in, 12) != ARCHIVE_HEADER_BYTES || !zeroes(in->head + 16, 12))
		return damaged(in, "the header");
	in->where = IN_START;
	return 0;
}

/* The rest of the frame's header is what it always is: no larger window is ever allocated. */
static int stage_start(struct archive_in *in, const uint8_t **data, size_t *len)
{
	ZSTD_inBuffer start = {.src = frame_start, .size = START};
	ZSTD_outBuffer none = {.dst = in->out, .size = sizeof(in->out)};

	if (!collect(in, data, len, START))
		return 0;
	if (memcmp(in->head, frame_start, START) != 0)
		return damaged(in, "the compressed part begins otherwise");
	if (ZSTD_isError(ZSTD_decompressStream(in->zstd, &none, &start)) || start.pos != START)
		return err_set(in->err, -ENOMEM, "out of memory");
	in->where = IN_BODY;
	return 0;
}

static int stage_body(struct archive_in *in, const uint8_t **data, size_t *len)
{
	ZSTD_inBuffer from = {.src = *data, .size = *len};
	size_t left = 1;
	int r = 0;

	for (bool more = true; r == 0 && left && more;) {
		ZSTD_outBuffer to = {.dst = in->out, .size = sizeof(in->out)};

		left = ZSTD_decompressStream(in->zstd, &to, &from);
		if (ZSTD_isError(left))
			return damaged(in, ZSTD_getErrorName(left));
		r = take_body(in, in->out, to.pos);
		more = from.pos < from.size || to.pos == to.size;
	}
	in->crc_file = (uint32_t)crc32_z(in->crc_file, *data, from.pos);
	in->at += from.pos;
	*data += from.pos;
	*len -= from.pos;
	if (r == 0 && left == 0) {
		if (!in->ended)
			return damaged(in, "its last record is missing");
		in->where = IN_TRAILER;
	}
	return r;
}

static int stage_trailer(struct archive_in *in, const uint8_t **data, size_t *len)
{
	if (!collect(in, data, len, ARCHIVE_TRAILER_BYTES))
		return 0;
	if (memcmp(in->head, ARCHIVE_END_MAGIC, 8) != 0 || head32(in, 8) != 0 ||
	    head32(in, 12) != in->crc_file)
		return damaged(in, "all of it does not match its checksum");
	in->where = AT_END;
	return 0;
}

static int stage_end(struct archive_in *in, const uint8_t **data, size_t *len)
{
	(void)data, (void)len;
	return damaged(in, "there is something behind its end");
}

int archive_in_open(struct archive_in **result, archive_record_fn *record, void *arg,
		    struct err *err)
{
	struct archive_in *in = calloc(1, sizeof(*in));

	if (in)
		in->zstd = ZSTD_createDCtx();
	if (!in || !in->zstd ||
	    ZSTD_isError(
		ZSTD_DCtx_setParameter(in->zstd, ZSTD_d_windowLogMax, ARCHIVE_WINDOW_LOG))) {
		archive_in_free(in);
		return err_set(err, -ENOMEM, "out of memory");
	}
	in->record = record;
	in->arg = arg;
	*result = in;
	return 0;
}

int archive_in_put(struct archive_in *in, const void *data, size_t len, struct err *err)
{
	static int (*const stages[])(struct archive_in * in, const uint8_t **data,
				     size_t *len) = {[IN_HEADER] = stage_header,
						     [IN_START] = stage_start,
						     [IN_BODY] = stage_body,
						     [IN_TRAILER] = stage_trailer,
						     [AT_END] = stage_end};
	const uint8_t *bytes = data;
	int r = 0;

	in->err = err;
	while (r == 0 && len)
		r = stages[in->where](in, &bytes, &len);
	in->err = NULL;
	return r;
}

int archive_in_end(struct archive_in *in, struct err *err)
{
	if (in->where == AT_END)
		return 0;
	return err_set(err, -EINVAL, "the archive ends at byte %llu: it was cut short",
		       (unsigned long long)in->at);
}

void archive_in_free(struct archive_in *in)
{
	if (in)
		ZSTD_freeDCtx(in->zstd);
	free(in);
}
