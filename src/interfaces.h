/* SPDX-License-Identifier: ISC */
#ifndef FV_INTERFACES_H
#define FV_INTERFACES_H
/*
 * Network interfaces of this host: all that the kernel has in the daemon's network namespace,
 * kept by a thread that hears of changes, so that no look at them waits for the kernel.
 *
 * Those that were made here (mkdir: a bridge, or by its `type` something else) bear an alias
 * that says so; they outlive the daemon, and the next one knows them by it. All others are only
 * looked at, unless root says `manage`; what belongs to a network of networks/ is always that
 * network's. Changes can be tried: after `commit-within SECONDS` each is noted before it is made,
 * and all are put back unless `commit` comes in time, also by the next daemon.
 *
 * Threads: as model.h says. What waits for the kernel does so under a mutex of its own, which no
 * reader takes.
 */
#include "model.h"

#define INTERFACE_NAME_MAX 15

struct interface;

enum interface_aspect {
	INTERFACE_STATE,     /* state, up, speed_mbit, flags */
	INTERFACE_SETTINGS,  /* type, mac, mtu, master, lower, vlan, alias, manage */
	INTERFACE_ADDRESSES, /* addresses */
	INTERFACE_ASPECT_MAX,
};

/* A file of an interface's directory. */
struct interface_key {
	const char *name;
	int aspect; /* enum interface_aspect; -1: may change at any time and is never told */
	bool may_be_empty;
	const char *help;
	void (*show)(struct interface *i, struct strbuf *sb);
	/* NULL: it cannot be set. In src/interface_*.c alone. */
	int (*set)(struct interface *i, const char *text, struct err *err);
	/* Of several lines, written as a whole: whether the text is right. Else NULL. */
	int (*check)(const char *text, struct err *err);
};

extern const struct interface_key interface_keys[];
extern const size_t n_interface_keys;

/* By name; in order, as model_machine_next(); how many; when the last one came or went. */
struct interface *model_interface_get(struct model *model, const char *name);
struct interface *model_interface_next(struct model *model, uint64_t *cursor);
size_t model_interface_count(struct model *model);
struct timespec model_interfaces_changed(struct model *model);
/* mkdir: a bridge, down. -EEXIST, -EINVAL, -EPERM. A reference in *@i. */
int model_interface_make(struct model *model, const char *name, const struct caller *caller,
			 struct interface **i, struct err *err);
/* rmdir: -EPERM unless it was made here, -EBUSY with words while others are in it or over it. */
int model_interface_remove(struct model *model, struct interface *i, const struct caller *caller,
			   struct err *err);
int model_interface_rename(struct model *model, struct interface *i, const char *name,
			   const struct caller *caller, struct err *err);

struct interface *interface_get(struct interface *i);
void interface_put(struct interface *i);
static inline void interface_putp(struct interface **i)
{
	interface_put(*i);
}
#define _cleanup_interface_ __attribute__((cleanup(interface_putp)))

void interface_name(struct interface *i, char name[INTERFACE_NAME_MAX + 1]);
uint64_t interface_serial(const struct interface *i);
bool interface_alive(struct interface *i);
struct timespec interface_changed(struct interface *i, enum interface_aspect aspect);

int interface_key_show(struct interface *i, const struct interface_key *key, struct strbuf *sb);
/* Root's alone. -EPERM with words unless it was made here or is managed. A refused value changes
 * nothing. */
/* What store would say before it tries. */
int interface_key_check(struct interface *i, const struct interface_key *key, const char *text,
			const struct caller *caller, struct err *err);
int interface_key_store(struct interface *i, const struct interface_key *key, const char *text,
			const struct caller *caller, struct err *err);

/* host/interfaces/ctl: commit-within, commit, undo. */
int interfaces_command_run(struct model *model, const char *line, const struct caller *caller,
			   struct err *err);
void interfaces_command_list(struct model *model, struct strbuf *sb);
void interfaces_command_help(struct strbuf *sb);
/* Why the last command or change was refused, or what could not be put back. */
void interfaces_error_show(struct model *model, struct strbuf *sb);
void interfaces_error_set(struct model *model, const char *what, const struct err *err);
/* "ends=UNIX-SECONDS changes=N" while changes are tried; nothing: they are not. */
void interfaces_trial_show(struct model *model, struct strbuf *sb);
/* When what these three show changed. */
struct timespec interfaces_told(struct model *model);

#endif
