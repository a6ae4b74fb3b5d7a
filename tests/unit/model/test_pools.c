// SPDX-License-Identifier: ISC
/* Pools: made, found again, gone and back, their directories watched; refusals with words. */
#include "pool_test.h"

static void a_pool_has_no_source_at_first(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = NULL, *other = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(model_pool_define(f->model, "p", 0750, &root_caller, &pool, &err), 0);
	assert_int_equal(pool_state(pool), POOL_INACTIVE);
	assert_int_equal(pool_volume_count(pool), 0);
	assert_int_equal(pool_volume_make(pool, "v", 0755, &root_caller, NULL, &err), -ENXIO);
	assert_non_null(strstr(err.text, "no source"));
	assert_int_equal(model_pool_define(f->model, "p", 0750, &root_caller, &other, &err),
			 -EEXIST);
	assert_int_equal(model_pool_define(f->model, "../p", 0750, &root_caller, &other, &err),
			 -EINVAL);
	pool_put(pool);
}

static void a_source_must_be_a_directory_that_is_there(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct err err = ERR_INIT;

	assert_int_equal(pool_put_key(pool, "source", "relative", &err), -EINVAL);
	assert_int_equal(pool_put_key(pool, "source", at(f, "nowhere"), &err), -ENOENT);
	write_file(f, "file", "x");
	assert_int_equal(pool_put_key(pool, "source", at(f, "file"), &err), -ENOTDIR);
	assert_int_equal(pool_put_key(pool, "type", "zfs", &err), -EINVAL);
	assert_int_equal(pool_put_key(pool, "source", "/a\nb", &err), -EINVAL);
	assert_true(pool_says(pool, "EINVAL source: "));
	assert_int_equal(pool_state(pool), POOL_ACTIVE);
	pool_put(pool);
}

static void files_show_by_themselves(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v;

	write_file(f, "p/one", "some text that is no image");
	await(has_volume(pool, "one"));
	sh("qemu-img create -q -f qcow2 %s 64M", at(f, "p/two.qcow2"));
	await(has_volume(pool, "two.qcow2"));
	refresh(pool);
	v = pool_volume_get(pool, "two.qcow2");
	assert_key(v, "format", "qcow2");
	assert_key(v, "size", "67108864");
	assert_true(shows(volume_info_show, v, "cluster_size 65536\n"));
	volume_put(v);
	/* what is no volume */
	write_file(f, "p/.hidden", "x");
	write_file(f, "p/has space", "x");
	sh("mkdir %s; mkfifo %s; ln -s /etc/passwd %s", at(f, "p/dir"), at(f, "p/fifo"),
	   at(f, "p/link"));
	refresh(pool);
	assert_int_equal(pool_volume_count(pool), 2);
	unlink(at(f, "p/one"));
	await(!has_volume(pool, "one"));
	pool_put(pool);
}

static void a_directory_that_went_is_an_error_until_it_is_back(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	uint64_t a, b, c;

	set(v, "size", "1M");
	assert_int_equal(rename(at(f, "p"), at(f, "elsewhere")), 0);
	await(pool_state(pool) == POOL_FAILED);
	assert_true(pool_says(pool, "ENOENT "));
	assert_false(volume_alive(v));
	assert_int_equal(pool_volume_count(pool), 0);
	pool_space(pool, &a, &b, &c);
	assert_int_equal(a + b + c, 0);
	volume_put(v);
	assert_int_equal(rename(at(f, "elsewhere"), at(f, "p")), 0);
	await(pool_state(pool) == POOL_ACTIVE && has_volume(pool, "v"));
	assert_false(pool_says(pool, ""));
	pool_space(pool, &a, &b, &c);
	assert_true(a > 0 && b > 0 && c > 0 && c <= a);
	/* it is new still: what was known of it was kept */
	v = pool_volume_get(pool, "v");
	assert_true(shows(volume_info_show, v, "new true\n"));
	assert_key(v, "size", "1048576");
	volume_put(v);
	pool_put(pool);
}

