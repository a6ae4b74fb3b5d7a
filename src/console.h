/* SPDX-License-Identifier: ISC */
#ifndef FV_CONSOLE_H
#define FV_CONSOLE_H
/* A machine's console on the host: its log files and its pty. */
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

struct machine;
struct machine_access;
struct vmm;

#define CONSOLE_MAX	  (4u << 20)  /* a longer log becomes console.old */
#define CONSOLE_ALONE_MAX (64u << 20) /* what a VMM may write to it while no daemon is there */

/* The log to be written, appending. -errno. */
int console_open_log(struct machine *m);
/* A new pty in raw mode: its master, its slave's path, owned as the machine is. -errno. */
int console_open_pty(const struct machine_access *access, char *path, size_t size);
/* Where the log has more than @max bytes: it becomes console.old, and the VMM gets a new one. */
void console_rotate(struct vmm *vmm, uint64_t max);

#endif
