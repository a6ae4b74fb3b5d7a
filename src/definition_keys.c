// SPDX-License-Identifier: ISC
/*
 * The keys of a definition. A row here is a word of `config`, a one-value file
 * of the tree, a line of its README and of the manual.
 */
#include <errno.h>
#include <string.h>

#include "definition.h"
#include "disk_limits.h"
#include "pool.h"
#include "storage/image.h"
#include "util/cleanup.h"
#include "vsock_int.h"

static const char *const stop_restart_words[] = {
    [VMM_ACTION_STOP] = "stop", [VMM_ACTION_RESTART] = "restart", NULL};
static const char *const crash_words[] = {[VMM_ACTION_STOP] = "stop",
					  [VMM_ACTION_RESTART] = "restart",
					  [VMM_ACTION_PRESERVE] = "preserve",
					  NULL};
static const char *const format_words[] = {[IMAGE_RAW] = "raw", [IMAGE_QCOW2] = "qcow2", NULL};
static const char *const cache_words[] = {[VMM_CACHE_WRITEBACK] = "writeback",
					  [VMM_CACHE_NONE] = "none",
					  [VMM_CACHE_WRITETHROUGH] = "writethrough",
					  [VMM_CACHE_UNSAFE] = "unsafe",
					  NULL};
static const char *const on_error_words[] = {[VMM_ON_ERROR_AUTO] = "auto",
					     [VMM_ON_ERROR_REPORT] = "report",
					     [VMM_ON_ERROR_PAUSE] = "pause",
					     [VMM_ON_ERROR_IGNORE] = "ignore",
					     NULL};

#define PATH_LENGTH_MAX 4095
#define OF(field)	.offset = offsetof(struct machine_values, field)

const struct config_key machine_keys[] = {
    {.name = "cpus",
     .type = KEY_UINT,
     .min = 1,
     .max = VMM_CPUS_MAX,
     .preset = "1",
     .help = "number of vcpus",
     .needs_restart = true,
     OF(cpus)},
    {.name = "memory",
     .type = KEY_SIZE,
     .min = 1 << 20,
     .max = 16ull << 40,
     .preset = "256M",
     .help = "guest RAM in bytes, or as 64M, 2G; a multiple of 4K",
     .needs_restart = true,
     OF(memory)},
    {.name = "hugepages",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "guest RAM in huge pages of 2 MiB, which the host must have reserved",
     .needs_restart = true,
     OF(hugepages)},
    {.name = "kernel",
     .type = KEY_PATH,
     .max = PATH_LENGTH_MAX,
     .preset = "",
     .help = "absolute path of a bzImage, or of an ELF kernel, perhaps compressed",
     .needs_restart = true,
     OF(kernel)},
    {.name = "initrd",
     .type = KEY_PATH,
     .max = PATH_LENGTH_MAX,
     .preset = "",
     .help = "absolute path of the initial RAM disk; empty: none",
     .needs_restart = true,
     OF(initrd)},
    {.name = "cmdline",
     .type = KEY_TEXT,
     .max = VMM_CMDLINE_MAX - 1,
     .preset = "",
     .help = "command line of the kernel",
     .needs_restart = true,
     OF(cmdline)},
    {.name = "autostart",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "start it when the daemon starts",
     OF(autostart)},
    {.name = "on_crash",
     .type = KEY_ENUM,
     .preset = "stop",
     .words = crash_words,
     .help = "when the guest crashes: stop, restart, or preserve it to be looked at",
     .needs_restart = true,
     OF(on_crash)},
    {.name = "on_reboot",
     .type = KEY_ENUM,
     .preset = "restart",
     .words = stop_restart_words,
     .help = "when the guest reboots: restart or stop",
     .needs_restart = true,
     OF(on_reboot)},
    {.name = "on_poweroff",
     .type = KEY_ENUM,
     .preset = "stop",
     .words = stop_restart_words,
     .help = "when the guest switches itself off: stop or restart",
     .needs_restart = true,
     OF(on_poweroff)},
    {.name = "stop_timeout_s",
     .type = KEY_UINT,
     .min = 0,
     .max = 86400,
     .preset = "60",
     .help = "seconds that `stop` gives the guest before it is killed",
     OF(stop_timeout_s)},
    {.name = "vsock",
     .file = "vsock/enabled",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "the guest has a vsock device: vsock/PORT is a socket to its port",
     .needs_restart = true,
     OF(vsock)},
    {.name = "vsock_listen",
     .file = "vsock/listen",
     .type = KEY_TEXT,
     .max = 8192,
     .preset = "",
     .help = "unix sockets of the host that the guest reaches at ports of CID 2: PORT=PATH, "
	     "blanks between; live",
     .refine = vsock_refine_listen,
     OF(vsock_listen)},
};
const size_t n_machine_keys = nitems(machine_keys);

/* --- what text may be --------------------------------------------------------------------- */

