/* SPDX-License-Identifier: ISC */
#ifndef FV_MODEL_H
#define FV_MODEL_H
/*
 * The model: what exists on this host (machines, jobs, events), without any
 * idea of how it is shown. fsapi/ shows it as a tree and registers an observer
 * to hear of changes; this door is the only one it uses, with machine.h,
 * job.h, event.h and host.h beside it.
 *
 * Threads: every function here may be called from any thread. A machine has a
 * lock of its own, the registry of machines another, held for moments only;
 * nothing holds a lock while it waits for a guest, a disk or a process.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "util/cancel.h"
#include "util/err.h"
#include "util/strbuf.h"

struct model;
struct machine;
struct job;
struct pool;
struct volume;
struct snapshot;
struct network;
struct interface;

struct model_options {
	const char *state_dir; /* definitions, consoles; kept */
	const char *run_dir;   /* sockets, pids, events; gone at reboot */
	const char *vmm_path;  /* filevisor-vmm */
	const char *nbd_path;  /* filevisor-nbd; NULL: beside vmm_path */
};

/* Who asks: taken from the request; what is opened for him is opened with his rights. */
struct caller {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* 0: the daemon itself */
	const gid_t *groups;
	size_t n_groups;
	struct cancel *cancel; /* ends a waiting command; NULL: cannot be ended */
};

/*
 * What of a machine may change. Each file of the tree depends on one aspect:
 * its mtime is that aspect's last change, and watchers of it are told then.
 * Config keys follow after ASPECT_KEY0, in the order of machine_keys[].
 */
enum machine_aspect {
	ASPECT_DEFINITION, /* the text of `config` */
	ASPECT_STATE,
	ASPECT_ERROR,
	ASPECT_COMMANDS, /* which commands may be written now */
	ASPECT_CONSOLE,
	ASPECT_ACCESS, /* owner, group, mode */
	ASPECT_DISKS,  /* a disk was added or removed: the name says which */
	ASPECT_DISK,   /* a disk's settings: the name says which */
	ASPECT_VCPUS,  /* the set of running vcpus */
	ASPECT_JOBS,
	ASPECT_DISK_CONTENT, /* a disk's `image` and size: the name says which */
	ASPECT_SNAPSHOTS,    /* a snapshot came, went or was renamed: the name says which */
	ASPECT_NICS,	     /* a network card was added or removed: the name says which */
	ASPECT_NIC,	     /* its settings, state or capture: the name says which */
	ASPECT_NIC_ADDRESS,  /* the address of a network card: the name says which */
	ASPECT_LIVE, /* statistics, registers, memory: whenever the guest runs; never told */
	ASPECT_KEY0,
	ASPECT_MAX = ASPECT_KEY0 + 48,
};

/*
 * What the model tells. Called from any thread, perhaps with model locks held:
 * an observer only notes and queues, and never calls back. `m` and `job` are
 * borrowed: take a reference to keep one.
 */
struct model_observer {
	void (*machine_added)(void *arg, struct machine *m);
	void (*machine_removed)(void *arg, struct machine *m);
	void (*machine_renamed)(void *arg, struct machine *m, const char *old_name);
	void (*machine_changed)(void *arg, struct machine *m, enum machine_aspect aspect,
				const char *name);
	void (*pool_added)(void *arg, struct pool *pool);
	void (*pool_removed)(void *arg, struct pool *pool);
	void (*pool_renamed)(void *arg, struct pool *pool, const char *old_name);
	/* @aspect: enum pool_aspect of pool.h; @name: the volume's for POOL_VOLUMES */
	void (*pool_changed)(void *arg, struct pool *pool, int aspect, const char *name);
	/* @aspect: enum volume_aspect of pool.h */
	void (*volume_changed)(void *arg, struct volume *volume, int aspect);
	/* @aspect: enum snapshot_aspect of snapshot.h */
	void (*snapshot_changed)(void *arg, struct snapshot *snapshot, int aspect);
	void (*network_added)(void *arg, struct network *network);
	void (*network_removed)(void *arg, struct network *network);
	void (*network_renamed)(void *arg, struct network *network, const char *old_name);
	/* @aspect: enum network_aspect of network.h */
	void (*network_changed)(void *arg, struct network *network, int aspect);
	void (*interface_added)(void *arg, struct interface *i);
	void (*interface_removed)(void *arg, struct interface *i);
	void (*interface_renamed)(void *arg, struct interface *i, const char *old_name);
	/* @aspect: enum interface_aspect of interfaces.h */
	void (*interface_changed)(void *arg, struct interface *i, int aspect);
	/* what host/interfaces/{ctl,error,trial} show */
	void (*interfaces_told)(void *arg);
	void (*events_grew)(void *arg);
	void (*job_added)(void *arg, struct job *job);
	void (*job_changed)(void *arg, struct job *job);
	void (*job_removed)(void *arg, struct job *job);
};

