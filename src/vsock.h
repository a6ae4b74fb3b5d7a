/* SPDX-License-Identifier: ISC */
#ifndef FV_VSOCK_H
#define FV_VSOCK_H
/*
 * vsock of machines: stream connections between a guest and unix sockets of the host.
 *
 * To the guest: RUN/vsock/ID/PORT is a listening socket for a port of the guest, made when somebody
 * first asks for it (which ports a guest listens on, virtio-vsock does not tell), by the daemon,
 * and handed to the VMM, which accepts by itself from then on. Who may write to the machine's
 * files may connect. It goes with the VMM.
 *
 * From the guest: the key `vsock_listen` says which of the host's ports are which unix sockets. The
 * VMM asks, and the daemon connects with the rights of the machine's owner (opener.h).
 */
#include "machine.h"

/* The guest's address: the same for a machine, always. */
int machine_vsock_cid_show(struct machine *m, struct strbuf *sb);
/* Does it run, and has vsock? */
bool machine_vsock_on(struct machine *m);
/*
 * The path of the socket for that port of the guest, made if need be. -ENOENT unless
 * machine_vsock_on(), -ENOSPC for too many.
 */
int machine_vsock_path(struct machine *m, uint32_t port, struct strbuf *sb);
/* The @index'th port whose socket was made; false at the end. */
bool machine_vsock_at(struct machine *m, size_t index, uint32_t *port);

#endif
