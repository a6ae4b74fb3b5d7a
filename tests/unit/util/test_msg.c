// SPDX-License-Identifier: ISC
/*
 * Packets with descriptors: whole or refused, and no descriptor ever leaks,
 * whatever the peer sends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/msg.h"

static unsigned open_fds(void)
{
	_cleanup_closedir_ DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	return n;
}

static int setup(void **state)
{
	int *sv = calloc(2, sizeof(*sv));

	*state = sv;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv);
}

static int teardown(void **state)
{
	int *sv = *state;

	close(sv[0]);
	close(sv[1]);
	free(sv);
	return 0;
}

static void header_body_and_descriptors(void **state)
{
	int *sv = *state, fds[4], sent[2] = {STDIN_FILENO, STDERR_FILENO};
	struct stat a, b;
	size_t n = 4;
	char buf[32];

	assert_int_equal(msg_send(sv[0], "head", 4, "body", 4, sent, 2, 0), 0);
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, 0), 8);
	assert_memory_equal(buf, "headbody", 8);
	assert_int_equal(n, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fstat(fds[i], &a), 0);
		assert_int_equal(fstat(sent[i], &b), 0);
		assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
	}
	msg_close_fds(fds, n);
	n = 4;
	assert_int_equal(msg_send(sv[0], "head", 4, NULL, 0, NULL, 0, 0), 0);
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, 0), 4);
	assert_int_equal(n, 0);
}

static void too_many_descriptors(void **state)
{
	int *sv = *state, fds[2], sent[9];
	unsigned before = open_fds();
	size_t n = 2;
	char buf[8];

	for (size_t i = 0; i < nitems(sent); i++)
		sent[i] = STDIN_FILENO;
	assert_int_equal(msg_send(sv[0], "x", 1, NULL, 0, sent, 9, 0), 0);
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, 0), -EPROTO);
	assert_int_equal(n, 0);
	n = 0; /* none is welcome */
	assert_int_equal(msg_send(sv[0], "x", 1, NULL, 0, sent, 1, 0), 0);
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), NULL, &n, 0), -EPROTO);
	assert_int_equal(open_fds(), before);
}

/* More than the receiver's control buffer can hold: the kernel truncates. */
static void flood_of_descriptors(void **state)
{
	int *sv = *state, fds[2], sent[200];
	unsigned before = open_fds();
	char control[CMSG_SPACE(sizeof(sent))] = "";
	struct iovec iov = {"x", 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	size_t n = 2;
	char buf[8];

	for (size_t i = 0; i < nitems(sent); i++)
		sent[i] = STDIN_FILENO;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(sent));
	memcpy(CMSG_DATA(c), sent, sizeof(sent));
	assert_int_equal(sendmsg(sv[0], &msg, 0), 1);
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, 0), -EPROTO);
	assert_int_equal(n, 0);
	assert_int_equal(open_fds(), before);
}

static void too_long(void **state)
{
	int *sv = *state, fds[2], sent[1] = {STDIN_FILENO};
	unsigned before = open_fds();
	size_t n = 2;
	char buf[4];

	assert_int_equal(msg_send(sv[0], "12345678", 8, NULL, 0, sent, 1, 0), 0);
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, 0), -EMSGSIZE);
	assert_int_equal(n, 0);
	assert_int_equal(open_fds(), before);
}

static void nothing_there_and_nobody_there(void **state)
{
	int *sv = *state, fds[1];
	size_t n = 1;
	char buf[4];

	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, MSG_DONTWAIT), -EAGAIN);
	close(sv[0]);
	sv[0] = -1;
	n = 1;
	assert_int_equal(msg_recv(sv[1], buf, sizeof(buf), fds, &n, 0), 0);
	assert_int_equal(msg_send(sv[1], "x", 1, NULL, 0, NULL, 0, 0), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(header_body_and_descriptors, setup, teardown),
	    cmocka_unit_test_setup_teardown(too_many_descriptors, setup, teardown),
	    cmocka_unit_test_setup_teardown(flood_of_descriptors, setup, teardown),
	    cmocka_unit_test_setup_teardown(too_long, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_there_and_nobody_there, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
