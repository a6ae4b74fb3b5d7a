// SPDX-License-Identifier: ISC
/* Definitions as text: what is written is read, by libconfig too, and errors have their place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <libconfig.h>

#include "definition.h"
#include "util/cleanup.h"

static struct definition *parse(const char *text)
{
	struct definition *def = NULL;
	struct err err = ERR_INIT;

	if (config_parse(text, strlen(text), &def, &err) < 0)
		fail_msg("'%s': %s", text, err.text);
	return def;
}

static void refused_bytes(const char *text, size_t len, int code, const char *words)
{
	struct definition *def = NULL;
	struct err err = ERR_INIT;
	int r = config_parse(text, len, &def, &err);

	if (r != code || !strstr(err.text, words))
		fail_msg("'%s' gave %d '%s', wanted %d '%s'", text, r, err.text, code, words);
	assert_null(def);
}

static void refused(const char *text, int code, const char *words)
{
	refused_bytes(text, strlen(text), code, words);
}

static void an_empty_text_gives_presets(void **state)
{
	_cleanup_definition_ struct definition *def = parse("  # nothing\n/* at\nall */ // ");

	(void)state;
	for (size_t i = 0; i < n_machine_keys; i++) {
		_cleanup_definition_ struct definition *other = definition_new();

		assert_true(value_equal(&def->values, &other->values, &machine_keys[i]));
		assert_int_equal(
		    value_parse(&other->values, &machine_keys[i], machine_keys[i].preset, NULL), 0);
	}
	assert_int_equal(def->n_disks, 0);
}

static void every_spelling_is_read(void **state)
{
	_cleanup_definition_ struct definition *def =
	    parse("cpus : 0x10L, memory=1073741824 /* x */ kernel = \"/a\" // y\n  \"b\\x41\" # "
		  "z\n\t\"\";"
		  "autostart = TRUE; on_crash = \"preserve\"\nstop_timeout_s=007;\n"
		  "disks = { a-1 = { source = \"/x\\\"\\\\y\"; }, b = {} };");

	(void)state;
	assert_int_equal(def->values.cpus, 16);
	assert_int_equal(def->values.memory, 1 << 30);
	assert_string_equal(def->values.kernel, "/abA");
	assert_int_equal(def->values.autostart, 1);
	assert_int_equal(def->values.on_crash, VMM_ACTION_PRESERVE);
	assert_int_equal(def->values.stop_timeout_s, 7);
	assert_int_equal(def->n_disks, 2);
	assert_string_equal(def->disks[0].name, "a-1");
	assert_string_equal(def->disks[0].values.source, "/x\"\\y");
	assert_string_equal(def->disks[1].values.source, "");
}

/* Something that is not the preset, for each type. */
static const char *other_value(const struct config_key *key)
{
	static const struct {
		const char *name, *value;
	} own_forms[] = {{"limits", "riops=7 bps=1048576 bps_burst=4096"},
			 {"serial", "serial \"7\" \\"},
			 {"backing", "/srv/\"a\\b pool/x /y"},
			 {"vsock_listen", "22=/run/\"a\\b.sock 7=/y"}};

	for (size_t i = 0; i < nitems(own_forms); i++)
		if (strcmp(key->name, own_forms[i].name) == 0)
			return own_forms[i].value;
	switch (key->type) {
	case KEY_UINT:
		return "3";
	case KEY_SIZE:
		return "96M";
	case KEY_BOOL:
		return strcmp(key->preset, "true") == 0 ? "false" : "true";
	case KEY_ENUM:
		return key->words[1] ? key->words[1] : key->words[0];
	case KEY_TEXT:
		return "console=ttyS0 \"q\" back\\slash \xc3\xbc #no comment // none";
	case KEY_PATH:
		return "/tmp/with space/\"and quote\"";
	}
	return "";
}

static void what_is_written_is_read(void **state)
{
	_cleanup_definition_ struct definition *def = definition_new(), *again = NULL;
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT, second = STRBUF_INIT;
	struct disk *disk;

	(void)state;
	for (size_t i = 0; i < n_machine_keys; i++)
		assert_int_equal(value_parse(&def->values, &machine_keys[i],
					     other_value(&machine_keys[i]), NULL),
				 0);
	assert_int_equal(definition_add_disk(def, "zeta", &disk, NULL), 0);
	for (size_t i = 0; i < n_disk_keys; i++)
		assert_int_equal(
		    value_parse(&disk->values, &disk_keys[i], other_value(&disk_keys[i]), NULL), 0);
	assert_int_equal(definition_add_disk(def, "alpha", &disk, NULL), 0);
	config_format(def, &sb);
	again = parse(sb.data);
	for (size_t i = 0; i < n_machine_keys; i++)
		assert_true(value_equal(&def->values, &again->values, &machine_keys[i]));
	assert_string_equal(again->disks[0].name, "zeta");
	for (size_t i = 0; i < n_disk_keys; i++)
		assert_true(
		    value_equal(&def->disks[0].values, &again->disks[0].values, &disk_keys[i]));
	config_format(again, &second);
	assert_string_equal(sb.data, second.data);
}

