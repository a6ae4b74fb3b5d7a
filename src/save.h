/* SPDX-License-Identifier: ISC */
#ifndef FV_SAVE_H
#define FV_SAVE_H
/*
 * The saved state of a machine, in its directory:
 *
 *	saved          its vcpus and devices (vmm/state.h)
 *	saved-memory   what its memory is made of (memory_map.h)
 *	saved-layers   the layers (layer.h) that it goes on with, until the machine has them
 *	saved-config   the definition that it goes on with, until that is its `config`
 *	saved-again    (empty) others may have gone on from it: it is a snapshot's, or a copy
 *
 * It is there, whole and on stable storage, exactly when there is a file `saved` that is not
 * marked as used. `saved` gets its name last, and loses it first; the VMM marks it before
 * the guest runs from it. So whatever is killed at whatever moment, either the guest is where
 * it was, or it is saved. What else is found is removed by the next daemon.
 *
 * (Before there were layers of memory, saved-memory was memory itself: sparse, offset = guest
 * physical address. Such a file becomes a layer when it is met.)
 */
#include "memory_map.h"
#include "sync_list.h"

/* --- saved.c ---------------------------------------------------------------------------------- */

/*
 * Looks what there is in @dir, the machine's, and removes halves and what is used up. True: the
 * machine is saved. When the daemon starts, before it reads `config`: that may be another then.
 */
bool saved_look(int dir);
/*
 * When machines and snapshots have been loaded, before layers_sweep(): takes references of
 * what saved machines refer to, and ends what a killed daemon had begun. Words go to their `error`.
 */
void saved_load_all(struct model *model);
/* As saved_look(), of a machine that failed to start from it. */
bool saved_still(struct machine *m);

/* A saved state, opened for a VMM. */
struct saved_opened {
	int state;		       /* read and write; -1: not open */
	struct memory_map *memory;     /* NULL: not open */
	int fds[VMM_MEMORY_FILES_MAX]; /* memory->n_files of them */
	bool again;		       /* not for the first time: the guest is to be told */
};
#define SAVED_NOT_OPEN                                                                             \
	{                                                                                          \
		.state = -1                                                                        \
	}

/* -errno with words; nothing is open then. */
int saved_open(struct machine *m, struct saved_opened *saved, struct err *err);
/* Of one that is not open, too. */
void saved_close(struct saved_opened *saved);
/* Removes it. -errno with words where it is still there. */
int saved_drop(struct machine *m, struct err *err);
/* The same of one that is marked as used: it need not be durable. */
int saved_drop_used(struct machine *m, struct err *err);
/* A definition that comes with a state. */
struct saved_config {
	const struct strbuf *text; /* as `config` has it */
	/* makes it the machine's, which is not saved yet; -errno with words */
	int (*store)(void *arg, struct err *err);
	void *arg;
};

/*
 * Makes a machine without a VMM saved: its state a copy of that in the file @state, its memory
 * @memory (references are taken), its layers @layers and its definition @config (NULL: they stay),
 * all of it in one step that a crash leaves done or undone. Its op is held. @reason: of the event.
 * -errno with words: it is as it was, but for an earlier saved state, which is lost.
 */
int saved_make(struct machine *m, int state, const struct memory_map *memory,
	       const struct layer_set *layers, const struct saved_config *config,
	       const char *reason, struct err *err);
/*
 * The same in two: all that needs room, while there may still be a VMM; and the step itself. What
 * was prepared is added to @written, which is to reach stable storage between the two.
 */
int saved_prepare(struct machine *m, int state, const struct memory_map *memory,
		  const struct layer_set *layers, struct sync_list *written, struct err *err);
int saved_finish(struct machine *m, const struct memory_map *memory, const struct layer_set *layers,
		 const char *reason, struct err *err);
/* Instead of the step. */
void saved_unprepare(struct machine *m);
/* May this definition take the place of that while the machine is saved? -EBUSY with words. */
int saved_permits(const struct definition *old, const struct definition *def, struct err *err);

/* --- for `save` ------------------------------------------------------------------------------ */

#define SAVED_STATE_NEW ".saved.new" /* what becomes `saved` */

/* Removes what was begun, and what was saved, too. */
void saved_forget(int dir);
/* With the state in SAVED_STATE_NEW, synced: from when it returns 0 on the machine is saved. */
int saved_commit(int dir, const struct memory_map *memory, struct err *err);
/* Under m->lock: it has this memory now (NULL: none). Returns what it had, with references. */
struct memory_map *saved_memory_swap(struct machine *m, struct memory_map *memory);

#endif
