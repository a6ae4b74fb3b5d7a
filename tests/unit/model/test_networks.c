// SPDX-License-Identifier: ISC
/* Networks: their definitions, what they make on the host, their guests' addresses. */
#include "model_test.h"
#include "network_test.h"

#define NEED(f, state)                                                                             \
	struct fixture *f = *(state);                                                              \
	if (!f)                                                                                    \
	skip()

static bool link_exists(const char *name)
{
	struct host_link link;

	return host_link_find(name, 0, &link) == 0;
}

static int set_link_up(const char *name)
{
	struct host_link_set up = {.up = 1, .master = -1};
	struct host_link link;
	int r = host_link_find(name, 0, &link);

	return r < 0 ? r : host_link_set(link.index, &up, NULL);
}

static size_t run_entries(struct fixture *f)
{
	char path[128];
	struct dirent **e;
	size_t n = 0;
	int all;

	snprintf(path, sizeof(path), "%s/networks", f->run);
	all = scandir(path, &e, NULL, NULL);
	for (int i = 0; i < all; i++) {
		n += strcmp(e[i]->d_name, ".") != 0 && strcmp(e[i]->d_name, "..") != 0;
		free(e[i]);
	}
	if (all >= 0)
		free(e);
	return n;
}

static void a_new_one_has_a_subnet_of_its_own(void **state)
{
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "a"), *b = need_network(f, "b");
	_cleanup_free_ char *sa = key_text(a, "subnet"), *sb = key_text(b, "subnet");
	_cleanup_free_ char *mode = key_text(a, "mode");

	assert_string_equal(mode, "nat");
	assert_string_not_equal(sa, sb);
	assert_non_null(strstr(sa, "/24"));
}

static void hostile_subnets_are_refused(void **state)
{
	static const struct {
		const char *text;
		int code;
	} bad[] = {
	    {"0.0.0.0/0", -EINVAL},	 {"10.0.0.0/7", -EINVAL},	{"10.0.0.0/31", -EINVAL},
	    {"10.0.0.0/33", -EINVAL},	 {"10.0.0.0/-8", -EINVAL},	{"10.0.0.0", -EINVAL},
	    {"10.0.0.0/24 x", -EINVAL},	 {"127.0.0.0/24", -EINVAL},	{"224.0.0.0/24", -EINVAL},
	    {"169.254.3.0/24", -EINVAL}, {"192.168.9.255/24", -EINVAL}, {"nonsense/24", -EINVAL},
	    {"fd00::/64", -EINVAL},	 {"203.0.113.0/25", -EEXIST},	{"203.0.0.0/16", -EEXIST}};
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "a"), *b = need_network(f, "b");
	_cleanup_free_ char *of_b = key_text(b, "subnet"), *before = key_text(a, "subnet");
	struct err err = ERR_INIT;

	for (size_t i = 0; i < nitems(bad); i++)
		if (set_key(a, "subnet", bad[i].text, &err) != bad[i].code)
			fail_msg("%s: %d %s", bad[i].text, err.code, err.text);
	assert_int_equal(set_key(a, "subnet", of_b, &err), -EEXIST);
	assert_non_null(strstr(err.text, "network b"));
	assert_int_equal(set_key(a, "subnet6", "::/0", &err), -EINVAL);
	assert_int_equal(set_key(a, "subnet6", "fe80::/64", &err), -EINVAL);
	assert_int_equal(set_key(a, "subnet6", "ff02::/64", &err), -EINVAL);
	assert_int_equal(set_key(a, "vlan", "7", &err), -EINVAL);
	assert_int_equal(set_key(a, "domain", "a..b", &err), -EINVAL);
	assert_int_equal(set_key(a, "interface", "x\"y", &err), -EINVAL);
	_cleanup_free_ char *after = key_text(a, "subnet");
	assert_string_equal(before, after);
}

static void definitions_are_kept(void **state)
{
	NEED(f, state);
	struct network *a = need_network(f, "a");
	_cleanup_strbuf_ struct strbuf config = STRBUF_INIT, again = STRBUF_INIT;
	static const char forwards[] = "# web\ntcp 8080 web 80\nudp 53-54 10.9.0.3\n";
	struct err err = ERR_INIT;

	must_set(a, "subnet", "10.9.0.0/24");
	must_set(a, "subnet6", "auto");
	must_set(a, "domain", "example.net");
	if (network_forwards_store(a, forwards, strlen(forwards), &root_caller, &err) < 0)
		fail_msg("%s", err.text);
	network_config_show(a, &config);
	network_put(a);
	reopen_model(f);
	a = need_network(f, "a");
	network_config_show(a, &again);
	assert_string_equal(config.data, again.data);
	strbuf_reset(&again);
	network_forwards_show(a, &again);
	assert_string_equal(again.data, "tcp 8080 web 80\nudp 53-54 10.9.0.3 53\n");
	assert_int_equal(network_config_store(a, config.data, config.len, &root_caller, &err), 0);
	network_put(a);
}