static void libconfig_reads_what_is_written(void **state)
{
	_cleanup_definition_ struct definition *def = definition_new();
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	const char *text = NULL;
	struct disk *disk;
	config_t config;
	int n = 0;

	(void)state;
	value_parse(&def->values, &machine_keys[0], "7", NULL);
	definition_add_disk(def, "root", &disk, NULL);
	value_parse(&disk->values, &disk_keys[0], "/a \"b\" \\c", NULL);
	config_format(def, &sb);
	config_init(&config);
	if (!config_read_string(&config, sb.data))
		fail_msg("line %d: %s", config_error_line(&config), config_error_text(&config));
	assert_true(config_lookup_int(&config, "cpus", &n));
	assert_int_equal(n, 7);
	assert_true(config_lookup_string(&config, "disks.root.source", &text));
	assert_string_equal(text, "/a \"b\" \\c");
	assert_int_equal(config_setting_length(config_root_setting(&config)),
			 (int)n_machine_keys + 1);
	config_destroy(&config);
}

static void errors_have_line_and_column(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} cases[] = {
	    {"cpus = 1;\nmemory = = \"1G\";", -EINVAL, "line 2, column 10: '='"},
	    {"= 3;", -EINVAL, "line 1, column 1: '='"},
	    {"cpus = 1;\n  colour = \"red\";", -EINVAL,
	     "line 2, column 3: colour: there is no such"},
	    {"cpus = 1;\nmemory = \"64M\";\ncpus = 2;", -EINVAL,
	     "line 3, column 1: cpus is set twice"},
	    {"cpus = 0;", -ERANGE, "line 1, column 1: cpus: 0 is not within"},
	    {"\ncpus = 1000000;", -ERANGE, "line 2, column 1: cpus"},
	    {"cpus = -1;", -ERANGE, "line 1, column 1: cpus"},
	    {"cpus = 99999999999999999999;", -ERANGE, "line 1, column 1: cpus"},
	    {"cpus = 4294967297;", -ERANGE, "line 1, column 1: cpus"},
	    {"cpus = \"two\";", -EINVAL, "line 1, column 1: cpus: a whole number is wanted"},
	    {"cpus = 1.5;", -EINVAL, "cpus: a whole number is wanted"},
	    {"cpus = true;", -EINVAL, "cpus: a whole number is wanted"},
	    {"cpus = { a = 1; };", -EINVAL, "cpus: a whole number is wanted"},
	    {"cpus = 1((((", -EINVAL, "line 1, column 9: '('"},
	    {"cpus", -EINVAL, "line 1, column 5: the text ends"},
	    {"cpus = ", -EINVAL, "line 1, column 8: the text ends where a value"},
	    {"memory = \"1.5G\";", -EINVAL, "line 1, column 1: memory"},
	    {"memory = 1048577;", -EINVAL, "memory: 1048577 is not a multiple"},
	    {"memory = 64M;", -EINVAL, "line 1, column 10: '64M'"},
	    {"autostart = 1;", -EINVAL, "autostart: true or false"},
	    {"on_crash = \"explode\";", -EINVAL, "on_crash: 'explode' is none of: stop"},
	    {"kernel = 3;", -EINVAL, "kernel: a path in quotes"},
	    {"kernel = \"relative\";", -EINVAL, "kernel: 'relative' is not an absolute"},
	    {"cmdline = \"a\\nb\";", -EINVAL, "cmdline: a control character"},
	    {"cmdline = \"unterminated\n", -EINVAL, "line 1, column 11: the string does not end"},
	    {"cmdline = \"\\q\"", -EINVAL, "line 1, column 11: an escape"},
	    {"cpus = 1;\n/* never", -EINVAL, "line 2, column 1: the comment does not end"},
	    {"@include \"/etc/passwd\"", -EINVAL, "line 1, column 1: @"},
	    {"\xff\xfe", -EINVAL, "line 1, column 1: byte 0xff"},
	    {"disks = 3;", -EINVAL, "line 1, column 1: disks: a group"},
	    {"disks = ( { name = \"a\"; } );", -EINVAL, "line 1, column 1: disks: a group"},
	    {"disks = { a = 1; };", -EINVAL, "line 1, column 15: '1'"},
	    {"disks = { a = {}; a = {}; };", -EINVAL, "line 1, column 19: a: there is a disk"},
	    {"disks = { a = { b = 1; }; };", -EINVAL, "line 1, column 17: b: there is no"},
	    {"disks = { a = {\n source = 1; }; };", -EINVAL, "line 2, column 2: source: a path"},
	    {"disks = {}; disks = {};", -EINVAL, "line 1, column 13: disks is set twice"},
	    {"disks = { a = { queues = 17; }; };", -ERANGE, "queues: 17"},
	    {"disks = { *a = { }; };", -EINVAL, "is no name for a disk"},
	    {"disks = { a = { };", -EINVAL, "the text ends"},
	    {"}", -EINVAL, "line 1, column 1: '}'"},
	    {"hugepages = true; memory = \"65M\";", -EINVAL, "hugepages"},
	};

	(void)state;
	for (size_t i = 0; i < nitems(cases); i++)
		refused(cases[i].text, cases[i].code, cases[i].words);
	refused_bytes("cpus = 1;\0memory", 16, -EINVAL, "line 1, column 10: byte 0x00");
	refused_bytes("cmdline = \"a\0b\"", 15, -EINVAL, "line 1, column 11: a NUL byte");
}

