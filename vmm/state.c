// SPDX-License-Identifier: ISC
/*
 * The container of a guest's state; state.h has it to the byte. It is small (megabytes with
 * hundreds of vcpus) and is kept whole in memory, so that all of it is checked before any
 * of it is believed, and written with few calls.
 */
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "src/vmm_proto.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "vmm/state.h"

#define VERSION	      1
#define SECTION_MAGIC 0x54434553u /* "SECT" */
#define OPTIONAL      1u

struct file_header {
	char magic[8];
	uint32_t version, n_sections;
	uint64_t bytes;
	uint8_t zero[32];
	uint32_t crc;
	uint32_t used;
};

struct section_header {
	uint32_t magic, version, flags, crc;
	uint64_t bytes;
	char name[STATE_NAME_MAX];
	uint32_t header_crc;
	uint32_t zero;
};

_Static_assert(sizeof(struct file_header) == 64, "as in state.h");
_Static_assert(sizeof(struct section_header) == 96, "as in state.h");
_Static_assert(offsetof(struct file_header, used) == VMM_STATE_USED_AT, "as the daemon has it");

struct section {
	char name[STATE_NAME_MAX];
	uint32_t version, flags;
	size_t at, len;
	bool used;
};

struct state {
	bool loading;
	struct err err; /* the first failure; code 0: none */
	uint8_t *data;
	size_t len, room;
	struct section *sections;
	unsigned n_sections;
	/* the section that has begun */
	struct section *section; /* NULL: none */
	size_t at;		 /* reading */
};

static uint32_t crc_of(const void *data, size_t len)
{
	return (uint32_t)crc32_z(0, data, len);
}

void state_free(struct state *st)
{
	if (!st)
		return;
	free(st->data);
	free(st->sections);
	free(st);
}

static void state_freep(struct state **st)
{
	state_free(*st);
}
#define _cleanup_state_ __attribute__((cleanup(state_freep)))

/* --- failures ------------------------------------------------------------------------------- */

bool state_loading(const struct state *st)
{
	return st->loading;
}

bool state_ok(const struct state *st)
{
	return st->err.code == 0;
}

void state_fail(struct state *st, int code, const char *fmt, ...)
{
	char words[ERR_TEXT_MAX];
	va_list ap;

	if (!state_ok(st))
		return;
	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	err_set(&st->err, code, "%s%s%s", st->section ? st->section->name : "",
		st->section ? ": " : "", words);
}

int state_result(const struct state *st, struct err *err)
{
	return state_ok(st) ? 0 : err_set(err, st->err.code, "%s", st->err.text);
}

/* --- writing -------------------------------------------------------------------------------- */

/* @len bytes more, zeroed, of what is written; NULL where there is no room for them. */
static uint8_t *grow(struct state *st, size_t len)
{
	size_t room = st->room;
	uint8_t *data;

	if (!state_ok(st))
		return NULL;
	if (len > STATE_BYTES_MAX - st->len) {
		state_fail(st, -EFBIG, "more than %u MiB", STATE_BYTES_MAX >> 20);
		return NULL;
	}
	while (room < st->len + len)
		room = room ? room * 2 : 65536;
	if (room > st->room) {
		data = realloc(st->data, room);
		if (!data) {
			state_fail(st, -ENOMEM, "no memory");
			return NULL;
		}
		st->data = data;
		st->room = room;
	}
	memset(st->data + st->len, 0, len);
	st->len += len;
	return st->data + st->len - len;
}

struct state *state_new(void)
{
	_cleanup_state_ struct state *st = calloc(1, sizeof(*st));

	if (!st)
		return NULL;
	st->err = (struct err)ERR_INIT;
	st->sections = calloc(STATE_SECTIONS, sizeof(*st->sections));
	if (!st->sections || !grow(st, sizeof(struct file_header)))
		return NULL;
	return take_ptr(st);
}

static struct section *find(const struct state *st, const char *name)
{
	for (unsigned i = 0; i < st->n_sections; i++)
		if (strcmp(st->sections[i].name, name) == 0)
			return &st->sections[i];
	return NULL;
}

static void begin_writing(struct state *st, const char *name, uint32_t version)
{
	struct section *s = &st->sections[st->n_sections];

	if (st->n_sections == STATE_SECTIONS || strlen(name) >= STATE_NAME_MAX || find(st, name)) {
		state_fail(st, -EINVAL, "no room for section %s", name);
		return;
	}
	if (!grow(st, sizeof(struct section_header)))
		return;
	*s = (struct section){.version = version, .at = st->len};
	snprintf(s->name, sizeof(s->name), "%s", name);
	st->n_sections++;
	st->section = s;
}

static void end_writing(struct state *st)
{
	struct section *s = st->section;
	struct section_header h = {
	    .magic = htole32(SECTION_MAGIC),
	    .version = htole32(s->version),
	    .flags = htole32(s->flags),
	};

	s->len = st->len - s->at;
	grow(st, -st->len & 7);
	if (!state_ok(st))
		return;
	h.crc = htole32(crc_of(st->data + s->at, s->len));
	h.bytes = htole64(s->len);
	memcpy(h.name, s->name, sizeof(h.name));
	h.header_crc = htole32(crc_of(&h, offsetof(struct section_header, header_crc)));
	memcpy(st->data + s->at - sizeof(h), &h, sizeof(h));
}

