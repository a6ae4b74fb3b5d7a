// SPDX-License-Identifier: ISC
/* Packets with descriptors over a SOCK_SEQPACKET unix socket. See msg.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/msg.h"

#define FDS_MAX 64

union control {
	char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	struct cmsghdr align;
};

int msg_send(int sock, const void *hdr, size_t hdr_len, const void *body, size_t body_len,
	     const int *fds, size_t n_fds, int flags)
{
	struct iovec iov[2] = {{(void *)hdr, hdr_len}, {(void *)body, body_len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = body_len ? 2 : 1};
	union control control;
	ssize_t n;

	if (n_fds > FDS_MAX)
		return -EINVAL;
	if (n_fds) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	do {
		n = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

void msg_close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* Moves the descriptors of @msg to @fds; -EPROTO where they do not fit (then all are closed). */
static int take_fds(struct msghdr *msg, int *fds, size_t room, size_t *n_fds)
{
	int ret = msg->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		const unsigned char *data = CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, data + i * sizeof(int), sizeof(fd));
			if (n < room) {
				fds[n++] = fd;
			} else {
				close(fd);
				ret = -EPROTO;
			}
		}
	}
	if (ret < 0) {
		msg_close_fds(fds, n);
		n = 0;
	}
	*n_fds = n;
	return ret;
}

ssize_t msg_recv(int sock, void *buf, size_t len, int *fds, size_t *n_fds, int flags)
{
	struct iovec iov = {buf, len};
	union control control;
	struct msghdr msg = {
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = control.buf,
	    .msg_controllen = sizeof(control.buf),
	};
	size_t room = *n_fds;
	ssize_t n;
	int ret;

	*n_fds = 0;
	do {
		n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	ret = take_fds(&msg, fds, room, n_fds);
	if (ret == 0 && msg.msg_flags & MSG_TRUNC) {
		msg_close_fds(fds, *n_fds);
		*n_fds = 0;
		ret = -EMSGSIZE;
	}
	return ret < 0 ? ret : n;
}