/*
 * Opens the state (made if absent, mode 0700), locks it against a second
 * daemon (-EBUSY with words), loads definitions (a damaged one is reported
 * and its machine shown with the reason in `error`, never dropped), removes
 * left-overs of interrupted work, finds running VMMs and connects to them.
 */
int model_open(struct model **model, const struct model_options *options, struct err *err);
/* Starts the machines with autostart = true; call after the tree is mounted. */
void model_autostart(struct model *model);
/* From now on a VMM is kept at the ready, for whatever starts next. Once, before others use @model.
 */
void model_keep_spare(struct model *model);
/* -EBUSY with words: a machine has a VMM. */
int model_idle(struct model *model, struct err *err);
/* Set before other threads run; NULL observer to stop being told (waits for calls under way). */
void model_set_observer(struct model *model, const struct model_observer *observer, void *arg);
/* Disconnects from the VMMs (guests run on), ends jobs, frees all. */
void model_close(struct model *model);

/* The time the model was opened: the mtime of what does not change. */
struct timespec model_opened(const struct model *model);

/* --- machines: references; release each with machine_put() -------------------------- */

/* By name; NULL if there is none. */
struct machine *model_machine_get(struct model *model, const char *name);
/*
 * Defines @name (validated: -EINVAL), owned by the caller with @mode (its
 * permission bits); durable when it returns. -EEXIST, -ENOSPC. A reference to
 * the machine in *@m where @m is not NULL.
 */
int model_machine_define(struct model *model, const char *name, mode_t mode,
			 const struct caller *caller, struct machine **m, struct err *err);
/* Undefines: -EBUSY unless defined, stopped or crashed (and not preserved). */
int model_machine_undefine(struct model *model, struct machine *m, struct err *err);
int model_machine_rename(struct model *model, struct machine *m, const char *new_name,
			 struct err *err);
/*
 * Walks all machines in a stable order: @cursor 0 starts, then the value
 * returned through it; NULL at the end. Machines added or removed meanwhile
 * may or may not be seen, others exactly once. Cost per step does not depend
 * on the number of machines (beyond a logarithm).
 */
struct machine *model_machine_next(struct model *model, uint64_t *cursor);
size_t model_machine_count(struct model *model);
/* Last time a machine was added, removed or renamed. */
struct timespec model_machines_changed(struct model *model);

/* --- events: a bounded file of JSON lines ------------------------------------------- */

/* A descriptor to read `events` (or `events.old`) from, O_CLOEXEC; caller closes. -ENOENT. */
int model_events_open(struct model *model, bool old);
/* Size and mtime of the same. */
int model_events_stat(struct model *model, bool old, uint64_t *size, struct timespec *mtime);

/* --- daemon commands (`ctl` of the root) -------------------------------------------- */

int model_command_run(struct model *model, const char *line, const struct caller *caller,
		      struct err *err);
/* The commands allowed now, as `#` comment lines. */
void model_command_list(struct model *model, struct strbuf *sb);
/* As machine_error_show(), of the root's commands and of refused mkdirs. */
void model_error_show(struct model *model, struct strbuf *sb);
void model_error_set(struct model *model, const char *what, const struct err *err);

#endif
