/* SPDX-License-Identifier: ISC */
#ifndef FV_COMMAND_H
#define FV_COMMAND_H
/*
 * Commands: what may be written to a `ctl`. A command is a row of a table,
 * which says when it is allowed, what it takes, and what it does. Whose `ctl` it is
 * (the root's, a machine's, a disk's, a pool's, a volume's) is the subject of the
 * call; each kind of subject has a struct subject_ops, with its table.
 */
#include "model_int.h"
#include "network.h"
#include "pool.h"

#define COMMAND_LINE_MAX 4096
#define COMMAND_WORDS	 64

struct command_call;

enum subject_kind {
	SUBJECT_MODEL,
	SUBJECT_MACHINE,
	SUBJECT_DISK,
	SUBJECT_POOL,
	SUBJECT_VOLUME,
	SUBJECT_SNAPSHOT,
	SUBJECT_NETWORK,
	SUBJECT_NIC,
	SUBJECT_INTERFACES, /* of the host, all of them */
	SUBJECT_KIND_MAX,
};

/* What a command acts on. The pointers of other kinds are NULL; borrowed, but for a job's. */
struct subject {
	enum subject_kind kind;
	struct model *model;	      /* always */
	struct machine *m;	      /* MACHINE, DISK, NIC, SNAPSHOT */
	char disk[DISK_NAME_MAX + 1]; /* DISK; the card's name: NIC */
	struct pool *pool;	      /* POOL, VOLUME */
	struct volume *volume;	      /* VOLUME */
	struct snapshot *snapshot;    /* SNAPSHOT */
	struct network *network;      /* NETWORK */
};

struct command {
	const char *name;
	const char *usage; /* "stop [SECONDS]" */
	const char *help;
	unsigned states;   /* IN(state) of the subject's states in which it is allowed */
	bool op;	   /* one at a time on a subject (of a machine: holds machine.op) */
	bool needs_vmm;	   /* allowed only while there is one */
	bool needs_no_vmm; /* ... while there is none */
	bool ends_start;   /* allowed also while a machine's start opens its files */
	unsigned min_args, max_args;
	/* Whether the arguments make sense: 0, -EINVAL, -ERANGE. NULL: any do. */
	int (*check)(struct command_call *call, struct err *err);
	/* Returns when it is done. @m: call->subject.m. */
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
	struct subject subject;
	struct job *job; /* that runs it, or NULL; borrowed */
};

/* What the machinery asks of a kind of subject. Any may be NULL: nothing to do, or yes. */
struct subject_ops {
	const struct command *commands;
	const size_t *n_commands;
	/* References, for jobs. */
	void (*get)(const struct subject *s);
	void (*put)(const struct subject *s);
	bool (*alive)(const struct subject *s);
	/* Whether the command is allowed now (for `cat ctl`). */
	bool (*allowed)(const struct subject *s, const struct command *c);
	/* Claims the subject for a command: 0, or why not; then end() follows. */
	int (*begin)(const struct subject *s, const struct command *c, struct err *err);
	void (*end)(const struct subject *s, const struct command *c);
	/* Into `error`. */
	void (*outcome)(const struct subject *s, const char *what, const struct err *err);
	/* Members of an event that say whose it is; and its directory below the mountpoint. */
	void (*event)(const struct subject *s, struct strbuf *sb);
	void (*path)(const struct subject *s, struct strbuf *sb);
	/* A job of it came, changed or went. */
	void (*jobs_changed)(const struct subject *s);
};

extern const struct subject_ops model_subject_ops;	/* commands.c */
extern const struct subject_ops machine_subject_ops;	/* command_machine.c */
extern const struct subject_ops disk_subject_ops;	/* disk_commands.c */
extern const struct subject_ops nic_subject_ops;	/* nic_commands.c */
extern const struct subject_ops pool_subject_ops;	/* pool_commands.c */
extern const struct subject_ops volume_subject_ops;	/* volume_commands.c */
extern const struct subject_ops snapshot_subject_ops;	/* snapshot_commands.c */
extern const struct subject_ops network_subject_ops;	/* network_commands.c */
extern const struct subject_ops interfaces_subject_ops; /* interface_commands.c */

extern const struct command machine_commands[];
extern const size_t n_machine_commands;
extern const struct command model_commands[];
extern const size_t n_model_commands;

const struct subject_ops *subject_ops(const struct subject *s);
void subject_get(const struct subject *s);
void subject_put(const struct subject *s);
bool subject_alive(const struct subject *s);
/* Whether @s is @of or within it (a disk of a machine, a volume of a pool). */
bool subject_within(const struct subject *s, const struct subject *of);

/* One line of a ctl: see machine_command_run(); then the two lists of machine.h. */
int command_run(const struct subject *subject, const char *line, const struct caller *caller,
		struct err *err);
void command_list(const struct subject *subject, struct strbuf *sb);
void command_help(enum subject_kind kind, struct strbuf *sb);
/* Runs an understood command, with what it needs around it. Not its outcome. */
int command_execute(struct command_call *call, const struct caller *caller, struct err *err);

/* --- command_machine.c ------------------------------------------------------------------------ */

/*
 * Claims the machine's op (a static text) for a command that is not claimed by its row: -EBUSY
 * with words, -ENOENT. The state is not looked at.
 */
int machine_op_begin(struct machine *m, const char *op, struct err *err);
void machine_op_end(struct machine *m);

/* --- lifecycle.c: what the machine's commands do ------------------------------------------- */

typedef int command_fn(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err);
command_fn lifecycle_start, lifecycle_stop, lifecycle_kill, lifecycle_reset, lifecycle_pause,
    lifecycle_resume, lifecycle_save, lifecycle_discard;

/* --- jobs.c --------------------------------------------------------------------------------- */

/*
 * Starts a job that runs the call (copied) for the caller (copied). A
 * reference in *@job where it is not NULL. -ENOSPC, -ENOMEM.
 */
int job_start(const struct command_call *call, const struct caller *caller, struct job **job,
	      struct err *err);
/* Cancels and forgets those of a subject that goes, and of what is within it. */
void jobs_drop(struct jobs *jobs, const struct subject *subject);
/* Shown in jobs/N/progress; nothing where @job is NULL. */
void job_progress(struct job *job, uint64_t done, uint64_t total, const char *unit);
/* Waits until it has ended or the token is requested (then cancels it first). Its error. */
int job_wait(struct job *job, struct cancel *cancel, struct err *err);
/* Forgets finished jobs; their number. */
size_t jobs_clear(struct model *model);

#endif