static void hostile_texts_are_refused(void **state)
{
	static const char *const configs[] = {"mode = 7;",
					      "mode = \"bad\";",
					      "colour = \"red\";",
					      "mode = \"nat\"; mode = \"nat\";",
					      "{",
					      "mode",
					      "mtu = -1;",
					      "mtu = 99999;",
					      "@include \"/etc/passwd\"",
					      "dhcp = \"yes\";"};
	static const char *const forwards[] = {"tcp 80",
					       "sctp 80 web 80",
					       "tcp 0 web 80",
					       "tcp 70000 web 80",
					       "tcp 90-80 web 80",
					       "tcp 80 ../x 80",
					       "tcp 80 192.0.2.9 80",
					       "tcp 80 web 80 90",
					       "tcp 80 web\ntcp 70-90 other",
					       "tcp 60000-65535 web 60001"};
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "a");
	struct err err = ERR_INIT;

	for (size_t i = 0; i < nitems(configs); i++)
		if (network_config_store(a, configs[i], strlen(configs[i]), &root_caller, &err) >=
		    0)
			fail_msg("taken: %s", configs[i]);
	for (size_t i = 0; i < nitems(forwards); i++)
		if (network_forwards_store(a, forwards[i], strlen(forwards[i]), &root_caller,
					   &err) >= 0)
			fail_msg("taken: %s", forwards[i]);
}

static void only_root_has_other_modes_than_user(void **state)
{
	const struct caller user = {.uid = 1000, .gid = 1000, .pid = 1};
	_cleanup_network_ struct network *a = NULL;
	struct err err = ERR_INIT;
	NEED(f, state);

	assert_int_equal(model_network_define(f->model, "mine", 0755, &user, &a, &err), 0);
	_cleanup_free_ char *mode = key_text(a, "mode");
	assert_string_equal(mode, "user");
	assert_int_equal(network_key_store(a, network_key("mode"), "nat", &user, &err), -EPERM);
}

static void start_and_stop_leave_nothing(void **state)
{
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "lan");
	_cleanup_free_ char *before = tables();
	char value[8];

	must_set(a, "subnet6", "auto");
	for (int i = 0; i < 2; i++) {
		must_run(a, "start");
		assert_int_equal(network_state(a), NETWORK_RUNNING);
		assert_true(link_exists("fv-lan"));
		_cleanup_free_ char *rules = tables();
		assert_non_null(strstr(rules, "fv-lan"));
		assert_int_equal(sysctl_read("/proc/sys/net/ipv4/ip_forward", value, 8), 0);
		assert_string_equal(value, "1");
		assert_true(dns_of(a) > 0);
		must_run(a, "stop");
		assert_false(link_exists("fv-lan"));
		_cleanup_free_ char *after = tables();
		assert_string_equal(before, after);
		assert_int_equal(sysctl_read("/proc/sys/net/ipv4/ip_forward", value, 8), 0);
		assert_string_equal(value, "0");
		assert_int_equal(run_entries(f), 0);
	}
}

static void what_others_have_is_not_taken_over(void **state)
{
	struct host_link_new theirs = {.kind = HOST_BRIDGE, .name = "fv-lan"};
	struct host_address address = {.family = AF_INET, .prefix = 24, .addr = {10, 77, 0, 1}};
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "lan");
	struct err err = ERR_INIT;
	int index = host_link_make(&theirs, NULL);

	assert_int_equal(network_command_run(a, "start", &root_caller, &err), -EEXIST);
	assert_non_null(strstr(err.text, "fv-lan"));
	assert_int_equal(network_state(a), NETWORK_FAILED);
	assert_true(link_exists("fv-lan"));
	host_link_remove(index, NULL);
	/* an address that comes later is as much the host's */
	must_set(a, "subnet", "10.77.0.0/16");
	host_link_find("up0", 0, &(struct host_link){0});
	struct host_link up0;
	assert_int_equal(host_link_find("up0", 0, &up0), 0);
	address.index = up0.index;
	assert_int_equal(host_address_add(&address, NULL), 0);
	assert_int_equal(network_command_run(a, "start", &root_caller, &err), -EEXIST);
	assert_non_null(strstr(err.text, "up0"));
	assert_false(link_exists("fv-lan"));
}

