// SPDX-License-Identifier: ISC
/* host/interfaces: network interfaces of the host; mkdir makes a bridge. One row for each key. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int ctl_show(struct node *n, struct strbuf *sb)
{
	interfaces_command_list(n->fs->model, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return interfaces_command_run(n->fs->model, line, caller, err);
}

static int error_show(struct node *n, struct strbuf *sb)
{
	interfaces_error_show(n->fs->model, sb);
	return 0;
}

static int trial_show(struct node *n, struct strbuf *sb)
{
	interfaces_trial_show(n->fs->model, sb);
	return 0;
}

static const struct row fixed[] = {
    {.name = "README",
     .kind = &kind_document,
     .mode = 0444,
     .aspect = ASPECT_FIXED,
     .show = help_show,
     .help = "this text"},
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0644,
     .aspect = ASPECT_INTERFACES_TOLD,
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_INTERFACES_TOLD,
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why the last change was refused, or put back"},
    {.name = "trial",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_INTERFACES_TOLD,
     .flags = ROW_MAY_BE_EMPTY,
     .show = trial_show,
     .help = "ends=SECONDS changes=N while changes are tried (see commit-within)"},
};

/* --- an interface --------------------------------------------------------------------- */

static int key_show(struct node *n, struct strbuf *sb)
{
	return interface_key_show(n->interface, n->row->arg, sb);
}

static int key_check(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return interface_key_check(n->interface, n->row->arg, text, caller, err);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return interface_key_store(n->interface, n->row->arg, text, caller, err);
}

static int add_key(struct dir *d, const struct interface_key *key)
{
	struct row row = {
	    .name = key->name,
	    .kind = key->check ? &kind_document : &kind_attribute,
	    .mode = key->set ? 0644 : 0444,
	    .aspect = key->aspect < 0 ? ASPECT_HOST : ASPECT_INTERFACE(key->aspect),
	    .flags =
		(key->may_be_empty ? ROW_MAY_BE_EMPTY : 0u) | (key->aspect < 0 ? ROW_VOLATILE : 0u),
	    .show = key_show,
	    .check = key->check ? key_check : NULL,
	    .store = key->set ? key_store : NULL,
	    .arg = key,
	    .help = key->help,
	};

	return dir_add_rows(d, &row, 1);
}

/* --- host/interfaces ------------------------------------------------------------------ */

/* An interface called as one of the fixed files is not to be reached. */
static bool shown(struct node *dir, const char *name)
{
	return !dir_row(node_dir(dir), name);
}

static int find(struct node *dir, const char *name, struct child *child)
{
	struct interface *i = model_interface_get(dir->fs->model, name);

	if (!i)
		return -ENOENT;
	child_of_thing(dir, thing_of(THING_INTERFACE, i), child);
	return 0;
}

static bool next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	struct interface *i;

	(void)h;
	while ((i = model_interface_next(dir->fs->model, cursor))) {
		child_of_thing(dir, thing_of(THING_INTERFACE, i), child);
		if (shown(dir, child->name))
			return true;
		child_release(child);
	}
	return false;
}

static size_t count(struct node *dir)
{
	return model_interface_count(dir->fs->model);
}

static int make(struct node *dir, const char *name, mode_t mode, const struct caller *caller,
		struct child *child, struct err *err)
{
	struct interface *i = NULL;
	int r = model_interface_make(dir->fs->model, name, caller, &i, err);

	(void)mode;
	if (r < 0)
		return r;
	child_of_thing(dir, thing_of(THING_INTERFACE, i), child);
	return 0;
}

static int remove_interface(struct node *dir, const char *name, const struct caller *caller,
			    struct err *err)
{
	_cleanup_interface_ struct interface *i = model_interface_get(dir->fs->model, name);

	if (!i)
		return err_set(err, -ENOENT, "no interface %s", name);
	return model_interface_remove(dir->fs->model, i, caller, err);
}

/* The kernel has seen to it that he may: the directory is root's. */
static int rename_interface(struct node *dir, const char *name, const char *new_name,
			    struct err *err)
{
	_cleanup_interface_ struct interface *i = model_interface_get(dir->fs->model, name);
	const struct caller daemon = {.uid = dir->fs->uid, .gid = dir->fs->gid};

	if (!i)
		return err_set(err, -ENOENT, "no interface %s", name);
	return model_interface_rename(dir->fs->model, i, new_name, &daemon, err);
}

static const struct dir_ops interfaces_ops = {
    .find = find,
    .next = next,
    .count = count,
    .make = make,
    .remove = remove_interface,
    .rename = rename_interface,
};

int tree_interfaces_build(struct dir dirs[DIR_MAX])
{
	static const struct row list = {.name = "interfaces",
					.kind = &kind_dir,
					.mode = 0755,
					.aspect = ASPECT_INTERFACES,
					.dir = DIR_INTERFACES,
					.help = "network interfaces; mkdir makes a bridge"};
	struct dir *d = &dirs[DIR_INTERFACES];
	int r = dir_add_rows(&dirs[DIR_HOST], &list, 1);

	d->ops = &interfaces_ops;
	d->no_copies = true;
	d->title = "Network interfaces of this host.";
	d->child = (struct row){.kind = &kind_dir,
				.mode = 0755,
				.aspect = ASPECT_INTERFACE(INTERFACE_SETTINGS),
				.dir = DIR_INTERFACE};
	dirs[DIR_INTERFACE].scratch = true;
	dirs[DIR_INTERFACE].title = "A network interface of this host.";
	if (r == 0)
		r = dir_add_rows(d, fixed, nitems(fixed));
	for (size_t k = 0; r == 0 && k < n_interface_keys; k++)
		r = add_key(&dirs[DIR_INTERFACE], &interface_keys[k]);
	return r;
}
