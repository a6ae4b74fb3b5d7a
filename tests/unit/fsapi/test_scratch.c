// SPDX-License-Identifier: ISC
/* Scratch files: which names may be made, how many, how big; nothing of them stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/fsapi/fake_model.h"
#include "fsapi/fs.h"

static const struct caller me = {.uid = 1000, .gid = 1000, .pid = 1};

struct fixture {
	struct model *model;
	struct fsapi *fs;
	struct node *a;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	_cleanup_node_ struct node *machines = NULL;

	f->model = fake_model();
	*state = f;
	if (fs_new(&f->fs, f->model) < 0)
		return -1;
	model_machine_define(f->model, "a", 0755, &me, NULL, NULL);
	return dir_lookup(f->fs->root, "machines", &machines) || dir_lookup(machines, "a", &f->a);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	node_put(f->a);
	fs_free(f->fs);
	model_close(f->model);
	free(f);
	return 0;
}

static void names_of_editors_and_copiers(void **state)
{
	static const char *const good[] = {
	    ".config.swp", ".config.swx",    ".config.swpx", "4913",	 "config~",
	    "sedAb3XyZ",   ".config.x7Yz0Q", "#config#",     ".#config", "config.tmp",
	    "config.new",  "config.bak",     ".tmpabc",	     "tmpx8r_",	 ".config.kate-swp",
	};
	static const char *const bad[] = {
	    "",	       "notes.txt", "config2",	  "sed", "sedAb3XyZ1", ".config", ".swp",
	    "1234567", "~",	    ".config.x1", "..",	 ".",	       "state.",  "#",
	};

	(void)state;
	for (size_t i = 0; i < nitems(good); i++)
		if (!scratch_name(good[i]))
			fail_msg("%s is no scratch name", good[i]);
	for (size_t i = 0; i < nitems(bad); i++)
		if (scratch_name(bad[i]))
			fail_msg("%s is a scratch name", bad[i]);
}

static void a_few_to_a_directory(void **state)
{
	struct fixture *f = *state;
	char name[32];
	int made = 0, r = 0;

	while (made < 1000) {
		struct node *n = NULL;

		snprintf(name, sizeof(name), "config%d~", made);
		r = scratch_create(f->a, name, 0600, NULL, &me, &n);
		node_put(n);
		if (r < 0)
			break;
		made++;
	}
	assert_int_equal(r, -ENOSPC);
	assert_in_range(made, 4, 64);
	assert_int_equal(scratch_unlink(f->a, "config0~"), 0);
	assert_int_equal(scratch_unlink(f->a, "config0~"), -ENOENT);
	scratch_clear(f->a);
	assert_null(f->a->scratches);
	assert_int_equal(f->fs->scratch_bytes, 0);
	/* All that is left are the two directories. */
	assert_int_equal(atomic_load(&f->fs->n_nodes), 2);
}

static void contents_and_limit(void **state)
{
	struct fixture *f = *state;
	struct node *n = NULL, *again = NULL;
	struct handle *h;
	char buf[16], *text;
	struct stat st;
	size_t len;

	assert_int_equal(scratch_create(f->a, ".cpus.swp", 0640, NULL, &me, &n), 0);
	assert_int_equal(scratch_create(f->a, ".cpus.swp", 0640, NULL, &me, &again), -EEXIST);
	assert_int_equal(dir_lookup(f->a, ".cpus.swp", &again), 0);
	assert_ptr_equal(n, again);
	h = handle_new(n, O_RDWR);
	assert_int_equal(kind_scratch.write(h, "abc", 3, 5, &me, NULL), 0);
	assert_int_equal(kind_scratch.read(h, buf, 16, 0), 8);
	assert_memory_equal(buf, "\0\0\0\0\0abc", 8);
	assert_int_equal(kind_scratch.write(h, "x", 1, 1 << 20, &me, NULL), -EFBIG);
	assert_int_equal(kind_scratch.write(h, "x", 1, UINT64_MAX, &me, NULL), -EFBIG);
	assert_int_equal(kind_scratch.resize(h, 2), 0);
	assert_int_equal(kind_scratch.resize(h, 6), 0);
	assert_int_equal(scratch_copy(n->scratch, &text, &len), 0);
	assert_int_equal(len, 6);
	assert_memory_equal(text, "\0\0\0\0\0\0", 7);
	free(text);
	assert_int_equal(node_stat(n, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(st.st_uid, 1000);
	handle_put(h);
	node_put(n);
	node_put(again);
}

static void names_change_and_open_files_stay(void **state)
{
	struct fixture *f = *state;
	struct node *a = NULL, *b = NULL, *n = NULL;
	char buf[8];
	struct handle *h;

	assert_int_equal(scratch_put(f->a, "a~", "one", 3, &me), 0);
	assert_int_equal(scratch_put(f->a, "b~", "two", 3, &me), 0);
	assert_int_equal(dir_lookup(f->a, "a~", &a), 0);
	assert_int_equal(dir_lookup(f->a, "b~", &b), 0);
	h = handle_new(b, O_RDONLY);
	assert_int_equal(scratch_rename(f->a, "a~", "plain", true), -EPERM);
	assert_int_equal(scratch_rename(f->a, "a~", "b~", false), -EEXIST);
	assert_int_equal(scratch_rename(f->a, "a~", "b~", true), 0);
	assert_int_equal(dir_lookup(f->a, "a~", &n), -ENOENT);
	assert_int_equal(dir_lookup(f->a, "b~", &n), 0);
	assert_ptr_equal(n, a);
	assert_int_equal(kind_scratch.read(h, buf, 8, 0), 3); /* replaced, and still open */
	assert_memory_equal(buf, "two", 3);
	handle_put(h);
	node_put(n);
	node_put(a);
	node_put(b);
}

static void all_together_have_a_limit(void **state)
{
	struct fixture *f = *state;
	int r = 0;

	for (int m = 0; m < 32 && r == 0; m++) {
		_cleanup_node_ struct node *machines = NULL;
		_cleanup_node_ struct node *dir = NULL;
		char name[32];

		snprintf(name, sizeof(name), "m%d", m);
		model_machine_define(f->model, name, 0755, &me, NULL, NULL);
		assert_int_equal(dir_lookup(f->fs->root, "machines", &machines), 0);
		assert_int_equal(dir_lookup(machines, name, &dir), 0);
		for (int i = 0; i < 16 && r == 0; i++) {
			_cleanup_node_ struct node *n = NULL;

			snprintf(name, sizeof(name), "x%d~", i);
			r = scratch_create(dir, name, 0600, NULL, &me, &n);
			if (r == 0)
				r = scratch_resize(n->scratch, 1 << 20);
		}
	}
	assert_int_equal(r, -ENOSPC);
	assert_in_range(f->fs->scratch_bytes, 1 << 20, 128 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(names_of_editors_and_copiers, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_few_to_a_directory, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(contents_and_limit, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(names_change_and_open_files_stay, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(all_together_have_a_limit, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
