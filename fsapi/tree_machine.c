// SPDX-License-Identifier: ISC
/* A machine's directory: fixed rows, and one row for each key of its definition. */
#include <errno.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static int state_show(struct node *n, struct strbuf *sb)
{
	strbuf_puts(sb, machine_state_name(machine_state(n->m)));
	return 0;
}

static int error_show(struct node *n, struct strbuf *sb)
{
	machine_error_show(n->m, sb);
	return 0;
}

static int ctl_show(struct node *n, struct strbuf *sb)
{
	machine_command_list(n->m, sb);
	return 0;
}

static int ctl_run(struct node *n, const char *line, size_t len, const struct caller *caller,
		   struct err *err)
{
	(void)len;
	return machine_command_run(n->m, line, caller, err);
}

static int config_show(struct node *n, struct strbuf *sb)
{
	return machine_config_show(n->m, sb);
}

static int config_store(struct node *n, const char *text, size_t len, const struct caller *caller,
			struct err *err)
{
	return machine_config_store(n->m, text, len, caller, err);
}

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

static int stats_show(struct node *n, struct strbuf *sb)
{
	machine_stats_show(n->m, sb);
	return 0;
}

static int metrics_show(struct node *n, struct strbuf *sb)
{
	machine_metrics_show(n->m, sb);
	return 0;
}

static int tty_show(struct node *n, struct strbuf *sb)
{
	return machine_tty(n->m, sb);
}

/* --- console ------------------------------------------------------------------------------------
 */

static int console_open(struct node *n)
{
	return machine_console_open(n->m, n->row->arg != NULL);
}

static int console_stat(struct node *n, uint64_t *size, struct timespec *mtime)
{
	return machine_console_stat(n->m, n->row->arg != NULL, size, mtime);
}

static int console_type(struct node *n, const void *data, size_t len, struct err *err)
{
	return machine_console_type(n->m, data, len, err);
}

static const struct log_ops console_ops = {
    .open = console_open,
    .stat = console_stat,
    .type = console_type,
};

static const struct log_ops console_old_ops = {.open = console_open, .stat = console_stat};

/* --- memory and core ------------------------------------------------------------------ */

/* Without a VMM both are empty files, which copiers can read. */
static int memory_open(struct handle *h, struct err *err)
{
	int r = machine_memory_open(h->node->m, &h->content, err);

	return r == -ENODEV ? 0 : r;
}

static uint64_t memory_size(struct node *n)
{
	return machine_memory_size(n->m);
}

static int core_open(struct handle *h, struct err *err)
{
	int r = machine_core_open(h->node->m, &h->core, err);

	return r == -ENODEV ? 0 : r;
}

static uint64_t core_size(struct node *n)
{
	return machine_core_size(n->m);
}

static const struct blob_ops memory_ops = {.open = memory_open, .size = memory_size};
static const struct blob_ops core_ops = {.open = core_open, .size = core_size};

/* --- the table ------------------------------------------------------------------------ */

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
     .aspect = ASPECT_COMMANDS,
     .flags = ROW_VOLATILE,
     .show = ctl_show,
     .store = ctl_run,
     .help = "commands; reading lists those that may be written now"},
    {.name = "state",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_STATE,
     .show = state_show,
     .help = "defined starting running paused saved stopped crashed"},
    {.name = "error",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_ERROR,
     .flags = ROW_MAY_BE_EMPTY,
     .show = error_show,
     .help = "why the last command or the guest failed; empty if it did not"},
    {.name = "config",
     .kind = &kind_document,
     .mode = 0666,
     .aspect = ASPECT_DEFINITION,
     .show = config_show,
     .store = config_store,
     .help = "the whole definition; replace it whole, or value by value in these files:"},
};

