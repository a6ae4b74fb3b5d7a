/* SPDX-License-Identifier: ISC */
#ifndef FV_MACHINE_H
#define FV_MACHINE_H
/*
 * One machine: its definition, its state machine, its VMM. See model.h for
 * threads and for what an aspect is.
 */
#include "model.h"

#define MACHINE_NAME_MAX 63
#define DISK_NAME_MAX	 31

/*
 * defined: never ran since it was defined or since the daemon's state was read.
 * starting: a VMM is being set up. running, paused. stopped: it ran and ended
 * as asked (stop, kill, power-off). crashed: it ended otherwise; with
 * on_crash = preserve its memory and registers are still there until `kill`.
 * saved: it stands still with all its state on disk, and `start` lets it go on.
 * migrating: for issues to come.
 */
enum machine_state {
	MACHINE_DEFINED,
	MACHINE_STARTING,
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_SAVED,
	MACHINE_STOPPED,
	MACHINE_CRASHED,
	MACHINE_MIGRATING,
	MACHINE_STATE_MAX,
};

const char *machine_state_name(enum machine_state state);

struct machine *machine_get(struct machine *m);
void machine_put(struct machine *m);

/* -EINVAL unless [A-Za-z0-9][A-Za-z0-9._-]{0,62}. */
int machine_name_check(const char *name, struct err *err);

/* Copies the name (it may change at any time). */
void machine_name(struct machine *m, char name[MACHINE_NAME_MAX + 1]);
/* A number that no other machine of this daemon's life has: for inode numbers. */
uint64_t machine_serial(const struct machine *m);
enum machine_state machine_state(struct machine *m);
bool machine_has_vmm(struct machine *m);
/* False once undefined: later calls on it give -ENOENT. */
bool machine_alive(struct machine *m);
/* When the aspect last changed (for ASPECT_DISK and ASPECT_NIC: @name's; now for ASPECT_LIVE with a
 * VMM). */
struct timespec machine_changed(struct machine *m, enum machine_aspect aspect, const char *name);

/* --- who may do what --------------------------------------------------------------- */

struct machine_access {
	uid_t uid;
	gid_t gid;
	mode_t mode; /* permission bits of the machine's directory */
};

void machine_access_get(struct machine *m, struct machine_access *access);
int machine_access_set(struct machine *m, const struct machine_access *access, struct err *err);
/* chmod of one file: @path below the machine's directory ("ctl", "disks/root/source"). */
bool machine_file_mode_get(struct machine *m, const char *path, mode_t *mode);
int machine_file_mode_set(struct machine *m, const char *path, mode_t mode, struct err *err);

/* --- the definition: one table, two views -------------------------------------------- */

enum key_type { KEY_UINT, KEY_SIZE, KEY_BOOL, KEY_ENUM, KEY_TEXT, KEY_PATH };

/* A key of `config`, which is also a one-value file of the same name. */
struct config_key {
	const char *name;
	enum key_type type;
	uint64_t min, max;	  /* UINT, SIZE (bytes); TEXT, PATH: greatest length */
	const char *preset;	  /* default, as one writes it */
	const char *const *words; /* ENUM: NULL-terminated */
	const char *file;	  /* below the machine's directory, where that is not its name */
	const char *help;	  /* one line, for README and the manual */
	bool needs_restart;	  /* a change while running counts from the next start */
	size_t offset;		  /* model's own */
	/* Model's own: TEXT, PATH: the text as it is kept (caller frees), or why not. NULL: as is.
	 */
	int (*refine)(const char *text, char **refined, struct err *err);
};

extern const struct config_key machine_keys[];
extern const size_t n_machine_keys;
extern const struct config_key disk_keys[];
extern const size_t n_disk_keys;
extern const struct config_key nic_keys[];
extern const size_t n_nic_keys;

/* Appends the value (sizes in bytes, no newline). */
int machine_key_show(struct machine *m, const struct config_key *key, struct strbuf *sb);
/*
 * Sets the value from text (no newline), durable when it returns. -EINVAL,
 * -ERANGE, -EACCES (a path that the caller may not read), -ENOENT (no such
 * file), -EBUSY (cannot change now). On failure nothing changed and words are in @err;
 * the outcome also goes to the machine's `error` and to events.
 */
int machine_key_store(struct machine *m, const struct config_key *key, const char *text,
		      const struct caller *caller, struct err *err);

/* The whole definition as libconfig text, and replacing it whole (words with line and column). */
int machine_config_show(struct machine *m, struct strbuf *sb);
int machine_config_store(struct machine *m, const char *text, size_t len,
			 const struct caller *caller, struct err *err);

/* --- disks --------------------------------------------------------------------------- */

int machine_disk_add(struct machine *m, const char *name, const struct caller *caller,
		     struct err *err);
int machine_disk_remove(struct machine *m, const char *name, const struct caller *caller,
			struct err *err);
bool machine_disk_exists(struct machine *m, const char *name);
/* The name of the @index'th disk in order of attachment; false at the end. */
bool machine_disk_at(struct machine *m, size_t index, char name[DISK_NAME_MAX + 1]);
int machine_disk_key_show(struct machine *m, const char *disk, const struct config_key *key,
			  struct strbuf *sb);
