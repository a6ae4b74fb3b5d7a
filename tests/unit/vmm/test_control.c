// SPDX-License-Identifier: ISC
/*
 * The daemon's side of the socket: what is answered, what is refused, and when
 * a VMM ends. Each test has a VMM of its own in a child process, without KVM.
 */
#include "control_peer.h"

static void hello_is_answered(void **state)
{
	struct peer *p = start();
	struct vmm_status status;
	struct stat st;

	(void)state;
	assert_int_equal(hello(p), 0);
	assert_int_equal(p->len, sizeof(status));
	memcpy(&status, p->body, sizeof(status));
	assert_int_equal(status.version, VMM_PROTO_VERSION);
	assert_int_equal(status.state, VMM_STATE_NEW);
	assert_int_equal(p->n_fds, 1);
	assert_int_equal(fstat(p->fds[0], &st), 0);
	assert_int_equal(st.st_size, sizeof(struct vmm_stats_page));
	quit(p);
}

static void another_version_is_refused(void **state)
{
	struct vmm_hello m = {VMM_PROTO_VERSION + 1};
	struct peer *p = start();

	(void)state;
	assert_int_equal(ask(p, VMM_HELLO, &m, sizeof(m), -1), -EPROTO);
	assert_true(p->len > 0 && p->body[p->len - 1] == '\0');
	assert_non_null(strstr((char *)p->body, "version"));
	quit(p);
}

static void malformed_requests_are_refused(void **state)
{
	struct peer *p = start();
	struct vmm_config config = a_config();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char text[VMM_CMDLINE_MAX + 1];

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(ask(p, 0, NULL, 0, -1), -EOPNOTSUPP);
	assert_int_equal(ask(p, 12345, NULL, 0, -1), -EOPNOTSUPP);
	assert_int_equal(ask(p, VMM_EV_STATE, NULL, 0, -1), -EOPNOTSUPP);
	assert_int_equal(ask(p, VMM_HELLO, NULL, 0, -1), -EPROTO);
	assert_int_equal(ask(p, VMM_HELLO, text, 5, -1), -EPROTO);
	assert_int_equal(ask(p, VMM_HELLO, text, 4, null), -EPROTO);
	assert_int_equal(ask(p, VMM_CONFIG, &config, sizeof(config), -1), -EPROTO);
	assert_int_equal(ask(p, VMM_CONFIG, &config, sizeof(config) - 1, null), -EPROTO);
	assert_int_equal(ask(p, VMM_KERNEL, NULL, 0, -1), -EPROTO);
	assert_int_equal(ask(p, VMM_KERNEL, text, 1, null), -EPROTO);
	assert_int_equal(ask(p, VMM_CMDLINE, text, sizeof(text), -1), -EPROTO);
	assert_int_equal(ask(p, VMM_CMDLINE, text, sizeof(text) - 1, -1), -EINVAL);
	assert_int_equal(hello(p), 0);
	close(null);
	quit(p);
}

static void what_needs_a_guest_is_refused_without(void **state)
{
	static const uint32_t types[] = {VMM_PAUSE, VMM_RESUME, VMM_RESET, VMM_POWER_BUTTON,
					 VMM_CONSOLE_INPUT};
	struct vmm_vcpu_get get = {0};
	struct peer *p = start();

	(void)state;
	for (unsigned i = 0; i < nitems(types); i++)
		assert_int_equal(ask(p, types[i], NULL, 0, -1), -EBUSY);
	assert_int_equal(ask(p, VMM_VCPU, &get, sizeof(get), -1), -ENODEV);
	assert_int_equal(ask(p, VMM_RUN, NULL, 0, -1), -EINVAL);
	quit(p);
}

static void bad_configurations_are_refused(void **state)
{
	struct vmm_config bad[9];
	struct peer *p = start();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned n = geteuid() == 0 ? 9 : 7;

	(void)state;
	for (unsigned i = 0; i < nitems(bad); i++)
		bad[i] = a_config();
	bad[0].cpus = 0;
	bad[1].cpus = VMM_CPUS_MAX + 1;
	bad[2].on_reboot = VMM_ACTION_PRESERVE;
	bad[3].on_poweroff = 77;
	bad[4].on_crash = VMM_ACTION_PRESERVE + 1;
	bad[5].memory_bytes = 0;
	bad[6].memory_bytes = (16 << 20) + 1;
	bad[7].uid = 0;
	bad[8].gid = 0;
	/* Those that lock in before they fail come last. */
	for (unsigned i = 0; i < n; i++)
		if (i != 5 && i != 6)
			assert_true(ask(p, VMM_CONFIG, &bad[i], sizeof(bad[i]), null) < 0);
	assert_int_equal(ask(p, VMM_CONFIG, &bad[5], sizeof(bad[5]), null), -EINVAL);
	assert_int_equal(ask(p, VMM_CONFIG, &bad[6], sizeof(bad[6]), null), -EINVAL);
	close(null);
	quit(p);
}

