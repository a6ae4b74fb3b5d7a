// SPDX-License-Identifier: ISC
/* Interfaces of the host, in a network namespace of the test's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "net/host_link.h"

static int in_namespace(void **state)
{
	*state = unshare(CLONE_NEWNET) == 0 ? state : NULL;
	return 0;
}

static void need_namespace(void **state)
{
	if (!*state) {
		print_message("no network namespace of its own\n");
		skip();
	}
}

static int make(enum host_link_kind kind, const char *name, struct err *err)
{
	struct host_link_new what = {.kind = kind, .name = name, .alias = "test: mine"};

	return host_link_make(&what, err);
}

static int count(const struct host_link *link, void *arg)
{
	(void)link;
	++*(unsigned *)arg;
	return 0;
}

static void a_new_namespace_has_lo(void **state)
{
	struct host_link lo;
	unsigned n = 0;

	need_namespace(state);
	assert_int_equal(host_links(count, &n), 0);
	assert_true(n >= 1);
	assert_int_equal(host_link_find("lo", 0, &lo), 0);
	assert_string_equal(lo.name, "lo");
	assert_true(lo.flags & IFF_LOOPBACK);
	assert_string_equal(lo.kind, "");
	assert_int_equal(host_link_find(NULL, lo.index, &lo), 0);
	assert_string_equal(lo.name, "lo");
	assert_int_equal(host_link_find("nobody", 0, &lo), -ENODEV);
	assert_int_equal(host_link_find("a name that is too long", 0, &lo), -ENODEV);
}

static void bridges_are_made_and_set(void **state)
{
	const uint8_t mac[6] = {2, 0, 0, 1, 2, 3};
	struct host_link_set set = HOST_LINK_SET;
	struct err err = ERR_INIT;
	struct host_link l;
	int index;

	need_namespace(state);
	index = make(HOST_BRIDGE, "br0", &err);
	assert_true(index > 0);
	assert_int_equal(make(HOST_BRIDGE, "br0", &err), -EEXIST);
	assert_non_null(strstr(err.text, "br0"));
	assert_int_equal(make(HOST_BRIDGE, "", &err), -EINVAL);
	assert_int_equal(make(HOST_BRIDGE, "no/slash", &err), -EINVAL);
	assert_int_equal(make(HOST_BRIDGE, "sixteen-letters-", &err), -EINVAL);
	set.up = 1;
	set.mtu = 9000;
	set.mac = mac;
	assert_int_equal(host_link_set(index, &set, &err), 0);
	assert_int_equal(host_link_find("br0", 0, &l), 0);
	assert_string_equal(l.kind, "bridge");
	assert_string_equal(l.alias, "test: mine");
	assert_int_equal(l.mtu, 9000);
	assert_memory_equal(l.mac, mac, 6);
	assert_true(l.flags & IFF_UP);
	assert_false(l.physical);
	assert_int_equal(host_link_remove(index, &err), 0);
	assert_int_equal(host_link_remove(index, &err), -ENODEV);
	assert_int_equal(host_link_find("br0", 0, &l), -ENODEV);
}

static void ports_have_masters(void **state)
{
	struct host_link_new pair = {.kind = HOST_VETH, .name = "v0", .peer = "v1"};
	struct host_link_set set = HOST_LINK_SET;
	struct err err = ERR_INIT;
	struct host_link l;
	int bridge, port;

	need_namespace(state);
	bridge = make(HOST_BRIDGE, "br1", &err);
	port = host_link_make(&pair, &err);
	assert_true(bridge > 0 && port > 0);
	assert_int_equal(host_port_isolate(port, true, NULL) < 0, true); /* no port yet */
	set.master = bridge;
	assert_int_equal(host_link_set(port, &set, &err), 0);
	assert_int_equal(host_link_find("v0", 0, &l), 0);
	assert_int_equal(l.master, bridge);
	assert_string_equal(l.kind, "veth");
	assert_int_equal(host_link_find("v1", 0, &l), 0);
	assert_int_equal(l.lower, port);
	assert_int_equal(host_port_isolate(port, true, &err), 0);
	assert_int_equal(host_port_isolate(port, false, &err), 0);
	set.master = 0;
	assert_int_equal(host_link_set(port, &set, &err), 0);
	assert_int_equal(host_link_find("v0", 0, &l), 0);
	assert_int_equal(l.master, 0);
	assert_int_equal(host_link_remove(port, &err), 0);
	assert_int_equal(host_link_find("v1", 0, &l), -ENODEV);
	assert_int_equal(host_link_remove(bridge, &err), 0);
}

