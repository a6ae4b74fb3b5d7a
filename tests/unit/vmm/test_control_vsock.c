// SPDX-License-Identifier: ISC
/* What the daemon says of vsock before there is a guest: addresses, ports, sockets that are none.
 */
#include "control_peer.h"

static int a_listener(void)
{
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any.sun_family)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int tell_vsock(struct peer *p, uint32_t cid)
{
	struct vmm_vsock m = {.cid = cid};

	return ask(p, VMM_VSOCK, &m, sizeof(m), -1);
}

static int tell_port(struct peer *p, uint32_t port, int fd)
{
	struct vmm_vsock_port m = {.port = port};

	return ask(p, VMM_VSOCK_LISTEN, &m, sizeof(m), fd);
}

static void there_is_one_with_an_address_that_is_not_reserved(void **state)
{
	struct peer *p = start();

	(void)state;
	for (uint32_t cid = 0; cid < VMM_VSOCK_CID_MIN; cid++)
		assert_int_equal(tell_vsock(p, cid), -ERANGE);
	assert_int_equal(tell_vsock(p, UINT32_MAX), -ERANGE);
	assert_int_equal(tell_vsock(p, 42), 0);
	assert_int_equal(tell_vsock(p, 43), -EEXIST);
	quit(p);
}

static void ports_have_sockets_that_listen(void **state)
{
	struct peer *p = start();
	int listener = a_listener(), null = open("/dev/null", O_RDWR | O_CLOEXEC), pair[2];

	(void)state;
	assert_int_equal(tell_port(p, 22, listener), -ENODEV);
	assert_int_equal(tell_vsock(p, 42), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(tell_port(p, 22, pair[0]), -EINVAL);
	assert_int_equal(tell_port(p, 22, null), -EINVAL);
	assert_int_equal(tell_port(p, UINT32_MAX, listener), -EINVAL);
	assert_int_equal(tell_port(p, 22, -1), -EPROTO);
	for (uint32_t port = 0; port < VMM_VSOCK_PORTS_MAX; port++)
		assert_int_equal(tell_port(p, port, listener), 0);
	assert_int_equal(tell_port(p, VMM_VSOCK_PORTS_MAX, listener), -ENOSPC);
	assert_int_equal(tell_port(p, 0, listener), 0); /* in place of the one before */
	quit(p);
	close(listener);
	close(null);
	close(pair[0]);
	close(pair[1]);
}

static void answers_to_what_nobody_asked_are_none(void **state)
{
	struct vmm_vsock_answer m = {.id = 7};
	struct peer *p = start();

	(void)state;
	assert_int_equal(ask(p, VMM_VSOCK_ANSWER, &m, sizeof(m), -1), -ENODEV);
	assert_int_equal(tell_vsock(p, 42), 0);
	assert_int_equal(ask(p, VMM_VSOCK_ANSWER, &m, sizeof(m), -1), -ENODEV);
	assert_int_equal(ask(p, VMM_VSOCK_ANSWER, &m, sizeof(m) - 1, -1), -EPROTO);
	quit(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(there_is_one_with_an_address_that_is_not_reserved),
	    cmocka_unit_test(ports_have_sockets_that_listen),
	    cmocka_unit_test(answers_to_what_nobody_asked_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