int state_finish(struct state *st, const void **data, size_t *len, struct err *err)
{
	struct file_header h = {
	    .magic = VMM_STATE_MAGIC,
	    .version = htole32(VERSION),
	    .n_sections = htole32(st->n_sections),
	    .bytes = htole64(st->len),
	};

	if (!state_ok(st))
		return state_result(st, err);
	h.crc = htole32(crc_of(&h, offsetof(struct file_header, crc)));
	memcpy(st->data, &h, sizeof(h));
	*data = st->data;
	*len = st->len;
	return 0;
}

/* --- reading -------------------------------------------------------------------------------- */

static int check_header(const struct file_header *h, size_t len, struct err *err)
{
	if (len < sizeof(*h) || memcmp(h->magic, VMM_STATE_MAGIC, sizeof(h->magic)) != 0)
		return err_set(err, -EINVAL, "this is no saved state");
	if (le32toh(h->crc) != crc_of(h, offsetof(struct file_header, crc)))
		return err_set(err, -EINVAL, "the saved state is damaged: its header");
	if (le32toh(h->version) != VERSION)
		return err_set(err, -EOPNOTSUPP,
			       "the saved state has version %u: made by a later filevisor",
			       le32toh(h->version));
	if (h->used)
		return err_set(err, -ESTALE, "the saved state was used: its guest went on from it");
	if (le64toh(h->bytes) != len)
		return err_set(err, -EINVAL, "the saved state is damaged: %zu bytes, not %llu", len,
			       (unsigned long long)le64toh(h->bytes));
	if (le32toh(h->n_sections) > STATE_SECTIONS)
		return err_set(err, -EINVAL, "the saved state is damaged: too many sections");
	return 0;
}

static int damaged(struct err *err, unsigned i, const char *what)
{
	return err_set(err, -EINVAL, "the saved state is damaged: section %u: %s", i, what);
}

/* The section at *@at, which moves behind it. */
static int index_section(struct state *st, size_t *at, struct err *err)
{
	struct section *s = &st->sections[st->n_sections];
	struct section_header h;
	uint64_t bytes;

	if (st->len - *at < sizeof(h))
		return damaged(err, st->n_sections, "it is not all there");
	memcpy(&h, st->data + *at, sizeof(h));
	if (le32toh(h.magic) != SECTION_MAGIC || h.zero ||
	    le32toh(h.header_crc) != crc_of(&h, offsetof(struct section_header, header_crc)))
		return damaged(err, st->n_sections, "its header");
	*at += sizeof(h);
	bytes = le64toh(h.bytes);
	if (bytes > st->len - *at || h.name[STATE_NAME_MAX - 1] || !h.name[0] || find(st, h.name))
		return damaged(err, st->n_sections, "its name or length");
	*s = (struct section){.version = le32toh(h.version),
			      .flags = le32toh(h.flags),
			      .at = *at,
			      .len = (size_t)bytes};
	memcpy(s->name, h.name, sizeof(s->name));
	if (le32toh(h.crc) != crc_of(st->data + s->at, s->len))
		return err_set(err, -EINVAL, "the saved state is damaged: section %.60s", s->name);
	st->n_sections++;
	*at += s->len;
	for (; *at & 7; ++*at)
		if (*at >= st->len || st->data[*at])
			return damaged(err, st->n_sections - 1, "what is behind it");
	return 0;
}

static int index_all(struct state *st, struct err *err)
{
	struct file_header h = {0};
	size_t at = sizeof(h);
	int r;

	memcpy(&h, st->data, st->len < sizeof(h) ? st->len : sizeof(h));
	r = check_header(&h, st->len, err);
	for (unsigned i = 0; r == 0 && i < le32toh(h.n_sections); i++)
		r = index_section(st, &at, err);
	if (r == 0 && at != st->len)
		r = err_set(err, -EINVAL, "the saved state is damaged: it goes on at its end");
	return r;
}

int state_parse(struct state **out, const void *data, size_t len, struct err *err)
{
	_cleanup_state_ struct state *st = calloc(1, sizeof(*st));
	int r;

	if (len > STATE_BYTES_MAX)
		return err_set(err, -EFBIG, "the saved state has more than %u MiB",
			       STATE_BYTES_MAX >> 20);
	if (st) {
		st->err = (struct err)ERR_INIT;
		st->loading = true;
		st->data = malloc(len + 1);
		st->sections = calloc(STATE_SECTIONS, sizeof(*st->sections));
	}
	if (!st || !st->data || !st->sections)
		return err_set(err, -ENOMEM, "no memory");
	if (len)
		memcpy(st->data, data, len);
	st->len = len;
	r = index_all(st, err);
	if (r == 0)
		*out = take_ptr(st);
	return r;
}

