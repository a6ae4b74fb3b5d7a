// SPDX-License-Identifier: ISC
/* Sets of layers: copied, searched, as text and back. The text may be anybody's. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "util/cleanup.h"

#define SET_VERSION 1
#define DISKS_MAX   1024
#define SOURCE_MAX  4096
#define ID_FORM	    "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

bool layer_id_good(const char *id)
{
	if (!id || strlen(id) != ID_TEXT - 1)
		return false;
	for (size_t i = 0; i < ID_TEXT - 1; i++) {
		bool hex = (id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'f');

		if (ID_FORM[i] == '-' ? id[i] != '-' : !hex)
			return false;
	}
	return true;
}

/* --- memory ---------------------------------------------------------------------------------- */

static void disk_free(struct disk_layers *d)
{
	free(d->source);
	*d = (struct disk_layers){0};
}

void layer_set_free(struct layer_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		disk_free(&set->disks[i]);
	free(set->disks);
	free(set->parent);
	*set = (struct layer_set){0};
}

int layer_set_add(struct layer_set *set, const struct disk_layers *disk)
{
	struct disk_layers *more = realloc(set->disks, (set->n + 1) * sizeof(*more)), *d;

	if (!more)
		return -ENOMEM;
	set->disks = more;
	d = &more[set->n];
	*d = *disk;
	d->source = strdup(disk->source);
	if (!d->source)
		return -ENOMEM;
	set->n++;
	return 0;
}

int disk_layers_push(struct disk_layers *disk, const char id[ID_TEXT], struct err *err)
{
	struct layer_chain *chain = &disk->chain;

	if (chain->n >= LAYERS_MAX)
		return err_set(err, -ENOSPC, "disk %s has %d layers already", disk->name,
			       LAYERS_MAX);
	memmove(chain->ids[1], chain->ids[0], chain->n * sizeof(chain->ids[0]));
	memcpy(chain->ids[0], id, ID_TEXT);
	chain->n++;
	return 0;
}

void layer_set_cut(struct layer_set *set, size_t index)
{
	disk_free(&set->disks[index]);
	set->n--;
	memmove(&set->disks[index], &set->disks[index + 1], (set->n - index) * sizeof(*set->disks));
}

int layer_set_copy(struct layer_set *to, const struct layer_set *from)
{
	int r = 0;

	*to = (struct layer_set){.version = from->version};
	if (from->parent && !(to->parent = strdup(from->parent)))
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = layer_set_add(to, &from->disks[i]);
	if (r < 0)
		layer_set_free(to);
	return r;
}

struct disk_layers *layer_set_find(const struct layer_set *set, const char *disk,
				   const char *source)
{
	for (size_t i = 0; i < set->n; i++)
		if (strcmp(set->disks[i].name, disk) == 0 &&
		    strcmp(set->disks[i].source, source) == 0)
			return &set->disks[i];
	return NULL;
}

/* --- out ------------------------------------------------------------------------------------- */

void layer_set_format(const struct layer_set *set, struct strbuf *sb)
{
	strbuf_printf(sb, "layers %d\n", SET_VERSION);
	if (set->parent)
		strbuf_printf(sb, "parent %s\n", set->parent);
	for (size_t i = 0; i < set->n; i++) {
		const struct disk_layers *d = &set->disks[i];

		strbuf_printf(sb, "disk %s %s %" PRIu64 "\nsource %s\n", d->name,
			      image_format_name((enum image_format)d->format), d->bytes, d->source);
		for (unsigned k = 0; k < d->n_files; k++)
			strbuf_printf(sb, "file %llu %llu\n", (unsigned long long)d->files[k].dev,
				      (unsigned long long)d->files[k].ino);
		for (unsigned k = 0; k < d->chain.n; k++)
			strbuf_printf(sb, "layer %s\n", d->chain.ids[k]);
	}
}

/* --- in -------------------------------------------------------------------------------------- */

struct parse {
	struct layer_set *set;
	struct disk_layers *disk; /* the one whose lines these are */
	unsigned line;
	struct err *err;
};

static int bad(const struct parse *p, const char *what)
{
	return err_set(p->err, -EINVAL, "line %u: %s", p->line, what);
}

static bool number(const char *text, uint64_t *value)
{
	char *end;

	if (!text || *text < '0' || *text > '9' || strlen(text) > 20)
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end;
}

static bool name_good(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	return len && len <= DISK_NAME_MAX && !strchr(name, '/') && *name != '.';
}

static int take_version(struct parse *p, char *rest)
{
	uint64_t version;

	if (!number(rest, &version))
		return bad(p, "a number is wanted");
	return version == SET_VERSION ? 0 : bad(p, "made by a later version of filevisor");
}

