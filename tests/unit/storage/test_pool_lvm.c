// SPDX-License-Identifier: ISC
/* Reports of LVM's tools, as they were recorded (2.03.16), and hostile ones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "storage/pool_lvm.h"
#include "util/cleanup.h"

static int parse(int (*parser)(char *text, struct storage_list *list, struct err *err),
		 const char *text, struct storage_list *list)
{
	char *copy = strdup(text);
	struct err err = ERR_INIT;
	int r;

	memset(list, 0, sizeof(*list));
	r = parser(copy, list, &err);
	free(copy);
	if (r < 0)
		assert_true(err.text[0]);
	return r;
}

static void volumes_are_read(void **state)
{
	static const char report[] =
	    "  root|21474836480|-wi-ao----|NIxAcd-9fGD-tCWR-6tNf-wf0t-tT8a-kyW1Ag|\n"
	    "  swap_1|1027604480|-wi-ao----|0xvxxU-wJBK-Hh6k-6P4a-2cIq-t6gw-3HvLUi|\n"
	    "  pool0|10737418240|twi-aotz--|wPSyg3-eeYB-0n3b-9xbn-7SQ4-fBXk-PPcTq9|12.50\n"
	    "  thin|4294967296|Vwi-a-tz--|x9GgtZ-KTyD-mbNQ-0ymz-CKlZ-Hnln-lNYoHu|25.00\n"
	    "  ro|4194304|-ri-a-----|8Tqkz7-4bCI-fGmW-XXxx-TT0c-l2aA-2c1yyZ|\n"
	    "  [lvol0_pmspare]|4194304|ewi-------|abcdef-4bCI-fGmW-XXxx-TT0c-l2aA-2c1yyZ|\n";
	struct storage_list list;

	(void)state;
	assert_int_equal(parse(lvm_parse_lvs, report, &list), 0);
	assert_int_equal(list.n, 4);
	assert_string_equal(list.entries[0].name, "root");
	assert_int_equal(list.entries[0].bytes, 21474836480);
	assert_int_equal(list.entries[0].allocation, 21474836480);
	assert_false(list.entries[0].readonly);
	assert_true(list.entries[0].id && list.entries[0].id != list.entries[1].id);
	assert_string_equal(list.entries[2].name, "thin");
	assert_int_equal(list.entries[2].allocation, 1073741824);
	assert_true(list.entries[3].readonly);
	storage_list_free(&list);
	assert_int_equal(parse(lvm_parse_lvs, "", &list), 0);
	assert_int_equal(list.n, 0);
}

static void groups_are_read(void **state)
{
	struct storage_list list;

	(void)state;
	assert_int_equal(parse(lvm_parse_vgs, "  107369988096|84926267392\n", &list), 0);
	assert_int_equal(list.capacity, 107369988096);
	assert_int_equal(list.free_bytes, 84926267392);
	assert_int_equal(list.allocation, 107369988096 - 84926267392);
}

static void nonsense_is_refused(void **state)
{
	static const char *const lines[] = {"root",
					    "root|x|-wi-ao----|uuid|",
					    "root|-1|-wi-ao----|uuid|",
					    "|1|",
					    "root|1|-wi|",
					    "root|99999999999999999999|-wi-ao----|u|"};
	struct storage_list list;

	(void)state;
	for (size_t i = 0; i < nitems(lines); i++) {
		assert_int_equal(parse(lvm_parse_lvs, lines[i], &list), -EPROTO);
		storage_list_free(&list);
	}
	/* names that are none of ours are left out, attributes that are too short as well */
	assert_int_equal(parse(lvm_parse_lvs, "../x|1|-wi-ao----|u|\ny|1|-|u|\n", &list), 0);
	assert_int_equal(list.n, 0);
	storage_list_free(&list);
	assert_int_equal(parse(lvm_parse_vgs, "", &list), -EPROTO);
	assert_int_equal(parse(lvm_parse_vgs, "1|2", &list), -EPROTO);
	assert_int_equal(parse(lvm_parse_vgs, "a|b", &list), -EPROTO);
}

/* --- the driver --------------------------------------------------------------------------------
 */

static void names_are_checked_before_any_tool_sees_them(void **state)
{
	(void)state;
	assert_int_equal(storage_lvm.check("vg0", NULL), 0);
	assert_int_equal(storage_lvm.check("--config", NULL), -EINVAL);
	assert_int_equal(storage_lvm.check("a b", NULL), -EINVAL);
	assert_int_equal(storage_lvm.check("..", NULL), -EINVAL);
	assert_int_equal(storage_lvm.check("", NULL), -EINVAL);
	assert_int_equal(storage_lvm.check_name("root", NULL), 0);
	assert_int_equal(storage_lvm.check_name("root=1", NULL), -EINVAL);
	assert_int_equal(storage_lvm.check_name("snapshot1", NULL), -EINVAL);
}

static void without_a_device_mapper_it_says_so(void **state)
{
	struct rights root = {0};
	struct storage *s;
	struct storage_list list;
	struct err err = ERR_INIT;

	(void)state;
	if (access("/dev/mapper/control", F_OK) == 0)
		skip();
	assert_int_equal(storage_new(&s, &storage_lvm, "vg0", &root, "", &err), 0);
	assert_int_equal(storage_lvm.list(s, NULL, &list, &err), -ENODEV);
	assert_non_null(strstr(err.text, "lvm needs device-mapper"));
	storage_put(s);
}

/* With a device-mapper, LVM's tools and $FILEVISOR_TEST_VG, a group that may be written. */
static void a_group_is_used_for_real(void **state)
{
	const char *group = getenv("FILEVISOR_TEST_VG");
	char hidden[STORAGE_NAME_MAX + 64];
	struct rights root = {0};
	struct storage_list list;
	struct storage *s;
	struct err err = ERR_INIT;
	bool found = false;

	(void)state;
	if (!group)
		skip();
	assert_int_equal(storage_new(&s, &storage_lvm, group, &root, "", &err), 0);
	assert_int_equal(storage_lvm.create(s, "fvtest", 8 << 20, NULL, hidden, &err), 0);
	assert_int_equal(storage_lvm.resize(s, "fvtest", 16 << 20, NULL, &err), 0);
	assert_int_equal(storage_lvm.list(s, NULL, &list, &err), 0);
	for (size_t i = 0; i < list.n; i++)
		found |=
		    !strcmp(list.entries[i].name, "fvtest") && list.entries[i].bytes == 16 << 20;
	assert_true(found);
	storage_list_free(&list);
	assert_int_equal(storage_lvm.remove(s, "fvtest", NULL, &err), 0);
	storage_put(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(volumes_are_read),
	    cmocka_unit_test(groups_are_read),
	    cmocka_unit_test(nonsense_is_refused),
	    cmocka_unit_test(names_are_checked_before_any_tool_sees_them),
	    cmocka_unit_test(without_a_device_mapper_it_says_so),
	    cmocka_unit_test(a_group_is_used_for_real),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
