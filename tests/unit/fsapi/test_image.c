// SPDX-License-Identifier: ISC
/* The image of a volume through handles: what copiers and loop devices do to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/falloc.h>

#include "tests/unit/fsapi/fake_model.h"
#include "fsapi/fs.h"

static const struct caller me = {.uid = 1000, .gid = 1000, .pid = 1};

#define SIZE 65536u

struct fixture {
	struct model *model;
	struct fsapi *fs;
	struct pool *pool;
	struct volume *v;
	struct node *image;
};

static struct node *down(struct node *dir, const char *name)
{
	struct node *n = NULL;

	assert_int_equal(dir_lookup(dir, name, &n), 0);
	node_put(dir);
	return n;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct node *n;

	f->model = fake_model();
	*state = f;
	if (fs_new(&f->fs, f->model) < 0 ||
	    model_pool_define(f->model, "p", 0755, &me, &f->pool, NULL) < 0 ||
	    pool_key_store(f->pool, &pool_keys[0], "/srv", &me, NULL) < 0 ||
	    pool_volume_make(f->pool, "v", 0755, &me, &f->v, NULL) < 0 ||
	    volume_key_store(f->v, &volume_keys[0], "64K", &me, NULL) < 0)
		return -1;
	n = down(down(node_ref(f->fs->root), "pools"), "p");
	f->image = down(down(down(n, "volumes"), "v"), "image");
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	node_put(f->image);
	assert_int_equal(f->v->readers + f->v->writers, 0);
	assert_int_equal(atomic_load(&f->fs->n_handles), 0);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 0);
	volume_put(f->v);
	pool_put(f->pool);
	fs_free(f->fs);
	model_close(f->model);
	free(f);
	return 0;
}

static struct handle *open_image(struct fixture *f, int flags)
{
	struct handle *h = handle_new(f->image, flags);

	assert_int_equal(handle_open(h, &me), 0);
	return h;
}

static int put(struct handle *h, const char *text, uint64_t offset)
{
	return kind_image.write(h, text, strlen(text), offset, &me, NULL);
}

static void reads(struct fixture *f, uint64_t offset, const char *wanted, size_t len)
{
	struct handle *h = open_image(f, O_RDONLY);
	char *buf = malloc(len);

	assert_int_equal(kind_image.read(h, buf, len, offset), len);
	assert_memory_equal(buf, wanted, len);
	free(buf);
	handle_put(h);
}

static void what_is_written_is_read(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_image(f, O_WRONLY);
	char byte;

	assert_int_equal(put(h, "hello", 1000), 0);
	assert_true(h->dirty);
	reads(f, 999, "\0hello\0", 7);
	assert_int_equal(kind_image.flush(h, &me, NULL), 0);
	assert_false(h->dirty);
	assert_int_equal(f->v->flushes, 1);
	assert_int_equal(kind_image.read(h, &byte, 1, SIZE), 0);
	handle_put(h);
}

static void beyond_the_end_is_no_space(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_image(f, O_WRONLY);

	assert_int_equal(put(h, "xy", SIZE - 1), -ENOSPC);
	assert_non_null(strstr(f->v->error, "ENOSPC image: written at 65537: its size is 65536"));
	assert_int_equal(put(h, "x", SIZE - 1), 0);
	handle_put(h);
}

/* cp(1) truncates, then writes what is not a hole, and sets the size at its end. */
static void truncation_makes_zeroes_and_keeps_the_size(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_image(f, O_WRONLY);
	uint64_t size;

	assert_int_equal(put(h, "old", 5000), 0);
	handle_put(h);
	h = open_image(f, O_WRONLY | O_TRUNC);
	assert_int_equal(kind_image.size(f->image, &size), 0);
	assert_int_equal(size, SIZE);
	assert_int_equal(put(h, "new", 100), 0);
	assert_int_equal(kind_image.resize(h, 30000), 0);
	assert_int_equal(volume_size(f->v), SIZE);
	assert_int_equal(kind_image.resize(h, 2 * SIZE), 0);
	assert_int_equal(volume_size(f->v), 2 * SIZE);
	handle_put(h);
	reads(f, 100, "new", 3);
	reads(f, 5000, "\0\0\0", 3);
}

static void it_is_written_by_nobody_while_it_is_used(void **state)
{
	struct fixture *f = *state;
	struct handle *h = handle_new(f->image, O_RDWR);

	f->v->used = true;
	assert_int_equal(handle_open(h, &me), -EBUSY);
	assert_string_equal(f->v->error, "EBUSY image: machine a uses it\n");
	handle_put(h);
	reads(f, 0, "\0", 1);
	f->v->used = false;
}

static void errors_come_at_write_and_flush(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_image(f, O_WRONLY);
	struct err err = ERR_INIT;

	f->v->fails = -EIO;
	assert_int_equal(put(h, "x", 0), -EIO);
	assert_non_null(strstr(f->v->error, "EIO image: written at 1"));
	assert_int_equal(kind_image.flush(h, &me, &err), -EIO);
	assert_true(h->dirty); /* it will be tried again */
	f->v->fails = 0;
	assert_int_equal(kind_image.flush(h, &me, &err), 0);
	handle_put(h);
}

static void holes_and_allocation(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_image(f, O_RDWR);
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct stat st;

	assert_int_equal(put(h, "data", 4096), 0);
	assert_int_equal(kind_image.seek(h, 0, SEEK_DATA), 4096);
	assert_int_equal(kind_image.seek(h, 4096, SEEK_HOLE), 4100);
	assert_int_equal(kind_image.seek(h, 5000, SEEK_DATA), -ENXIO);
	assert_int_equal(kind_image.allocate(h, 0, 0, SIZE), 0); /* it is all there */
	assert_int_equal(kind_image.seek(h, 0, SEEK_DATA), 4096);
	assert_int_equal(kind_image.allocate(h, punch, 4096, 2), 0);
	assert_int_equal(kind_image.seek(h, 0, SEEK_DATA), 4098);
	assert_int_equal(kind_image.allocate(h, FALLOC_FL_ZERO_RANGE, 4098, 100), 0);
	assert_int_equal(kind_image.seek(h, 0, SEEK_DATA), -ENXIO);
	assert_int_equal(kind_image.allocate(h, punch, SIZE - 10, 1000), 0);
	assert_int_equal(kind_image.allocate(h, punch, SIZE * 2, 1000), 0);
	assert_int_equal(volume_size(f->v), SIZE);
	assert_int_equal(kind_image.allocate(h, 0, SIZE, 100), 0);
	assert_int_equal(volume_size(f->v), SIZE + 100);
	assert_int_equal(kind_image.allocate(h, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(kind_image.allocate(h, 0, INT64_MAX, 4096), -EINVAL);
	/* tar(1) takes what occupies nothing for a file of zeroes, and looks for holes in the rest
	 */
	assert_int_equal(node_stat(f->image, &st), 0);
	assert_true(st.st_blocks > 0 && st.st_blocks * 512 < st.st_size);
	handle_put(h);
}

static void a_handle_lives_until_the_last_call_on_it(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_image(f, O_RDONLY);

	handle_get(h);
	handle_put(h);
	assert_int_equal(f->v->readers, 1);
	handle_put(h);
	assert_int_equal(f->v->readers, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_is_written_is_read, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(beyond_the_end_is_no_space, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(truncation_makes_zeroes_and_keeps_the_size, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(it_is_written_by_nobody_while_it_is_used, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(errors_come_at_write_and_flush, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(holes_and_allocation, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_handle_lives_until_the_last_call_on_it, set_up,
					    tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