static void guests_get_their_addresses(void **state)
{
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "lan");
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	const uint8_t host[4] = {10, 9, 0, 1}, other[4] = {10, 9, 0, 99};
	struct err err = ERR_INIT;
	struct guest g, h;

	must_set(a, "subnet", "10.9.0.0/24");
	plug_guest(f, &g, "web", "lan", "52:54:00:00:00:01");
	assert_int_equal(network_state(a), NETWORK_RUNNING);
	network_nic_address_show(a, g.m, "eth", &sb);
	assert_int_equal(sb.len, 0);
	assert_true(dhcp(&g, LONG_MS));
	assert_memory_equal(g.addr, ((uint8_t[]){10, 9, 0, 2}), 4);
	wait_until((network_nic_address_show(a, g.m, "eth", &sb), sb.len > 0));
	assert_string_equal(sb.data, "10.9.0.2");
	_cleanup_free_ char *leases = shown(network_leases_show, a);
	assert_non_null(
	    strstr(leases, "10.9.0.2 mac=52:54:00:00:00:01 machine=web nic=eth expires="));
	_cleanup_free_ char *hosts = shown(network_hosts_show, a);
	assert_string_equal(hosts, "10.9.0.2 web\n");
	/* the host hears it in its own name only */
	assert_true(arp_answers(&g, g.addr, host, LONG_MS));
	assert_false(arp_answers(&g, other, host, 300));
	assert_int_equal(network_command_run(a, "stop", &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "web"));
	assert_int_equal(model_network_undefine(f->model, a, &root_caller, &err), -EBUSY);
	plug_guest(f, &h, "db", "lan", "52:54:00:00:00:02");
	assert_true(dhcp(&h, LONG_MS));
	assert_memory_equal(h.addr, ((uint8_t[]){10, 9, 0, 3}), 4);
	nic_unplug(h.m, &h.plug);
	close_guest(&h);
	/* without a word: the tap goes with its guest */
	close_guest(&g);
	wait_until(ports_of(a) == 0);
	/* and the same machine has the same address again */
	plug_guest(f, &h, "db", "lan", "52:54:00:00:00:02");
	assert_true(dhcp(&h, LONG_MS));
	assert_memory_equal(h.addr, ((uint8_t[]){10, 9, 0, 3}), 4);
	close_guest(&h);
	wait_until(ports_of(a) == 0);
	must_run(a, "stop");
}

static void what_ends_is_started_again(void **state)
{
	static const char *const flush[] = {"nft", "flush", "ruleset", NULL};
	struct tool tool = {.argv = flush, .timeout_ms = LONG_MS};
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "lan");
	pid_t first;

	must_run(a, "start");
	_cleanup_free_ char *before = tables();
	assert_int_equal(tool_run(&tool, NULL), 0);
	uint64_t end = now_ns() + LONG_MS * 1000000ull;
	for (bool same = false; !same; poll(NULL, 0, 20)) {
		assert_true(now_ns() < end);
		_cleanup_free_ char *now = tables();

		same = strcmp(now, before) == 0;
	}
	first = dns_of(a);
	kill(first, SIGKILL);
	wait_until(dns_of(a) != 0 && dns_of(a) != first);
	assert_int_equal(kill(dns_of(a), 0), 0);
	must_run(a, "stop");
}

static void an_isolated_one_without_its_host(void **state)
{
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "lan");
	const uint8_t host[4] = {10, 9, 0, 1}, self[4] = {10, 9, 0, 7}, other[4] = {10, 9, 0, 8};
	struct guest g, h;
	uint8_t frame[2048];
	bool heard = false;

	must_set(a, "subnet", "10.9.0.0/24");
	must_set(a, "mode", "isolated");
	must_set(a, "host", "false");
	plug_guest(f, &g, "web", "lan", "52:54:00:00:00:01");
	plug_guest(f, &h, "db", "lan", "52:54:00:00:00:02");
	assert_int_equal(dns_of(a), 0);
	assert_false(arp_answers(&g, self, host, 300));
	while (next_frame(&h, frame, 0))
		;
	send_arp(&g, g.mac, self, other);
	while (!heard) {
		size_t n = next_frame(&h, frame, LONG_MS);

		assert_true(n > 0);
		heard = n >= 42 && frame[12] == 8 && frame[13] == 6;
	}
	close_guest(&g);
	close_guest(&h);
	wait_until(ports_of(a) == 0);
	must_run(a, "stop");
}