static void there_are_bounds(void **state)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	(void)state;
	strbuf_puts(&sb, "disks = {");
	for (int i = 0; i <= VMM_DISKS_MAX; i++)
		strbuf_printf(&sb, " d%d = {};", i);
	strbuf_puts(&sb, "};");
	refused(sb.data, -ENOSPC, "at most");
	strbuf_reset(&sb);
	strbuf_puts(&sb, "cmdline = \"");
	for (int i = 0; i < VMM_CMDLINE_MAX; i++)
		strbuf_putc(&sb, 'x');
	strbuf_puts(&sb, "\";");
	refused(sb.data, -EFBIG, "cmdline");
	strbuf_reset(&sb);
	strbuf_puts(&sb, "cpus = 2;");
	while (sb.len < CONFIG_MAX)
		strbuf_putc(&sb, '\n');
	definition_put(parse(sb.data));
	strbuf_putc(&sb, '\n');
	refused(sb.data, -EFBIG, "bytes are more");
}

static void a_copy_is_equal_and_apart(void **state)
{
	_cleanup_definition_ struct definition *a = parse("disks = { x = {}; y = {}; z = {}; };");
	_cleanup_definition_ struct definition *b = definition_copy(a);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(definition_remove_disk(b, "y"), 0);
	assert_int_equal(definition_remove_disk(b, "y"), -ENOENT);
	assert_int_equal(b->n_disks, 2);
	assert_string_equal(b->disks[1].name, "z");
	assert_non_null(definition_disk(a, "y"));
	assert_int_equal(value_parse(&b->values, &machine_keys[0], "9", &err), 0);
	assert_int_equal(a->values.cpus, 1);
}

static void a_refused_value_changes_nothing(void **state)
{
	_cleanup_definition_ struct definition *def = definition_new();

	(void)state;
	for (size_t i = 0; i < n_machine_keys; i++) {
		struct err err = ERR_INIT;

		if (machine_keys[i].type == KEY_TEXT || machine_keys[i].type == KEY_PATH)
			continue;
		assert_true(value_parse(&def->values, &machine_keys[i], "nonsense", &err) < 0);
		assert_true(err.text[0]);
		assert_true(value_parse(&def->values, &machine_keys[i], "", &err) < 0);
		assert_int_equal(
		    value_parse(&def->values, &machine_keys[i], machine_keys[i].preset, &err), 0);
	}
}

static const struct config_key *disk_key(const char *name)
{
	for (size_t i = 0; i < n_disk_keys; i++)
		if (strcmp(disk_keys[i].name, name) == 0)
			return &disk_keys[i];
	fail_msg("no key %s", name);
	return NULL;
}

/* What a disk's key makes of a text: @wanted, or (NULL) it is refused with @code and words. */
static void disk_value(const char *name, const char *text, const char *wanted, int code)
{
	_cleanup_definition_ struct definition *def = definition_new();
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT, before = STRBUF_INIT;
	const struct config_key *key = disk_key(name);
	struct err err = ERR_INIT;
	struct disk *disk;
	int r;

	assert_int_equal(definition_add_disk(def, "d", &disk, NULL), 0);
	value_show(&disk->values, key, &before);
	r = value_parse(&disk->values, key, text, &err);
	value_show(&disk->values, key, &sb);
	if (wanted) {
		if (r < 0)
			fail_msg("%s '%s': %s", name, text, err.text);
		assert_string_equal(sb.data ? sb.data : "", wanted);
		return;
	}
	if (r != code || !err.text[0])
		fail_msg("%s '%s' gave %d '%s'", name, text, r, err.text);
	assert_string_equal(sb.data ? sb.data : "", before.data ? before.data : "");
}

