// SPDX-License-Identifier: ISC
/* README of a directory: made from the rows themselves, so that it is true. */
#include <stdlib.h>
#include <string.h>

#include "fsapi/fs.h"
#include "util/cleanup.h"

static const char root_text[] =
    "  mkdir machines/web                      define a machine\n"
    "  echo /boot/vmlinux > machines/web/kernel\n"
    "  echo start > machines/web/ctl           run it; `cat ctl` lists the commands\n"
    "  cat machines/web/state                  watch it\n"
    "  tail -f machines/web/console            what it prints\n"
    "  cat machines/web/error                  why something was refused\n"
    "  rmdir machines/web                      undefine it\n"
    "\n"
    "No read blocks. To wait: inotify, poll(2) for POLLPRI, tail -f, or a command that waits\n"
    "(echo 'wait stopped 60' > machines/web/ctl). Every refusal has words in `error`.\n"
    "More in machines/NAME/README and in filevisor(7).\n";

static const char machine_text[] =
    "Sizes are written as 512M or 2G. A value that is refused changes nothing.\n"
    "\n"
    "Commands (a line written to ctl; a final \" &\" makes it a job under jobs/):\n";

static const char *mode_word(const struct row *row)
{
	if (S_ISDIR(row->kind->format))
		return "dir";
	if (S_ISLNK(row->kind->format))
		return "link";
	return (row->mode & 0222) == 0 ? "r" : row->kind == &kind_command ? "w" : "rw";
}

void help_dir(const struct dir *d, struct strbuf *sb)
{
	for (size_t i = 0; i < d->n_rows; i++) {
		const struct row *row = &d->rows[i];

		strbuf_printf(sb, "  %-20s %-4s %s\n", row->name, mode_word(row),
			      row->help ? row->help : "");
	}
}

/* "usage\thelp" lines, in two columns. */
static void help_commands(struct strbuf *sb)
{
	_cleanup_strbuf_ struct strbuf lines = STRBUF_INIT;
	char *p, *line;

	machine_command_help(&lines);
	for (p = lines.data; p && (line = strsep(&p, "\n"));) {
		const char *usage = strsep(&line, "\t");

		if (*usage)
			strbuf_printf(sb, "  %-25s %s\n", usage, line ? line : "");
	}
}

int help_show(struct node *n, struct strbuf *sb)
{
	const struct fsapi *fs = n->fs;
	const struct dir *d = node_dir(n->parent);

	if (d == &fs->dirs[DIR_ROOT]) {
		strbuf_printf(sb, "%s\n\n", d->title);
		help_dir(d, sb);
		strbuf_printf(sb, "\n%s", root_text);
		return 0;
	}
	strbuf_printf(sb, "%s\n\n", d->title);
	help_dir(d, sb);
	strbuf_puts(sb, "\ndisks/NAME:\n");
	help_dir(&fs->dirs[DIR_DISK], sb);
	strbuf_puts(sb, "\nvcpu/N:\n");
	help_dir(&fs->dirs[DIR_VCPU], sb);
	strbuf_puts(sb, "\njobs/N:\n");
	help_dir(&fs->dirs[DIR_JOB], sb);
	strbuf_printf(sb, "\n%s", machine_text);
	help_commands(sb);
	return 0;
}
