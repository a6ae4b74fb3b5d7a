// SPDX-License-Identifier: ISC
/* Nodes live exactly as long as somebody refers to them; names, numbers and listings. */
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
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->model = fake_model();
	*state = f;
	return fs_new(&f->fs, f->model);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	fs_free(f->fs);
	model_close(f->model);
	free(f);
	return 0;
}

static struct node *look(struct node *dir, const char *name)
{
	struct node *n = NULL;
	int r = dir_lookup(dir, name, &n);

	return r < 0 ? NULL : n;
}

static void define(struct fixture *f, const char *name)
{
	assert_int_equal(model_machine_define(f->model, name, 0750, &me, NULL, NULL), 0);
}

static void a_node_is_one_while_known(void **state)
{
	struct fixture *f = *state;
	struct node *machines = look(f->fs->root, "machines");
	struct node *a, *again, *file;
	uint64_t ino;

	define(f, "a");
	a = look(machines, "a");
	again = look(machines, "a");
	assert_ptr_equal(a, again);
	ino = a->ino;
	file = look(a, "cpus");
	node_put(again);
	node_put(a);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 3); /* a child keeps its directories */
	node_put(file);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 1);
	a = look(machines, "a");
	assert_int_equal(a->ino, ino);
	node_put(a);
	node_put(machines);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 0);
}

static void a_name_used_again_is_another_machine(void **state)
{
	struct fixture *f = *state;
	struct node *machines = look(f->fs->root, "machines");
	struct node *old, *new;
	struct stat st;

	define(f, "a");
	old = look(machines, "a");
	assert_int_equal(model_machine_undefine(f->model, old->m, NULL), 0);
	assert_null(look(machines, "a"));
	define(f, "a");
	new = look(machines, "a");
	assert_ptr_not_equal(old, new);
	assert_int_not_equal(old->ino, new->ino);
	assert_int_equal(node_stat(old, &st), -ENOENT);
	assert_int_equal(node_stat(new, &st), 0);
	assert_null(look(old, "cpus"));
	node_put(old);
	node_put(new);
	node_put(machines);
}

static void attributes_follow_the_machine(void **state)
{
	struct fixture *f = *state;
	struct node *machines = look(f->fs->root, "machines");
	struct node *a, *cpus, *readme;
	char path[256];
	struct stat st;

	define(f, "a");
	a = look(machines, "a");
	cpus = look(a, "cpus");
	readme = look(a, "README");
	assert_int_equal(node_stat(a, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(node_stat(cpus, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_size, 2);
	assert_int_equal(node_stat(readme, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0440);
	st.st_uid = 1;
	assert_int_equal(node_chattr(cpus, &st, CHATTR_UID, NULL), -EPERM);
	st.st_uid = 1000;
	assert_int_equal(node_chattr(cpus, &st, CHATTR_UID, NULL), 0);
	st.st_mode = 0777;
	assert_int_equal(node_chattr(a, &st, CHATTR_MODE, NULL), 0);
	assert_int_equal(node_stat(cpus, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0666);
	assert_int_equal(node_path(cpus, path, sizeof(path)), 0);
	assert_string_equal(path, "machines/a/cpus");
	assert_int_equal(node_owner_path(cpus, path, sizeof(path)), 0);
	assert_string_equal(path, "cpus");
	assert_int_equal(node_path(cpus, path, 10), -ENAMETOOLONG);
	node_put(readme);
	node_put(cpus);
	node_put(a);
	node_put(machines);
}

struct seen {
	unsigned count, limit;
	uint64_t next;
	char names[64][64];
};

static bool see(void *arg, const char *name, const struct row *row, struct child *child,
		struct node *known, uint64_t next)
{
	struct seen *s = arg;

	(void)row;
	(void)child;
	(void)known;
	if (s->count == s->limit)
		return false;
	snprintf(s->names[s->count++], 64, "%s", name);
	s->next = next;
	return true;
}

/* Entries removed and added between two reads of a directory disturb no other. */
static void a_listing_misses_nothing(void **state)
{
	struct fixture *f = *state;
	struct node *machines = look(f->fs->root, "machines");
	struct handle h = {.node = machines};
	struct seen s = {.limit = 5};
	struct machine *m;
	char name[64];

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		define(f, name);
	}
	dir_list(&h, 0, see, &s);
	assert_int_equal(s.count, 5);
	m = model_machine_get(f->model, s.names[1]);
	assert_int_equal(model_machine_undefine(f->model, m, NULL), 0);
	machine_put(m);
	define(f, "later");
	s.limit = 64;
	dir_list(&h, s.next, see, &s);
	assert_int_equal(s.count, 21);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		assert_string_equal(s.names[i], name);
	}
	node_put(machines);
}

static void variants_have_the_number_of_the_file(void **state)
{
	struct fixture *f = *state;
	struct node *machines = look(f->fs->root, "machines");
	struct node *a, *ctl, *other, *third;

	define(f, "a");
	a = look(machines, "a");
	ctl = command_pick(look(a, "ctl"), false);
	assert_int_equal(command_claim(ctl), 0);
	other = command_pick(look(a, "ctl"), false);
	third = command_pick(look(a, "ctl"), false);
	assert_ptr_not_equal(ctl, other);
	assert_ptr_not_equal(third, other);
	assert_int_equal(ctl->ino, other->ino);
	assert_int_equal(command_claim(ctl), -ESTALE);
	assert_int_equal(command_claim(other), 0);
	assert_null(command_pick(look(a, "ctl"), true)); /* the notifier stays away */
	command_unclaim(other);
	command_unclaim(ctl);
	node_put(third);
	node_put(other);
	node_put(ctl);
	node_put(a);
	node_put(machines);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 0);
}

static void *hammer(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < 2000; i++) {
		struct node *machines = look(f->fs->root, "machines");
		struct node *a = look(machines, "a");
		struct node *file = look(a, i % 2 ? "cpus" : "state");

		node_put(a);
		node_put(machines);
		node_put(file);
	}
	return NULL;
}

static void many_threads_leave_nothing(void **state)
{
	struct fixture *f = *state;
	pthread_t t[8];

	define(f, "a");
	for (size_t i = 0; i < nitems(t); i++)
		pthread_create(&t[i], NULL, hammer, f);
	for (size_t i = 0; i < nitems(t); i++)
		pthread_join(t[i], NULL);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_node_is_one_while_known, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_name_used_again_is_another_machine, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(attributes_follow_the_machine, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_listing_misses_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(variants_have_the_number_of_the_file, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(many_threads_leave_nothing, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
