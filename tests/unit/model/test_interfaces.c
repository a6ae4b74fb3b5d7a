// SPDX-License-Identifier: ISC
/* The host's interfaces, in a network namespace of the test's own; notes of trials that are
 * damaged. */
#include "model_test.h"

#include <sched.h>

#include "interfaces_int.h"

static int in_namespace(void **state)
{
	*state = NULL;
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		return 0;
	return setup(state);
}

static int out_of_it(void **state)
{
	return *state ? teardown(state) : 0;
}

static struct fixture *need(void **state)
{
	if (!*state) {
		print_message("no network namespace of its own\n");
		skip();
	}
	return *state;
}

static struct interface *make(struct fixture *f, const char *name)
{
	struct interface *i = NULL;
	struct err err = ERR_INIT;

	if (model_interface_make(f->model, name, &root_caller, &i, &err) < 0)
		fail_msg("%s: %s", name, err.text);
	return i;
}

static const struct interface_key *ikey(const char *name)
{
	for (size_t k = 0; k < n_interface_keys; k++)
		if (strcmp(interface_keys[k].name, name) == 0)
			return &interface_keys[k];
	fail_msg("no key %s", name);
	return NULL;
}

static int set(struct interface *i, const char *key, const char *text)
{
	struct err err = ERR_INIT;
	int r = interface_key_store(i, ikey(key), text, &root_caller, &err);

	assert_true(r == 0 || *err.text);
	return r;
}

static void shows(struct interface *i, const char *key, const char *wanted)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	assert_int_equal(interface_key_show(i, ikey(key), &sb), 0);
	assert_string_equal(sb.data ? sb.data : "", wanted);
}

static int command(struct fixture *f, const char *line)
{
	struct err err = ERR_INIT;

	return interfaces_command_run(f->model, line, &root_caller, &err);
}

/* --- addresses as text -------------------------------------------------------------------------
 */

static void addresses_are_parsed(void **state)
{
	static const char *const good[] = {"10.0.0.1/24", "0.0.0.0/1", "::1/128", "fe80::1/64",
					   "2001:db8::/32"};
	static const char *const bad[] = {"",
					  "/",
					  "10.0.0.1",
					  "10.0.0.1/",
					  "10.0.0.1/33",
					  "10.0.0.1/0",
					  "10.0.0/24",
					  "::1/129",
					  "10.0.0.1/-1",
					  "10.0.0.1/2 4",
					  ":::/64",
					  "1.2.3.4.5/8",
					  "2001:db8:0000:0000:0000:0000:0000:0000:0000:0001/64"};
	struct host_address address;
	struct err err = ERR_INIT;

	(void)state;
	for (size_t k = 0; k < nitems(good); k++) {
		_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

		assert_int_equal(address_parse(good[k], &address, &err), 0);
		address_show(&address, &sb);
		assert_string_equal(sb.data, good[k]);
	}
	for (size_t k = 0; k < nitems(bad); k++)
		assert_int_equal(address_parse(bad[k], &address, &err), -EINVAL);
}

/* --- who may -----------------------------------------------------------------------------------
 */

static void others_than_root_change_nothing(void **state)
{
	struct fixture *f = need(state);
	const struct caller caller = {.uid = 4711, .gid = 4711, .pid = 1};
	_cleanup_interface_ struct interface *i = make(f, "mine");
	struct interface *none = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(model_interface_make(f->model, "his", &caller, &none, &err), -EPERM);
	assert_null(none);
	assert_int_equal(model_interface_remove(f->model, i, &caller, &err), -EPERM);
	assert_int_equal(model_interface_rename(f->model, i, "his", &caller, &err), -EPERM);
	assert_int_equal(interface_key_store(i, ikey("up"), "true", &caller, &err), -EPERM);
	assert_int_equal(interface_key_store(i, ikey("manage"), "true", &caller, &err), -EPERM);
	assert_int_equal(interfaces_command_run(f->model, "commit-within 5", &caller, &err),
			 -EPERM);
	shows(i, "up", "false");
	assert_int_equal(model_interface_remove(f->model, i, &root_caller, &err), 0);
}

static void networks_keep_theirs(void **state)
{
	struct fixture *f = need(state);
	struct host_link_new what = {
	    .kind = HOST_BRIDGE, .name = "net0", .alias = "filevisor_12345678 id network"};
	_cleanup_interface_ struct interface *port = make(f, "port");
	struct interface *net;
	struct err err = ERR_INIT;
	int index = host_link_make(&what, &err);

	assert_true(index > 0);
	while (!(net = model_interface_get(f->model, "net0")))
		usleep(1000);
	assert_int_equal(set(net, "up", "true"), -EPERM);
	assert_int_equal(set(net, "manage", "true"), -EPERM);
	assert_int_equal(set(port, "master", "net0"), -EPERM);
	assert_int_equal(model_interface_remove(f->model, net, &root_caller, &err), -EPERM);
	assert_int_equal(host_link_remove(index, &err), 0);
	while (interface_alive(net))
		usleep(1000);
	assert_int_equal(set(net, "up", "true"), -ENODEV);
	assert_int_equal(interface_key_show(net, ikey("up"), &(struct strbuf)STRBUF_INIT), -ENOENT);
	interface_put(net);
	assert_int_equal(model_interface_remove(f->model, port, &root_caller, &err), 0);
}

