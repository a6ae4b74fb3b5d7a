// SPDX-License-Identifier: ISC
/* Whole files: bounded reads, and a replacement that is all or nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "util/file.h"

struct fixture {
	char path[64];
	int dir;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->path, sizeof(f->path), "/tmp/test_file.XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->dir < 0;
}

/* The names in the directory, counted; each removed. */
static unsigned empty_dir(struct fixture *f)
{
	_cleanup_closedir_ DIR *d = fdopendir(openat(f->dir, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)))
		if (e->d_name[0] != '.' || strlen(e->d_name) > 2)
			n += unlinkat(f->dir, e->d_name, 0) == 0;
	return n;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	empty_dir(f);
	rmdir(f->path);
	close(f->dir);
	free(f);
	return 0;
}

static void replaces_and_reads(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	size_t len;

	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *text = NULL;
		char want[32];

		snprintf(want, sizeof(want), "version %d", i);
		assert_int_equal(file_replace(f->dir, "a", want, strlen(want), 0600), 0);
		assert_int_equal(file_read(f->dir, "a", 100, &text, &len), 0);
		assert_int_equal(len, strlen(want));
		assert_string_equal(text, want);
	}
	assert_int_equal(fstatat(f->dir, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(empty_dir(f), 1);
}

static void reads_no_more_than_asked(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *text = NULL;
	size_t len = 7;

	assert_int_equal(file_replace(f->dir, "a", "0123456789", 10, 0600), 0);
	assert_int_equal(file_read(f->dir, "a", 9, &text, &len), -EFBIG);
	assert_null(text);
	assert_int_equal(file_read(f->dir, "a", 10, &text, NULL), 0);
	assert_string_equal(text, "0123456789");
	assert_int_equal(file_read(f->dir, "absent", 10, &text, &len), -ENOENT);
}

static void failure_keeps_the_old_text(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, small = {4096, 4096};
	_cleanup_free_ char *big = calloc(1, 65536);
	_cleanup_free_ char *text = NULL;
	int ret;

	assert_int_equal(file_replace(f->dir, "a", "old", 3, 0600), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	ret = file_replace(f->dir, "a", big, 65536, 0600);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(ret, -EFBIG);
	assert_int_equal(file_read(f->dir, "a", 100, &text, NULL), 0);
	assert_string_equal(text, "old");
	assert_int_equal(empty_dir(f), 1); /* no temporary stays */
}

static void refuses_what_it_cannot(void **state)
{
	struct fixture *f = *state;
	char name[301];

	memset(name, 'n', 300);
	name[300] = '\0';
	assert_int_equal(file_replace(f->dir, name, "x", 1, 0600), -ENAMETOOLONG);
	assert_int_equal(mkdirat(f->dir, "dir", 0700), 0);
	assert_int_equal(file_replace(f->dir, "dir", "x", 1, 0600), -EISDIR);
	assert_int_equal(unlinkat(f->dir, "dir", AT_REMOVEDIR), 0);
	assert_int_equal(empty_dir(f), 0);
}

static void whole_reads_and_writes(void **state)
{
	struct fixture *f = *state;
	_cleanup_close_ int fd = openat(f->dir, "b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char buf[8] = "";

	assert_int_equal(file_pwrite_all(fd, "abcdef", 6, 10), 0);
	assert_int_equal(file_pread_all(fd, buf, 6, 10), 0);
	assert_memory_equal(buf, "abcdef", 6);
	assert_int_equal(file_pread_all(fd, buf, 7, 10), -ENODATA);
	assert_int_equal(file_pread_all(fd, buf, 0, 1000), 0);
	assert_int_equal(file_write_all(fd, "xy", 2), 0);
	assert_int_equal(file_pread_all(fd, buf, 2, 0), 0);
	assert_memory_equal(buf, "xy", 2);
	assert_int_equal(file_pwrite_all(-1, "x", 1, 0), -EBADF);
	assert_int_equal(file_pread_all(-1, buf, 1, 0), -EBADF);
	assert_int_equal(file_sync_dir(f->dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(replaces_and_reads, setup, teardown),
	    cmocka_unit_test_setup_teardown(reads_no_more_than_asked, setup, teardown),
	    cmocka_unit_test_setup_teardown(failure_keeps_the_old_text, setup, teardown),
	    cmocka_unit_test_setup_teardown(refuses_what_it_cannot, setup, teardown),
	    cmocka_unit_test_setup_teardown(whole_reads_and_writes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
