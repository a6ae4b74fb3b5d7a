// SPDX-License-Identifier: ISC
/*
 * The keys of a definition. A row here is a word of `config`, a one-value file
 * of the tree, a line of its README and of the manual.
 */
#include "definition.h"
#include "util/cleanup.h"

static const char *const stop_restart_words[] = {
    [VMM_ACTION_STOP] = "stop", [VMM_ACTION_RESTART] = "restart", NULL};
static const char *const crash_words[] = {[VMM_ACTION_STOP] = "stop",
					  [VMM_ACTION_RESTART] = "restart",
					  [VMM_ACTION_PRESERVE] = "preserve",
					  NULL};
static const char *const format_words[] = {"raw", NULL};

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
};
const size_t n_machine_keys = nitems(machine_keys);

#undef OF
#define OF(field) .offset = offsetof(struct disk_values, field)

const struct config_key disk_keys[] = {
    {.name = "source",
     .type = KEY_PATH,
     .max = PATH_LENGTH_MAX,
     .preset = "",
     .help = "absolute path of the image file or block device",
     .needs_restart = true,
     OF(source)},
    {.name = "format",
     .type = KEY_ENUM,
     .preset = "raw",
     .words = format_words,
     .help = "what the source holds: raw",
     .needs_restart = true,
     OF(format)},
    {.name = "readonly",
     .type = KEY_BOOL,
     .preset = "false",
     .help = "the guest may not write; the image may then be shared",
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
};
const size_t n_disk_keys = nitems(disk_keys);

_Static_assert(nitems(machine_keys) <= ASPECT_MAX - ASPECT_KEY0, "an aspect for each key");
