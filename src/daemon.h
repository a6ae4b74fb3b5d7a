/* SPDX-License-Identifier: ISC */
#ifndef FV_DAEMON_H
#define FV_DAEMON_H
/* What a daemon owes to those who start it: the background, readiness, and where its things are. */
#include <stdbool.h>

#include "util/err.h"

struct daemon {
	int ready_fd; /* to the waiting parent; -1 in the foreground */
};

/*
 * Goes into the background: returns in the child, in a session of its own.
 * The parent exits as soon as the child says daemon_ready() (0) or ends (1);
 * until then the child's messages reach the caller's stderr. -errno.
 */
int daemon_fork(struct daemon *d);
/* All is up: lets the parent go, cuts the ties to the terminal, tells systemd. */
void daemon_ready(struct daemon *d);
/* sd_notify(3): "READY=1", "STOPPING=1"; nothing without $NOTIFY_SOCKET. */
void daemon_notify(const char *state);

/* Where state and run-time files are by default, for root and for a plain user; caller frees.
 * NULL without memory, or where not even $HOME is known. */
char *daemon_state_dir(void);
char *daemon_run_dir(void);
/* The program beside this one, if it is there, else the installed one; caller frees. */
char *daemon_vmm_path(void);
/* An absolute path; the file need not exist. Caller frees; NULL without memory. */
char *daemon_absolute(const char *path);

#endif
