/* SPDX-License-Identifier: ISC */
#ifndef FV_SAVE_H
#define FV_SAVE_H
/*
 * The saved state of a machine, in its directory:
 *
 *	saved          its vcpus and devices (vmm/state.h)
 *	saved-memory   its memory: sparse, offset = guest physical address
 *
 * It is there, whole and on stable storage, exactly when there is a file `saved` that is not
 * marked as used. `saved` gets its name last, and loses it first; the VMM marks it before
 * the guest runs from it. So whatever is killed at whatever moment, either the guest is where
 * it was, or it is saved. What else is found is removed by the next daemon.
 */
#include "model_int.h"

/*
 * Looks what there is in @dir, the machine's, and removes halves and what is used up. True: the
 * machine is saved. When the daemon starts.
 */
bool saved_look(int dir);
/* The same of a machine that failed to start from it. */
bool saved_still(struct machine *m);
/* Opens both files for a VMM. -errno with words. */
int saved_open(struct machine *m, int *state, int *memory, struct err *err);
/* Removes it. -errno with words where it is still there. */
int saved_drop(struct machine *m, struct err *err);
/* May this definition take the place of that while the machine is saved? -EBUSY with words. */
int saved_permits(const struct definition *old, const struct definition *def, struct err *err);

#endif
