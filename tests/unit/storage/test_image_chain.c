// SPDX-License-Identifier: ISC
/*
 * Chains: names and how they are resolved, loops, depth, formats that are not named,
 * who may open what, and chains handed over as descriptors.
 */
#include "tests/unit/storage/storage_test.h"

#include <errno.h>
#include <sys/stat.h>

#include "storage/image.h"

static char dir[64];

static char *at(const char *name)
{
	static char paths[4][128];
	static unsigned n;
	char *p = paths[n++ % 4];

	snprintf(p, 128, "%s/%s", dir, name);
	return p;
}

static int enter_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/image-chain-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int leave_dir(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void make(const char *name, enum image_format format, const char *backing,
		 enum image_format backing_format)
{
	struct image_create p = {.format = format,
				 .bytes = 1 << 20,
				 .cluster_bytes = 4096,
				 .backing = backing,
				 .backing_format = backing_format};
	int fd = open(at(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(image_create(fd, &p, NULL), 0);
}

static int try_open(const char *name, enum image_format format, struct err *err)
{
	struct block *block;
	int r = image_open(&block, at(name), format, IMAGE_READONLY, &image_opener_plain, err);

	if (!r)
		block_close(block);
	return r;
}

/* Writes the first sector of an image, or reads it and compares. */
static void touch(const char *name, enum image_format format, uint8_t value, bool write)
{
	uint8_t buf[512], expect[512];
	struct block_queue *queue;
	struct block *block;

	memset(expect, value, sizeof(expect));
	assert_int_equal(block_queue_new_sync(&queue, NULL), 0);
	assert_int_equal(image_open(&block, at(name), format, write ? 0 : IMAGE_READONLY,
				    &image_opener_plain, NULL),
			 0);
	if (write) {
		assert_int_equal(block_pwrite(queue, block, expect, sizeof(expect), 0), 0);
	} else {
		assert_int_equal(block_pread(queue, block, buf, sizeof(buf), 0), 0);
		assert_memory_equal(buf, expect, sizeof(buf));
	}
	block_close(block);
	block_queue_free(queue);
}

static void names_are_resolved(void **state)
{
	static const struct {
		const char *overlay, *name, *path;
	} cases[] = {
	    {"/a/b.qcow2", "base", "/a/base"},	     {"/a/b.qcow2", "../base", "/a/../base"},
	    {"/a/b.qcow2", "/x/base", "/x/base"},    {"b.qcow2", "base", "base"},
	    {"/a/b.qcow2", "file:base", "/a/base"},  {"/a/b.qcow2", "./x:y", "/a/./x:y"},
	    {"/a/b.qcow2", "json:{}", NULL},	     {"/a/b.qcow2", "nbd://host/x", NULL},
	    {"/a/b.qcow2", "nbd:unix:/run/s", NULL}, {"/a/b.qcow2", "fat:rw:/etc", NULL},
	};
	unsigned i;

	(void)state;
	for (i = 0; i < nitems(cases); i++) {
		_cleanup_free_ char *path = NULL;
		int r = image_resolve(cases[i].overlay, cases[i].name, &path, NULL);

		assert_int_equal(r, cases[i].path ? 0 : -ENOTSUP);
		if (cases[i].path)
			assert_string_equal(path, cases[i].path);
	}
}

static void three_layers_read_through(void **state)
{
	(void)state;
	make("c1", IMAGE_RAW, NULL, 0);
	make("c2", IMAGE_QCOW2, "c1", IMAGE_RAW);
	make("c3", IMAGE_QCOW2, at("c2"), IMAGE_QCOW2);
	touch("c1", IMAGE_RAW, 1, true);
	touch("c3", IMAGE_QCOW2, 1, false);
	touch("c2", IMAGE_QCOW2, 2, true);
	touch("c3", IMAGE_QCOW2, 2, false);
	touch("c3", IMAGE_QCOW2, 3, true);
	touch("c2", IMAGE_QCOW2, 2, false);
	touch("c1", IMAGE_RAW, 1, false);
}

static void loops_are_refused(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	make("self", IMAGE_QCOW2, "self", IMAGE_QCOW2);
	assert_int_equal(try_open("self", IMAGE_QCOW2, &err), -ELOOP);
	make("l1", IMAGE_QCOW2, "l2", IMAGE_QCOW2);
	make("l2", IMAGE_QCOW2, "l3", IMAGE_QCOW2);
	assert_int_equal(link(at("l1"), at("l3")), 0); /* another name, the same file */
	assert_int_equal(try_open("l1", IMAGE_QCOW2, &err), -ELOOP);
}

static void depth_is_limited(void **state)
{
	char name[16], below[16];
	int i;

	(void)state;
	for (i = 0; i <= IMAGE_DEPTH_MAX; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		snprintf(below, sizeof(below), "d%d", i - 1);
		make(name, IMAGE_QCOW2, i ? below : NULL, IMAGE_QCOW2);
	}
	snprintf(name, sizeof(name), "d%d", IMAGE_DEPTH_MAX - 1);
	assert_int_equal(try_open(name, IMAGE_QCOW2, NULL), 0);
	snprintf(name, sizeof(name), "d%d", IMAGE_DEPTH_MAX);
	assert_int_equal(try_open(name, IMAGE_QCOW2, NULL), -ELOOP);
}

/* A raw disk may hold anything, a qcow2 header too: it stays raw. */
static void formats_are_not_guessed(void **state)
{
	struct block_info info;
	struct block *block;
	struct err err = ERR_INIT;

	(void)state;
	make("inner", IMAGE_QCOW2, "/etc/passwd", IMAGE_RAW);
	assert_int_equal(
	    image_open(&block, at("inner"), IMAGE_RAW, IMAGE_READONLY, &image_opener_plain, NULL),
	    0);
	block_info_get(block, &info);
	assert_true(info.bytes < 1 << 20); /* the file's size, not the disk's */
	block_close(block);
	make("raw", IMAGE_RAW, NULL, 0);
	assert_int_equal(try_open("raw", IMAGE_QCOW2, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a qcow2 image"));
}

static void unnamed_formats_are_refused(void **state)
{
	static const uint8_t end[8];
	struct err err = ERR_INIT;
	int fd;

	(void)state;
	make("named", IMAGE_QCOW2, "c1", IMAGE_RAW);
	fd = open(at("named"), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, end, sizeof(end), 112), sizeof(end)); /* no extensions */
	close(fd);
	assert_int_equal(try_open("named", IMAGE_QCOW2, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "does not say what format"));
}

struct gate {
	const char *allowed;
	unsigned asked, writable;
};

static int open_gated(void *arg, const char *path, bool write, struct err *err)
{
	struct gate *gate = arg;

	gate->asked++;
	gate->writable += write;
	if (strncmp(path, gate->allowed, strlen(gate->allowed)))
		return err_set(err, -EACCES, "%s is not yours", path);
	return image_opener_plain.open(NULL, path, write, err);
}

static void the_opener_decides(void **state)
{
	struct gate gate = {.allowed = dir};
	struct image_opener opener = {open_gated, &gate};
	struct err err = ERR_INIT;
	struct block *block;

	(void)state;
	make("good", IMAGE_QCOW2, "c1", IMAGE_RAW);
	assert_int_equal(image_open(&block, at("good"), IMAGE_QCOW2, 0, &opener, &err), 0);
	block_close(block);
	assert_int_equal(gate.asked, 2);
	assert_int_equal(gate.writable, 1); /* the top alone */
	make("greedy", IMAGE_QCOW2, "/etc/shadow", IMAGE_RAW);
	assert_int_equal(image_open(&block, at("greedy"), IMAGE_QCOW2, 0, &opener, &err), -EACCES);
	assert_string_equal(err.text, "/etc/shadow is not yours");
}

static unsigned open_files(void)
{
	unsigned n = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* A chain can be handed to a process that opens nothing; it must fit the headers. */
static void chains_travel_as_descriptors(void **state)
{
	struct image_chain chain, cut;
	unsigned before = open_files();
	struct block *block;

	(void)state;
	make("t1", IMAGE_RAW, NULL, 0);
	make("t2", IMAGE_QCOW2, "t1", IMAGE_RAW);
	assert_int_equal(
	    image_chain_find(&chain, at("t2"), IMAGE_QCOW2, 0, &image_opener_plain, NULL), 0);
	assert_int_equal(chain.n, 2);
	assert_int_equal(unlink(at("t1")), 0); /* names do not matter any more */
	memset(&cut, 0, sizeof(cut));
	cut.n = 1;
	cut.layers[0] = (struct image_layer){
	    .format = IMAGE_QCOW2, .fd = dup(chain.layers[0].fd), .data_fd = -1};
	assert_int_equal(image_chain_open(&block, &cut, 0, NULL), -EINVAL);
	assert_int_equal(image_chain_open(&block, &chain, IMAGE_ASYNC, NULL), 0);
	block_close(block);
	assert_int_equal(open_files(), before);
}

static int fd_of(const char *name)
{
	int fd = open(at(name), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void locks_keep_others_out(void **state)
{
	struct err err = ERR_INIT;
	int a, b;

	(void)state;
	make("locked", IMAGE_RAW, NULL, 0);
	a = fd_of("locked");
	b = fd_of("locked");
	assert_int_equal(image_lock(a, false, false, &err), 0);
	assert_int_equal(image_lock(b, false, false, &err), 0); /* many may read */
	image_unlock(b);
	assert_int_equal(image_lock(b, true, false, &err), -EBUSY);
	assert_int_equal(image_lock(b, true, true, &err), -EBUSY); /* the reader does not share */
	close(a);						   /* which ends its lock */
	assert_int_equal(image_lock(b, true, false, &err), 0);
	a = fd_of("locked");
	assert_int_equal(image_lock(a, false, false, &err), -EBUSY);
	assert_int_equal(image_lock(a, true, false, &err), -EBUSY);
	image_unlock(b);
	assert_int_equal(image_lock(a, true, true, &err), 0);
	assert_int_equal(image_lock(b, true, true, &err), 0); /* knowingly */
	close(a);
	close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_are_resolved),
	    cmocka_unit_test(three_layers_read_through),
	    cmocka_unit_test(loops_are_refused),
	    cmocka_unit_test(depth_is_limited),
	    cmocka_unit_test(formats_are_not_guessed),
	    cmocka_unit_test(unnamed_formats_are_refused),
	    cmocka_unit_test(the_opener_decides),
	    cmocka_unit_test(chains_travel_as_descriptors),
	    cmocka_unit_test(locks_keep_others_out),
	};

	return cmocka_run_group_tests_name("image_chain", tests, enter_dir, leave_dir);
}
