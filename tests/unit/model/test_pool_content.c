// SPDX-License-Identifier: ISC
/* The content of volumes as files: raw and qcow2 read alike, new ones grow, one writes at a time.
 */
#include "content.h"
#include "pool_test.h"

static struct content *open_content(struct volume *v, bool write)
{
	struct content *content = NULL;
	struct err err = ERR_INIT;

	if (volume_content_open(v, write, &root_caller, &content, &err) < 0)
		fail_msg("open: %s", err.text);
	return content;
}

static void copy_in(struct fixture *f, struct volume *v, const char *file)
{
	struct content *content = open_content(v, true);
	char buf[100000];
	uint64_t at_byte = 0;
	ssize_t n;
	int fd = open(at(f, file), O_RDONLY);

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		assert_int_equal(content_write(content, buf, (size_t)n, at_byte), 0);
		at_byte += (uint64_t)n;
	}
	assert_int_equal(content_flush(content), 0);
	assert_int_equal(content_size(content), at_byte);
	assert_int_equal(content_close(content), 0);
	close(fd);
}

static void is_same(struct fixture *f, struct volume *v, const char *file)
{
	struct content *content = open_content(v, false);
	char buf[70000], want[70000];
	uint64_t at_byte = 0;
	int fd = open(at(f, file), O_RDONLY);
	ssize_t n;

	while ((n = read(fd, want, sizeof(want))) > 0) {
		assert_int_equal(content_read(content, buf, (size_t)n, at_byte), n);
		assert_memory_equal(buf, want, (size_t)n);
		at_byte += (uint64_t)n;
	}
	assert_int_equal(content_read(content, buf, 1, at_byte), 0);
	assert_int_equal(content_close(content), 0);
	close(fd);
}

static void a_new_volume_grows_by_writing(void **state)
{
	static const char *const formats[] = {"raw", "qcow2"};
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");

	sh("head -c 5000192 /dev/urandom > %s", at(f, "file"));
	for (size_t i = 0; i < nitems(formats); i++) {
		struct volume *v = need_volume(pool, formats[i]);

		set(v, "format", formats[i]);
		copy_in(f, v, "file");
		assert_int_equal(volume_size(v), 5000192);
		assert_true(shows(volume_info_show, v, "new false\n"));
		is_same(f, v, "file");
		sh("qemu-img compare -q -f raw -F %s %s %s/%s", formats[i], at(f, "file"),
		   at(f, "p"), formats[i]);
		key_refused(v, "format", "raw", i ? -EBUSY : 0, "");
		volume_put(v);
	}
	pool_put(pool);
}

static void a_sized_one_keeps_its_size(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct content *content;
	char byte = 'x';

	set(v, "format", "qcow2");
	set(v, "size", "1M");
	content = open_content(v, true);
	assert_int_equal(content_write(content, &byte, 1, (1 << 20) - 1), 0);
	assert_int_equal(content_write(content, &byte, 1, 1 << 20), -ENOSPC);
	assert_int_equal(content_seek(content, 0, SEEK_DATA), (1 << 20) - 65536);
	assert_int_equal(content_seek(content, 0, SEEK_HOLE), 0);
	assert_int_equal(content_seek(content, 1 << 20, SEEK_DATA), -ENXIO);
	assert_int_equal(content_resize(content, 0), 0); /* reads as zeroes, size kept */
	assert_int_equal(content_size(content), 1 << 20);
	assert_int_equal(content_read(content, &byte, 1, (1 << 20) - 1), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(content_resize(content, 2 << 20), 0);
	assert_int_equal(content_size(content), 2 << 20);
	assert_int_equal(content_close(content), 0);
	assert_int_equal(volume_size(v), 2 << 20);
	content = open_content(v, false);
	assert_int_equal(content_write(content, &byte, 1, 0), -EBADF);
	assert_int_equal(content_close(content), 0);
	volume_put(v);
	pool_put(pool);
}

static void one_writes_or_many_read(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *v = need_volume(pool, "v");
	struct machine *m = need_machine(f, "m");
	struct content *a, *b = NULL;
	struct err err = ERR_INIT;

	set(v, "size", "1M");
	a = open_content(v, true);
	assert_int_equal(volume_content_open(v, true, &root_caller, &b, &err), -EBUSY);
	assert_int_equal(volume_content_open(v, false, &root_caller, &b, &err), -EBUSY);
	assert_int_equal(volume_use_begin(v, m, "root", true, false, &err), -EBUSY);
	refused(v, "convert qcow2", -EBUSY, "open for writing");
	assert_int_equal(pool_volume_remove(pool, v, &root_caller, &err), -EBUSY);
	content_close(a);
	a = open_content(v, false);
	b = open_content(v, false);
	assert_int_equal(volume_use_begin(v, m, "root", false, false, &err), 0);
	volume_use_end(f->model, m, "root");
	assert_int_equal(volume_use_begin(v, m, "root", true, false, &err), -EBUSY);
	content_close(a);
	content_close(b);
	assert_int_equal(volume_use_begin(v, m, "root", true, false, &err), 0);
	assert_int_equal(volume_content_open(v, true, &root_caller, &b, &err), -EBUSY);
	assert_non_null(strstr(err.text, "machine m"));
	volume_use_end(f->model, m, "root");
	machine_put(m);
	volume_put(v);
	pool_put(pool);
}

static void overlays_read_through(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = need_pool(f, "p");
	struct volume *base = need_volume(pool, "base"), *v;
	struct content *content;

	sh("head -c 1048576 /dev/urandom > %s", at(f, "file"));
	copy_in(f, base, "file");
	v = need_volume(pool, "v");
	set(v, "backing", "base");
	is_same(f, v, "file");
	content = open_content(v, true);
	assert_int_equal(content_write(content, "changed", 7, 1000), 0);
	assert_int_equal(content_close(content), 0);
	is_same(f, base, "file");
	sh("printf changed | dd of=%s bs=1 seek=1000 conv=notrunc status=none", at(f, "file"));
	is_same(f, v, "file");
	volume_put(base);
	volume_put(v);
	pool_put(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(a_new_volume_grows_by_writing),
	    model_test(a_sized_one_keeps_its_size),
	    model_test(one_writes_or_many_read),
	    model_test(overlays_read_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