static void all_is_found_again(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct machine_access access = {1, 2, 0700};
	mode_t mode;

	set(v, "format", "qcow2");
	assert_int_equal(volume_access_set(v, &access, NULL), 0);
	access.mode = 0711;
	assert_int_equal(pool_access_set(pool, &access, NULL), 0);
	access.uid = access.gid = 0;
	assert_int_equal(pool_access_set(pool, &access, NULL), 0);
	assert_int_equal(pool_file_mode_set(pool, "volumes/v/image", 0640, NULL), 0);
	volume_put(v);
	pool_put(pool);
	reopen_model(f);
	pool = model_pool_get(f->model, "p");
	assert_non_null(pool);
	await(has_volume(pool, "v"));
	v = pool_volume_get(pool, "v");
	assert_key(v, "format", "qcow2");
	assert_true(shows(volume_info_show, v, "new true\n"));
	volume_access_get(v, &access);
	assert_true(access.uid == 1 && access.gid == 2 && access.mode == 0700);
	pool_access_get(pool, &access);
	assert_int_equal(access.mode, 0711);
	assert_true(pool_file_mode_get(pool, "volumes/v/image", &mode));
	assert_int_equal(mode, 0640);
	volume_put(v);
	pool_put(pool);
}

static void a_pool_goes_and_its_files_stay(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct err err = ERR_INIT;

	assert_int_equal(model_pool_rename(f->model, pool, "q", &err), 0);
	assert_null(model_pool_get(f->model, "p"));
	assert_int_equal(model_pool_undefine(f->model, pool, &err), 0);
	assert_int_equal(model_pool_undefine(f->model, pool, &err), -ENOENT);
	assert_int_equal(pool_volume_make(pool, "w", 0755, &root_caller, NULL, &err), -ENXIO);
	assert_false(volume_alive(v));
	assert_int_equal(model_pool_count(f->model), 0);
	assert_true(exists(f, "p/v"));
	assert_int_equal(count_entries(f, "state/pools"), 0);
	volume_put(v);
	pool_put(pool);
}

static void damage_in_the_state_is_said_and_nothing_is_guessed(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");

	write_file(f, "p/v", "x");
	await(has_volume(pool, "v"));
	pool_put(pool);
	close_model(f);
	write_file(f, "state/pools/p/volumes", "v decided=banana backing=\n");
	open_model(f);
	pool = model_pool_get(f->model, "p");
	assert_int_equal(pool_state(pool), POOL_FAILED);
	assert_true(pool_says(pool, "damaged"));
	assert_int_equal(pool_volume_count(pool), 0);
	pool_put(pool);
}

static void volume_groups_need_the_device_mapper(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(model_pool_define(f->model, "p", 0750, &root_caller, &pool, &err), 0);
	assert_int_equal(pool_put_key(pool, "type", "lvm", &err), 0);
	assert_int_equal(pool_put_key(pool, "source", "no/group", &err), -EINVAL);
	assert_int_equal(pool_put_key(pool, "source", "filevisor-test-none", &err), 0);
	assert_int_equal(pool_state(pool), POOL_FAILED);
	if (access("/dev/mapper/control", F_OK) < 0)
		assert_true(pool_says(pool, "lvm needs device-mapper"));
	assert_int_equal(pool_put_key(pool, "type", "dir", &err), 0);
	assert_int_equal(pool_state(pool), POOL_INACTIVE);
	pool_put(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(a_pool_has_no_source_at_first),
	    model_test(a_source_must_be_a_directory_that_is_there),
	    model_test(files_show_by_themselves),
	    model_test(a_directory_that_went_is_an_error_until_it_is_back),
	    model_test(all_is_found_again),
	    model_test(a_pool_goes_and_its_files_stay),
	    model_test(damage_in_the_state_is_said_and_nothing_is_guessed),
	    model_test(volume_groups_need_the_device_mapper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
