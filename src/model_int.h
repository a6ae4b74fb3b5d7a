/* SPDX-License-Identifier: ISC */
#ifndef FV_MODEL_INT_H
#define FV_MODEL_INT_H
/*
 * What the parts of the model know of each other.
 *
 *   registry  machines by name and in order           registry.c
 *   store     what of a machine is on disk            store.c
 *   vmm       a running VMM: its process and socket   vmm_*.c, vmm.h
 *   loop      the thread `events`: hears all VMMs     vmm_loop.c
 *   opener    opens what users name                   opener.c
 *   disk      disks of machines                       disk_*.c, disk.h
 *
 * Locks, in the order in which they may be taken:
 *   machine.edit       held over writes to disk: one change of a machine's files at a time
 *   registry.lock      (rwlock) names and order
 *   machine.lock       state, definition, access, error
 *   vmm.lock           calls under way
 *   jobs.lock, events  leaves
 *   observer           (rwlock, read) while the observer is told
 * A cancel token's lock comes before machine.lock (its wake-up takes that).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "definition.h"
#include "event.h"
#include "job.h"
#include "machine.h"
#include "model.h"

#define MACHINES_MAX 100000
#define ID_TEXT	     37 /* of a UUID as text, with its NUL */

struct vmm;
struct vmm_loop;
struct jobs;
struct pools;
struct interfaces;
struct networks;
struct counters;
struct opener;
struct spares;
struct disk_sizes;
struct disk_kept;
struct nic_releases;
struct vsock_calls;
struct layers;
struct layer_set;
struct memory_map;
struct snapshots;

/* How the last command ended: what `error` shows. Guarded by its owner's lock. */
struct outcome {
	int code;   /* 0: well */
	bool guest; /* the guest's own failure, not a command's */
	char *text; /* "what: words" */
};

struct registry {
	pthread_rwlock_t lock;
	struct name_slot **buckets; /* chains by hash of the name */
	size_t n_buckets, n_slots;
	struct machine **order; /* by serial; NULL where one went */
	uint64_t *serials;	/* of these, also of those that went */
	size_t n_order, cap, n_gone;
	size_t count;
	struct timespec changed;
};

struct model {
	char *state_dir, *run_dir, *vmm_path, *nbd_path;
	int state_fd, machines_fd, run_fd, run_machines_fd;
	int state_lock_fd, run_lock_fd;
	struct timespec opened;
	struct registry registry;
	struct events *events;
	struct jobs *jobs;
	struct vmm_loop *loop;
	struct pools *pools;
	struct networks *networks;
	struct interfaces *interfaces;
	atomic_uint_fast64_t last_serial; /* of machines, pools and volumes */
	struct opener *opener;
	struct spares *spares; /* NULL: none are kept */
	struct disk_sizes *disk_sizes;
	struct layers *layers;
	struct nic_releases *nic_releases;
	struct vsock_calls *vsock_calls;

	pthread_rwlock_t observer_lock; /* guards the two: written only to set them */
	const struct model_observer *observer;
	void *observer_arg;

	pthread_mutex_t lock; /* guards error */
	struct outcome error;

	pthread_t autostart; /* where autostart_cancel was initialised */
	bool autostarting;
	struct cancel stopping; /* ends what waits when the model closes */
};

struct file_mode {
	mode_t mode;
	char *path; /* below the machine's directory */
};

struct machine {
	struct model *model;
	atomic_uint refs;
	uint64_t serial;
	char id[ID_TEXT]; /* UUID: names RUN/machines/ID */

	pthread_mutex_t edit; /* order: see above */

	pthread_mutex_t lock; /* guards all that follows */
	pthread_cond_t cond;  /* CLOCK_MONOTONIC; any change of what follows */
	char name[MACHINE_NAME_MAX + 1];
	bool alive;
	bool unnamed; /* its directory is not under its name yet, but hidden: a clone's */
	struct definition *def;
	char *damaged; /* the text of a config that cannot be read; NULL: it could */
	struct timespec *disk_changed; /* for each of def's disks */
	struct timespec *nic_changed;  /* for each of def's network cards */
	struct machine_access access;
	struct file_mode *modes;
	size_t n_modes;
	struct timespec changed[ASPECT_MAX];
	struct outcome error;

	enum machine_state state;
	uint64_t entered[MACHINE_STATE_MAX]; /* how often each state was entered */
	const char *op;			     /* the lifecycle command under way, or NULL */
	const char *reason;		     /* why the next change of state comes, or NULL */
	bool killed;			     /* the VMM's end is what was asked for */
	bool saved;			     /* its state is on disk (save.h) */
	struct memory_map *saved_memory;     /* and its memory is this, with references */
	bool stopping;	 /* `stop` is under way: a power-off is no reason to restart */
	struct vmm *vmm; /* a reference; NULL without one */
	struct counters *last_counters; /* of the VMM that ended last */
	struct cancel *starting;	/* ends the `start` under way, or NULL */
	bool disks_busy;		/* a change of the VMM's disks or cards is under way */
	bool disks_merging;		/* that one is a merge's, for a moment: others wait */
	unsigned nics_going;		/* cables of VMMs that ended are being pulled out */
	struct disk_kept *kept;		/* sizes of disks; disk_size.c */
	struct layer_set *layers;	/* over its disks' sources (layer.h); NULL: none */
	bool layers_damaged;		/* which those are cannot be read: it does not start */
	struct snapshots *snapshots;	/* snapshot_store.c; NULL: none */
};

/* --- model.c ------------------------------------------------------------------------- */

