// SPDX-License-Identifier: ISC
/* Pools and volumes in the tree: names, owners, words of refusals, what watchers are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/fsapi/fake_model.h"
#include "fsapi/fs.h"

static const struct caller me = {.uid = 1000, .gid = 1000, .pid = 1};
static const struct caller other = {.uid = 1001, .gid = 1001, .pid = 2};

struct fixture {
	struct model *model;
	struct fsapi *fs;
	struct pool *pool;
	struct node *pools, *p, *volumes;
};

static struct node *look(struct node *dir, const char *name)
{
	struct node *n = NULL;

	return dir_lookup(dir, name, &n) < 0 ? NULL : n;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->model = fake_model();
	*state = f;
	if (fs_new(&f->fs, f->model) < 0 ||
	    model_pool_define(f->model, "p", 0750, &me, &f->pool, NULL) < 0 ||
	    pool_key_store(f->pool, &pool_keys[0], "/srv", &me, NULL) < 0)
		return -1;
	f->pools = look(f->fs->root, "pools");
	f->p = look(f->pools, "p");
	f->volumes = look(f->p, "volumes");
	model_set_observer(f->model, &fsapi_observer, f->fs);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	model_set_observer(f->model, NULL, NULL);
	node_put(f->volumes);
	node_put(f->p);
	node_put(f->pools);
	pool_put(f->pool);
	assert_int_equal(atomic_load(&f->fs->n_handles), 0);
	fs_free(f->fs);
	model_close(f->model);
	free(f);
	return 0;
}

static void make(struct fixture *f, const char *name)
{
	assert_int_equal(pool_volume_make(f->pool, name, 0750, &other, NULL, NULL), 0);
}

static void text_is(struct node *n, const char *wanted)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	assert_int_equal(text_show(n, &sb), 0);
	assert_string_equal(sb.data ? sb.data : "", wanted);
}

static void files_show_the_pool(void **state)
{
	struct fixture *f = *state;
	static const char *const files[][2] = {
	    {"state", "active\n"},  {"source", "/srv\n"},    {"error", ""},
	    {"capacity", "1000\n"}, {"allocation", "300\n"}, {"free", "700\n"},
	};

	for (size_t i = 0; i < nitems(files); i++) {
		_cleanup_node_ struct node *n = look(f->p, files[i][0]);

		assert_non_null(n);
		text_is(n, files[i][1]);
	}
	make(f, "v");
	for (size_t i = 0; i < 4; i++) {
		static const char *const rows[] = {"size", "users", "info", "image"};
		_cleanup_node_ struct node *v = look(f->volumes, "v");
		_cleanup_node_ struct node *n = look(v, rows[i]);

		assert_non_null(n);
	}
}

/* A volume has its own owner and mode, and modes of its files are kept by the pool. */
static void each_directory_has_its_owner(void **state)
{
	struct fixture *f = *state;
	struct node *v, *size, *image, *state_file = look(f->p, "state");
	char path[256];
	struct stat st;

	make(f, "v");
	v = look(f->volumes, "v");
	size = look(v, "size");
	image = look(v, "image");
	assert_int_equal(node_stat(f->p, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(node_stat(v, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(st.st_uid, 1001);
	assert_int_equal(node_stat(size, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(st.st_uid, 1001);
	assert_int_equal(node_stat(image, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(node_owner_path(image, path, sizeof(path)), 0);
	assert_string_equal(path, "volumes/v/image");
	st.st_mode = 0640;
	assert_int_equal(node_chattr(image, &st, CHATTR_MODE, NULL), 0);
	assert_int_equal(node_stat(image, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	st.st_uid = 1002;
	assert_int_equal(node_chattr(image, &st, CHATTR_UID, NULL), -EPERM);
	assert_int_equal(node_chattr(v, &st, CHATTR_UID, NULL), 0);
	assert_int_equal(node_stat(image, &st), 0);
	assert_int_equal(st.st_uid, 1002);
	assert_int_equal(node_stat(state_file, &st), 0);
	assert_int_equal(st.st_uid, 1000);
	node_put(state_file);
	node_put(image);
	node_put(size);
	node_put(v);
}

static void words_go_to_the_nearest_error(void **state)
{
	struct fixture *f = *state;
	struct node *v, *image;
	struct err err = ERR_INIT;

	make(f, "v");
	v = look(f->volumes, "v");
	image = look(v, "image");
	err_set(&err, -ENOSPC, "full");
	node_complain(image, "image", &err);
	assert_string_equal(f->pool->volumes[0]->error, "ENOSPC image: full\n");
	node_complain(f->volumes, "mkdir x", &err);
	assert_string_equal(f->pool->error, "ENOSPC mkdir x: full\n");
	node_complain(f->pools, "mkdir y", &err);
	assert_string_equal(f->model->error, "ENOSPC mkdir y: full\n");
	node_put(image);
	node_put(v);
}

static void what_is_gone_is_gone_with_all_in_it(void **state)
{
	struct fixture *f = *state;
	struct node *v, *again, *size;
	struct volume *volume;
	struct stat st;

	make(f, "v");
	v = look(f->volumes, "v");
	size = look(v, "size");
	volume = pool_volume_get(f->pool, "v");
	assert_int_equal(pool_volume_remove(f->pool, volume, &me, NULL), 0);
	volume_put(volume);
	assert_int_equal(node_stat(size, &st), -ENOENT);
	assert_null(look(f->volumes, "v"));
	make(f, "v");
	again = look(f->volumes, "v");
	assert_ptr_not_equal(again, v);
	assert_int_not_equal(again->ino, v->ino);
	assert_int_equal(model_pool_undefine(f->model, f->pool, NULL), 0);
	assert_int_equal(node_stat(again, &st), -ENOENT);
	assert_int_equal(node_stat(f->volumes, &st), -ENOENT);
	assert_null(look(f->pools, "p"));
	node_put(size);
	node_put(again);
	node_put(v);
}

/* The number of notifications queued since; nodes count as known where the kernel has them. */
static uint64_t queued(struct fixture *f)
{
	struct notifier_stats stats;

	notifier_stats(f->fs->notifier, &stats);
	return stats.queued;
}

static void changes_reach_those_who_know(void **state)
{
	struct fixture *f = *state;
	struct node *v, *error;
	struct own_op own;
	struct err err = ERR_INIT;
	uint64_t before = queued(f);
	unsigned generation;

	make(f, "v");
	assert_int_equal(queued(f), before); /* nobody watches */
	atomic_fetch_add(&f->volumes->lookups, 1);
	make(f, "w");
	assert_int_equal(queued(f), before + 1);
	own_begin(&own, f->volumes, "x"); /* the kernel tells of a client's own mkdir */
	make(f, "x");
	own_end(&own);
	assert_int_equal(queued(f), before + 1);
	v = look(f->volumes, "v");
	error = look(v, "error");
	generation = atomic_load(&error->generation);
	err_set(&err, -EIO, "x");
	volume_error_set(v->volume, "check", &err);
	assert_int_not_equal(atomic_load(&error->generation), generation);
	node_put(error);
	node_put(v);
	atomic_fetch_sub(&f->volumes->lookups, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(files_show_the_pool, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(each_directory_has_its_owner, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(words_go_to_the_nearest_error, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_is_gone_is_gone_with_all_in_it, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(changes_reach_those_who_know, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
