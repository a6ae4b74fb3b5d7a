// SPDX-License-Identifier: ISC
/* Images that a snapshot puts over disks: VMM_DISK_STAGE, FREEZE, REBASE. */
#include <errno.h>

#include "vmm/control_int.h"

int control_disk_stage(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	(void)c, (void)req, (void)reply;
	return err_set(err, -EOPNOTSUPP, "not yet");
}

int control_disk_freeze(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	(void)c, (void)req, (void)reply;
	return err_set(err, -EOPNOTSUPP, "not yet");
}

int control_disk_rebase(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	(void)c, (void)req, (void)reply;
	return err_set(err, -EOPNOTSUPP, "not yet");
}

void control_stage_drop(struct control *c)
{
	(void)c;
}
