// SPDX-License-Identifier: ISC
/* What memory begins as, and reading it: VMM_MEMORY, VMM_PEEK_MEMORY. */
#include <errno.h>

#include "vmm/control_int.h"

int control_memory(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)c, (void)req, (void)reply;
	return err_set(err, -EOPNOTSUPP, "not yet");
}

int control_peek_memory(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	(void)c, (void)req, (void)reply;
	return err_set(err, -EOPNOTSUPP, "not yet");
}