static const struct row after_keys[] = {
    {.name = "console",
     .kind = &kind_log,
     .mode = 0660,
     .aspect = ASPECT_CONSOLE,
     .ops = &console_ops,
     .help = "reading: what the serial console printed; writing: typing"},
    {.name = "console.old",
     .kind = &kind_log,
     .mode = 0440,
     .aspect = ASPECT_CONSOLE,
     .ops = &console_old_ops,
     .arg = "old",
     .help = "what was too old for `console`"},
    {.name = "tty",
     .kind = &kind_link,
     .mode = 0777,
     .aspect = ASPECT_STATE,
     .flags = ROW_VOLATILE,
     .show = tty_show,
     .help = "that console as a terminal, for screen(1); while it runs"},
    {.name = "disks",
     .kind = &kind_dir,
     .mode = 0777,
     .aspect = ASPECT_DISKS,
     .dir = DIR_DISKS,
     .help = "mkdir attaches one, rmdir detaches it"},
    {.name = "snapshots",
     .kind = &kind_dir,
     .mode = 0777,
     .aspect = ASPECT_SNAPSHOTS,
     .dir = DIR_SNAPSHOTS,
     .help = "mkdir takes one, rmdir deletes it, mv renames it"},
    {.name = "nics",
     .kind = &kind_dir,
     .mode = 0777,
     .aspect = ASPECT_NICS,
     .dir = DIR_NICS,
     .help = "network cards: mkdir attaches one, rmdir detaches it"},
    {.name = "vsock",
     .kind = &kind_dir,
     .mode = 0777,
     .aspect = ASPECT_FIXED,
     .dir = DIR_VSOCK,
     .help = "stream sockets between guest and host: PORT is a socket to the guest's port"},
    {.name = "vcpu",
     .kind = &kind_dir,
     .mode = 0555,
     .aspect = ASPECT_VCPUS,
     .dir = DIR_VCPUS,
     .help = "its processors, while it runs"},
    {.name = "jobs",
     .kind = &kind_dir,
     .mode = 0777,
     .aspect = ASPECT_JOBS,
     .dir = DIR_JOBS,
     .help = "its long commands under way; rmdir cancels one"},
    {.name = "stats",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = stats_show,
     .help = "counters, `key value`"},
    {.name = "metrics",
     .kind = &kind_attribute,
     .mode = 0444,
     .aspect = ASPECT_LIVE,
     .flags = ROW_MAY_BE_EMPTY | ROW_VOLATILE,
     .show = metrics_show,
     .help = "the same for Prometheus"},
    {.name = "memory.img",
     .kind = &kind_blob,
     .mode = 0400,
     .aspect = ASPECT_LIVE,
     .flags = ROW_SLOW | ROW_VOLATILE,
     .ops = &memory_ops,
     .help = "the guest's memory, by physical address; while it runs"},
    {.name = "core",
     .kind = &kind_blob,
     .mode = 0400,
     .aspect = ASPECT_LIVE,
     .flags = ROW_SLOW | ROW_VOLATILE,
     .ops = &core_ops,
     .help = "an ELF core of it as of opening, for gdb and crash; while it runs"},
    {.name = "archive",
     .kind = &kind_archive,
     .mode = 0666,
     .aspect = ASPECT_FIXED,
     .help = "a snapshot's archive copied into it makes a new machine what that was; reads empty"},
};

int tree_machine_build(struct dir dirs[DIR_MAX])
{
	struct dir *d = &dirs[DIR_MACHINE];
	int r;

	d->scratch = true;
	d->title = "A machine.";
	r = dir_add_rows(d, before_keys, nitems(before_keys));
	for (size_t i = 0; r == 0 && i < n_machine_keys; i++) {
		const struct row row = {
		    .name = machine_keys[i].name,
		    .kind = &kind_attribute,
		    .mode = 0666,
		    .aspect = ASPECT_KEY0 + (int)i,
		    .show = key_show,
		    .store = key_store,
		    .arg = &machine_keys[i],
		    .help = machine_keys[i].help,
		};

		if (!machine_keys[i].file)
			r = dir_add_rows(d, &row, 1);
	}
	return r < 0 ? r : dir_add_rows(d, after_keys, nitems(after_keys));
}
