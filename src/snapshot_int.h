/* SPDX-License-Identifier: ISC */
#ifndef FV_SNAPSHOT_INT_H
#define FV_SNAPSHOT_INT_H
/*
 * A snapshot in the model, and on disk in STATE/machines/NAME/snapshots/SNAP/ (that appears by one
 * rename(2) of .new-ID, and goes by one to .trash-ID):
 *
 *	meta       id, time, parent, state, …  (snapshot_meta.c)
 *	config     the definition as of then
 *	layers     its disks (layer.h)
 *	state      vcpus and devices (vmm/state.h)    these four only with memory
 *	registers  struct vmm_vcpu_state of each vcpu
 *	memory     what memory is made of (memory_map.h)
 *	archive    where one was made (archive.h)
 */
#include "layer.h"
#include "memory_map.h"
#include "snapshot.h"

struct snapshot {
	atomic_uint refs;
	uint64_t serial;
	struct machine *m; /* a reference */
	char id[ID_TEXT];
	/* constant: */
	struct timespec time;
	enum machine_state was; /* RUNNING, PAUSED: with memory; STOPPED: disks alone */
	uint64_t pause_ns;
	unsigned cpus; /* in `registers` */
	struct definition *def;
	struct layer_set layers;   /* with references */
	struct memory_map *memory; /* with references; NULL: without */

	pthread_mutex_t lock; /* leaf; guards: */
	char name[SNAPSHOT_NAME_MAX + 1];
	char parent[ID_TEXT]; /* id; "": none */
	bool alive;
	const char *op; /* command under way */
	unsigned users; /* clones, restores and archives that read it: not to be deleted */
	struct timespec changed[SNAPSHOT_ASPECT_MAX];
	struct outcome error;
};

/* Those of a machine. Guarded by machine.lock. */
struct snapshots {
	struct snapshot **list; /* by serial; a reference each */
	size_t n, cap;
	char (*reserved)[SNAPSHOT_NAME_MAX + 1]; /* names of those that are being taken */
	size_t n_reserved;
	/* What those that are damaged refer to, as far as that can be told: kept, for repair. */
	struct layer_set *kept_layers;
	size_t n_kept_layers;
	struct memory_map **kept_memory;
	size_t n_kept_memory;
};

/* --- snapshot.c: the object, and the list ------------------------------------------------------
 */

/* One that nobody knows yet, with one reference; NULL without memory. */
struct snapshot *snapshot_new(struct machine *m, const char *name, const char *id);
/* A name for one to come: -EINVAL, -EEXIST, -ENOSPC, with words. */
int snapshots_reserve(struct machine *m, const char *name, struct err *err);
void snapshots_unreserve(struct machine *m, const char *name);
/* Under m->lock: how many there are and are to come. */
size_t snapshots_bound(const struct machine *m);
/* -EBUSY with words that name them, where there are any. Under m->lock. */
int snapshots_refuse_undefine(const struct machine *m, struct err *err);
/* Shows it, under its own name; takes the reference. -ENOMEM. */
int snapshots_insert(struct snapshot *s);
void snapshots_remove(struct snapshot *s);
/* By id (as a machine's layer_set.parent and a snapshot's parent have it); NULL: none. */
struct snapshot *machine_snapshot_by_id(struct machine *m, const char *id);
/* Its event: "snapshot-taken", …; @old: name before, or NULL. */
void snapshot_event(struct snapshot *s, const char *kind, const char *old,
		    const struct caller *caller);
/* One command at a time: claims it, or -EBUSY with words. */
int snapshot_claim(struct snapshot *s, const char *op, struct err *err);
void snapshot_unclaim(struct snapshot *s);
/* For as long as something reads it. -EBUSY with words where it is being deleted. */
int snapshot_use(struct snapshot *s, struct err *err);
void snapshot_unuse(struct snapshot *s);
/* Notes the time, and tells. */
void tell_snapshot(struct snapshot *s, enum snapshot_aspect aspect);

/* --- snapshot_meta.c -------------------------------------------------------------------------- */

void snapshot_meta_format(struct snapshot *s, struct strbuf *sb);
/* Into a snapshot that nobody knows yet; @text is written to. -EINVAL, -EOPNOTSUPP (later). */
int snapshot_meta_parse(struct snapshot *s, char *text);

/* --- snapshot_store.c ------------------------------------------------------------------------- */

/* The machine's snapshots/, made where @make; a descriptor or -errno. Survives renames. */
int snapshots_dir(struct machine *m, bool make);
/* Its directory, a descriptor; -errno. */
int snapshot_dir(struct snapshot *s);
/* The directory to be, empty, under its hidden name, in @dir; -errno with words. */
int snapshot_store_begin(struct snapshot *s, int *dir, struct err *err);
/*
 * All that is in @s goes to where `state` and `registers` are already; everything reaches
 * stable storage; then it has its name. On failure nothing of it is left.
 */
int snapshot_store_end(struct snapshot *s, int dir, struct err *err);
/* Removes what snapshot_store_begin() made. */
void snapshot_store_abort(struct snapshot *s);
/* `meta` again, with its parent as it is now. Not under m->edit. */
int snapshot_store_meta(struct snapshot *s, struct err *err);
/* These two under m->edit; @parent: of snapshots_dir(). */
int snapshot_store_rename(struct snapshot *s, int parent, const char *name, struct err *err);
/* Takes it out of the state at once; its files go with snapshot_store_sweep(). */
int snapshot_store_remove(struct snapshot *s, int parent, struct err *err);
void snapshot_store_sweep(struct snapshot *s);
/* All of the machine's snapshots. Damaged ones are reported and left alone. */
int snapshots_load(struct machine *m, struct err *err);
/* Of all machines, when they have been loaded; into their `error`. */
void snapshots_load_all(struct model *model);
/* When a machine goes: @drop what the damaged ones refer to, or (the daemon ends) keep it. */
void snapshots_free(struct machine *m, bool drop);

/* --- snapshot_commands.c ---------------------------------------------------------------------- */

/* Tells of all of a machine's: what they share has changed. */
void snapshots_tell_sizes(struct machine *m);

/* --- snapshot_take.c -------------------------------------------------------------------------- */

struct command_call;

/* What `snapshot NAME` of a machine does, and mkdir(2) through it. */
int lifecycle_snapshot(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err);

/* --- snapshot_restore.c ------------------------------------------------------------------------
 */

/* Whether a machine of that definition can go on from it: -EBUSY with words. */
int snapshot_fits(struct snapshot *s, const struct definition *now, struct err *err);
/* The machine's op is held. @s: used. */
int snapshot_restore(struct snapshot *s, struct job *job, struct cancel *cancel, struct err *err);

/* --- clone.c ---------------------------------------------------------------------------------- */

/* `clone NEW [COUNT] [KEY=VALUE …]`, of a machine and of a snapshot. */
int lifecycle_clone(struct model *model, struct machine *m, struct command_call *call,
		    const struct caller *caller, struct err *err);
int snapshot_clone(struct snapshot *s, struct command_call *call, const struct caller *caller,
		   struct err *err);

/* --- archive_make.c --------------------------------------------------------------------------- */

/* Makes its archive. @s: used. */
int snapshot_archive(struct snapshot *s, struct job *job, struct cancel *cancel, struct err *err);

#endif
