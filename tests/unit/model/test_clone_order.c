// SPDX-License-Identifier: ISC
/* The words of `clone`: names, numbers, values in quotes, and what may be another in a clone. */
#include "clone_order.h"
#include "model_test.h"
#include "storage/image.h"

static int parse(const char *text, struct clone_order *order)
{
	struct err err = ERR_INIT;
	int r = clone_order_parse(text, order, &err);

	if (r < 0)
		assert_true(err.text[0]); /* always with words */
	return r;
}

static void refused(const char *text, int code)
{
	struct clone_order order;

	assert_int_equal(parse(text, &order), code);
	clone_order_free(&order);
}

static void named(const struct clone_order *order, unsigned i, const char *wanted)
{
	char name[MACHINE_NAME_MAX + 1];

	clone_order_name(order, i, name);
	assert_string_equal(name, wanted);
}

static void one_has_the_name_itself(void **state)
{
	struct clone_order order;

	(void)state;
	assert_int_equal(parse("  web\t", &order), 0);
	assert_int_equal(clone_order_count(&order), 1);
	named(&order, 0, "web");
	clone_order_free(&order);
}

static void several_are_numbered_from_one(void **state)
{
	struct clone_order order;

	(void)state;
	assert_int_equal(parse("web 12", &order), 0);
	assert_int_equal(clone_order_count(&order), 12);
	named(&order, 0, "web1");
	named(&order, 11, "web12");
	clone_order_free(&order);
	assert_int_equal(parse("web 1", &order), 0);
	named(&order, 0, "web1");
	clone_order_free(&order);
}

static void the_longest_name_must_be_one(void **state)
{
	char text[128], base[64];
	struct clone_order order;

	(void)state;
	memset(base, 'a', 62);
	base[62] = '\0';
	snprintf(text, sizeof(text), "%s 9", base);
	assert_int_equal(parse(text, &order), 0);
	clone_order_free(&order);
	snprintf(text, sizeof(text), "%s 10", base);
	refused(text, -EINVAL);
}

static void values_and_quotes(void **state)
{
	struct clone_order order;

	(void)state;
	assert_int_equal(
	    parse("web 2 memory=64M cmdline=\"a b=\\\"c\\\\\" disks/root/source=", &order), 0);
	assert_int_equal(order.n_overrides, 3);
	assert_string_equal(order.overrides[0].key, "memory");
	assert_string_equal(order.overrides[0].value, "64M");
	assert_string_equal(order.overrides[1].key, "cmdline");
	assert_string_equal(order.overrides[1].value, "a b=\"c\\");
	assert_string_equal(order.overrides[2].key, "disks/root/source");
	assert_string_equal(order.overrides[2].value, "");
	clone_order_free(&order);
	assert_int_equal(parse("web cmdline=x=y", &order), 0);
	assert_int_equal(order.count, 0);
	assert_string_equal(order.overrides[0].value, "x=y");
	clone_order_free(&order);
}

static void what_makes_no_sense_is_refused(void **state)
{
	char many[4096] = "web";

	(void)state;
	refused("", -EINVAL);
	refused("   ", -EINVAL);
	refused(".web", -EINVAL);
	refused("a/b", -EINVAL);
	refused("web 0", -ERANGE);
	refused("web 1001", -ERANGE);
	refused("web 99999999999999999999", -ERANGE);
	refused("web -1", -EINVAL);
	refused("web many", -EINVAL);
	refused("web 2 3", -EINVAL);
	refused("web =x", -EINVAL);
	refused("web cpus=1 cpus=1", -EINVAL);
	refused("web cmdline=\"open", -EINVAL);
	for (int i = 0; i <= CLONE_WORDS_MAX; i++)
		snprintf(many + strlen(many), 32, " key%d=x", i);
	refused(many, -EINVAL);
}

/* --- what they mean -------------------------------------------------------------------------- */

static struct definition *definition(void)
{
	static const char text[] =
	    "cpus = 2; memory = 67108864; kernel = \"/k\"; autostart = true;"
	    "disks = { root = { source = \"/disk\"; format = \"qcow2\"; }; };"
	    "nics = { lan = { mac = \"52:54:00:01:02:03\"; }; };";
	struct err err = ERR_INIT;
	struct definition *def;

	if (config_parse(text, strlen(text), &def, &err) < 0)
		fail_msg("%s", err.text);
	return def;
}

static int apply(const char *text, bool resumed, struct definition *def, struct err *err)
{
	struct clone_order order;
	int r;

	assert_int_equal(parse(text, &order), 0);
	*err = (struct err)ERR_INIT;
	r = clone_order_apply(&order, def, resumed, err);
	clone_order_free(&order);
	return r;
}