int disk_source_pool(const char *source)
{
	const char *slash = strchr(source, '/');
	char name[POOL_NAME_MAX + 1];
	size_t n, len;

	if (!*source || *source == '/')
		return 0;
	n = slash ? (size_t)(slash - source) : 0;
	len = slash ? strlen(slash + 1) : 0;
	if (n == 0 || n > POOL_NAME_MAX || len == 0 || len > VOLUME_NAME_MAX ||
	    strchr(slash + 1, '/') || slash[1] == '.')
		return -EINVAL;
	snprintf(name, sizeof(name), "%.*s", (int)n, source);
	return machine_name_check(name, NULL) < 0 ? -EINVAL : (int)n;
}

static int check_source(const char *text, size_t len, struct err *err)
{
	char source[4096];

	snprintf(source, sizeof(source), "%.*s", (int)len, text);
	if (disk_source_pool(source) < 0)
		return err_set(err, -EINVAL, "'%.80s' is neither an absolute path nor POOL/VOLUME",
			       source);
	return 0;
}

static int refine_source(const char *text, char **refined, struct err *err)
{
	int r = check_source(text, strlen(text), err);

	if (r == 0)
		*refined = strdup(text);
	return r;
}

/* Words, each a source, with one blank between. */
static int refine_backing(const char *text, char **refined, struct err *err)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	int r = 0;

	for (size_t n; r == 0 && *(text += strspn(text, " \t")); text += n) {
		n = strcspn(text, " \t");
		r = check_source(text, n, err);
		if (sb.len)
			strbuf_putc(&sb, ' ');
		strbuf_add(&sb, text, n);
	}
	if (r == 0)
		*refined = strbuf_steal(&sb);
	return r;
}

static int refine_serial(const char *text, char **refined, struct err *err)
{
	for (const char *p = text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			return err_set(err, -EINVAL, "byte %td is no printable ASCII", p - text);
	*refined = strdup(text);
	return 0;
}

#undef OF
#define OF(field) .offset = offsetof(struct disk_values, field)

const struct config_key disk_keys[] = {
    {.name = "source",
     .type = KEY_PATH,
     .max = PATH_LENGTH_MAX,
     .preset = "",
     .help = "absolute path of an image file or block device, or POOL/VOLUME; live: attaches, "
	     "changes the medium, or (empty) ejects it",
     .refine = refine_source,
     OF(source)},
    {.name = "format",
     .type = KEY_ENUM,
     .preset = "raw",
     .words = format_words,
     .help = "what the source holds: raw or qcow2; found out once, when source is set, and kept",
     .needs_restart = true,
     OF(format)},
    {.name = "readonly",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "the guest may not write; the image may then be read by others, too",
     .needs_restart = true,
     OF(readonly)},
    {.name = "queues",
     .type = KEY_UINT,
     .min = 0,
     .max = 16,
     .preset = "0",
     .help = "request queues; 0: as many as vcpus, at most 4",
     .needs_restart = true,
     OF(queues)},
    {.name = "cache",
     .type = KEY_ENUM,
     .preset = "writeback",
     .words = cache_words,
     .help = "writeback: through the host's page cache; none: past it; writethrough: each write "
	     "is on the disk when done; unsafe: flushes do nothing",
     .needs_restart = true,
     OF(cache)},
    {.name = "on_error",
     .type = KEY_ENUM,
     .preset = "auto",
     .words = on_error_words,
     .help = "when storage fails: report it to the guest, pause the machine until `resume`, or "
	     "ignore it; auto pauses where space ran out, and reports the rest",
     .needs_restart = true,
     OF(on_error)},
    {.name = "serial",
     .type = KEY_TEXT,
     .max = VMM_SERIAL_MAX,
     .preset = "",
     .help = "serial number that the guest sees, at most 20 characters; empty: the disk's name",
     .needs_restart = true,
     .refine = refine_serial,
     OF(serial)},
    {.name = "limits",
     .type = KEY_TEXT,
     .max = 1000,
     .preset = "",
     .help = "requests and bytes a second: iops= riops= wiops= bps= rbps= wbps=, and of each "
	     "NAME_burst=; live",
     .refine = disk_limits_refine,
     OF(limits)},
    {.name = "share",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "knowingly let other machines with share = true use the image, too: for file "
	     "systems made for that",
     .needs_restart = true,
     OF(share)},
    {.name = "backing",
     .type = KEY_TEXT,
     .max = 16384,
     .preset = "",
     .help = "images in other directories or pools that this one may be over: paths or "
	     "POOL/VOLUME, blanks between",
     .needs_restart = true,
     .refine = refine_backing,
     OF(backing)},
};
const size_t n_disk_keys = nitems(disk_keys);

_Static_assert(nitems(machine_keys) <= ASPECT_MAX - ASPECT_KEY0, "an aspect for each key");