/* Kinds that a kernel may lack are refused in words. */
static void vlans_where_there_are_any(void **state)
{
	struct host_link_new what = {.kind = HOST_VLAN, .name = "d0.100", .vlan = 100};
	struct err err = ERR_INIT;
	struct host_link l;
	int lower, index;

	need_namespace(state);
	lower = make(HOST_BRIDGE, "d0", &err);
	assert_true(lower > 0);
	what.lower = lower;
	index = host_link_make(&what, &err);
	if (index < 0) {
		assert_int_equal(index, -EOPNOTSUPP);
		assert_non_null(strstr(err.text, "kernel"));
		return;
	}
	assert_int_equal(host_link_find("d0.100", 0, &l), 0);
	assert_int_equal(l.vlan, 100);
	assert_int_equal(l.lower, lower);
}

static int find_address(const struct host_address *a, void *arg)
{
	struct host_address *wanted = arg;

	return a->index == wanted->index && a->family == wanted->family &&
	       a->prefix == wanted->prefix && memcmp(a->addr, wanted->addr, 16) == 0;
}

static int find_route(const struct host_route *r, void *arg)
{
	uint8_t net[4] = {192, 0, 2, 0};

	return r->family == AF_INET && r->prefix == 24 && memcmp(r->to, net, 4) == 0 &&
	       r->index == *(int *)arg;
}

static void addresses_and_routes(void **state)
{
	struct host_address v4 = {.family = AF_INET, .addr = {192, 0, 2, 1}, .prefix = 24};
	struct host_address v6 = {.family = AF_INET6, .prefix = 64};
	struct host_link_set set = HOST_LINK_SET;
	struct err err = ERR_INIT;
	int index;

	need_namespace(state);
	index = make(HOST_BRIDGE, "br2", &err);
	assert_true(index > 0);
	v4.index = v6.index = index;
	assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", v6.addr), 1);
	assert_int_equal(host_address_add(&v4, &err), 0);
	assert_int_equal(host_address_add(&v4, &err), -EEXIST);
	assert_int_equal(host_address_add(&v6, &err), 0);
	assert_int_equal(host_addresses(find_address, &v4), 1);
	assert_int_equal(host_addresses(find_address, &v6), 1);
	assert_int_equal(host_routes(find_route, &index), 0);
	set.up = 1;
	assert_int_equal(host_link_set(index, &set, &err), 0);
	assert_int_equal(host_routes(find_route, &index), 1);
	assert_int_equal(host_address_remove(&v4, &err), 0);
	assert_int_equal(host_addresses(find_address, &v4), 0);
	assert_int_equal(host_routes(find_route, &index), 0);
	v4.prefix = 33;
	assert_int_equal(host_address_add(&v4, &err), -EINVAL);
	v4.family = AF_UNIX;
	assert_int_equal(host_address_add(&v4, &err), -EINVAL);
	assert_int_equal(host_link_remove(index, &err), 0);
}

static int find_default(const struct host_route *r, void *arg)
{
	const struct host_route *wanted = arg;

	return r->family == AF_INET && r->prefix == 0 && r->index == wanted->index &&
	       r->metric == wanted->metric && r->has_via && memcmp(r->via, wanted->via, 4) == 0 &&
	       r->protocol == wanted->protocol;
}

static int find_lifetime(const struct host_address *a, void *arg)
{
	struct host_address *wanted = arg;

	return find_address(a, arg) && a->valid_s > 0 && a->valid_s <= wanted->valid_s &&
	       a->preferred_s <= a->valid_s;
}

