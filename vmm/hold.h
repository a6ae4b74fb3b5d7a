/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_HOLD_H
#define FV_VMM_HOLD_H
/*
 * The holder (enum vmm_hold_type of src/vmm_proto.h): forked from the VMM while the guest stands
 * still, it has the guest's memory as it was then, and nothing else of the VMM's: no disk,
 * no KVM. What the two write from then on, each has for itself.
 *
 * A clone is forked by the holder in turn. It is locked in as the VMM was, with the same user
 * and the same filter of system calls; from there on it is as a VMM that was just started,
 * which has the guest's memory already. Who asked for it learns of its end by a pidfd: the holder
 * does not wait for its children, and may end before them.
 */
#include "vmm/title.h"
#include "vmm/vm_int.h"

/*
 * In the child: closes everything but @sock (and the log, descriptor 2), serves it until the
 * other end is closed, and ends the process.
 */
_Noreturn void hold_run(const struct memory *memory, int sock, struct title *title,
			const char *name);

#endif
