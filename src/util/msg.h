/* SPDX-License-Identifier: ISC */
#ifndef FV_MSG_H
#define FV_MSG_H
/* Packets with descriptors over a SOCK_SEQPACKET unix socket. */
#include <stddef.h>
#include <sys/types.h>

/*
 * Sends one packet made of @hdr and @body (which may be NULL with length 0),
 * with @n_fds descriptors (borrowed). @flags as for sendmsg(2) (MSG_DONTWAIT);
 * MSG_NOSIGNAL is added. Returns 0 or -errno (-EPIPE when the peer is gone).
 */
int msg_send(int sock, const void *hdr, size_t hdr_len, const void *body, size_t body_len,
	     const int *fds, size_t n_fds, int flags);

/*
 * Receives one packet into @buf. Descriptors that came along go to @fds
 * (close-on-exec; the caller owns them), their number to *@n_fds, which holds
 * the room on entry; more than that is a protocol error. Returns the packet's
 * length, 0 at end of file, or -errno: -EMSGSIZE for a packet longer than @len,
 * -EPROTO for too many descriptors (all closed in both cases), -EAGAIN with
 * MSG_DONTWAIT in @flags and nothing there.
 */
ssize_t msg_recv(int sock, void *buf, size_t len, int *fds, size_t *n_fds, int flags);

/* Closes @n descriptors. */
void msg_close_fds(int *fds, size_t n);

#endif
