/* SPDX-License-Identifier: ISC */
#ifndef FV_VSOCK_INT_H
#define FV_VSOCK_INT_H
/* What the model's parts know of vsock: vsock.c (sockets of the guest's ports), vsock_calls.c (from
 * the guest). */
#include "vmm.h"
#include "vsock.h"

#define VSOCK_CALLS_WAITING 32 /* of one guest; more are refused */

/* Of a VMM that has vsock. */
struct vmm_vsock_ports {
	pthread_mutex_t lock; /* who makes a socket; comes before machine.lock */
	/* machine.lock: */
	uint32_t ports[VMM_VSOCK_PORTS_MAX]; /* with a socket */
	unsigned n;
	/* of vsock_calls.c: */
	unsigned waiting;
	bool calling;
};

/* A machine's CID, by its id. */
uint32_t vsock_cid(const char *id);

/* Under machine.lock, or while nobody else knows the VMM: it has vsock. -ENOMEM. */
int vmm_vsock_set(struct vmm *vmm);
void vmm_vsock_free(struct vmm *vmm);
/* For a later daemon: appends a line; reads one, false where it is none. */
void vmm_vsock_note(struct vmm *vmm, struct strbuf *sb);
bool vmm_vsock_read(struct vmm *vmm, const char *line);
/* Of a VMM that was found: each port that had a socket has another one in its place. */
void vmm_vsock_recover(struct vmm *vmm);
/* Under machine.lock: the sockets belong to the machine's owner as of now. */
void vmm_vsock_own(struct vmm *vmm, const struct machine_access *access);
/* The machine's sockets go. */
void vsock_clear(struct machine *m);

/* --- vsock_calls.c: from the guest ---------------------------------------------------------- */

/* The text of `vsock_listen` as it is kept; for config_key.refine. */
int vsock_refine_listen(const char *text, char **refined, struct err *err);
/* The path for @port in such a text, caller frees; NULL: none. */
char *vsock_listen_find(const char *text, uint32_t port);

/* The threads that connect; started with the first call. */
int vsock_calls_open(struct vsock_calls **calls);
/* Ends them; what waits is refused. NULL is fine. Before VMMs are let go. */
void vsock_calls_close(struct vsock_calls *calls);
#endif