static void kvm_that_is_none_is_told(void **state)
{
	struct vmm_config config = a_config();
	struct peer *p = start();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(ask(p, VMM_CONFIG, &config, sizeof(config), null), 0);
	assert_int_equal(ask(p, VMM_CONFIG, &config, sizeof(config), null), -EBUSY);
	assert_int_equal(hello(p), 0);
	assert_int_equal(p->n_fds, 1); /* counters; nobody gets memory */
	assert_int_equal(ask(p, VMM_KERNEL, NULL, 0, null), 0);
	assert_int_equal(ask(p, VMM_RUN, NULL, 0, -1), -ENODEV);
	assert_non_null(strstr((char *)p->body, "KVM"));
	close(null);
	quit(p);
}

static void counters_cannot_be_shrunk_by_who_gets_them(void **state)
{
	struct vmm_config config = a_config();
	struct peer *p = start();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(ask(p, VMM_CONFIG, &config, sizeof(config), null), 0);
	assert_int_equal(hello(p), 0);
	assert_int_equal(ftruncate(p->fds[0], 4096), -1);
	close(null);
	quit(p);
}

static void who_leaves_before_run_ends_it(void **state)
{
	struct peer *p = start();

	(void)state;
	assert_int_equal(hello(p), 0);
	shutdown(p->sock, SHUT_RDWR);
	assert_ended(p);
}

static void a_newer_connection_replaces_the_older(void **state)
{
	struct peer *p = start();
	int old = p->sock;
	struct pollfd pfd = {.fd = old, .events = POLLIN};
	char c;

	(void)state;
	assert_int_equal(hello(p), 0);
	p->sock = connect_to(p);
	assert_int_equal(hello(p), 0);
	assert_int_equal(poll(&pfd, 1, 30000), 1);
	assert_int_equal(recv(old, &c, 1, 0), 0);
	close(old);
	quit(p);
}

static void broken_packets_end_the_connection(void **state)
{
	static const struct {
		uint32_t claimed;
		size_t sent;
	} cases[] = {{0, 1}, {0, 15}, {1, 16}, {0, 17}, {UINT32_MAX, 16}, {UINT32_MAX - 15, 16}};

	(void)state;
	for (unsigned i = 0; i < nitems(cases); i++) {
		struct peer *p = start();
		uint8_t packet[32] = {0};
		struct vmm_msg_hdr hdr = {.type = VMM_QUIT, .len = cases[i].claimed};

		assert_int_equal(hello(p), 0);
		memcpy(packet, &hdr, sizeof(hdr));
		assert_int_equal(send(p->sock, packet, cases[i].sent, 0), cases[i].sent);
		assert_int_equal(await(p), -EPIPE);
		assert_ended(p); /* it was never configured, so it goes */
	}
}

static void descriptors_of_refused_requests_are_closed(void **state)
{
	struct peer *p = start();
	int ends[2];
	char c;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		assert_int_equal(ask(p, VMM_PAUSE, NULL, 0, ends[1]), -EPROTO);
		close(ends[1]);
		/* End of file only if nobody else has the other end. */
		assert_int_equal(read(ends[0], &c, 1), 0);
		close(ends[0]);
	}
	quit(p);
}

static void who_never_reads_holds_up_nobody(void **state)
{
	struct peer *p = start();
	struct vmm_hello m = {VMM_PROTO_VERSION};
	struct vmm_msg_hdr hdr = {.type = VMM_HELLO, .len = sizeof(m)};
	int old = p->sock;
	int ret;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		ret = msg_send(old, &hdr, sizeof(hdr), &m, sizeof(m), NULL, 0, 0);
		if (ret < 0)
			break;
	}
	assert_true(ret < 0); /* it was hung up on; and never configured, so it is gone */
	assert_ended(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(hello_is_answered),
	    cmocka_unit_test(another_version_is_refused),
	    cmocka_unit_test(malformed_requests_are_refused),
	    cmocka_unit_test(what_needs_a_guest_is_refused_without),
	    cmocka_unit_test(bad_configurations_are_refused),
	    cmocka_unit_test(kvm_that_is_none_is_told),
	    cmocka_unit_test(counters_cannot_be_shrunk_by_who_gets_them),
	    cmocka_unit_test(who_leaves_before_run_ends_it),
	    cmocka_unit_test(a_newer_connection_replaces_the_older),
	    cmocka_unit_test(broken_packets_end_the_connection),
	    cmocka_unit_test(descriptors_of_refused_requests_are_closed),
	    cmocka_unit_test(who_never_reads_holds_up_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
