// SPDX-License-Identifier: ISC
/* Reading the reports of LVM's tools: a line for each thing, fields with a '|' between. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "storage/pool_lvm.h"
#include "util/size.h"

/* The next field of *@line, without blanks around it; NULL at the end. */
static char *field(char **line)
{
	char *f = strsep(line, "|"), *end;

	if (!f)
		return NULL;
	f += strspn(f, " \t");
	end = f + strlen(f);
	while (end > f && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return f;
}

static int bad_report(struct err *err, const char *what)
{
	return err_set(err, -EPROTO, "lvm printed what we do not understand (%s)", what);
}

/* Whether the volume of these attributes is one that holds data of its own. */
static bool is_volume(const char *attr)
{
	return attr && strlen(attr) >= 6 && !strchr("tDePMiIl", attr[0]);
}

/* Tells volumes of one name apart: FNV-1a of the UUID. */
static uint64_t id_of(const char *uuid)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *uuid; uuid++)
		h = (h ^ (unsigned char)*uuid) * 0x100000001b3ull;
	return h ? h : 1;
}

static int parse_volume(char *line, struct storage_list *list, struct err *err)
{
	char *name = field(&line), *size = field(&line), *attr = field(&line), *uuid = field(&line),
	     *percent = field(&line);
	struct storage_entry *e;
	uint64_t bytes;

	if (!percent || uint_parse(size, 0, INT64_MAX, &bytes) < 0)
		return bad_report(err, "lvs");
	if (!is_volume(attr) || !storage_name_good(name))
		return 0;
	e = storage_list_add(list);
	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	strcpy(e->name, name);
	e->bytes = bytes;
	e->allocation = bytes;
	if (*percent && attr[0] == 'V') {
		double part = 0;

		for (char *p = percent; isdigit((unsigned char)*p); p++)
			part = part * 10 + (*p - '0');
		e->allocation = part >= 100 ? bytes : (uint64_t)((double)bytes * part / 100);
	}
	e->id = id_of(uuid);
	e->readonly = attr[1] == 'r';
	e->mode = 0600;
	return 0;
}

int lvm_parse_lvs(char *text, struct storage_list *list, struct err *err)
{
	int r = 0;

	for (char *line; r == 0 && (line = strsep(&text, "\n"));)
		if (line[strspn(line, " \t\r")])
			r = parse_volume(line, list, err);
	return r;
}

int lvm_parse_vgs(char *text, struct storage_list *list, struct err *err)
{
	char *line, *size, *free_text;

	do
		line = strsep(&text, "\n");
	while (line && !line[strspn(line, " \t\r")]);
	size = line ? field(&line) : NULL;
	free_text = line ? field(&line) : NULL;
	if (!free_text || uint_parse(size, 0, INT64_MAX, &list->capacity) < 0 ||
	    uint_parse(free_text, 0, list->capacity, &list->free_bytes) < 0)
		return bad_report(err, "vgs");
	list->allocation = list->capacity - list->free_bytes;
	return 0;
}