static void a_bridge_of_the_hosts(void **state)
{
	struct host_link_new br = {.kind = HOST_BRIDGE, .name = "br7"};
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "out");
	struct err err = ERR_INIT;
	struct host_link tap;
	struct guest g;
	int index = host_link_make(&br, NULL);

	must_set(a, "mode", "bridge");
	assert_int_equal(network_command_run(a, "start", &root_caller, &err), -EINVAL);
	must_set(a, "interface", "nobody");
	assert_int_equal(network_command_run(a, "start", &root_caller, &err), -ENODEV);
	must_set(a, "interface", "lo");
	assert_int_equal(network_command_run(a, "start", &root_caller, &err), -EINVAL);
	must_set(a, "interface", "up0");
	must_set(a, "filter", "strict");
	assert_int_equal(network_command_run(a, "start", &root_caller, &err), -EOPNOTSUPP);
	must_set(a, "filter", "auto");
	must_set(a, "interface", "br7");
	plug_guest(f, &g, "web", "out", "52:54:00:00:00:01");
	assert_int_equal(host_link_find(g.plug.tap, 0, &tap), 0);
	assert_int_equal(tap.master, index);
	/* it vanishes: said, not hidden */
	host_link_remove(index, NULL);
	wait_until(network_state(a) == NETWORK_FAILED);
	_cleanup_free_ char *error = shown(network_error_show, a);
	assert_non_null(strstr(error, "br7"));
	/* it comes back, another one: its ports are in it again */
	index = host_link_make(&br, NULL);
	wait_until(network_state(a) == NETWORK_RUNNING);
	assert_int_equal(host_link_find(g.plug.tap, 0, &tap), 0);
	assert_int_equal(tap.master, index);
	close_guest(&g);
	wait_until(ports_of(a) == 0);
	must_run(a, "stop");
}

/* passt gives the guest its address: by DHCP, over the socket. */
static void without_privileges_by_passt(void **state)
{
	NEED(f, state);
	_cleanup_network_ struct network *a = need_network(f, "mine");
	static const char forwards[] = "tcp 18080 web 80\n";
	struct guest g;
	struct err err = ERR_INIT;

	/* passt wants to know which way is out */
	static const char *const route[] = {"ip",  "route",	  "add", "default",
					    "via", "203.0.113.2", NULL};
	struct tool tool = {.argv = route, .timeout_ms = LONG_MS};

	if (access("/usr/bin/passt", X_OK) < 0)
		skip();
	must_set(a, "mode", "user");
	assert_int_equal(set_link_up("out0"), 0);
	if (tool_run(&tool, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(network_forwards_store(a, forwards, strlen(forwards), &root_caller, &err),
			 0);
	plug_guest(f, &g, "web", "mine", "52:54:00:00:00:01");
	assert_int_equal(g.plug.kind, VMM_NIC_STREAM);
	assert_int_equal(network_state(a), NETWORK_RUNNING);
	assert_int_equal(network_command_run(a, "stop", &root_caller, &err), -EBUSY);
	/* who closes the socket ends it */
	close_guest(&g);
	wait_until((networks_watch_wake(f->model->networks), ports_of(a) == 0));
	must_run(a, "stop");
}

/* A daemon that ended without a word: the next one goes on with what is there. */
static void the_next_daemon_takes_it_up(void **state)
{
	NEED(f, state);
	struct network *a = need_network(f, "lan"), *b = need_network(f, "gone");
	_cleanup_free_ char *before = NULL;
	int status;
	pid_t pid, dns = 0;

	network_put(a);
	network_put(b);
#ifdef __SANITIZE_THREAD__
	skip(); /* no threads after fork() there */
#endif
	close_model(f);
	pid = fork();
	if (pid == 0) {
		open_model(f);
		a = need_network(f, "lan");
		must_run(a, "start");
		must_run(need_network(f, "gone"), "start");
		_exit(dns_of(a) > 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(link_exists("fv-lan"));
	before = tables();
	open_model(f);
	a = need_network(f, "lan");
	b = need_network(f, "gone");
	dns = dns_of(a);
	assert_int_equal(network_state(a), NETWORK_RUNNING);
	assert_true(dns > 0);
	_cleanup_free_ char *after = tables();
	assert_string_equal(before, after);
	/* who lost his bridge meanwhile says so, and others go on */
	must_run(b, "stop");
	assert_false(link_exists("fv-gone"));
	assert_int_equal(kill(dns, 0), 0);
	network_put(a);
	network_put(b);
	/* without machines they end with the daemon */
	reopen_model(f);
	assert_false(link_exists("fv-lan"));
	assert_int_equal(run_entries(f), 0);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, network_setup, network_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(a_new_one_has_a_subnet_of_its_own),
	    TEST(hostile_subnets_are_refused),
	    TEST(definitions_are_kept),
	    TEST(hostile_texts_are_refused),
	    TEST(only_root_has_other_modes_than_user),
	    TEST(start_and_stop_leave_nothing),
	    TEST(what_others_have_is_not_taken_over),
	    TEST(guests_get_their_addresses),
	    TEST(what_ends_is_started_again),
	    TEST(an_isolated_one_without_its_host),
	    TEST(a_bridge_of_the_hosts),
	    TEST(without_privileges_by_passt),
	    TEST(the_next_daemon_takes_it_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
