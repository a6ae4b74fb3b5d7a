// SPDX-License-Identifier: ISC
/* machines/NAME/nics: mkdir attaches a network card; its directory has one file for each key. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static const char *nic_of(const struct node *n)
{
	return n->parent->name;
}

static int key_show(struct node *n, struct strbuf *sb)
{
	return machine_nic_key_show(n->m, nic_of(n), n->row->arg, sb);
}

static int key_store(struct node *n, const char *text, size_t len, const struct caller *caller,
		     struct err *err)
{
	(void)len;
	return machine_nic_key_store(n->m, nic_of(n), n->row->arg, text, caller, err);
}

static int stats_show(struct node *n, struct strbuf *sb)
{
	char prefix[DISK_NAME_MAX + 8];

	if (!machine_nic_exists(n->m, nic_of(n)))
		return -ENOENT;
	snprintf(prefix, sizeof(prefix), "nic.%s.", nic_of(n));
	machine_stats_show_prefix(n->m, prefix, sb);
	return 0;
}

static int ctl_show(struct node *n, struct strbuf *sb)
{
	machine_nic_command_list(n->m, nic_of(n), sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return machine_nic_command_run(n->m, nic_of(n), line, caller, err);
}

static int state_show(struct node *n, struct strbuf *sb)
{
	return machine_nic_state_show(n->m, nic_of(n), sb);
}

static int address_show(struct node *n, struct strbuf *sb)
{
	if (!machine_nic_exists(n->m, nic_of(n)))
		return -ENOENT;
	machine_nic_address_show(n->m, nic_of(n), sb);
	return 0;
}

static int pcap_open(struct node *n)
{
	return machine_nic_pcap_open(n->m, nic_of(n));
}

static int pcap_stat(struct node *n, uint64_t *size, struct timespec *mtime)
{
	return machine_nic_pcap_stat(n->m, nic_of(n), size, mtime);
}

static const struct log_ops pcap_ops = {.open = pcap_open, .stat = pcap_stat};

static const struct row before_keys[] = {
    {.name = "ctl",
     .kind = &kind_command,
     .mode = 0666,
     .aspect = ASPECT_NIC,
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NIC,
     .flags = ROW_VOLATILE,
     .show = state_show,
     .help = "connected, disconnected, waiting (for the guest to let go), detached"},
    {.name = "address",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NIC_ADDRESS,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = address_show,
     .help = "the guest's address there; empty where it is not known"},
};

static const struct row after_keys[] = {
    {.name = "stats",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = stats_show,
     .help = "its counters"},
    {.name = "pcap",
     .kind = &kind_log,
     .mode = 0400,
     .aspect = ASPECT_NIC,
     .ops = &pcap_ops,
     .help = "frames that passed, as pcapng, after `echo capture on > ctl`"},
};

/* --- nics/ ---------------------------------------------------------------------------- */

static void nic_child(struct node *dir, const char *name, struct child *child)
{
	snprintf(child->name, sizeof(child->name), "%s", name);
	child->row = &node_dir(dir)->child;
}

static int nics_find(struct node *dir, const char *name, struct child *child)
{
	if (!machine_nic_exists(dir->m, name))
		return -ENOENT;
	nic_child(dir, name, child);
	return 0;
}

/* Removing one shifts those after it, so a listing keeps the names that it began with. */
static void list_nics(struct node *dir, struct handle *h)
{
	char name[DISK_NAME_MAX + 1];

	free(h->listing);
	h->listing = NULL;
	h->n_listing = 0;
	while (machine_nic_at(dir->m, h->n_listing, name)) {
		void *more = realloc(h->listing, (h->n_listing + 1) * sizeof(h->listing[0]));

		if (!more)
			return;
		h->listing = more;
		memcpy(h->listing[h->n_listing++], name, sizeof(name));
	}
}

static bool nics_next(struct node *dir, struct handle *h, uint64_t *cursor, struct child *child)
{
	LOCK_SCOPE(&h->lock);
	if (*cursor == 0)
		list_nics(dir, h);
	while (*cursor < h->n_listing) {
		const char *name = h->listing[(*cursor)++];

		if (machine_nic_exists(dir->m, name)) {
			nic_child(dir, name, child);
			return true;
		}
	}
	return false;
}

static size_t nics_count(struct node *dir)
{
	char name[DISK_NAME_MAX + 1];
	size_t n = 0;

	while (machine_nic_at(dir->m, n, name))
		n++;
	return n;
}

static int nics_make(struct node *dir, const char *name, mode_t mode, const struct caller *caller,
		     struct child *child, struct err *err)
{
	int r = machine_nic_add(dir->m, name, caller, err);

	(void)mode;
	if (r < 0)
		return r;
	nic_child(dir, name, child);
	return 0;
}

static int nics_remove(struct node *dir, const char *name, const struct caller *caller,
		       struct err *err)
{
	return machine_nic_remove(dir->m, name, caller, err);
}

static const struct dir_ops nics_ops = {
    .find = nics_find,
    .next = nics_next,
    .count = nics_count,
    .make = nics_make,
    .remove = nics_remove,
};

int tree_nic_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_NIC];
	int r;

	dirs[DIR_NICS].ops = &nics_ops;
	dirs[DIR_NICS].child =
	    (struct row){.kind = &kind_dir, .mode = 0777, .aspect = ASPECT_NIC, .dir = DIR_NIC};
	d->scratch = true;
	d->title = "A network card.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	for (size_t i = 0; r == 0 && i < n_nic_keys; i++) {
		const struct row row = {
		    .name = nic_keys[i].name,
		    .kind = &kind_attribute,
		    .mode = 0666,
		    .aspect = ASPECT_NIC,
		    .show = key_show,
		    .store = key_store,
		    .arg = &nic_keys[i],
		    .help = nic_keys[i].help,
		};

		r = dir_add_rows(d, &row, 1);
	}
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
