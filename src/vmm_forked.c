// SPDX-License-Identifier: ISC
/*
 * Who a VMM is that was forked by a holder, and so is no child of ours.
 *
 * What a VMM says of itself is worth nothing: it may be its guest that speaks. With SO_PASSCRED
 * the kernel adds to each packet the number of the process that sent it, and a process without
 * privileges cannot have another one's put there. So we say HELLO and have a number; we open a
 * pidfd for it; then we say HELLO again, and the answer must come from the same number. Sent after
 * the pidfd was opened, it shows that the number had not become another process's before that, and
 * from then on the pidfd is what counts.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm_int.h"

#define ANSWER_MS 10000
#define STEP_MS	  100 /* between looks at the token */
#define FDS_MAX	  16

union control {
	char buf[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * FDS_MAX)];
	struct cmsghdr align;
};

/* What came beside a packet: descriptors are closed, credentials kept. */
static void take_control(struct msghdr *msg, struct ucred *cred)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof(*cred)))
			memcpy(cred, CMSG_DATA(c), sizeof(*cred));
		for (size_t i = 0; c->cmsg_type == SCM_RIGHTS && i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			close(fd);
		}
	}
}

/* One packet: its header, and who sent it. */
static ssize_t receive(int sock, struct vmm_msg_hdr *hdr, struct ucred *cred)
{
	char rest[sizeof(struct vmm_status) + VMM_TEXT_MAX];
	struct iovec iov[] = {{hdr, sizeof(*hdr)}, {rest, sizeof(rest)}};
	union control control;
	struct msghdr msg = {.msg_iov = iov,
			     .msg_iovlen = nitems(iov),
			     .msg_control = control.buf,
			     .msg_controllen = sizeof(control.buf)};
	ssize_t n;

	*cred = (struct ucred){0};
	do {
		n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_control(&msg, cred);
	return n;
}

static int await_packet(int sock, struct cancel *cancel, const struct timespec *deadline)
{
	struct pollfd pfd = {.fd = sock, .events = POLLIN};

	while (poll(&pfd, 1, STEP_MS) <= 0) {
		struct timespec now = deadline_in_ms(0);

		if (cancel_requested(cancel))
			return -ECANCELED;
		if (now.tv_sec > deadline->tv_sec ||
		    (now.tv_sec == deadline->tv_sec && now.tv_nsec > deadline->tv_nsec))
			return -ETIMEDOUT;
	}
	return 0;
}

/* HELLO, and who answers. */
static int ask(int sock, uint32_t seq, struct ucred *cred, struct cancel *cancel)
{
	struct vmm_hello hello = {.version = VMM_PROTO_VERSION};
	struct vmm_msg_hdr hdr = {.type = VMM_HELLO, .seq = seq, .len = sizeof(hello)};
	struct timespec deadline = deadline_in_ms(ANSWER_MS);
	int r = msg_send(sock, &hdr, sizeof(hdr), &hello, sizeof(hello), NULL, 0, MSG_DONTWAIT);

	while (r == 0) {
		ssize_t n;

		r = await_packet(sock, cancel, &deadline);
		if (r < 0)
			return r;
		n = receive(sock, &hdr, cred);
		if (n == -EAGAIN)
			continue;
		if (n < (ssize_t)sizeof(hdr))
			return n < 0 && n != -ECONNRESET ? (int)n : -EPIPE;
		if (hdr.type == VMM_REPLY && hdr.seq == seq)
			return hdr.error ? -EPROTO : 0;
	}
	return r;
}

static int identify(struct vmm *vmm, uid_t uid, struct cancel *cancel)
{
	struct ucred first, second;
	int r = ask(vmm->sock, 1, &first, cancel);

	if (r < 0)
		return r;
	if (first.pid <= 1 || first.pid == getpid() || first.uid != uid)
		return -EPERM;
	vmm->pidfd = (int)syscall(SYS_pidfd_open, first.pid, 0);
	if (vmm->pidfd < 0)
		return -errno;
	r = ask(vmm->sock, 2, &second, cancel);
	if (r == 0 && (second.pid != first.pid || second.uid != uid))
		r = -EPERM;
	vmm->pid = first.pid;
	vmm->met = r == 0;
	return r;
}

int vmm_identify(struct vmm *vmm, uid_t uid, struct cancel *cancel, struct err *err)
{
	int on = 1, off = 0, r;

	if (setsockopt(vmm->sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return err_set(err, -errno, "SO_PASSCRED: %m");
	r = identify(vmm, uid, cancel);
	if (setsockopt(vmm->sock, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off)) < 0 && r == 0)
		r = -errno;
	if (r == 0)
		return 0;
	if (vmm->pidfd >= 0 && r != -EPERM) {
		vmm_kill(vmm);
		close(take_fd(&vmm->pidfd));
	}
	if (r == -ECANCELED)
		return err_set(err, r, "ended before it was done");
	return err_set(err, r == -ETIMEDOUT ? r : -EIO, "the VMM that was forked: %s",
		       r == -EPERM ? "it is not who it should be" : strerror(-r));
}
