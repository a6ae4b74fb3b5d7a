/* SPDX-License-Identifier: ISC */
#ifndef FV_SPARE_H
#define FV_SPARE_H
/*
 * A VMM at the ready: the program is loaded and has said HELLO, but knows of no machine yet.
 * Whoever needs a VMM takes it, and does not wait for a process to be made. Another
 * takes its place a little later, when nothing has been started for a moment.
 *
 * It is a VMM as any other that was just launched: with the user and the rights that the
 * daemon has, which it gives up when it is told of its machine (VMM_CONFIG); it
 * ends by itself when the daemon goes. It is called filevisor-spare until then.
 */
#include <sys/types.h>

struct model;
struct spares;

/* What was taken; all of it is the caller's. */
struct spare {
	pid_t pid;
	int pidfd;
	int sock; /* HELLO was said */
};

/* From now on there is one; before, and where it is not called, never. -errno. */
int spares_start(struct model *model);
/* Ends it, and makes none any more; spare_take() finds none. NULL is fine. */
void spares_stop(struct spares *spares);
/*
 * The spare one, if there is one that lives and is of the program as it is on disk now: its
 * socket and log get their places in @run_dir. False: there is none, and one is to be launched.
 */
bool spare_take(struct spares *spares, int run_dir, struct spare *spare);
/*
 * A machine is being started, which needs the processors itself: none is made before it has.
 * They count. NULL is fine.
 */
void spares_hold(struct spares *spares);
void spares_let_go(struct spares *spares);

#endif
