// SPDX-License-Identifier: ISC
/*
 * Mode user: a process of passt(1) for each card. It has a stream socket to the VMM, makes the
 * guest's connections its own, as the machine's owner, and ends when the VMM closes its end.
 * Ports of `forwards` whose target is this machine are passt's to listen on.
 */
#define LOG_MODULE "network"
#include <errno.h>
#include "network_int.h"

int user_plug(struct network *network, struct machine *m, const struct nic *nic,
	      struct nic_plug *plug, struct err *err)
{
	(void)network, (void)m, (void)nic, (void)plug;
	return err_set(err, -EOPNOTSUPP, "networks of mode user are not there yet");
}
