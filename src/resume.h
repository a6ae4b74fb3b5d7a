/* SPDX-License-Identifier: ISC */
#ifndef FV_RESUME_H
#define FV_RESUME_H
/*
 * Starting a machine, from its kernel or from where a guest stood still: its own saved
 * state (`start`), a snapshot (`restore`), another machine's (`clone`). start.c.
 */
#include "hold.h"

struct command_call;
struct vmm;

/* What a VMM goes on from instead of booting. Descriptors are borrowed. */
struct resume {
	int state;			 /* vmm/state.h */
	const struct memory_map *memory; /* NULL: @hold has it */
	const int *memory_fds;
	struct hold *hold; /* NULL: a VMM of its own is started */
	bool once;	   /* VMM_LOAD_ONCE */
	bool clone;	   /* VMM_LOAD_CLONE: it gets a generation id of its own */
	/* Asked when all is ready to run, with @arg: waits, and 0, or with words why not. */
	int (*may_run)(void *arg, struct err *err);
	void *arg;
};

/*
 * Starts @m: with @resume NULL from its saved state where it is saved, else from its kernel. The
 * machine's op is held by the caller. On failure it is in the state it was in. `kill` and
 * @cancel end it.
 */
int machine_start(struct machine *m, const struct resume *resume, struct cancel *cancel,
		  struct err *err);
/* As machine_start() without @resume, by a VMM that was launched for it (vmm.h), which it takes. */
int machine_start_launched(struct machine *m, struct vmm *launched, struct cancel *cancel,
			   struct err *err);
/*
 * Tells a VMM that was launched for @m what it is told first, the guest's memory among it: it gets
 * to work while the rest is made ready. -errno with words: then it is to be discarded.
 */
int machine_tell_ahead(struct machine *m, struct vmm *vmm, const struct memory_map *memory,
		       struct err *err);
/* Kills its VMM, if there is one, and waits until it is gone: @reason for the event. */
int machine_end_vmm(struct machine *m, const char *reason, struct err *err);
/*
 * The same for a guest that is given up, and whose disks' top layers are, too: where it has
 * nothing else that must be free first, what is left of the process is not waited for.
 */
int machine_leave_vmm(struct machine *m, const char *reason, struct err *err);

#endif