struct timespec time_now(void);
/* A number that nothing else of this daemon's life has; each is greater than those before. */
uint64_t model_next_serial(struct model *model);
/* A random UUID as text. */
void model_make_id(char text[ID_TEXT]);
void outcome_set(struct outcome *o, const char *what, const struct err *err, bool guest);
void outcome_show(const struct outcome *o, struct strbuf *sb);

/* Tell the observer; see struct model_observer. */
void tell_added(struct machine *m);
void tell_removed(struct machine *m);
void tell_renamed(struct machine *m, const char *old_name);
void tell_changed(struct machine *m, enum machine_aspect aspect, const char *name);
enum job_news { JOB_NEWS_ADDED, JOB_NEWS_CHANGED, JOB_NEWS_REMOVED };
void tell_job(struct model *model, struct job *job, enum job_news news);
/* Writes the event and tells. Empties @sb. */
void model_event(struct model *model, struct strbuf *sb);
struct subject;
/* `command` event. */
void command_event(const struct subject *subject, const char *line, const struct caller *caller,
		   const struct job *job, const struct err *err);

/* --- registry.c ---------------------------------------------------------------------- */

int registry_init(struct registry *reg);
void registry_destroy(struct registry *reg);
/* Takes the name before anything is made of it: -EEXIST. */
int registry_reserve(struct registry *reg, const char *name, struct err *err);
void registry_unreserve(struct registry *reg, const char *name);
/* Shows the machine under its reserved name; takes a reference; gives it its serial. */
int registry_insert(struct registry *reg, struct machine *m);
void registry_remove(struct registry *reg, struct machine *m);
/* Moves it to the reserved name. */
void registry_rename(struct registry *reg, struct machine *m, const char *new_name);

/* --- machine.c ----------------------------------------------------------------------- */

/* One that nobody knows yet. Takes @def. NULL without memory. */
struct machine *machine_new(struct model *model, const char *name, const char *id,
			    struct definition *def);
struct definition *machine_definition(struct machine *m);
/* Under m->lock: notes the time and tells. */
void machine_touch(struct machine *m, enum machine_aspect aspect, const char *name);
/* Under m->lock. Changes the state, counts, writes the event, tells, wakes who waits. */
void machine_set_state(struct machine *m, enum machine_state state, const char *reason);
/* The outcome of a command or store: into `error`. Not under m->lock. */
void machine_outcome(struct machine *m, const char *what, const struct err *err);
/* Under m->lock: the guest's own end, in words. */
void machine_guest_failed(struct machine *m, const struct err *err);
/* Under m->lock, waits for a change, until @deadline (CLOCK_MONOTONIC; NULL: none):
 * 0, -ETIMEDOUT. */
int machine_wait(struct machine *m, const struct timespec *deadline);
struct timespec deadline_in_ms(uint64_t ms);
/* As cancel_set_wake(): the token wakes who waits on the machine. NULL @m forgets. */
void machine_cancel_wakes(struct machine *m, struct cancel *cancel);
static inline void machine_putp(struct machine **m)
{
	machine_put(*m);
}
#define _cleanup_machine_ __attribute__((cleanup(machine_putp)))

/* --- states.c ------------------------------------------------------------------------ */

#define IN(state) (1u << (state))
/* Whether the table of the state machine has this step. */
bool state_may_follow(enum machine_state from, enum machine_state to);

/* --- store.c ------------------------------------------------------------------------- */

/* All return 0 or -errno with words. What returned 0 survives a crash of the host. */
int store_open(struct model *model, struct err *err);
void store_close(struct model *model);
/* Loads all machines into the registry and removes left-overs. */
int store_load(struct model *model, struct err *err);
int store_define(struct machine *m, struct err *err);
/* Takes its directory out of the state; the files go with store_sweep(). */
int store_undefine(struct machine *m, struct err *err);
void store_sweep(struct machine *m);
int store_rename(struct machine *m, const char *new_name, struct err *err);
/* Under m->edit. @mtime: of the new file. */
int store_config(struct machine *m, const struct definition *def, struct timespec *mtime,
		 struct err *err);
int store_access(struct machine *m, const struct machine_access *access,
		 const struct file_mode *modes, size_t n_modes, struct err *err);
/* Where the machine's directory is, in machines/. */
void store_dir_name(struct machine *m, char name[MACHINE_NAME_MAX + 1]);
/* Under m->edit: gives an unnamed one its name; not synced. */
int store_name(struct machine *m, struct err *err);
/* A file in the machine's directory; retried where a rename comes between. -errno. */
int store_open_file(struct machine *m, const char *file, int flags);
int store_stat_file(struct machine *m, const char *file, struct stat *st);
/* Its directory: survives renames. -errno. */
int store_open_dir(struct machine *m);

/* --- rundir.c ------------------------------------------------------------------------ */

/* RUN/machines/ID, made where @make; a descriptor or -errno. */
int rundir_open(struct machine *m, bool make);
/* Removes what belongs to a run that ended; @all: the directory, too. */
void rundir_clear(struct machine *m, bool all);
/* While `save` has paused it: a daemon that finds it lets the guest go on. */
void rundir_note_saving(struct machine *m, bool saving);
bool rundir_saving(struct machine *m);
/* How the last run ends (@state), kept until the next one or until the host restarts. */
void rundir_note_end(struct machine *m, enum machine_state state);
void rundir_forget_end(struct machine *m);
/* False where nothing is noted. */
bool rundir_load_end(struct machine *m);

/* --- jobs.c (see command.h, too) --------------------------------------------------- */

int jobs_open(struct jobs **jobs, struct model *model);
/* Cancels all and waits until their threads have ended. */
void jobs_stop(struct jobs *jobs);
void jobs_close(struct jobs *jobs);
/* Cancels and forgets those of a machine that goes. */
void jobs_drop_machine(struct jobs *jobs, struct machine *m);

#endif