static void a_clone_has_addresses_of_its_own_and_is_not_started_by_itself(void **state)
{
	_cleanup_definition_ struct definition *def = definition();
	struct err err;

	(void)state;
	assert_int_equal(apply("new", true, def, &err), 0);
	assert_int_equal(def->values.autostart, 0);
	assert_string_equal(def->nics[0].values.mac, "");
	assert_int_equal(def->values.cpus, 2);
	assert_int_equal(def->disks[0].values.format, IMAGE_QCOW2);
}

static void values_are_set_as_by_a_write(void **state)
{
	_cleanup_definition_ struct definition *def = definition();
	struct err err;

	(void)state;
	assert_int_equal(
	    apply("new cpus=4 memory=1G autostart=yes cmdline=\"a b\" "
		  "disks/root/source=/other disks/root/readonly=true on_crash=preserve "
		  "nics/lan/mac=52:54:00:09:09:09",
		  false, def, &err),
	    0);
	assert_int_equal(def->values.cpus, 4);
	assert_int_equal(def->values.memory, 1 << 30);
	assert_int_equal(def->values.autostart, 1);
	assert_int_equal(def->values.on_crash, VMM_ACTION_PRESERVE);
	assert_string_equal(def->values.cmdline, "a b");
	assert_string_equal(def->disks[0].values.source, "/other");
	assert_int_equal(def->disks[0].values.readonly, 1);
	assert_false(def->disks[0].format_given); /* to be looked at */
	assert_string_equal(def->nics[0].values.mac, "52:54:00:09:09:09");
}

static void a_format_goes_with_a_source(void **state)
{
	_cleanup_definition_ struct definition *def = definition();
	struct err err;

	(void)state;
	assert_int_equal(apply("new disks/root/format=raw", false, def, &err), -EINVAL);
	assert_int_equal(apply("new disks/root/format=raw disks/root/source=/o", false, def, &err),
			 0);
	assert_true(def->disks[0].format_given);
	assert_int_equal(def->disks[0].values.format, IMAGE_RAW);
}

static void bad_values_are_refused_with_their_key(void **state)
{
	static const struct {
		const char *text;
		bool resumed;
		int code;
		const char *words;
	} cases[] = {
	    {"new nothing=1", false, -EINVAL, "nothing: "},
	    {"new disks/root/nothing=1", false, -EINVAL, "disks/root/nothing: "},
	    {"new disks/data/source=/x", false, -ENOENT, "disks/data/source: "},
	    {"new disks/root=/x", false, -EINVAL, "disks/root: "},
	    {"new disks//source=/x", false, -EINVAL, "disks//source: "},
	    {"new nics/wan/mtu=1500", false, -ENOENT, "nics/wan/mtu: "},
	    {"new cpus=0", false, -ERANGE, "cpus: "},
	    {"new cpus=two", false, -EINVAL, "cpus: "},
	    {"new kernel=vmlinux", false, -EINVAL, "kernel: "},
	    /* what its guest has seen */
	    {"new cpus=2", true, -EBUSY, "cpus: "},
	    {"new memory=128M", true, -EBUSY, "memory: "},
	    {"new disks/root/readonly=true", true, -EBUSY, "disks/root/readonly: "},
	    {"new disks/root/queues=2", true, -EBUSY, "disks/root/queues: "},
	    {"new disks/root/source=", true, -EBUSY, "disks/root/source: "},
	};

	(void)state;
	for (size_t i = 0; i < nitems(cases); i++) {
		_cleanup_definition_ struct definition *def = definition();
		struct err err;

		assert_int_equal(apply(cases[i].text, cases[i].resumed, def, &err), cases[i].code);
		if (strncmp(err.text, cases[i].words, strlen(cases[i].words)) != 0)
			fail_msg("%s: '%s'", cases[i].text, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_has_the_name_itself),
	    cmocka_unit_test(several_are_numbered_from_one),
	    cmocka_unit_test(the_longest_name_must_be_one),
	    cmocka_unit_test(values_and_quotes),
	    cmocka_unit_test(what_makes_no_sense_is_refused),
	    cmocka_unit_test(a_clone_has_addresses_of_its_own_and_is_not_started_by_itself),
	    cmocka_unit_test(values_are_set_as_by_a_write),
	    cmocka_unit_test(a_format_goes_with_a_source),
	    cmocka_unit_test(bad_values_are_refused_with_their_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