static int take_parent(struct parse *p, char *rest)
{
	if (p->set->parent || p->disk || !layer_id_good(rest))
		return bad(p, "one id is wanted");
	p->set->parent = strdup(rest);
	return p->set->parent ? 0 : err_set(p->err, -ENOMEM, "out of memory");
}

/* Whether what was said of a disk is all. */
static int end_disk(const struct parse *p)
{
	const struct disk_layers *d = p->disk;

	if (!d)
		return 0;
	if (!*d->source)
		return bad(p, "a disk without a source");
	return layer_set_find(p->set, d->name, d->source) == d ? 0 : bad(p, "a disk comes twice");
}

static int take_disk(struct parse *p, char *rest)
{
	struct disk_layers d = {.source = (char *)""};
	enum image_format format;
	char *save = NULL;
	const char *name = strtok_r(rest, " ", &save), *word = strtok_r(NULL, " ", &save),
		   *bytes = strtok_r(NULL, " ", &save);
	int r = end_disk(p);

	if (r < 0)
		return r;
	if (!name_good(name) || !word || image_format_parse(word, &format, NULL) < 0)
		return bad(p, "a disk's name and a format are wanted");
	if (!number(bytes, &d.bytes) || d.bytes > INT64_MAX || strtok_r(NULL, " ", &save))
		return bad(p, "a size is wanted");
	if (p->set->n == DISKS_MAX)
		return bad(p, "too many disks");
	strcpy(d.name, name);
	d.format = format;
	if (layer_set_add(p->set, &d) < 0)
		return err_set(p->err, -ENOMEM, "out of memory");
	p->disk = &p->set->disks[p->set->n - 1];
	return 0;
}

static int take_source(struct parse *p, char *rest)
{
	char *copy;

	if (!p->disk || *p->disk->source || !*rest || strlen(rest) > SOURCE_MAX)
		return bad(p, "one source of a disk is wanted");
	for (const unsigned char *c = (unsigned char *)rest; *c; c++)
		if (*c < 0x20 || *c == 0x7f)
			return bad(p, "a control character");
	copy = strdup(rest);
	if (!copy)
		return err_set(p->err, -ENOMEM, "out of memory");
	free(p->disk->source);
	p->disk->source = copy;
	return 0;
}

static int take_file(struct parse *p, char *rest)
{
	struct disk_layers *d = p->disk;
	uint64_t dev, ino;
	char *blank = strchr(rest, ' ');

	if (blank)
		*blank = '\0';
	if (!d || !blank || d->n_files == LAYER_FILES_MAX || !number(rest, &dev) ||
	    !number(blank + 1, &ino))
		return bad(p, "two numbers of a disk's file are wanted");
	d->files[d->n_files++] = (struct file_id){(dev_t)dev, (ino_t)ino};
	return 0;
}

static int take_layer(struct parse *p, char *rest)
{
	struct layer_chain *c = p->disk ? &p->disk->chain : NULL;

	if (!c || !layer_id_good(rest))
		return bad(p, "an id of a disk's layer is wanted");
	if (c->n == LAYERS_MAX)
		return bad(p, "too many layers");
	for (unsigned i = 0; i < c->n; i++)
		if (strcmp(c->ids[i], rest) == 0)
			return bad(p, "a layer is below itself");
	strcpy(c->ids[c->n++], rest);
	return 0;
}

static int take_line(struct parse *p, char *line)
{
	static const struct {
		const char *word;
		int (*take)(struct parse *p, char *rest);
	} rows[] = {{"layers", take_version}, {"parent", take_parent}, {"disk", take_disk},
		    {"source", take_source},  {"file", take_file},     {"layer", take_layer}};
	char *rest = strchr(line, ' ');

	if (!rest)
		return bad(p, "a word and what it says are wanted");
	*rest++ = '\0';
	for (size_t i = 0; i < nitems(rows); i++)
		if (strcmp(line, rows[i].word) == 0)
			return (i == 0) == (p->line == 1)
				   ? rows[i].take(p, rest)
				   : bad(p, "'layers' is the first line, and only that");
	return bad(p, "an unknown word");
}

int layer_set_parse(const char *text, size_t len, struct layer_set *set, struct err *err)
{
	_cleanup_free_ char *copy = malloc(len + 1);
	struct parse p = {.set = set, .err = err};
	int r = 0;

	*set = (struct layer_set){0};
	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
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
		r = end_disk(&p);
	if (r < 0)
		layer_set_free(set);
	return r;
}
