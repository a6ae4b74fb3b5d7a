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
    "  mkdir machines/web/snapshots/base       what it is now, memory and disks, while it runs\n"
    "  echo 'clone new 3' > machines/web/snapshots/base/ctl   three more that go on from there\n"
    "  rmdir machines/web                      undefine it\n"
    "  mkdir pools/ssd                         define a pool of storage\n"
    "  echo /srv/images > pools/ssd/source     its directory: each file in it is a volume\n"
    "  mkdir pools/ssd/volumes/root            create a volume\n"
    "  echo 10G > pools/ssd/volumes/root/size\n"
    "  cp root.img pools/ssd/volumes/root/image   its content, as of any other file\n"
    "\n"
    "No read blocks. To wait: inotify, poll(2) for POLLPRI, tail -f, or a command that waits\n"
    "(echo 'wait stopped 60' > machines/web/ctl). Every refusal has words in `error`.\n"
    "  mkdir networks/lan                      define a network: addresses, names, a way out\n"
    "  mkdir machines/web/nics/lan             a card\n"
    "  echo lan > machines/web/nics/lan/network   in it; its address is then in nics/lan/address\n"
    "More in machines/NAME/README, pools/NAME/README, networks/NAME/README and in filevisor(7).\n";

static const char machine_text[] =
    "Sizes are written as 512M or 2G. A value that is refused changes nothing.\n";

static const char vsock_text[] =
    "  PORT                 link a unix socket that leads to that port of the guest, made when it\n"
    "                            is first looked for: socat - UNIX-CONNECT:vsock/22\n";

static const char snapshot_text[] =
    "mkdir snapshots/NAME returns when the snapshot is whole and on disk; the guest goes on\n"
    "after some milliseconds. Others who look into snapshots/ wait as long, so scripts and sshfs\n"
    "may rather write `snapshot NAME &` to the machine's ctl and watch jobs/. A machine that is\n"
    "stopped has its disks snapshot alone. What a disk's source names stays as it is below\n"
    "snapshots, and is not written to: what the guest writes from then on is in layers over it\n"
    "that filevisor keeps, and that are merged into it when nothing needs it any more.\n"
    "A copy of a snapshot's directory is a backup: cp -r --sparse=always snapshots/base /backup\n";

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

static const char pool_text[] =
    "A volume is new until its content is first written or a machine uses it: its size, format\n"
    "and backing may be set in any order. A machine names it as NAME/VOLUME in disks/X/source.\n";

static const char interfaces_text[] =
    "What is made here is a bridge until its type is written. It stays until it is removed or the\n"
    "host restarts. Interfaces of others are only shown, unless root writes true to `manage`.\n"
    "To try changes without cutting yourself off:\n"
    "  echo 'commit-within 60' > ctl           what is changed now is put back in a minute,\n"
    "  echo 192.0.2.7/24 > br0/addresses       whatever it is,\n"
    "  echo commit > ctl                       unless you are still there to say this\n";

/* "usage\thelp" lines, in two columns. */
static void help_commands(const char *title, void (*help)(struct strbuf *sb), struct strbuf *sb)
{
	_cleanup_strbuf_ struct strbuf lines = STRBUF_INIT;
	char *p, *line;

	strbuf_printf(sb, "\n%s\n", title);
	help(&lines);
	for (p = lines.data; p && (line = strsep(&p, "\n"));) {
		const char *usage = strsep(&line, "\t");

		if (*usage)
			strbuf_printf(sb, "  %-25s %s\n", usage, line ? line : "");
	}
}

static void help_subdir(const struct fsapi *fs, const char *name, enum dir_id dir,
			struct strbuf *sb)
{
	strbuf_printf(sb, "\n%s:\n", name);
	help_dir(&fs->dirs[dir], sb);
}

static void help_machine(const struct fsapi *fs, struct strbuf *sb)
{
	help_subdir(fs, "disks/NAME", DIR_DISK, sb);
	help_subdir(fs, "nics/NAME", DIR_NIC, sb);
	help_subdir(fs, "vsock", DIR_VSOCK, sb);
	strbuf_puts(sb, vsock_text);
	help_subdir(fs, "vcpu/N", DIR_VCPU, sb);
	help_subdir(fs, "jobs/N", DIR_JOB, sb);
	help_subdir(fs, "snapshots/NAME", DIR_SNAPSHOT, sb);
	strbuf_printf(sb, "\n%s", snapshot_text);
	strbuf_printf(sb, "\n%s", machine_text);
	help_commands(
	    "Commands (a line written to ctl; a final \" &\" makes it a job under jobs/):",
	    machine_command_help, sb);
	help_commands("Commands of a disk (to disks/NAME/ctl):", machine_disk_command_help, sb);
	help_commands("Commands of a network card (to nics/NAME/ctl):", machine_nic_command_help,
		      sb);
	help_commands("Commands of a snapshot (to snapshots/NAME/ctl; \" &\" likewise):",
		      snapshot_command_help, sb);
}

static void help_snapshot(const struct fsapi *fs, struct strbuf *sb)
{
	help_subdir(fs, "disks/NAME", DIR_SNAPSHOT_DISK, sb);
	strbuf_printf(sb, "\n%s", snapshot_text);
	help_commands(
	    "Commands (a line written to ctl; a final \" &\" makes it a job of the machine's):",
	    snapshot_command_help, sb);
}

static void help_pool(const struct fsapi *fs, struct strbuf *sb)
{
	help_subdir(fs, "volumes/NAME", DIR_VOLUME, sb);
	strbuf_printf(sb, "\n%s", pool_text);
	help_commands("Commands (a line written to ctl):", pool_command_help, sb);
	help_commands(
	    "Commands of a volume (to volumes/NAME/ctl; a final \" &\" makes it a job under"
	    " /jobs):",
	    volume_command_help, sb);
}

static void help_interfaces(const struct fsapi *fs, struct strbuf *sb)
{
	help_subdir(fs, "NAME", DIR_INTERFACE, sb);
	strbuf_printf(sb, "\n%s", interfaces_text);
	help_commands("Commands (a line written to ctl):", interfaces_command_help, sb);
}

int help_show(struct node *n, struct strbuf *sb)
{
	const struct fsapi *fs = n->fs;
	const struct dir *d = node_dir(n->parent);

	strbuf_printf(sb, "%s\n\n", d->title);
	help_dir(d, sb);
	if (d == &fs->dirs[DIR_ROOT])
		strbuf_printf(sb, "\n%s", root_text);
	else if (d == &fs->dirs[DIR_MACHINE])
		help_machine(fs, sb);
	else if (d == &fs->dirs[DIR_SNAPSHOT])
		help_snapshot(fs, sb);
	else if (d == &fs->dirs[DIR_POOL])
		help_pool(fs, sb);
	else if (d == &fs->dirs[DIR_INTERFACES])
		help_interfaces(fs, sb);
	else if (d == &fs->dirs[DIR_NETWORK])
		help_commands("Commands (a line written to ctl):", network_command_help, sb);
	return 0;
}