/* One that is made anew is the same to whoever has it open. */
static void another_type_is_the_same_interface(void **state)
{
	struct fixture *f = need(state);
	_cleanup_interface_ struct interface *i = make(f, "it");
	struct err err = ERR_INIT;

	assert_int_equal(set(i, "type", "veth itsend"), 0);
	assert_true(interface_alive(i));
	shows(i, "type", "veth");
	shows(i, "lower", "itsend");
	assert_int_equal(set(i, "type", "veth"), 0); /* as it is */
	assert_int_equal(set(i, "type", "veth it"), -EINVAL);
	assert_int_equal(set(i, "type", "macvtap it"), -EINVAL);
	assert_int_equal(set(i, "type", "veth a b"), -EINVAL);
	assert_int_equal(set(i, "type", ""), -EINVAL);
	assert_int_equal(set(i, "type", "bridge"), 0);
	assert_null(model_interface_get(f->model, "itsend"));
	assert_int_equal(model_interface_remove(f->model, i, &root_caller, &err), 0);
	assert_false(interface_alive(i));
}

/* --- trials ------------------------------------------------------------------------------------
 */

static void two_change_names(void **state)
{
	struct fixture *f = need(state);
	_cleanup_interface_ struct interface *a = make(f, "a"), *b = make(f, "b");
	struct err err = ERR_INIT;

	assert_int_equal(set(a, "mtu", "1111"), 0);
	assert_int_equal(command(f, "commit-within 600"), 0);
	assert_int_equal(model_interface_rename(f->model, a, "c", &root_caller, &err), 0);
	assert_int_equal(model_interface_rename(f->model, b, "a", &root_caller, &err), 0);
	assert_int_equal(model_interface_rename(f->model, a, "b", &root_caller, &err), 0);
	assert_int_equal(command(f, "undo"), 0);
	interface_put(b);
	b = model_interface_get(f->model, "a");
	assert_ptr_equal(a, b);
	shows(b, "mtu", "1111");
	assert_int_equal(model_interface_remove(f->model, a, &root_caller, &err), 0);
	interface_put(b);
	b = model_interface_get(f->model, "b");
	assert_non_null(b);
	assert_int_equal(model_interface_remove(f->model, b, &root_caller, &err), 0);
}

static char *read_notes(struct fixture *f, size_t *len)
{
	char path[128], *text = NULL;

	snprintf(path, sizeof(path), "%s/interfaces.trial", f->run);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &text, len), 0);
	return text;
}

static void write_notes(struct fixture *f, const char *text, size_t len)
{
	_cleanup_close_ int dir = open(f->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(file_replace(dir, "interfaces.trial", text, len, 0600), 0);
}

/* Cut anywhere they are not taken, and nothing changes. */
static void cut_notes_are_refused(void **state)
{
	struct fixture *f = need(state);
	struct interface *i = make(f, "noted");
	_cleanup_free_ char *text = NULL;
	struct err err = ERR_INIT;
	size_t len;

	assert_int_equal(set(i, "addresses", "192.0.2.1/24 2001:db8::1/64"), 0);
	assert_int_equal(command(f, "commit-within 600"), 0);
	assert_int_equal(set(i, "mtu", "1234"), 0);
	text = read_notes(f, &len);
	assert_int_equal(command(f, "commit"), 0);
	interface_put(i);
	for (size_t cut = 0; cut < len; cut += cut < 128 ? 1 : 61) {
		close_model(f);
		write_notes(f, text, cut);
		open_model(f);
		i = model_interface_get(f->model, "noted");
		assert_non_null(i);
		shows(i, "mtu", "1234");
		assert_int_equal(command(f, "commit"), -EBUSY);
		interface_put(i);
	}
	close_model(f);
	write_notes(f, text, len);
	open_model(f); /* whole they are: */
	assert_int_equal(command(f, "undo"), 0);
	i = model_interface_get(f->model, "noted");
	shows(i, "mtu", "1500");
	assert_int_equal(model_interface_remove(f->model, i, &root_caller, &err), 0);
	interface_put(i);
}

/* What was made without a word to the end of the trial goes; what was there before stays. */
static void made_ones_go(void **state)
{
	struct fixture *f = need(state);
	struct interface *before = make(f, "before"), *i;
	struct err err = ERR_INIT;

	assert_int_equal(command(f, "commit-within 600"), 0);
	i = make(f, "made");
	assert_int_equal(set(i, "type", "veth madeend"), 0);
	assert_int_equal(set(i, "up", "true"), 0);
	assert_int_equal(set(i, "master", "before"), 0);
	interface_put(i);
	interface_put(before);
	reopen_model(f); /* its end is the trial's */
	assert_null(model_interface_get(f->model, "made"));
	assert_null(model_interface_get(f->model, "madeend"));
	before = model_interface_get(f->model, "before");
	assert_non_null(before);
	assert_int_equal(model_interface_remove(f->model, before, &root_caller, &err), 0);
	interface_put(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(addresses_are_parsed),
	    cmocka_unit_test_setup_teardown(others_than_root_change_nothing, in_namespace,
					    out_of_it),
	    cmocka_unit_test_setup_teardown(networks_keep_theirs, in_namespace, out_of_it),
	    cmocka_unit_test_setup_teardown(another_type_is_the_same_interface, in_namespace,
					    out_of_it),
	    cmocka_unit_test_setup_teardown(two_change_names, in_namespace, out_of_it),
	    cmocka_unit_test_setup_teardown(cut_notes_are_refused, in_namespace, out_of_it),
	    cmocka_unit_test_setup_teardown(made_ones_go, in_namespace, out_of_it),
	};

	return cmocka_run_group_tests_name("interfaces", tests, NULL, NULL);
}
