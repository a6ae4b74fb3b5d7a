/* SPDX-License-Identifier: ISC */
#ifndef FV_COMMAND_H
#define FV_COMMAND_H
/*
 * Commands: what may be written to a `ctl`. A command is a row of a table,
 * which says when it is allowed, what it takes, and what it does.
 */
#include "model_int.h"

#define COMMAND_LINE_MAX 4096
#define COMMAND_WORDS	 8

struct command_call;

struct command {
	const char *name;
	const char *usage; /* "stop [SECONDS]" */
	const char *help;
	unsigned states;   /* IN(state) of those in which it is allowed */
	bool op;	   /* one at a time on a machine: holds machine.op while it runs */
	bool needs_vmm;	   /* allowed only while there is one */
	bool needs_no_vmm; /* ... while there is none */
	unsigned min_args, max_args;
	/* Whether the arguments make sense: 0, -EINVAL, -ERANGE. NULL: any do. */
	int (*check)(struct command_call *call, struct err *err);
	/* Returns when it is done. @m is NULL for commands of the root. */
	int (*run)(struct model *model, struct machine *m, struct command_call *call,
		   const struct caller *caller, struct err *err);
};

/* One line of ctl, understood. */
struct command_call {
	const struct command *command;
	char line[COMMAND_LINE_MAX + 1]; /* as written, without blanks around it and without " &" */
	char words[COMMAND_LINE_MAX + 1];
	char *args[COMMAND_WORDS];
	unsigned n_args;
	struct job *job; /* that runs it, or NULL; borrowed */
};

extern const struct command machine_commands[];
extern const size_t n_machine_commands;
extern const struct command model_commands[];
extern const size_t n_model_commands;

/* Runs an understood command, with what it needs around it. Not its outcome. */
int command_execute(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err);

/* --- lifecycle.c: what the machine's commands do ------------------------------------------- */

typedef int command_fn(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err);
command_fn lifecycle_start, lifecycle_stop, lifecycle_kill, lifecycle_reset, lifecycle_pause,
    lifecycle_resume;

/* --- jobs.c --------------------------------------------------------------------------------- */

/*
 * Starts a job that runs the call (copied) for the caller (copied). A
 * reference in *@job where it is not NULL. -ENOSPC, -ENOMEM.
 */
int job_start(struct model *model, struct machine *m, const struct command_call *call,
	      const struct caller *caller, struct job **job, struct err *err);
/* Shown in jobs/N/progress; nothing where @job is NULL. */
void job_progress(struct job *job, uint64_t done, uint64_t total, const char *unit);
/* Waits until it has ended or the token is requested (then cancels it first). Its error. */
int job_wait(struct job *job, struct cancel *cancel, struct err *err);
/* Forgets finished jobs; their number. */
size_t jobs_clear(struct model *model);

#endif
