// SPDX-License-Identifier: ISC
/* networks/ and a network's directory: fixed rows, and one row for each key of its definition. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int ctl_show(struct node *n, struct strbuf *sb)
{
	network_command_list(n->network, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return network_command_run(n->network, line, caller, err);
}

static int error_show(struct node *n, struct strbuf *sb)
{
	network_error_show(n->network, sb);
	return 0;
}

static int state_show(struct node *n, struct strbuf *sb)
{
	strbuf_puts(sb, network_state_name(network_state(n->network)));
	return 0;
}

static int config_show(struct node *n, struct strbuf *sb)
{
	return network_config_show(n->network, sb);
}

static int config_store(struct node *n, const char *text, size_t len, const struct caller *caller,
			struct err *err)
{
	return network_config_store(n->network, text, len, caller, err);
}

static int forwards_show(struct node *n, struct strbuf *sb)
{
	return network_forwards_show(n->network, sb);
}

static int forwards_check(struct node *n, const char *text, size_t len, const struct caller *caller,
			  struct err *err)
{
	return network_forwards_check(n->network, text, len, caller, err);
}

static int forwards_store(struct node *n, const char *text, size_t len, const struct caller *caller,
			  struct err *err)
{
	return network_forwards_store(n->network, text, len, caller, err);
}

static int key_show(struct node *n, struct strbuf *sb)
{
	return network_key_show(n->network, n->row->arg, sb);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return network_key_store(n->network, n->row->arg, text, caller, err);
}

static int bridge_show(struct node *n, struct strbuf *sb)
{
	network_bridge_show(n->network, sb);
	return 0;
}

static int leases_show(struct node *n, struct strbuf *sb)
{
	network_leases_show(n->network, sb);
	return 0;
}

static int hosts_show(struct node *n, struct strbuf *sb)
{
	network_hosts_show(n->network, sb);
	return 0;
}

static const struct row before_keys[] = {
    {.name = "README",
     .kind = &kind_document,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = help_show,
     .help = "this text"},
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0666,
     .aspect = ASPECT_NETWORK(NETWORK_COMMANDS),
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NETWORK(NETWORK_STATE_OF),
     .show = state_show,
     .help = "stopped, starting, running, failed (see error)"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NETWORK(NETWORK_ERROR),
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why the last command or the network failed; empty if it did not"},
    {.name = "config",
     .kind = &kind_document,
     .mode = 0666,
     .aspect = ASPECT_NETWORK(NETWORK_DEFINITION),
     .show = config_show,
     .store = config_store,
     .help = "the whole definition; replace it whole, or value by value in these files:"},
};

static const struct row after_keys[] = {
    {.name = "forwards",
     .kind = &kind_document,
     .mode = 0666,
     .aspect = ASPECT_NETWORK(NETWORK_FORWARDS),
     .show = forwards_show,
     .check = forwards_check,
     .store = forwards_store,
     .help = "ports of the host that lead to guests: tcp|udp PORT[-PORT] MACHINE|ADDRESS [PORT]"},
    {.name = "bridge",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NETWORK(NETWORK_STATE_OF),
     .flags = ROW_MAY_BE_EMPTY,
     .show = bridge_show,
     .help = "its interface on the host, while it runs"},
    {.name = "leases",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NETWORK(NETWORK_LEASES),
     .flags = ROW_MAY_BE_EMPTY,
     .show = leases_show,
     .help = "ADDRESS mac=… machine=… nic=… expires=…"},
    {.name = "hosts",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NETWORK(NETWORK_LEASES),
     .flags = ROW_MAY_BE_EMPTY,
     .show = hosts_show,
     .help = "addresses and names of its guests, as in /etc/hosts"},
};

/* --- networks/ ------------------------------------------------------------------------ */

static int networks_find(struct node *dir, const char *name, struct child *child)
{
	struct network *network = model_network_get(dir->fs->model, name);

	if (!network)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_NETWORK, network), child);
	return 0;
}

static bool networks_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	struct network *network = model_network_next(dir->fs->model, cursor);

	(void)h;
	if (!network)
		return false;
	child_of_thing(dir, thing_of(THING_NETWORK, network), child);
	return true;
}

static size_t networks_count(struct node *dir)
{
	return model_network_count(dir->fs->model);
}

static int networks_make(struct node *dir, const char *name, mode_t mode,
			 const struct caller *caller, struct child *child, struct err *err)
{
	struct network *network = NULL;
	int r = model_network_define(dir->fs->model, name, mode & 07777, caller, &network, err);

	if (r < 0)
		return r;
	child_of_thing(dir, thing_of(THING_NETWORK, network), child);
	return 0;
}

static int networks_remove(struct node *dir, const char *name, const struct caller *caller,
			   struct err *err)
{
	_cleanup_network_ struct network *network = model_network_get(dir->fs->model, name);

	if (!network)
		return err_set(err, -ENOENT, "no network %s", name);
	return model_network_undefine(dir->fs->model, network, caller, err);
}

/* The kernel has seen to it that he may: it is the directory's owner's to do. */
static int networks_rename(struct node *dir, const char *name, const char *new_name,
			   struct err *err)
{
	_cleanup_network_ struct network *network = model_network_get(dir->fs->model, name);
	const struct caller daemon = {.uid = dir->fs->uid, .gid = dir->fs->gid};

	if (!network)
		return err_set(err, -ENOENT, "no network %s", name);
	return model_network_rename(dir->fs->model, network, new_name, &daemon, err);
}

static const struct dir_ops networks_ops = {
    .find = networks_find,
    .next = networks_next,
    .count = networks_count,
    .make = networks_make,
    .remove = networks_remove,
    .rename = networks_rename,
};

static const struct row key_row = {
    .aspect = ASPECT_NETWORK(NETWORK_DEFINITION), .show = key_show, .store = key_store};

int tree_network_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_NETWORK];
	int r;

	dirs[DIR_NETWORKS].ops = &networks_ops;
	dirs[DIR_NETWORKS].child = (struct row){.kind = &kind_dir,
						.mode = 0777,
						.aspect = ASPECT_NETWORK(NETWORK_ACCESS),
						.dir = DIR_NETWORK};
	d->scratch = true;
	d->title = "A network.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	if (r == 0)
		r = dir_add_keys(d, network_keys, n_network_keys, &key_row);
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
