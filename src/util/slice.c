// SPDX-License-Identifier: ISC
/* See slice.h. */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOG_MODULE "slice"
#include "util/log.h"
#include "util/slice.h"

#define SLICE_NS 100000 /* the least that there is */

#define RESET_ON_FORK 1 /* SCHED_FLAG_RESET_ON_FORK */

/* struct sched_attr of linux/sched/types.h, as its first version has it; glibc 2.36 has none. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

void slice_be_short(bool inherited)
{
	struct attr attr = {.size = sizeof(attr)};

	/* Who was given a class keeps it, and so does who makes others, that are to have its
	 * priority. */
	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0 ||
	    attr.policy != SCHED_OTHER || (!inherited && attr.nice < 0))
		return;
	attr.size = sizeof(attr);
	attr.flags = inherited ? 0 : RESET_ON_FORK;
	attr.runtime = SLICE_NS;
	if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
		log_debug("sched_setattr: %m");
}