int machine_disk_key_store(struct machine *m, const char *disk, const struct config_key *key,
			   const char *text, const struct caller *caller, struct err *err);

/*
 * Commands of one disk (disks/NAME/ctl): resize, eject, change, detach …; as machine_command_run(),
 * _list(), _help(). The outcome goes to the machine's `error`.
 */
int machine_disk_command_run(struct machine *m, const char *disk, const char *line,
			     const struct caller *caller, struct err *err);
void machine_disk_command_list(struct machine *m, const char *disk, struct strbuf *sb);
void machine_disk_command_help(struct strbuf *sb);
/*
 * `source` and, unless it is NULL, `format` in one: a guest that runs has other contents then (""
 * for @source: none). As machine_disk_key_store().
 */
int machine_disk_source_set(struct machine *m, const char *disk, const char *source,
			    const char *format, const struct caller *caller, struct err *err);
/*
 * Another size for the disk that a running machine has; what is new reads as zeroes, and the
 * guest is told. 0: takes over the size that its storage has now. -EBUSY where no VMM has it.
 */
int machine_disk_resize(struct machine *m, const char *disk, uint64_t bytes, struct cancel *cancel,
			struct err *err);
/* attached, waiting (the guest was asked to let go), ejected, detached (no VMM has it) */
int machine_disk_state_show(struct machine *m, const char *disk, struct strbuf *sb);
/* The files that are over its source, a path a line, the top one first; nothing: none. */
int machine_disk_layers_show(struct machine *m, const char *disk, struct strbuf *sb);

/* --- commands ------------------------------------------------------------------------ */

/*
 * Runs one line of `ctl` (no newline; a line that is blank or begins with '#'
 * does nothing), and returns when it is done. With a trailing " &" it becomes
 * a job and this returns at once. The outcome goes to `error` and `events`.
 * -ECANCELED where the caller's token ended it.
 */
int machine_command_run(struct machine *m, const char *line, const struct caller *caller,
			struct err *err);
/* The commands allowed now, as `#` comment lines with usage and help. */
void machine_command_list(struct machine *m, struct strbuf *sb);
/* Every command there is, for README and the manual: "usage\thelp\n" lines. */
void machine_command_help(struct strbuf *sb);

/* "ENAME command: words" of the last failed command or guest; empty if the last succeeded. */
void machine_error_show(struct machine *m, struct strbuf *sb);
/* For refusals that the tree itself finds (a document too long, a bad name). */
void machine_error_set(struct machine *m, const char *what, const struct err *err);

/* --- what a running one shows; none of these waits for longer than a second ----------- */

/* Log of the serial console (or its older part); caller closes. -ENOENT where it never ran. */
int machine_console_open(struct machine *m, bool old);
int machine_console_stat(struct machine *m, bool old, uint64_t *size, struct timespec *mtime);
/* Types @len bytes; all are taken or none. -EBUSY when no guest runs, -ENOSPC if it does not read.
 */
int machine_console_type(struct machine *m, const void *data, size_t len, struct err *err);
/* The pty's path, for `tty`; -ENOENT without a VMM. */
int machine_tty(struct machine *m, struct strbuf *sb);

/* 0 without a VMM. */
unsigned machine_vcpu_count(struct machine *m);
/* Registers as text of a length that never varies (machine_registers_size()). */
int machine_registers_show(struct machine *m, unsigned vcpu, struct strbuf *sb, struct err *err);
size_t machine_registers_size(void);
int machine_vcpu_state_show(struct machine *m, unsigned vcpu, struct strbuf *sb);
/* Host CPUs that the vcpu's thread may use ("0-3,8"); storing sets them. */
int machine_affinity_show(struct machine *m, unsigned vcpu, struct strbuf *sb);
int machine_affinity_store(struct machine *m, unsigned vcpu, const char *text, struct err *err);

/* Flat-keyed counters, and the same for Prometheus (labels machine="…"). */
void machine_stats_show(struct machine *m, struct strbuf *sb);
void machine_metrics_show(struct machine *m, struct strbuf *sb);
/* Only the counters beginning with @prefix, which is left out of the names. */
void machine_stats_show_prefix(struct machine *m, const char *prefix, struct strbuf *sb);

/* Guest RAM as it is when it is read (content.h; offset = guest physical address). -ENODEV without
 * a VMM. Size 0 then. */
struct content;
int machine_memory_open(struct machine *m, struct content **content, struct err *err);
uint64_t machine_memory_size(struct machine *m);

/* An ELF core as of open: registers taken then, RAM read as it is. */
struct machine_core;
int machine_core_open(struct machine *m, struct machine_core **core, struct err *err);
uint64_t machine_core_size(struct machine *m); /* without opening; 0 without a VMM */
ssize_t machine_core_read(struct machine_core *core, void *buf, size_t len, uint64_t offset);
/* SEEK_DATA, SEEK_HOLE; the new offset or -errno. */
int64_t machine_core_seek(struct machine_core *core, int64_t offset, int whence);
void machine_core_close(struct machine_core *core);

#endif
