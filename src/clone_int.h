/* SPDX-License-Identifier: ISC */
#ifndef FV_CLONE_INT_H
#define FV_CLONE_INT_H
/*
 * The parts of `clone`: what the new machines come from (clone_source.c), what is ordered
 * (clone_order.c), defining them all at once (clone_make.c), starting them (clone_start.c).
 */
#include "clone_order.h"
#include "command.h"
#include "layer_batch.h"
#include "resume.h"
#include "save.h"
#include "snapshot_int.h"
#include "sync_list.h"

/* What the new machines come from, as of one instant. */
struct clone_source {
	struct machine *m;	   /* borrowed */
	struct snapshot *snapshot; /* borrowed, used; NULL: the machine as it is now */
	bool has_op;		   /* the machine's */
	struct vmm *vmm;	   /* of a machine that runs or is paused; a reference */
	bool resumed;		   /* there is a guest that goes on from memory */
	struct definition *def;
	struct layer_set frozen; /* its disks */
	bool has_layers;	 /* ... has references */
	bool staged;		 /* the machine has new layers over them */
	struct resume resume;	 /* where @resumed; it refers to what follows */
	int state;		 /* -1: not open */
	struct saved_opened saved;
	int memory_fds[VMM_MEMORY_FILES_MAX];
	unsigned n_memory_fds;
	struct instant instant;
	struct memory_map *written; /* by the holder; with a reference */
};

/* One of the new machines. */
struct clone {
	struct machine *m; /* a reference; its op is held. NULL: not made yet */
	char name[MACHINE_NAME_MAX + 1];
	bool reserved;		 /* the name is, and nothing is shown under it */
	bool shown;		 /* in the registry */
	struct layer_set layers; /* what it is to have */
	char (*made)[ID_TEXT];	 /* those of them that are new: a reference each */
	size_t n_made;
	struct cancel cancel; /* of its start */
	int result;
	struct err err;
};

struct clones {
	struct model *model;
	const struct caller *caller;
	struct job *job; /* or NULL */
	struct err *err;
	struct clone_order order;
	struct clone_source source;
	struct definition *def; /* of the new machines, but for their addresses */
	struct clone *list;
	unsigned n;
	struct layer_batch batch; /* their layers */
	struct sync_list written; /* where they are few: all that is to reach stable storage */
};

/* --- clone_source.c ----------------------------------------------------------------------------
 */

/*
 * What there is to come from: @m or @snapshot is set. Holds the machine's op from now on where it
 * is the machine itself. clone_source_free() in any case.
 */
int clone_source_begin(struct clones *c);
/* Freezes it, at one instant; the machine's op is let go. */
int clone_source_open(struct clones *c);
void clone_source_free(struct clones *c);

/* --- clone_rights.c ----------------------------------------------------------------------------
 */

/* Whether the caller may have a copy of its memory and disks: -EACCES with words. */
int clone_may(const struct clones *c);

/* --- clone_make.c ------------------------------------------------------------------------------
 */

/* Reserves all names. */
int clones_reserve(struct clones *c);
/* Defines them, with their layers; shown, their op held. Nothing of it is durable yet. */
int clones_make(struct clones *c);
/* All of it reaches stable storage, and they get their names there. */
int clones_store(struct clones *c);
/* Takes back whatever there is of them: their VMMs, too. */
void clones_unmake(struct clones *c);
/* Lets go of what is only needed while they are made. */
void clones_free(struct clones *c);

/* --- clone_start.c -----------------------------------------------------------------------------
 */

/*
 * Stores them, and starts all that go on from memory, several at a time, meanwhile; but none runs
 * before all are stored. The first failure ends the others.
 */
int clones_start(struct clones *c);

#endif
