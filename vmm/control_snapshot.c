// SPDX-License-Identifier: ISC
/* The instant of a snapshot: VMM_SNAPSHOT. */
#include <errno.h>

#include "vmm/control_int.h"

int control_snapshot(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)c, (void)req, (void)reply;
	return err_set(err, -EOPNOTSUPP, "not yet");
}
