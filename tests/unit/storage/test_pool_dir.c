// SPDX-License-Identifier: ISC
/* A directory as storage: what it lists, makes, renames, removes; whose rights; what it never
 * opens. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "storage/image.h"
#include "storage/pool.h"
#include "util/cleanup.h"

struct fixture {
	char dir[64];
	struct storage *s;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct rights root = {.uid = geteuid(), .gid = getegid()};

	strcpy(f->dir, "/tmp/test_pool_dir.XXXXXX");
	*state = f;
	return mkdtemp(f->dir) ? storage_new(&f->s, &storage_dir, f->dir, &root, "", NULL) : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[100];

	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	storage_put(f->s);
	free(f);
	return system(command);
}

static void make(struct fixture *f, const char *name)
{
	char hidden[STORAGE_NAME_MAX + 64];
	int fd = storage_dir.create(f->s, name, 0, NULL, hidden, NULL);

	assert_true(fd >= 0);
	assert_int_equal(*hidden, '.');
	assert_int_equal(storage_dir.rename(f->s, hidden, name, false, NULL), 0);
	close(fd);
}

static size_t count(struct fixture *f)
{
	struct storage_list list;
	struct err err = ERR_INIT;
	size_t n;

	if (storage_dir.list(f->s, NULL, &list, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(list.capacity && list.capacity >= list.free_bytes);
	for (size_t i = 0; i < list.n; i++)
		assert_true(storage_name_good(list.entries[i].name));
	n = list.n;
	storage_list_free(&list);
	return n;
}

static void files_come_and_go(void **state)
{
	struct fixture *f = *state;
	char hidden[STORAGE_NAME_MAX + 64];
	int fd;

	make(f, "a");
	make(f, "b");
	assert_int_equal(count(f), 2);
	/* nothing is replaced but on purpose */
	fd = storage_dir.create(f->s, "a", 0, NULL, hidden, NULL);
	assert_int_equal(storage_dir.rename(f->s, hidden, "a", false, NULL), -EEXIST);
	assert_int_equal(storage_dir.rename(f->s, hidden, "a", true, NULL), 0);
	close(fd);
	assert_int_equal(storage_dir.remove(f->s, "a", NULL, NULL), 0);
	assert_int_equal(storage_dir.remove(f->s, "a", NULL, NULL), 0); /* gone is gone */
	assert_int_equal(count(f), 1);
}

static void half_made_ones_go_unless_somebody_makes_them(void **state)
{
	struct fixture *f = *state;
	char hidden[STORAGE_NAME_MAX + 64], path[300];
	int fd = storage_dir.create(f->s, "a", 0, NULL, hidden, NULL);

	snprintf(path, sizeof(path), "%s/%s", f->dir, hidden);
	assert_int_equal(count(f), 0);
	assert_int_equal(access(path, F_OK), 0); /* young, and locked */
	close(fd);
	assert_int_equal(count(f), 0);
	assert_int_equal(access(path, F_OK), 0); /* young still */
}

static void only_regular_files_are_opened(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	char command[300];
	int fd;

	snprintf(command, sizeof(command),
		 "cd %s && mkfifo fifo && mkdir dir && ln -s /etc/passwd link && ln file hard "
		 "2>/dev/null || echo x > file",
		 f->dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(storage_dir.open(f->s, "fifo", true, &err), -EINVAL);
	assert_int_equal(storage_dir.open(f->s, "dir", false, &err), -EINVAL);
	assert_int_equal(storage_dir.open(f->s, "link", false, &err), -EINVAL);
	assert_int_equal(storage_dir.open(f->s, "none", false, &err), -ENOENT);
	assert_int_equal(storage_dir.remove(f->s, "dir", NULL, &err), -EINVAL);
	fd = storage_dir.open(f->s, "file", true, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(count(f), 1);
}

static void it_tells_when_files_come_and_go(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	int fd = storage_dir.watch(f->s, &err);

	assert_true(fd >= 0);
	make(f, "a");
	assert_true(storage_dir.watched(fd));
	storage_dir.remove(f->s, "a", NULL, NULL);
	assert_int_equal(rmdir(f->dir), 0);
	assert_false(storage_dir.watched(fd)); /* of no use any more */
	assert_int_equal(mkdir(f->dir, 0700), 0);
	close(fd);
}

static void paths_are_plain(void **state)
{
	struct fixture *f = *state;
	struct rights root = {0};
	struct storage *s;
	char *path;

	assert_int_equal(storage_dir.check("relative", NULL), -EINVAL);
	assert_int_equal(storage_new(&s, &storage_dir, "/srv/images//", &root, "", NULL), 0);
	path = storage_dir.path(s, "v");
	assert_string_equal(path, "/srv/images/v");
	free(path);
	storage_put(s);
	assert_int_equal(storage_new(&s, &storage_dir, "/", &root, "", NULL), 0);
	path = storage_dir.path(s, "v");
	assert_string_equal(path, "/v");
	free(path);
	storage_put(s);
	(void)f;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(files_come_and_go),
	    T(half_made_ones_go_unless_somebody_makes_them),
	    T(only_regular_files_are_opened),
	    T(it_tells_when_files_come_and_go),
	    T(paths_are_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