static void limits_have_one_form(void **state)
{
	(void)state;
	disk_value("limits", "", "", 0);
	disk_value("limits", "iops=500", "iops=500", 0);
	disk_value("limits", "  wbps=1K iops=0010  bps=10M ", "iops=10 bps=10485760 wbps=1024", 0);
	disk_value("limits", "iops_burst=9 iops=3 rbps=max riops=0", "iops=3 iops_burst=9", 0);
	disk_value("limits", "iops=3 iops_burst=max", "iops=3", 0);
	disk_value("limits", "iops", NULL, -EINVAL);
	disk_value("limits", "iops=", NULL, -EINVAL);
	disk_value("limits", "iops=-1", NULL, -EINVAL);
	disk_value("limits", "iops=1K", NULL, -EINVAL);
	disk_value("limits", "bps=fast", NULL, -EINVAL);
	disk_value("limits", "ops=1", NULL, -EINVAL);
	disk_value("limits", "_burst=1", NULL, -EINVAL);
	disk_value("limits", "iops=1 iops=2", NULL, -EINVAL);
	disk_value("limits", "iops_burst=1", NULL, -EINVAL);
	disk_value("limits", "iops=99999999999999999999", NULL, -ERANGE);
	disk_value("limits", "bps=8E", NULL, -ERANGE);
	disk_value("limits", "iops=1000000001", NULL, -ERANGE);
}

static void sources_are_paths_or_volumes(void **state)
{
	(void)state;
	disk_value("source", "/a b", "/a b", 0);
	disk_value("source", "pool/volume.qcow2", "pool/volume.qcow2", 0);
	disk_value("source", "relative", NULL, -EINVAL);
	disk_value("source", "./a", NULL, -EINVAL);
	disk_value("source", "../a", NULL, -EINVAL);
	disk_value("source", "a/../b", NULL, -EINVAL);
	disk_value("source", "pool/.hidden", NULL, -EINVAL);
	disk_value("source", "pool/", NULL, -EINVAL);
	disk_value("source", "nbd:localhost/x", NULL, -EINVAL);
	disk_value("source", "a/b/c", NULL, -EINVAL);
	disk_value("backing", " /a  p/v  /c ", "/a p/v /c", 0);
	disk_value("backing", "/a relative", NULL, -EINVAL);
	disk_value("backing", "", "", 0);
}

static void words_of_disks_are_checked(void **state)
{
	(void)state;
	disk_value("serial", "12345678901234567890", "12345678901234567890", 0);
	disk_value("serial", "123456789012345678901", NULL, -EFBIG);
	disk_value("serial", "\xc3\xbc", NULL, -EINVAL);
	disk_value("format", "qcow2", "qcow2", 0);
	disk_value("format", "vmdk", NULL, -EINVAL);
	disk_value("cache", "unsafe", "unsafe", 0);
	disk_value("cache", "directsync", NULL, -EINVAL);
	disk_value("on_error", "ignore", "ignore", 0);
	disk_value("on_error", "stop", NULL, -EINVAL);
	disk_value("share", "yes", "true", 0);
}

/* Only a format that is named is named: others are looked at when the source is new. */
static void formats_are_given_or_not(void **state)
{
	_cleanup_definition_ struct definition *def = parse(
	    "disks = { a = { source = \"/x\"; format = \"raw\"; }; b = { source = \"/x\"; }; };");
	_cleanup_definition_ struct definition *copy = definition_copy(def);

	(void)state;
	assert_true(def->disks[0].format_given);
	assert_false(def->disks[1].format_given);
	assert_true(copy->disks[1].format_given);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_empty_text_gives_presets),
	    cmocka_unit_test(every_spelling_is_read),
	    cmocka_unit_test(what_is_written_is_read),
	    cmocka_unit_test(libconfig_reads_what_is_written),
	    cmocka_unit_test(errors_have_line_and_column),
	    cmocka_unit_test(there_are_bounds),
	    cmocka_unit_test(a_copy_is_equal_and_apart),
	    cmocka_unit_test(a_refused_value_changes_nothing),
	    cmocka_unit_test(limits_have_one_form),
	    cmocka_unit_test(sources_are_paths_or_volumes),
	    cmocka_unit_test(words_of_disks_are_checked),
	    cmocka_unit_test(formats_are_given_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
