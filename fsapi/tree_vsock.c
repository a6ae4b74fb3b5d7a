// SPDX-License-Identifier: ISC
/*
 * machines/NAME/vsock: a symbolic link for each port of the guest, to the unix socket that leads
 * there. A name that is a number is found whether there is a socket already or not, and then there
 * is one; listed are those that were asked for.
 */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"
#include "util/size.h"
#include "vsock.h"

#define PREFIX "vsock/" /* of config_key.file */

static int key_show(struct node *n, struct strbuf *sb)
{
	return machine_key_show(n->m, n->row->arg, sb);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return machine_key_store(n->m, n->row->arg, text, caller, err);
}

static int cid_show(struct node *n, struct strbuf *sb)
{
	return machine_vsock_cid_show(n->m, sb);
}

static int stats_show(struct node *n, struct strbuf *sb)
{
	machine_stats_show_prefix(n->m, "vsock.", sb);
	return 0;
}

static int port_show(struct node *n, struct strbuf *sb)
{
	return machine_vsock_path(n->m, (uint32_t)(n->id - CHILD_ID(0)), sb);
}

static const struct row rows[] = {
    {.name = "cid",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = cid_show,
     .help = "the guest's address; the host is 2"},
    {.name = "stats",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = stats_show,
     .help = "its counters"},
};

/* --- ports ---------------------------------------------------------------------------------- */

static void port_child(struct node *dir, uint64_t port, struct child *child)
{
	snprintf(child->name, sizeof(child->name), "%llu", (unsigned long long)port);
	child->row = &node_dir(dir)->child;
	child->id = CHILD_ID(port);
}

static int ports_find(struct node *dir, const char *name, struct child *child)
{
	uint64_t port;

	if (uint_parse(name, 0, UINT32_MAX - 1, &port) < 0 || !machine_vsock_on(dir->m))
		return -ENOENT;
	port_child(dir, port, child);
	return strcmp(child->name, name) == 0 ? 0 : -ENOENT; /* not "022" */
}

static bool ports_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	uint32_t port;

	(void)h;
	if (!machine_vsock_at(dir->m, *cursor, &port))
		return false;
	++*cursor;
	port_child(dir, port, child);
	return true;
}

/* None of them is a directory. */
static size_t ports_count(struct node *dir)
{
	(void)dir;
	return 0;
}

static const struct dir_ops ports_ops = {
    .find = ports_find, .next = ports_next, .count = ports_count};

static int add_key(struct dir *d, size_t i)
{
	const struct config_key *key = &machine_keys[i];
	struct row row = {.kind = &kind_attribute,
			  .mode = 0666,
			  .aspect = ASPECT_KEY0 + (int)i,
			  .show = key_show,
			  .store = key_store,
			  .arg = key,
			  .help = key->help};

	if (!key->file || strncmp(key->file, PREFIX, strlen(PREFIX)) != 0)
		return 0;
	row.name = key->file + strlen(PREFIX);
	return dir_add_rows(d, &row, 1);
}

int tree_vsock_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_VSOCK];
	int r = 0;

	d->ops = &ports_ops;
	d->scratch = true;
	d->numbers = true;
	d->title =
	    "Stream sockets between the guest and the host: PORT is a socket to that port of "
	    "the guest.";
	d->child = (struct row){.kind = &kind_link,
				.mode = 0777,
				.aspect = ASPECT_LIVE,
				.flags = ROW_VOLATILE,
				.show = port_show};
	for (size_t i = 0; r == 0 && i < n_machine_keys; i++)
		r = add_key(d, i);
	return r < 0 ? r : dir_add_rows(d, rows, nitems(rows));
}
