/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_SANDBOX_H
#define FV_VMM_SANDBOX_H
/*
 * What is left to a VMM that its guest has taken over. In two steps: from the
 * first there is no file, no privilege and no way back; from the second only the
 * system calls that a running machine makes. Both are for good.
 */
#include <sys/types.h>

#include "util/err.h"

/*
 * As root: an empty root directory, no capabilities, ids @uid and @gid, no
 * groups. As anybody: no new privileges, no tracing, no core dump, landlock without any
 * right. Call it while there is one thread. -errno with words; then end.
 */
int sandbox_enter(uid_t uid, gid_t gid, struct err *err);
/* The filter of system calls, for all threads. After sandbox_enter(). */
int sandbox_seal(struct err *err);

#endif
