/* SPDX-License-Identifier: ISC */
#ifndef FV_TEST_CONTROL_PEER_H
#define FV_TEST_CONTROL_PEER_H
/* The daemon's side of a VMM in a child process, without KVM. Included once. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/msg.h"
#include "vmm/control.h"

struct peer {
	struct sockaddr_un address;
	socklen_t address_len;
	pid_t pid;
	int sock;
	uint32_t seq;
	uint8_t body[VMM_MSG_MAX]; /* of the last reply */
	size_t len;
	int fds[VMM_MSG_FDS];
	size_t n_fds;
};

static inline int connect_to(const struct peer *p)
{
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(sock >= 0);
	if (connect(sock, (const struct sockaddr *)&p->address, p->address_len) < 0) {
		close(sock);
		return -1;
	}
	return sock;
}

static inline struct peer *start(void)
{
	struct peer *p = calloc(1, sizeof(*p));
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	p->address.sun_family = AF_UNIX;
	p->address_len = offsetof(struct sockaddr_un, sun_path) + 1 +
			 (socklen_t)sprintf(p->address.sun_path + 1, "test_control.%d", getpid());
	assert_int_equal(bind(listener, (struct sockaddr *)&p->address, p->address_len), 0);
	assert_int_equal(listen(listener, 8), 0);
	fflush(NULL);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		struct err err = ERR_INIT;

		/* Its words about dropped connections are none of this test's output. */
		if (!freopen("/dev/null", "w", stderr))
			_exit(99);
		_exit(control_run(listener, NULL, NULL, &err) < 0 ? 1 : 0);
	}
	close(listener);
	p->sock = connect_to(p);
	assert_true(p->sock >= 0);
	return p;
}

/* Waits for the reply to what was sent last; -EPIPE if the VMM hung up. */
static inline int await(struct peer *p)
{
	static uint8_t packet[VMM_MSG_MAX];
	struct vmm_msg_hdr hdr;
	ssize_t n;

	for (;;) {
		struct pollfd pfd = {.fd = p->sock, .events = POLLIN};

		assert_int_equal(poll(&pfd, 1, 30000), 1);
		msg_close_fds(p->fds, p->n_fds);
		p->n_fds = VMM_MSG_FDS;
		n = msg_recv(p->sock, packet, sizeof(packet), p->fds, &p->n_fds, 0);
		if (n == 0 || n == -ECONNRESET) {
			p->n_fds = 0;
			return -EPIPE;
		}
		assert_true(n >= (ssize_t)sizeof(hdr));
		memcpy(&hdr, packet, sizeof(hdr));
		assert_int_equal(hdr.len, (size_t)n - sizeof(hdr));
		if (hdr.type == VMM_REPLY)
			break;
	}
	assert_int_equal(hdr.seq, p->seq);
	p->len = hdr.len;
	memcpy(p->body, packet + sizeof(hdr), hdr.len);
	return hdr.error;
}

static inline int ask(struct peer *p, uint32_t type, const void *body, size_t len, int fd)
{
	struct vmm_msg_hdr hdr = {.type = type, .seq = ++p->seq, .len = (uint32_t)len};

	if (msg_send(p->sock, &hdr, sizeof(hdr), body, len, &fd, fd >= 0 ? 1 : 0, 0) < 0)
		return -EPIPE;
	return await(p);
}

static inline int hello(struct peer *p)
{
	struct vmm_hello m = {VMM_PROTO_VERSION};

	return ask(p, VMM_HELLO, &m, sizeof(m), -1);
}

static inline struct vmm_config a_config(void)
{
	return (struct vmm_config){
	    .name = "test",
	    .cpus = 1,
	    .memory_bytes = 16 << 20,
	    .on_reboot = VMM_ACTION_RESTART,
	    .uid = 65534,
	    .gid = 65534,
	};
}

/* It ended by itself, as it should. */
static inline void assert_ended(struct peer *p)
{
	int status;

	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	msg_close_fds(p->fds, p->n_fds);
	close(p->sock);
	free(p);
}

static inline void quit(struct peer *p)
{
	assert_int_equal(ask(p, VMM_QUIT, NULL, 0, -1), 0);
	assert_ended(p);
}

#endif