static void routes_and_lifetimes_come_back(void **state)
{
	struct host_address v4 = {.family = AF_INET, .addr = {192, 0, 2, 1}, .prefix = 24};
	struct host_address lent = {
	    .family = AF_INET, .addr = {198, 51, 100, 1}, .prefix = 24, .valid_s = 600};
	struct host_route route = {.family = AF_INET,
				   .via = {192, 0, 2, 254},
				   .has_via = true,
				   .metric = 77,
				   .protocol = 4};
	struct host_link_set set = HOST_LINK_SET;
	struct err err = ERR_INIT;
	int index;

	need_namespace(state);
	index = make(HOST_BRIDGE, "br4", &err);
	assert_true(index > 0);
	v4.index = lent.index = route.index = index;
	set.up = 1;
	assert_int_equal(host_link_set(index, &set, &err), 0);
	assert_int_equal(host_route_add(&route, &err) < 0, true); /* no way there yet */
	assert_int_equal(host_address_add(&v4, &err), 0);
	assert_int_equal(host_address_add(&lent, &err), 0);
	assert_int_equal(host_addresses(find_lifetime, &lent), 1);
	assert_int_equal(host_route_add(&route, &err), 0);
	assert_int_equal(host_route_add(&route, &err), -EEXIST);
	assert_int_equal(host_routes(find_default, &route), 1);
	route.prefix = 33;
	assert_int_equal(host_route_add(&route, &err), -EINVAL);
	assert_int_equal(host_link_remove(index, &err), 0);
}

static void lasting_taps_stay(void **state)
{
	struct err err = ERR_INIT;
	struct host_link l;
	int index;

	need_namespace(state);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		skip();
	index = host_tap_lasting("t1", &err);
	assert_true(index > 0);
	assert_int_equal(host_tap_lasting("t1", &err), -EBUSY);
	assert_int_equal(host_link_find("t1", 0, &l), 0);
	assert_int_equal(l.index, index);
	assert_int_equal(host_link_speed("nobody"), 0);
	assert_int_equal(host_link_remove(index, &err), 0);
	assert_int_equal(host_link_find("t1", 0, &l), -ENODEV);
}

static void taps_live_as_long_as_their_queues(void **state)
{
	struct err err = ERR_INIT;
	struct host_link l;
	int fds[3], one;

	need_namespace(state);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		skip();
	assert_int_equal(host_tap_make("t0", 3, fds, &err), 0);
	assert_int_equal(host_link_find("t0", 0, &l), 0);
	assert_string_equal(l.kind, "tun");
	assert_int_equal(host_tap_make("t0", 1, &one, &err), -EBUSY);
	assert_int_equal(host_tap_make("a name that is too long", 1, &one, &err), -EINVAL);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	assert_int_equal(host_link_find("t0", 0, &l), -ENODEV);
}

static void changes_wake_who_watches(void **state)
{
	struct err err = ERR_INIT;
	int fd, index;

	need_namespace(state);
	fd = host_watch_open();
	assert_true(fd >= 0);
	host_watch_read(fd);
	assert_false(host_watch_read(fd));
	index = make(HOST_BRIDGE, "br3", &err);
	assert_true(index > 0);
	assert_true(host_watch_read(fd));
	assert_false(host_watch_read(fd));
	assert_int_equal(host_link_remove(index, &err), 0);
	assert_true(host_watch_read(fd));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_new_namespace_has_lo),
	    cmocka_unit_test(bridges_are_made_and_set),
	    cmocka_unit_test(ports_have_masters),
	    cmocka_unit_test(vlans_where_there_are_any),
	    cmocka_unit_test(addresses_and_routes),
	    cmocka_unit_test(routes_and_lifetimes_come_back),
	    cmocka_unit_test(lasting_taps_stay),
	    cmocka_unit_test(taps_live_as_long_as_their_queues),
	    cmocka_unit_test(changes_wake_who_watches),
	};

	return cmocka_run_group_tests_name("host_link", tests, in_namespace, NULL);
}
