// SPDX-License-Identifier: ISC
/*
 * Maps of memory: as text, checked, opened, and read as a file.
 *
 * The text is anybody's who could write a snapshot's directory or an archive, so every number
 * is bounded before it is used, and a map that was read is checked as one from a holder is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_int.h"
#include "memory_map.h"
#include "util/cleanup.h"

#define MAP_VERSION 1
#define PAGE	    4096u

static const char *const kind_names[] = {[VMM_MEMORY_RAW] = "raw", [VMM_MEMORY_PACKED] = "packed"};

/* --- out ------------------------------------------------------------------------------------- */

void memory_map_format(const struct memory_map *map, struct strbuf *sb)
{
	strbuf_printf(sb, "memory %d %s %" PRIu64 "\n", MAP_VERSION, kind_names[map->kind],
		      map->bytes);
	for (unsigned i = 0; i < map->n_files; i++)
		strbuf_printf(sb, "file %s\n", map->files[i]);
	for (unsigned i = 0; i < map->n_extents; i++) {
		const struct vmm_extent *e = &map->extents[i];

		strbuf_printf(sb, "extent %" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu64 "\n",
			      e->gpa, e->bytes, e->file, e->offset);
	}
}

/* --- in -------------------------------------------------------------------------------------- */

struct parse {
	struct memory_map *map;
	char *save;
	unsigned line;
	struct err *err;
};

static int bad(const struct parse *p, const char *what)
{
	return err_set(p->err, -EINVAL, "line %u: %s", p->line, what);
}

/* The next word as a number up to @max. */
static int take_number(struct parse *p, uint64_t max, uint64_t *value)
{
	const char *word = strtok_r(NULL, " ", &p->save);
	char *end;

	if (!word || *word < '0' || *word > '9' || strlen(word) > 20)
		return bad(p, "a number is wanted");
	errno = 0;
	*value = strtoull(word, &end, 10);
	return errno || *end || *value > max ? bad(p, "a number that is too large, or none") : 0;
}

static int take_head(struct parse *p)
{
	uint64_t version;
	const char *kind;

	if (take_number(p, UINT32_MAX, &version) < 0)
		return -EINVAL;
	if (version != MAP_VERSION)
		return bad(p, "made by a later version of filevisor");
	kind = strtok_r(NULL, " ", &p->save);
	for (size_t i = 0; kind && i < nitems(kind_names); i++)
		if (strcmp(kind, kind_names[i]) == 0) {
			p->map->kind = (enum vmm_memory_kind)i;
			return take_number(p, INT64_MAX, &p->map->bytes);
		}
	return bad(p, "'raw' or 'packed' is wanted");
}

static int take_file(struct parse *p)
{
	const char *id = strtok_r(NULL, " ", &p->save);

	if (!layer_id_good(id))
		return bad(p, "an id is wanted");
	if (p->map->n_files == VMM_MEMORY_FILES_MAX)
		return bad(p, "too many files");
	strcpy(p->map->files[p->map->n_files++], id);
	return 0;
}

static int take_extent(struct parse *p)
{
	struct vmm_extent e = {0};
	uint64_t file;
	int r;

	if (p->map->n_extents == VMM_EXTENTS_MAX)
		return bad(p, "too many extents");
	r = take_number(p, INT64_MAX, &e.gpa);
	if (r == 0)
		r = take_number(p, INT64_MAX, &e.bytes);
	if (r == 0)
		r = take_number(p, VMM_MEMORY_FILES_MAX - 1, &file);
	if (r == 0)
		r = take_number(p, INT64_MAX, &e.offset);
	if (r < 0)
		return r;
	e.file = (uint32_t)file;
	p->map->extents[p->map->n_extents++] = e;
	return 0;
}

static int take_line(struct parse *p, char *line)
{
	static const struct {
		const char *word;
		int (*take)(struct parse *p);
	} rows[] = {{"memory", take_head}, {"file", take_file}, {"extent", take_extent}};
	const char *word = strtok_r(line, " ", &p->save);
	int r = -EINVAL;

	for (size_t i = 0; word && i < nitems(rows); i++) {
		if (strcmp(word, rows[i].word) != 0)
			continue;
		if ((i == 0) != (p->line == 1))
			return bad(p, "'memory' is the first line, and only that");
		r = rows[i].take(p);
		if (r == 0 && strtok_r(NULL, " ", &p->save))
			return bad(p, "there is more than it can have");
		return r;
	}
	return bad(p, "it is none of 'memory', 'file' and 'extent'");
}

