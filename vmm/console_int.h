/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_CONSOLE_INT_H
#define FV_VMM_CONSOLE_INT_H
/* The control thread's side of the console; devices have vmm/console.h. */
#include <stdbool.h>

#include "vmm/console.h"
#include "vmm/stats.h"

/* @wake_fd: an eventfd, written when there is something to flush or room for input. -ENOMEM. */
int console_new(struct console **console, struct stats *stats, int wake_fd);
/* Closes log and pty. */
void console_free(struct console *console);
/*
 * From now on output goes to @log_fd (-1: none; opened with O_APPEND) as long
 * as that has less than @log_limit bytes (0: no limit), and to @pty_fd (-1: the present one, if
 * any). Takes both, unless it fails. What is buffered goes to the old ones.
 */
int console_attach(struct console *console, int log_fd, int pty_fd, uint64_t log_limit);
/* Writes out what is buffered; console_printed() afterwards. */
uint64_t console_flush(struct console *console);
/* Bytes that went to the log, or would have if it took them. */
uint64_t console_printed(const struct console *console);
/* Typing: all of @len bytes are taken (returned) or none (0). Control thread. */
size_t console_type(struct console *console, const void *data, size_t len);
/* -1: none. To be polled for input, edge triggered. Control thread. */
int console_pty(const struct console *console);
/* Takes what was typed at the pty, as far as it fits. Control thread. */
void console_pty_read(struct console *console);
struct state;
/* What was typed and not yet read: saved, or loaded into one where nothing was. */
void console_state(struct console *console, struct state *state);
/* Was typing left in the pty for want of room, and is there room now? */
bool console_pty_waits(struct console *console);

#endif