int state_read_file(struct state **st, int fd, struct err *err)
{
	_cleanup_free_ void *data = NULL;
	struct stat info;
	size_t len;
	int r;

	if (fstat(fd, &info) < 0)
		return err_set(err, -errno, "the saved state: %s", strerror(errno));
	if (!S_ISREG(info.st_mode) || info.st_size > (off_t)STATE_BYTES_MAX)
		return err_set(err, -EINVAL, "this is no saved state");
	len = (size_t)info.st_size;
	data = malloc(len + 1);
	if (!data)
		return err_set(err, -ENOMEM, "no memory");
	r = file_pread_all(fd, data, len, 0);
	if (r < 0)
		return err_set(err, r, "cannot read the saved state: %s", strerror(-r));
	return state_parse(st, data, len, err);
}

bool state_has(const struct state *st, const char *name)
{
	return find(st, name);
}

static void begin_reading(struct state *st, const char *name, uint32_t version)
{
	struct section *s = find(st, name);

	if (!s) {
		state_fail(st, -EINVAL, "the saved state has no section %s", name);
		return;
	}
	st->section = s;
	st->at = s->at;
	s->used = true;
	if (s->version > version)
		state_fail(st, -EOPNOTSUPP,
			   "version %u is of a later filevisor: this one reads up to %u",
			   s->version, version);
	else if (s->version == 0)
		state_fail(st, -EINVAL, "it has no version");
}

bool state_begin(struct state *st, const char *name, uint32_t version)
{
	if (!state_ok(st))
		return false;
	if (st->loading)
		begin_reading(st, name, version);
	else
		begin_writing(st, name, version);
	return state_ok(st);
}

void state_end(struct state *st)
{
	const struct section *s = st->section;

	if (!s)
		return;
	if (!st->loading)
		end_writing(st);
	else if (st->at != s->at + s->len)
		state_fail(st, -EINVAL, "%zu bytes too many", s->at + s->len - st->at);
	st->section = NULL;
}

uint32_t state_version(const struct state *st)
{
	return st->section ? st->section->version : 0;
}

void state_check_all_used(struct state *st)
{
	for (unsigned i = 0; st->loading && i < st->n_sections; i++)
		if (!st->sections[i].used && !(st->sections[i].flags & OPTIONAL))
			state_fail(st, -EOPNOTSUPP,
				   "the saved state has %.60s, which this machine has not",
				   st->sections[i].name);
}

/* --- fields --------------------------------------------------------------------------------- */

void state_bytes(struct state *st, void *data, size_t len)
{
	if (st->loading) {
		const struct section *s = st->section;

		if (state_ok(st) && (!s || len > s->at + s->len - st->at))
			state_fail(st, -EINVAL, "it is too short");
		if (!state_ok(st)) {
			memset(data, 0, len);
			return;
		}
		memcpy(data, st->data + st->at, len);
		st->at += len;
	} else {
		uint8_t *to = grow(st, len);

		if (to && len)
			memcpy(to, data, len);
	}
}

void state_u8(struct state *st, uint8_t *value)
{
	state_bytes(st, value, sizeof(*value));
}

void state_u16(struct state *st, uint16_t *value)
{
	uint16_t le = htole16(*value);

	state_bytes(st, &le, sizeof(le));
	if (st->loading)
		*value = le16toh(le);
}

void state_u32(struct state *st, uint32_t *value)
{
	uint32_t le = htole32(*value);

	state_bytes(st, &le, sizeof(le));
	if (st->loading)
		*value = le32toh(le);
}

void state_u64(struct state *st, uint64_t *value)
{
	uint64_t le = htole64(*value);

	state_bytes(st, &le, sizeof(le));
	if (st->loading)
		*value = le64toh(le);
}

void state_i64(struct state *st, int64_t *value)
{
	uint64_t bits = (uint64_t)*value;

	state_u64(st, &bits);
	*value = (int64_t)bits;
}

void state_bool(struct state *st, bool *value)
{
	uint8_t byte = *value;

	state_u8(st, &byte);
	if (st->loading && byte > 1)
		state_fail(st, -EINVAL, "neither yes nor no");
	if (st->loading)
		*value = byte == 1;
}

void state_blob(struct state *st, void *data, uint32_t *len, size_t max)
{
	state_u32(st, len);
	if (st->loading && *len > max) {
		state_fail(st, -EINVAL, "%u bytes where at most %zu fit", *len, max);
		*len = 0;
	}
	state_bytes(st, data, *len);
}

void state_text(struct state *st, char *text, size_t size)
{
	uint32_t len = st->loading ? 0 : (uint32_t)strnlen(text, size - 1);

	state_blob(st, text, &len, size - 1);
	if (!st->loading)
		return;
	text[state_ok(st) ? len : 0] = '\0';
	if (strlen(text) != len)
		state_fail(st, -EINVAL, "a text with a NUL");
}

void state_same(struct state *st, const char *what, uint32_t value)
{
	uint32_t stored = value;

	state_u32(st, &stored);
	if (st->loading && stored != value)
		state_fail(st, -EINVAL, "%s: %u when it was saved, %u now", what, stored, value);
}
