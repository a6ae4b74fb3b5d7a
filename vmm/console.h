/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_CONSOLE_H
#define FV_VMM_CONSOLE_H
/*
 * The machine's console between the guest's serial port and the host: output
 * goes to the log file and to the pty, input comes from the daemon
 * (VMM_CONSOLE_INPUT) and the pty. Outlives resets of the guest.
 */
#include <stddef.h>
#include <stdint.h>

struct console;

/*
 * Appends what the guest printed; buffered for moments, never loses bytes
 * while the log takes them, blocks the calling vcpu only where the buffer is full.
 */
void console_output(struct console *console, const void *data, size_t len);
/*
 * Takes up to @len bytes of waiting input. Returns how many.
 */
size_t console_input(struct console *console, void *buf, size_t len);
/*
 * The device that takes input: @notify is called (on the control thread) when
 * input has come; NULL to forget.
 */
void console_set_reader(struct console *console, void (*notify)(void *arg), void *arg);

#endif
