// SPDX-License-Identifier: ISC
/*
 * Storage that does not answer: a FUSE mount whose server never reads (needs root and /dev/fuse).
 * The pool fails and says why; nothing that only looks waits; it can be undefined, the
 * model closed, and it is back when the mount is.
 */
#include <sys/mount.h>
#include "pool_test.h"

/* Mounts it over @path; the descriptor holds what never answers, closing it lets all fail. */
static int mount_hanging(const char *path)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[100];

	if (fd < 0)
		return -1;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("test_pool_hang", path, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void unmount(const char *path, int fd)
{
	close(fd);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

static void the_pool_fails_and_nobody_waits(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct err err = ERR_INIT;
	int fd;

	set(v, "size", "1M");
	fd = mount_hanging(at(f, "p"));
	if (fd < 0) {
		volume_put(v);
		pool_put(pool);
		skip();
	}
	assert_int_equal(pool_command_run(pool, "refresh", &root_caller, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "does not answer"));
	assert_int_equal(pool_state(pool), POOL_FAILED);
	assert_true(pool_says(pool, "ETIMEDOUT its storage does not answer ("));
	assert_int_equal(pool_volume_count(pool), 0);
	assert_false(volume_alive(v));
	assert_key(v, "size", "1048576");
	assert_int_equal(pool_volume_make(pool, "w", 0755, &root_caller, NULL, &err), -ENXIO);
	assert_non_null(strstr(err.text, "does not answer"));
	unmount(at(f, "p"), fd);
	await(pool_state(pool) == POOL_ACTIVE && has_volume(pool, "v"));
	volume_put(v);
	v = pool_volume_get(pool, "v");
	assert_true(shows(volume_info_show, v, "new true\n"));
	volume_put(v);
	pool_put(pool);
}

static void it_can_be_undefined_and_the_model_closed(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p"), *other = need_pool(f, "q");
	struct err err = ERR_INIT;
	int fd = mount_hanging(at(f, "p")), fd2 = mount_hanging(at(f, "q"));

	if (fd < 0 || fd2 < 0) {
		pool_put(pool);
		pool_put(other);
		skip();
	}
	assert_int_equal(pool_command_run(pool, "refresh", &root_caller, &err), -ETIMEDOUT);
	assert_int_equal(model_pool_undefine(f->model, pool, &err), 0);
	pool_put(pool);
	pool_put(other);
	close_model(f); /* while the other one hangs */
	open_model(f);
	other = model_pool_get(f->model, "q");
	await(pool_state(other) == POOL_FAILED);
	unmount(at(f, "p"), fd);
	unmount(at(f, "q"), fd2);
	await(pool_state(other) == POOL_ACTIVE);
	pool_put(other);
}

static void a_source_that_hangs_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = NULL;
	struct err err = ERR_INIT;
	int fd;

	assert_int_equal(mkdir(at(f, "p"), 0755), 0);
	fd = mount_hanging(at(f, "p"));
	if (fd < 0)
		skip();
	assert_int_equal(model_pool_define(f->model, "p", 0755, &root_caller, &pool, &err), 0);
	assert_int_equal(pool_put_key(pool, "source", at(f, "p"), &err), -ETIMEDOUT);
	assert_int_equal(pool_state(pool), POOL_INACTIVE);
	unmount(at(f, "p"), fd);
	assert_int_equal(pool_put_key(pool, "source", at(f, "p"), &err), 0);
	pool_put(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(the_pool_fails_and_nobody_waits),
	    model_test(it_can_be_undefined_and_the_model_closed),
	    model_test(a_source_that_hangs_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
