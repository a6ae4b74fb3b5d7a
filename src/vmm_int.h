/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_INT_H
#define FV_VMM_INT_H
/* What the files that make a struct vmm share: vmm_spawn.c, vmm_forked.c, vmm_found.c. */
#include "vmm.h"

/* With one reference and nothing open; NULL without memory. */
struct vmm *vmm_new(struct machine *m);
/* Its two directories. -errno. */
int vmm_open_dirs(struct vmm *vmm, bool make);
/* A new socket vmm.sock that listens there. A descriptor or -errno. */
int vmm_listen(int run_dir);
/* Runs the program under that name (@path itself: its usual one), as vmm_spawn.c says. -errno. */
int vmm_spawn(const char *path, const char *name, int listening, int log, pid_t *pid);
/* A connection, without waiting where the VMM does not accept yet. -errno. */
int vmm_connect(int run_dir);
/* Field 22 of /proc/PID/stat; 0 where there is no such process. */
unsigned long long vmm_start_time(pid_t pid);
/* The process that was noted, if it still is: a pidfd, or -errno. */
int vmm_find_process(int run_dir, pid_t *pid);
/* Says HELLO, and hears what the VMM is doing. */
int vmm_hello(struct vmm *vmm, unsigned timeout_ms, struct cancel *cancel, struct err *err);

/*
 * Whom we are connected to, where the process is not our child: the kernel says which process
 * sent what came over the socket. Before the events thread hears it. vmm->pid and vmm->pidfd;
 * -errno with words. A process of another user than @uid is refused.
 */
int vmm_identify(struct vmm *vmm, uid_t uid, struct cancel *cancel, struct err *err);

#endif
