// SPDX-License-Identifier: ISC
/*
 * Ways that packets take through networks: out behind the host's address, in by forwards, and
 * nowhere else. Two namespaces stand for a guest (a veth in the bridge) and for the world outside
 * (203.0.113.2 behind the uplink); sockets are made in them, the test itself stays where it is.
 */
#include "model_test.h"
#include "network_test.h"

struct world {
	int host, guest, outside; /* namespaces */
};

static void enter(int ns)
{
	assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

static int this_ns(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int new_ns(int host)
{
	int fd;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	fd = this_ns();
	enter(host);
	return fd;
}

/* A line of the shell, in that namespace. */
static void sh(struct world *w, int ns, const char *line)
{
	const char *const argv[] = {"sh", "-ec", line, NULL};
	struct tool tool = {.argv = argv, .timeout_ms = LONG_MS};
	struct err err = ERR_INIT;

	enter(ns);
	if (tool_run(&tool, &err) < 0)
		fail_msg("%s: %s", line, err.text);
	enter(w->host);
}

/* Moves an interface of the host's into a namespace, where it becomes `eth0`. */
static void give(struct world *w, const char *name, int ns)
{
	const char *line = "ip link set %s netns /proc/%d/fd/%d";
	char text[128];

	snprintf(text, sizeof(text), line, name, (int)getpid(), ns);
	sh(w, w->host, text);
	snprintf(text, sizeof(text),
		 "ip link set %s name eth0; ip link set eth0 up; ip link set lo up", name);
	sh(w, ns, text);
}

static struct sockaddr_in at(const char *addr, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	assert_int_equal(inet_pton(AF_INET, addr, &a.sin_addr), 1);
	return a;
}

static int listen_in(struct world *w, int ns, uint16_t port)
{
	struct sockaddr_in a = at("0.0.0.0", port);
	int fd, one = 1;

	enter(ns);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	enter(w->host);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* Calls from @ns; who @listener says is there, or "" where nobody came within that time. */
static const char *call(struct world *w, int ns, const char *addr, uint16_t port, int listener,
			int ms)
{
	static __thread char who[INET_ADDRSTRLEN];
	struct pollfd p = {.fd = listener, .events = POLLIN};
	struct sockaddr_in a = at(addr, port), from;
	socklen_t len = sizeof(from);
	_cleanup_close_ int fd = -1, theirs = -1;

	*who = '\0';
	enter(ns);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	enter(w->host);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno != EINPROGRESS)
		return who;
	if (poll(&p, 1, ms) <= 0)
		return who;
	theirs = accept(listener, (struct sockaddr *)&from, &len);
	if (theirs >= 0)
		inet_ntop(AF_INET, &from.sin_addr, who, sizeof(who));
	return who;
}

static void make_world(struct world *w, const char *bridge)
{
	struct host_link_new veth = {.kind = HOST_VETH, .name = "gst0", .peer = "gst1"};
	char line[128];

	w->host = this_ns();
	w->guest = new_ns(w->host);
	w->outside = new_ns(w->host);
	assert_true(host_link_make(&veth, NULL) > 0);
	snprintf(line, sizeof(line), "ip link set gst0 master %s; ip link set gst0 up", bridge);
	sh(w, w->host, line);
	give(w, "gst1", w->guest);
	give(w, "out0", w->outside);
	sh(w, w->guest, "ip addr add 10.9.0.50/24 dev eth0; ip route add default via 10.9.0.1");
	sh(w, w->outside,
	   "ip addr add 203.0.113.2/24 dev eth0; ip route add 10.9.0.0/24 via 203.0.113.1");
}

static void end_world(struct world *w)
{
	close(w->guest);
	close(w->outside);
	close(w->host);
}

static void out_behind_the_hosts_address_and_in_by_forwards(void **state)
{
	static const char text[] = "tcp 8080 10.9.0.50 80\ntcp 9000-9001 10.9.0.50 9000\n";
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct world w;

	if (!f)
		skip();
	_cleanup_network_ struct network *lan = need_network(f, "lan");
	must_set(lan, "subnet", "10.9.0.0/24");
	must_run(lan, "start");
	make_world(&w, "fv-lan");
	_cleanup_close_ int web = listen_in(&w, w.guest, 80), high = listen_in(&w, w.guest, 9001),
			    out = listen_in(&w, w.outside, 7000);

	assert_string_equal(call(&w, w.guest, "203.0.113.2", 7000, out, LONG_MS), "203.0.113.1");
	assert_string_equal(call(&w, w.outside, "203.0.113.1", 8080, web, 300), "");
	/* live, while it runs */
	if (network_forwards_store(lan, text, strlen(text), &root_caller, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(call(&w, w.outside, "203.0.113.1", 8080, web, LONG_MS), "203.0.113.2");
	assert_string_equal(call(&w, w.outside, "203.0.113.1", 9001, high, LONG_MS), "203.0.113.2");
	/* from the host itself */
	assert_string_equal(call(&w, w.host, "203.0.113.1", 8080, web, LONG_MS), "203.0.113.1");
	assert_string_equal(call(&w, w.host, "127.0.0.1", 8080, web, LONG_MS), "10.9.0.1");
	/* past the forwards nothing comes in */
	assert_string_equal(call(&w, w.outside, "10.9.0.50", 80, web, 300), "");
	assert_int_equal(network_forwards_store(lan, "", 0, &root_caller, &err), 0);
	assert_string_equal(call(&w, w.outside, "203.0.113.1", 8080, web, 300), "");
	must_run(lan, "stop");
	end_world(&w);
}

static void routed_as_they_are(void **state)
{
	struct fixture *f = *state;
	struct world w;

	if (!f)
		skip();
	_cleanup_network_ struct network *lan = need_network(f, "lan");
	must_set(lan, "subnet", "10.9.0.0/24");
	must_set(lan, "mode", "route");
	must_run(lan, "start");
	make_world(&w, "fv-lan");
	_cleanup_close_ int web = listen_in(&w, w.guest, 80), out = listen_in(&w, w.outside, 7000);

	assert_string_equal(call(&w, w.guest, "203.0.113.2", 7000, out, LONG_MS), "10.9.0.50");
	assert_string_equal(call(&w, w.outside, "10.9.0.50", 80, web, LONG_MS), "203.0.113.2");
	/* not in another's name */
	sh(&w, w.guest,
	   "ip addr add 198.51.100.7/32 dev eth0; ip route add 203.0.113.0/24 via "
	   "10.9.0.1 src 198.51.100.7");
	sh(&w, w.outside, "ip route add 198.51.100.7 via 203.0.113.1");
	assert_string_equal(call(&w, w.guest, "203.0.113.2", 7000, out, 300), "");
	must_run(lan, "stop");
	end_world(&w);
}

static void isolated_ones_go_nowhere(void **state)
{
	struct fixture *f = *state;
	struct world w;

	if (!f)
		skip();
	_cleanup_network_ struct network *lan = need_network(f, "lan"),
					 *other = need_network(f, "other");
	must_set(lan, "subnet", "10.9.0.0/24");
	must_set(lan, "mode", "isolated");
	must_run(lan, "start");
	must_run(other, "start"); /* the host forwards, for that one */
	make_world(&w, "fv-lan");
	_cleanup_close_ int web = listen_in(&w, w.guest, 80), out = listen_in(&w, w.outside, 7000),
			    host = listen_in(&w, w.host, 6000);

	assert_string_equal(call(&w, w.guest, "203.0.113.2", 7000, out, 300), "");
	assert_string_equal(call(&w, w.outside, "10.9.0.50", 80, web, 300), "");
	assert_string_equal(call(&w, w.guest, "10.9.0.1", 6000, host, LONG_MS), "10.9.0.50");
	assert_string_equal(call(&w, w.host, "10.9.0.50", 80, web, LONG_MS), "10.9.0.1");
	/* live: not even the host, but by what it answers */
	must_set(other, "host", "false");
	assert_string_equal(call(&w, w.guest, "10.9.0.1", 6000, host, LONG_MS), "10.9.0.50");
	must_run(other, "stop");
	must_run(lan, "stop");
	end_world(&w);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, network_setup, network_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(out_behind_the_hosts_address_and_in_by_forwards),
	    TEST(routed_as_they_are),
	    TEST(isolated_ones_go_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
