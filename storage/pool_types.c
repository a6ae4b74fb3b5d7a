// SPDX-License-Identifier: ISC
/* The types of storage, and what they share. Adding one is a file, and a row here. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/pool.h"
#include "util/cleanup.h"

const struct storage_type *const storage_types[] = {&storage_dir, &storage_lvm, &storage_nbd};
const size_t n_storage_types = nitems(storage_types);

bool storage_name_good(const char *name)
{
	size_t len = strlen(name);
	bool good =
	    len > 0 && len <= STORAGE_NAME_MAX && (isalnum((unsigned char)*name) || *name == '_');

	for (const char *p = name; *p; p++)
		good = good && (isalnum((unsigned char)*p) || strchr("._+-=@,", *p));
	return good;
}

int storage_name_check(const char *name, struct err *err)
{
	if (storage_name_good(name))
		return 0;
	return err_set(err, -EINVAL,
		       "'%.80s' is no name for a volume: a letter, digit or '_', then up to 126 of "
		       "these or of . + - = @ ,",
		       name);
}

void storage_list_free(struct storage_list *list)
{
	free(list->entries);
	memset(list, 0, sizeof(*list));
}

struct storage_entry *storage_list_add(struct storage_list *list)
{
	if (list->n >= STORAGE_VOLUMES_MAX)
		return NULL;
	if ((list->n & (list->n - 1)) == 0) {
		size_t cap = list->n ? list->n * 2 : 1;
		struct storage_entry *more = realloc(list->entries, cap * sizeof(*more));

		if (!more)
			return NULL;
		list->entries = more;
	}
	memset(&list->entries[list->n], 0, sizeof(*list->entries));
	return &list->entries[list->n++];
}

int storage_new(struct storage **out, const struct storage_type *type, const char *source,
		const struct rights *rights, const char *nbd_program, struct err *err)
{
	struct storage *s;
	gid_t *groups;
	int r = type->check(source, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	groups = calloc(rights->n_groups + 1, sizeof(*groups));
	if (!s || !groups) {
		free(s);
		free(groups);
		return err_set(err, -ENOMEM, "out of memory");
	}
	atomic_init(&s->refs, 1);
	if (rights->n_groups)
		memcpy(groups, rights->groups, rights->n_groups * sizeof(*groups));
	s->type = type;
	s->rights = (struct rights){rights->uid, rights->gid, groups, rights->n_groups};
	s->source = strdup(source);
	s->nbd_program = strdup(nbd_program ? nbd_program : "");
	if (!s->source || !s->nbd_program) {
		storage_put(s);
		return err_set(err, -ENOMEM, "out of memory");
	}
	*out = s;
	return 0;
}

struct storage *storage_get(struct storage *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void storage_put(struct storage *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	free((gid_t *)s->rights.groups);
	free(s->source);
	free(s->nbd_program);
	free(s);
}
