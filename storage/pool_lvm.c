// SPDX-License-Identifier: ISC
/*
 * A volume group as storage: each logical volume that holds data is a volume, raw. All is done
 * by LVM's own tools, as processes without a shell, bounded in time. They need the device-mapper
 * of the kernel; where it is missing that is said before any tool is asked.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/pool_lvm.h"
#include "util/cleanup.h"
#include "util/tool.h"

#define LOOK_MS	  20000	 /* a report */
#define CHANGE_MS 600000 /* making, removing, resizing: may wipe or move data */
#define REPORT	  "--noheadings", "--nosuffix", "--units", "b", "--separator", "|"

/* As LVM wants names: these characters, no leading '-', and not "." or "..". */
static bool lvm_name(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > STORAGE_NAME_MAX || *name == '-' || !strcmp(name, ".") ||
	    !strcmp(name, ".."))
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("+_.-", *p))
			return false;
	return true;
}

static int check(const char *source, struct err *err)
{
	if (lvm_name(source))
		return 0;
	return err_set(err, -EINVAL, "'%.80s' is no name of a volume group", source);
}

static int check_name(const char *name, struct err *err)
{
	int r = storage_name_check(name, err);

	if (r == 0 &&
	    (!lvm_name(name) || !strncmp(name, "snapshot", 8) || !strncmp(name, "pvmove", 6)))
		r = err_set(err, -EINVAL, "'%.80s' is no name that lvm takes", name);
	return r;
}

static int lvm(const char *const argv[], struct cancel *cancel, unsigned timeout_ms,
	       struct strbuf *out, struct err *err)
{
	const struct tool tool = {
	    .argv = argv, .cancel = cancel, .timeout_ms = timeout_ms, .out = out};
	int r;

	if (access("/dev/mapper/control", F_OK) < 0)
		return err_set(err, -ENODEV,
			       "lvm needs device-mapper, which this kernel does not offer "
			       "(/dev/mapper/control is missing)");
	r = tool_run(&tool, err);
	if (r == -ENOENT)
		return err_set(err, -EOPNOTSUPP, "%s is not there: install lvm2", argv[0]);
	return r;
}

static int list(const struct storage *s, struct cancel *cancel, struct storage_list *out,
		struct err *err)
{
	_cleanup_strbuf_ struct strbuf volumes = STRBUF_INIT, group = STRBUF_INIT;
	const char *const lvs[] = {"lvs", REPORT, "-o", LVS_FIELDS, s->source, NULL};
	const char *const vgs[] = {"vgs", REPORT, "-o", VGS_FIELDS, s->source, NULL};
	int r;

	memset(out, 0, sizeof(*out));
	r = lvm(vgs, cancel, LOOK_MS, &group, err);
	if (r == 0)
		r = lvm(lvs, cancel, LOOK_MS, &volumes, err);
	if (r == 0 && (group.failed || volumes.failed))
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = lvm_parse_vgs(group.data, out, err);
	if (r == 0)
		r = lvm_parse_lvs(volumes.data, out, err);
	if (r < 0)
		storage_list_free(out);
	return r;
}

static char *path(const struct storage *s, const char *name)
{
	char *p;

	return asprintf(&p, "/dev/%s/%s", s->source, name) < 0 ? NULL : p;
}

static int open_volume(const struct storage *s, const char *name, bool write, struct err *err)
{
	_cleanup_free_ char *device = path(s, name);
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (!device)
		return err_set(err, -ENOMEM, "out of memory");
	if (stat(device, &st) < 0)
		return err_set(err, -errno, "%s: %m", device);
	if (!S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s is no block device", device);
	fd = open(device, (write ? O_RDWR | O_EXCL : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -errno, "%s: %m", device);
	return take_fd(&fd);
}

static void size_text(char text[32], uint64_t bytes)
{
	snprintf(text, 32, "%llub", (unsigned long long)bytes);
}

static int create(const struct storage *s, const char *name, uint64_t bytes, struct cancel *cancel,
		  char hidden[STORAGE_NAME_MAX + 64], struct err *err)
{
	char size[32];
	const char *const argv[] = {"lvcreate", "--yes", "--wipesignatures", "y", "--name", name,
				    "--size",	size,	 s->source,	     NULL};

	hidden[0] = '\0';
	size_text(size, bytes);
	return lvm(argv, cancel, CHANGE_MS, NULL, err);
}

static int remove_volume(const struct storage *s, const char *name, struct cancel *cancel,
			 struct err *err)
{
	_cleanup_free_ char *full = NULL;
	const char *argv[] = {"lvremove", "--yes", NULL, NULL};

	if (asprintf(&full, "%s/%s", s->source, name) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	argv[2] = full;
	return lvm(argv, cancel, CHANGE_MS, NULL, err);
}

static int resize(const struct storage *s, const char *name, uint64_t bytes, struct cancel *cancel,
		  struct err *err)
{
	_cleanup_free_ char *full = NULL;
	char size[32];
	const char *argv[] = {"lvresize", "--force", "--yes", "--size", size, NULL, NULL};

	size_text(size, bytes);
	if (asprintf(&full, "%s/%s", s->source, name) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	argv[5] = full;
	return lvm(argv, cancel, CHANGE_MS, NULL, err);
}

const struct storage_type storage_lvm = {
    .name = "lvm",
    .help = "a volume group: each logical volume is a volume",
    .root_only = true,
    .check = check,
    .check_name = check_name,
    .list = list,
    .open = open_volume,
    .create = create,
    .remove = remove_volume,
    .resize = resize,
    .path = path,
};
