// SPDX-License-Identifier: ISC
/*
 * An archive of anybody. By the first byte of the input the rest is: the bytes of an archive as
 * they are; records that are written with all checksums right (a fuzzer would not find those), as
 * hostile in order, offsets and lengths as it likes; or the text of its meta. What is handed on
 * must keep what archive.h promises, and a refusal has words.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive.h"
#include "util/cleanup.h"
#include "util/file.h"

#define DESCRIBED   12 /* bytes that describe a record */
#define RECORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool so)
{
	if (!so)
		abort();
}

struct seen {
	struct archive_record last;
	unsigned n;
};

static int take(void *arg, const struct archive_record *r, const void *data, struct err *err)
{
	struct seen *seen = arg;
	bool same = seen->n && r->kind == seen->last.kind && strcmp(r->name, seen->last.name) == 0;

	must(r->kind >= ARCHIVE_META && r->kind < ARCHIVE_END);
	must(r->bytes <= ARCHIVE_PIECE_MAX && r->offset <= 1ull << 62);
	must(memchr(r->name, 0, sizeof(r->name)));
	must(seen->n == 0 ? r->kind == ARCHIVE_META : r->kind >= seen->last.kind);
	must((*r->name != 0) == (r->kind == ARCHIVE_DISK) && !strchr(r->name, '/'));
	must(!same || r->offset >= seen->last.offset + seen->last.bytes);
	must(r->kind != ARCHIVE_MEMORY || (r->offset | r->bytes) % 4096 == 0);
	must(!r->bytes || memcmp(data, data, r->bytes) == 0);
	if (r->kind == ARCHIVE_META) {
		struct archive_meta meta;

		if (archive_meta_parse(data, r->bytes, &meta, err) < 0)
			must(err->text[0]);
		*err = (struct err)ERR_INIT;
	}
	seen->last = *r;
	seen->n++;
	return 0;
}

static void read_archive(const uint8_t *data, size_t len, size_t piece)
{
	struct archive_in *in = NULL;
	struct err err = ERR_INIT;
	struct seen seen = {0};
	int r = archive_in_open(&in, take, &seen, &err);

	must(r == 0);
	for (size_t at = 0; r == 0 && at < len; at += piece)
		r = archive_in_put(in, data + at, len - at < piece ? len - at : piece, &err);
	if (r == 0)
		r = archive_in_end(in, &err);
	must(r == 0 ? seen.n >= 2 : err.text[0] && r < 0);
	archive_in_free(in);
}

static void read_records(const uint8_t *data, size_t len)
{
	_cleanup_close_ int fd = memfd_create("archive", MFD_CLOEXEC);
	struct archive_out *out = NULL;
	struct err err = ERR_INIT;
	uint8_t *bytes;
	off_t size;

	must(fd >= 0 && archive_out_open(&out, fd, &err) == 0);
	for (unsigned i = 0; i < RECORDS_MAX && len >= DESCRIBED; i++) {
		struct archive_record r = {.kind = (enum archive_kind)(data[0] % 12)};
		uint16_t n;

		memcpy(&r.offset, data + 2, 8);
		memcpy(&n, data + 10, 2);
		if (data[1] & 1)
			r.offset &= 0xfffff; /* else the whole range */
		if (data[1] & 2)
			strcpy(r.name, data[1] & 4 ? "root" : data[1] & 8 ? "../x" : "data");
		data += DESCRIBED;
		len -= DESCRIBED;
		r.bytes = n < len ? n : (uint32_t)len;
		must(archive_out_put(out, &r, data, &err) == 0);
		data += r.bytes;
		len -= r.bytes;
	}
	must(archive_out_end(out, &err) == 0);
	archive_out_free(out);
	size = lseek(fd, 0, SEEK_END);
	bytes = malloc((size_t)size);
	must(bytes && file_pread_all(fd, bytes, (size_t)size, 0) == 0);
	read_archive(bytes, (size_t)size, 4096);
	free(bytes);
}

static void read_meta(const uint8_t *data, size_t len)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT, again = STRBUF_INIT;
	struct archive_meta meta;
	struct err err = ERR_INIT;

	if (archive_meta_parse((const char *)data, len, &meta, &err) < 0) {
		must(err.text[0]);
		return;
	}
	archive_meta_format(&meta, &text);
	must(archive_meta_parse(text.data, text.len, &meta, &err) == 0);
	archive_meta_format(&meta, &again);
	must(text.len == again.len && memcmp(text.data, again.data, text.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	if (data[0] == 'a')
		read_archive(data + 1, len - 1, 1 + len / 3);
	else if (data[0] == 'm')
		read_meta(data + 1, len - 1);
	else
		read_records(data + 1, len - 1);
	return 0;
}
