// SPDX-License-Identifier: ISC
/*
 * A network server as storage: each of its exports is a volume. Exports are made and removed by
 * who runs the server, not by us; they have no images over each other, and their formats
 * are the server's business: all are raw. The export without a name is shown as `default`.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/pool.h"
#include "util/cleanup.h"

#define UNNAMED "default"

static int check(const char *source, struct err *err)
{
	return nbd_uri_check(source, err);
}

static bool has(const struct nbd_export *exports, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(exports[i].name, name) == 0)
			return true;
	return false;
}

static int list(const struct storage *s, struct cancel *cancel, struct storage_list *out,
		struct err *err)
{
	_cleanup_free_ struct nbd_export *exports = NULL;
	size_t n = 0;
	int r;

	memset(out, 0, sizeof(*out));
	r = nbd_list(s->nbd_program, s->source, &s->rights, cancel, &exports, &n, err);
	for (size_t i = 0; r == 0 && i < n && out->n < STORAGE_VOLUMES_MAX; i++) {
		const char *name = exports[i].name;
		struct storage_entry *e;

		if (!*name && !has(exports, n, UNNAMED))
			name = UNNAMED;
		if (!storage_name_good(name))
			continue;
		e = storage_list_add(out);
		if (!e) {
			r = err_set(err, -ENOMEM, "out of memory");
			break;
		}
		strcpy(e->name, name);
		e->bytes = exports[i].bytes;
		e->allocation = exports[i].bytes;
		e->readonly = exports[i].readonly;
		e->uid = s->rights.uid;
		e->gid = s->rights.gid;
		e->mode = 0600;
	}
	if (r < 0)
		storage_list_free(out);
	return r;
}

static int attach(const struct storage *s, const char *name, bool write, struct cancel *cancel,
		  struct nbd_link *link, struct err *err)
{
	int r = nbd_attach(s->nbd_program, s->source, name, &s->rights, !write, cancel, link, err);

	if (r == -ENOENT && strcmp(name, UNNAMED) == 0)
		r = nbd_attach(s->nbd_program, s->source, "", &s->rights, !write, cancel, link,
			       err);
	return r;
}

const struct storage_type storage_nbd = {
    .name = "nbd",
    .help = "a server's URI (nbd://, nbds://, nbd+unix://): each export is a volume",
    .check = check,
    .list = list,
    .attach = attach,
};