int memory_map_parse(const char *text, size_t len, struct memory_map **out, struct err *err)
{
	_cleanup_free_ struct memory_map *map = calloc(1, sizeof(*map));
	_cleanup_free_ char *copy = malloc(len + 1);
	struct parse p = {.map = map, .err = err};
	int r = map && copy ? 0 : err_set(err, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (strlen(copy) != len || !len || copy[len - 1] != '\n')
		return err_set(err, -EINVAL, "it is no text, or cut short");
	for (char *line = copy, *next; r == 0 && *line; line = next) {
		next = strchr(line, '\n');
		*next++ = '\0';
		p.line++;
		r = take_line(&p, line);
	}
	if (r == 0)
		r = memory_map_check(map, err);
	if (r == 0)
		*out = take_ptr(map);
	return r;
}

/* --- checked --------------------------------------------------------------------------------- */

static int check_extent(const struct memory_map *map, const struct vmm_extent *e, uint64_t from,
			struct err *err)
{
	if ((e->gpa | e->bytes | e->offset) % PAGE || !e->bytes)
		return err_set(err, -EINVAL, "an extent of memory is no whole number of pages");
	if (e->gpa < from)
		return err_set(err, -EINVAL, "extents of memory do not ascend");
	if (e->gpa > map->bytes || e->bytes > map->bytes - e->gpa)
		return err_set(err, -EINVAL, "an extent of memory is behind its end");
	if (e->file >= map->n_files)
		return err_set(err, -EINVAL, "an extent of memory is in no file");
	if (e->offset > INT64_MAX - e->bytes)
		return err_set(err, -EINVAL, "an extent of memory is nowhere in a file");
	return 0;
}

int memory_map_check(const struct memory_map *map, struct err *err)
{
	uint64_t from = 0;
	int r = 0;

	if (!map->bytes || map->bytes % PAGE || map->bytes > INT64_MAX)
		return err_set(err, -EINVAL, "no memory is of %" PRIu64 " bytes", map->bytes);
	if (map->n_files > VMM_MEMORY_FILES_MAX || map->n_extents > VMM_EXTENTS_MAX)
		return err_set(err, -EINVAL, "memory of too many parts");
	if (map->kind == VMM_MEMORY_PACKED)
		return map->n_files == 1 && map->n_extents == 0
			   ? 0
			   : err_set(err, -EINVAL, "packed memory is one file, without extents");
	if (map->kind != VMM_MEMORY_RAW)
		return err_set(err, -EINVAL, "memory of an unknown kind");
	for (unsigned i = 0; r == 0 && i < map->n_extents; i++) {
		r = check_extent(map, &map->extents[i], from, err);
		from = map->extents[i].gpa + map->extents[i].bytes;
	}
	return r;
}

/* --- its files ------------------------------------------------------------------------------- */

void memory_map_get(struct model *model, const struct memory_map *map)
{
	for (unsigned i = 0; i < map->n_files; i++)
		layer_get(model, LAYER_MEMORY, map->files[i]);
}

void memory_map_put(struct model *model, const struct memory_map *map)
{
	for (unsigned i = 0; i < map->n_files; i++)
		layer_put(model, LAYER_MEMORY, map->files[i]);
}

static void close_all(int *fds, unsigned n)
{
	while (n)
		close(fds[--n]);
}

/* A file that was cut short would end who maps it by SIGBUS. */
static int check_lengths(const struct memory_map *map, const int *fds, struct err *err)
{
	for (unsigned i = 0; i < map->n_extents; i++) {
		const struct vmm_extent *e = &map->extents[i];
		struct stat st;

		if (fstat(fds[e->file], &st) < 0)
			return err_set(err, -errno, "layer %s: %m", map->files[e->file]);
		if ((uint64_t)st.st_size < e->offset + e->bytes)
			return err_set(err, -EIO, "layer %s of memory was cut short",
				       map->files[e->file]);
	}
	return 0;
}

int memory_map_open(struct model *model, const struct memory_map *map,
		    int fds[VMM_MEMORY_FILES_MAX], struct err *err)
{
	unsigned n = 0;
	int r = 0;

	while (r == 0 && n < map->n_files) {
		int fd = layer_open(model, LAYER_MEMORY, map->files[n], false, err);

		if (fd < 0)
			r = fd;
		else
			fds[n++] = fd;
	}
	if (r == 0)
		r = check_lengths(map, fds, err);
	if (r < 0)
		close_all(fds, n);
	return r;
}

/* --- as content ------------------------------------------------------------------------------ */

struct map_content {
	struct content content;
	struct memory_map map;
	int fds[VMM_MEMORY_FILES_MAX];
};

static struct map_content *of(struct content *content)
{
	return (struct map_content *)content;
}

static uint64_t map_size(struct content *content)
{
	return of(content)->map.bytes;
}

/* The first extent that ends behind @offset; n_extents: none. */
static unsigned find_extent(const struct memory_map *map, uint64_t offset)
{
	unsigned low = 0, high = map->n_extents;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct vmm_extent *e = &map->extents[middle];

		if (e->gpa + e->bytes <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* How many bytes at @offset, within @len, are of one kind: of *@e, or (NULL) zeroes. */
static uint64_t part_at(const struct memory_map *map, uint64_t offset, uint64_t len,
			const struct vmm_extent **e)
{
	unsigned i = find_extent(map, offset);
	const struct vmm_extent *next = i < map->n_extents ? &map->extents[i] : NULL;
	uint64_t end = map->bytes;

	*e = next && next->gpa <= offset ? next : NULL;
	if (*e)
		end = next->gpa + next->bytes;
	else if (next)
		end = next->gpa;
	return len < end - offset ? len : end - offset;
}

static int read_part(int fd, void *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (char *)buf + n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static ssize_t map_read(struct content *content, void *buf, size_t len, uint64_t offset)
{
	const struct map_content *c = of(content);
	size_t done = 0;

	if (offset >= c->map.bytes)
		return 0;
	if (len > c->map.bytes - offset)
		len = c->map.bytes - offset;
	while (done < len) {
		const struct vmm_extent *e;
		uint64_t at = offset + done;
		size_t part = part_at(&c->map, at, len - done, &e);
		int r = 0;

		if (e)
			r = read_part(c->fds[e->file], (char *)buf + done, part,
				      e->offset + (at - e->gpa));
		else
			memset((char *)buf + done, 0, part);
		if (r < 0)
			return done ? (ssize_t)done : r;
		done += part;
	}
	return (ssize_t)done;
}

/* Of a file: what is a hole there reads as zeroes, too. */
static int map_extent(struct content *content, uint64_t offset, uint64_t bytes, uint64_t *alike,
		      bool *zero)
{
	const struct map_content *c = of(content);
	const struct vmm_extent *e;
	uint64_t at;
	off_t next;

	*alike = part_at(&c->map, offset, bytes, &e);
	*zero = !e;
	if (!e)
		return 0;
	at = e->offset + (offset - e->gpa);
	next = lseek(c->fds[e->file], (off_t)at, SEEK_DATA);
	*zero = (next < 0 && errno == ENXIO) || next > (off_t)at;
	if (!*zero)
		next = lseek(c->fds[e->file], (off_t)at, SEEK_HOLE);
	if (next > (off_t)at && (uint64_t)next - at < *alike)
		*alike = (uint64_t)next - at;
	return 0;
}

static int64_t map_seek(struct content *content, int64_t offset, int whence)
{
	return content_seek_extents(content, of(content)->map.bytes, offset, whence, map_extent);
}

static int map_close(struct content *content)
{
	close_all(of(content)->fds, of(content)->map.n_files);
	free(content);
	return 0;
}

static const struct content_ops map_ops = {
    .size = map_size, .read = map_read, .seek = map_seek, .close = map_close};

int memory_map_content(const struct memory_map *map, int fds[VMM_MEMORY_FILES_MAX],
		       struct content **content, struct err *err)
{
	struct map_content *c = map->kind == VMM_MEMORY_RAW ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close_all(fds, map->n_files);
		return map->kind == VMM_MEMORY_RAW
			   ? err_set(err, -ENOMEM, "out of memory")
			   : err_set(err, -EOPNOTSUPP,
				     "the memory is packed: start the machine to read it");
	}
	c->content.ops = &map_ops;
	c->map = *map;
	memcpy(c->fds, fds, map->n_files * sizeof(*fds));
	*content = &c->content;
	return 0;
}
