/* SPDX-License-Identifier: ISC */
#ifndef FV_SNAPSHOT_INT_H
#define FV_SNAPSHOT_INT_H
/*
 * A snapshot in the model, and on disk in STATE/machines/NAME/snapshots/SNAP/ (that appears by one
 * rename(2) of .new-ID, and goes by one to .trash-ID):
 *
 *	meta       id, time, parent, state, …  (libconfig)
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
	char *parent; /* name; NULL: none */
	bool alive;
	const char *op; /* command under way */
	unsigned users; /* clones, restores and archives that read it: not to be deleted */
	struct timespec changed[SNAPSHOT_ASPECT_MAX];
	struct outcome error;
};

/* --- snapshot_store.c ------------------------------------------------------------------------- */

/* Its directory, a descriptor; -errno. */
int snapshot_dir(struct snapshot *s);
/* When a machine is loaded: all of its snapshots. Damaged ones are reported and left alone. */
int snapshots_load(struct machine *m, struct err *err);
/* When a machine goes. */
void snapshots_free(struct machine *m);
/* -EBUSY with words where it is being deleted. */
int snapshot_use(struct snapshot *s, struct err *err);
void snapshot_unuse(struct snapshot *s);
void tell_snapshot(struct snapshot *s, enum snapshot_aspect aspect);

/* --- snapshot_take.c -------------------------------------------------------------------------- */

struct command_call;

/* What `snapshot NAME` of a machine does, and mkdir(2) through it. */
int lifecycle_snapshot(struct model *model, struct machine *m, struct command_call *call,
		       const struct caller *caller, struct err *err);

/* --- snapshot_restore.c ------------------------------------------------------------------------
 */

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
