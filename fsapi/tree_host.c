// SPDX-License-Identifier: ISC
/*
 * host/: the model's table of facts, each a file; a path with a slash in it
 * ("kvm/api_version") makes a directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "host.h"
#include "util/cleanup.h"

static int fact_show(struct node *n, struct strbuf *sb)
{
	const struct host_fact *fact = n->row->arg;

	fact->show(sb);
	return 0;
}

/* A name that ends at a slash; names of rows live as long as the program, so it is kept. */
static struct row *subdir(struct dir dirs[DIR_MAX], struct dir *d, const char *path, size_t len)
{
	struct row row = {
	    .kind = &kind_dir, .mode = 0555, .aspect = ASPECT_FIXED, .dir = DIR_STATIC};
	char *name;

	for (size_t i = 0; i < d->n_rows; i++)
		if (d->rows[i].kind == &kind_dir && strlen(d->rows[i].name) == len &&
		    strncmp(d->rows[i].name, path, len) == 0)
			return &d->made[i];
	while (row.dir < DIR_MAX && dirs[row.dir].title)
		row.dir++;
	if (row.dir == DIR_MAX)
		return NULL;
	name = strndup(path, len);
	if (!name)
		return NULL;
	row.name = name;
	dirs[row.dir].title = name;
	dirs[row.dir].made_name = name;
	if (dir_add_rows(d, &row, 1) < 0)
		return NULL;
	return &d->made[d->n_rows - 1];
}

int tree_host_build(struct dir dirs[DIR_MAX])
{
	dirs[DIR_HOST].title = "What this host offers.";
	for (size_t i = 0; i < n_host_facts; i++) {
		const char *name = host_facts[i].path;
		struct dir *d = &dirs[DIR_HOST];
		struct row row = {
		    .kind = &kind_attribute,
		    .mode = 0444,
		    .aspect = ASPECT_HOST,
		    .flags = ROW_VOLATILE,
		    .show = fact_show,
		    .arg = &host_facts[i],
		    .help = host_facts[i].help,
		};
		const char *slash;

		while ((slash = strchr(name, '/'))) {
			struct row *sub = subdir(dirs, d, name, (size_t)(slash - name));

			if (!sub)
				return -ENOMEM;
			d = &dirs[sub->dir];
			name = slash + 1;
		}
		row.name = name;
		if (dir_add_rows(d, &row, 1) < 0)
			return -ENOMEM;
	}
	return 0;
}
