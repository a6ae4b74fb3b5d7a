// SPDX-License-Identifier: ISC
/* machines/NAME/nics: mkdir attaches a network card; its directory has one file for each key. */
#include <errno.h>
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

static int addresses_show(struct node *n, struct strbuf *sb)
{
	if (!machine_nic_exists(n->m, nic_of(n)))
		return -ENOENT;
	machine_nic_addresses_show(n->m, nic_of(n), sb);
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
     .help = "connected, disconnected, waiting (for the guest to let go of it), detached"},
    {.name = "address",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NIC_ADDRESS,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = address_show,
     .help =
	 "the guest's address there, from its lease or as it says itself; empty where it is not "
	 "known"},
    {.name = "addresses",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_NIC_ADDRESS,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = addresses_show,
     .help = "all of them, one a line, that of `address` first; link-local ones, too"},
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

static const struct part_ops nics = {
    .exists = machine_nic_exists,
    .at = machine_nic_at,
    .add = machine_nic_add,
    .remove = machine_nic_remove,
};

static const struct row key_row = {.aspect = ASPECT_NIC, .show = key_show, .store = key_store};

int tree_nic_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_NIC];
	int r;

	dirs[DIR_NICS].ops = &parts_ops;
	dirs[DIR_NICS].parts = &nics;
	dirs[DIR_NICS].child =
	    (struct row){.kind = &kind_dir, .mode = 0777, .aspect = ASPECT_NIC, .dir = DIR_NIC};
	d->scratch = true;
	d->title = "A network card.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	if (r == 0)
		r = dir_add_keys(d, nic_keys, n_nic_keys, &key_row);
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
