// SPDX-License-Identifier: ISC
/*
 * An archive's META, libconfig text of which every line is known:
 *
 *	format = 1;			version of this
 *	program = "0.1.0";		and so on, the rows of fields[] in their order
 *	…
 *	disks = (			with `);` on the same line where there is none
 *		{ name = "root"; bytes = 1048576L; },
 *		{ name = "data"; bytes = 4096L; }
 *	);
 *
 * Whoever made it may be hostile, so what is not written just so is refused: nothing nests,
 * nothing is included.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"
#include "util/cleanup.h"

#define META_VERSION 1

#define TEXT(field)                                                                                \
	{                                                                                          \
#field, offsetof(struct archive_meta, field),                                      \
		    sizeof(((struct archive_meta *)0)->field)                                      \
	}
#define NUMBER(field)                                                                              \
	{                                                                                          \
#field, offsetof(struct archive_meta, field), 0                                    \
	}

static const struct {
	const char *name;
	size_t offset, size; /* size 0: a number */
} fields[] = {TEXT(program),  TEXT(machine),  TEXT(snapshot), TEXT(parent),
	      TEXT(was),      TEXT(time),     NUMBER(cpus),   NUMBER(kernel),
	      NUMBER(initrd), NUMBER(memory), NUMBER(state),  NUMBER(registers)};

void archive_meta_format(const struct archive_meta *meta, struct strbuf *sb)
{
	strbuf_printf(sb, "format = %d;\n", META_VERSION);
	for (size_t i = 0; i < nitems(fields); i++) {
		const void *at = (const char *)meta + fields[i].offset;

		if (fields[i].size)
			strbuf_printf(sb, "%s = \"%s\";\n", fields[i].name, (const char *)at);
		else
			strbuf_printf(sb, "%s = %" PRIu64 "L;\n", fields[i].name,
				      *(const uint64_t *)at);
	}
	strbuf_puts(sb, meta->n_disks ? "disks = (\n" : "disks = (");
	for (unsigned i = 0; i < meta->n_disks; i++)
		strbuf_printf(sb, "\t{ name = \"%s\"; bytes = %" PRIu64 "L; }%s\n",
			      meta->disks[i].name, meta->disks[i].bytes,
			      i + 1 < meta->n_disks ? "," : "");
	strbuf_puts(sb, ");\n");
}

/* --- in -------------------------------------------------------------------------------------- */

struct parse {
	const char *at;
	struct err *err;
};

static int bad(const struct parse *p, const char *what)
{
	return err_set(p->err, -EINVAL, "the archive's meta: %s", what);
}

static bool skip(struct parse *p, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(p->at, word, len) != 0)
		return false;
	p->at += len;
	return true;
}

static bool take_text(struct parse *p, char *to, size_t size)
{
	size_t len = strspn(p->at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				   "._+~-");

	if (len >= size)
		return false;
	memcpy(to, p->at, len);
	to[len] = '\0';
	p->at += len;
	return true;
}

static bool take_number(struct parse *p, uint64_t *value)
{
	char *end;

	if (*p->at < '0' || *p->at > '9')
		return false;
	errno = 0;
	*value = strtoull(p->at, &end, 10);
	p->at = end;
	return !errno && *value <= INT64_MAX;
}

static bool take_field(struct parse *p, struct archive_meta *meta, size_t i)
{
	void *to = (char *)meta + fields[i].offset;

	if (!skip(p, fields[i].name) || !skip(p, " = "))
		return false;
	if (fields[i].size)
		return skip(p, "\"") && take_text(p, to, fields[i].size) && skip(p, "\";\n");
	return take_number(p, to) && skip(p, "L;\n");
}

static int take_disk(struct parse *p, struct archive_meta *meta)
{
	struct archive_disk disk = {0};

	if (meta->n_disks == VMM_DISKS_MAX)
		return bad(p, "too many disks");
	if (!skip(p, "\t{ name = \"") || !take_text(p, disk.name, sizeof(disk.name)) ||
	    !skip(p, "\"; bytes = ") || !take_number(p, &disk.bytes) || !skip(p, "L; }"))
		return bad(p, "its disks");
	if (disk_name_check(disk.name, NULL) < 0)
		return bad(p, "the name of a disk");
	for (unsigned i = 0; i < meta->n_disks; i++)
		if (strcmp(meta->disks[i].name, disk.name) == 0)
			return bad(p, "a disk comes twice");
	meta->disks[meta->n_disks++] = disk;
	return 0;
}

static int take_disks(struct parse *p, struct archive_meta *meta)
{
	bool more = true;
	int r = 0;

	if (!skip(p, "disks = ("))
		return bad(p, "its disks");
	if (skip(p, ");\n"))
		return *p->at ? bad(p, "more than there may be") : 0;
	if (!skip(p, "\n"))
		return bad(p, "its disks");
	while (r == 0 && more) {
		r = take_disk(p, meta);
		more = skip(p, ",");
		if (r == 0 && !skip(p, "\n"))
			r = bad(p, "its disks");
	}
	if (r == 0 && (!skip(p, ");\n") || *p->at))
		r = bad(p, "more than there may be");
	return r;
}

int archive_meta_parse(const char *text, size_t len, struct archive_meta *meta, struct err *err)
{
	_cleanup_free_ char *copy = strndup(text, len);
	struct parse p = {.at = copy, .err = err};
	uint64_t version;

	memset(meta, 0, sizeof(*meta));
	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(copy) != len || !skip(&p, "format = ") || !take_number(&p, &version) ||
	    !skip(&p, ";\n"))
		return bad(&p, "it is none");
	if (version != META_VERSION)
		return err_set(err, -EOPNOTSUPP,
			       "the archive's meta is of version %" PRIu64
			       ", made by a later version of filevisor",
			       version);
	for (size_t i = 0; i < nitems(fields); i++)
		if (!take_field(&p, meta, i))
			return bad(&p, fields[i].name);
	return take_disks(&p, meta);
}
