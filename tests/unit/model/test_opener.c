// SPDX-License-Identifier: ISC
/* Opening for users: what an image's header may lead to, and what it may not. */
#include <signal.h>
#include <sys/wait.h>

#include "model_test.h"
#include "opener.h"

#define DISK_BYTES (1 << 20)

static struct opener *opener;
static char dir[64]; /* with a/ and b/ */
static unsigned others_uid;

static int start_opener(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_opener.XXXXXX");
	if (!mkdtemp(dir) || chdir(dir) < 0 || mkdir("a", 0755) < 0 || mkdir("a/sub", 0755) < 0 ||
	    mkdir("b", 0755) < 0 || chmod(dir, 0755) < 0)
		return -1;
	return opener_start(&opener);
}

static int stop_opener(void **state)
{
	(void)state;
	opener_stop(opener);
	if (chdir("/") < 0)
		return -1;
	remove_tree(AT_FDCWD, dir);
	return 0;
}

/* --- images ---------------------------------------------------------------------------------- */

static const char *at(const char *name)
{
	static char paths[8][256];
	static unsigned n;
	char *path = paths[n++ % nitems(paths)];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void make_raw(const char *name)
{
	int fd = open(at(name), O_RDWR | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
}

/* A qcow2 image whose header names @backing. */
static void make_over(const char *name, const char *backing, enum image_format format)
{
	struct image_create params = {.format = IMAGE_QCOW2,
				      .bytes = DISK_BYTES,
				      .backing = backing,
				      .backing_format = format};
	struct err err = ERR_INIT;
	int fd = open(at(name), O_RDWR | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	if (image_create(fd, &params, &err) < 0)
		fail_msg("%s: %s", name, err.text);
}

/* --- asking ---------------------------------------------------------------------------------- */

static struct opened_disk opened;

static int open_chain(const char *name, const struct opener_disk *disk, struct err *err)
{
	struct opener_request rq = {.path = at(name), .rights = {.uid = others_uid}};

	*err = (struct err)ERR_INIT;
	return opener_disk(opener, &rq, disk, &opened, err);
}

static void opens(const char *name, const char *backing, unsigned depth)
{
	struct opener_disk disk = {.format = IMAGE_QCOW2, .backing = backing};
	struct err err;

	if (open_chain(name, &disk, &err) < 0)
		fail_msg("%s over '%s': %s", name, backing ? backing : "", err.text);
	assert_int_equal(opened.chain.n, depth);
	assert_int_equal(opened.n_ids, depth);
	assert_int_equal(opened.n_written, 1);
	assert_int_equal(opened.bytes, DISK_BYTES);
	image_chain_close(&opened.chain);
}

static void refused(const char *name, const char *backing, int code, const char *words)
{
	struct opener_disk disk = {.format = IMAGE_QCOW2, .backing = backing};
	struct err err;
	int r = open_chain(name, &disk, &err);

	if (r != code || !strstr(err.text, words))
		fail_msg("%s over '%s' gave %d '%s', not %d '%s'", name, backing ? backing : "", r,
			 err.text, code, words);
	assert_int_equal(opened.chain.n, 0);
}

/* --- what a header may name ----------------------------------------------------------------------
 */

static void in_its_own_directory(void **state)
{
	(void)state;
	make_raw("a/base.raw");
	make_raw("a/sub/base.raw");
	make_over("a/one", "base.raw", IMAGE_RAW);
	opens("a/one", NULL, 2);
	make_over("a/two", "one", IMAGE_QCOW2);
	opens("a/two", NULL, 3);
	make_over("a/one", at("a/base.raw"), IMAGE_RAW);
	opens("a/two", NULL, 3);
	make_over("a/one", "sub/base.raw", IMAGE_RAW);
	opens("a/one", NULL, 2);
	make_over("a/one", "../a/./base.raw", IMAGE_RAW);
	opens("a/one", NULL, 2);
	make_over("a/one", "file:base.raw", IMAGE_RAW);
	opens("a/one", NULL, 2);
}

/* The same directory under another name is the same directory. */
static void by_whatever_path(void **state)
{
	(void)state;
	make_raw("a/base.raw");
	make_over("a/one", at("alias/base.raw"), IMAGE_RAW);
	assert_int_equal(symlink("a", at("alias")), 0);
	opens("a/one", NULL, 2);
	opens("alias/one", NULL, 2);
	unlink(at("alias"));
}

static void not_in_another(void **state)
{
	(void)state;
	make_raw("b/base.raw");
	make_over("a/one", "../b/base.raw", IMAGE_RAW);
	refused("a/one", NULL, -EACCES, "`backing`");
	refused("a/one", at("b/other.raw"), -EACCES, "`backing`");
	opens("a/one", at("b/base.raw"), 2);
	make_over("a/one", at("b//./base.raw"), IMAGE_RAW);
	refused("a/one", NULL, -EACCES, "`backing`");
	opens("a/one", at("b/base.raw"), 2);
	make_over("a/one", "sub/../../b/base.raw", IMAGE_RAW);
	refused("a/one", NULL, -EACCES, "`backing`");
	/* one layer down, what the layer above may be over does not count as its own directory */
	make_over("b/mid", "base.raw", IMAGE_RAW);
	make_over("a/one", "../b/mid", IMAGE_QCOW2);
	refused("a/one", at("b/mid"), -EACCES, "base.raw");
	{
		char both[600];

		snprintf(both, sizeof(both), "%s %s", at("b/base.raw"), at("b/mid"));
		opens("a/one", both, 3);
	}
}

static void no_links(void **state)
{
	(void)state;
	make_raw("b/base.raw");
	assert_int_equal(symlink("../b/base.raw", at("a/link")), 0);
	assert_int_equal(symlink("../b", at("a/linkdir")), 0);
	make_over("a/one", "link", IMAGE_RAW);
	refused("a/one", NULL, -EACCES, "symbolic link");
	opens("a/one", at("a/link"), 2); /* named: his choice */
	make_over("a/one", "linkdir/base.raw", IMAGE_RAW);
	refused("a/one", NULL, -EACCES, "`backing`");
	/* ".." behind a link is not what it looks like: the named file is not opened in its place
	 */
	make_raw("base.raw");
	make_raw("a/base.raw");
	make_over("a/one", at("a/linkdir/../base.raw"), IMAGE_RAW);
	refused("a/one", at("a/base.raw"), -EACCES, "another file");
	unlink(at("a/link"));
	unlink(at("a/linkdir"));
}

static void nothing_but_files(void **state)
{
	static const struct {
		const char *name;
		int code;
		const char *words;
	} cases[] = {
	    {"/dev/null", -EACCES, "`backing`"},
	    {"/dev/zero", -EACCES, "`backing`"},
	    {"/proc/self/mem", -EACCES, "`backing`"},
	    {"/etc/passwd", -EACCES, "`backing`"},
	    {"nbd:localhost:10809", -ENOTSUP, "not a path"},
	    {"nbd://localhost/x", -ENOTSUP, "not a path"},
	    {"json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", -ENOTSUP, "not a path"},
	    {"fat:rw:/etc", -ENOTSUP, "not a path"},
	    {"absent", -ENOENT, "absent"},
	    {"fifo", -EACCES, "no regular file"},
	    {"sub", -EACCES, "no regular file"},
	    {"one", -ELOOP, "below itself"},
	};

	(void)state;
	mkfifo(at("a/fifo"), 0600); /* opened, it would hang */
	for (size_t i = 0; i < nitems(cases); i++) {
		make_over("a/one", cases[i].name, IMAGE_RAW);
		refused("a/one", NULL, cases[i].code, cases[i].words);
	}
	make_over("a/one", "two", IMAGE_QCOW2);
	make_over("a/two", "one", IMAGE_QCOW2);
	refused("a/one", NULL, -ELOOP, "below itself");
	make_over("a/one", "/dev/null", IMAGE_RAW);
	refused("a/one", "/dev/null", -EINVAL, "no file or block device");
}

static void chains_end(void **state)
{
	(void)state;
	make_raw("a/n0");
	for (int i = 1; i <= IMAGE_DEPTH_MAX; i++) {
		char name[32], below[32];

		snprintf(name, sizeof(name), "a/n%d", i);
		snprintf(below, sizeof(below), "n%d", i - 1);
		make_over(name, below, i == 1 ? IMAGE_RAW : IMAGE_QCOW2);
	}
	opens("a/n63", NULL, 64);
	refused("a/n64", NULL, -ELOOP, "more than 64");
}

/* --- the top, single files, formats -------------------------------------------------------------
 */

static void a_top_is_what_it_is(void **state)
{
	struct opener_disk raw = {.format = IMAGE_RAW};
	struct err err;

	(void)state;
	make_raw("a/raw");
	make_over("a/one", "/dev/null", IMAGE_RAW);
	assert_int_equal(open_chain("a/one", &raw, &err), 0); /* raw: its header is data */
	assert_int_equal(opened.chain.n, 1);
	assert_int_equal(opened.chain.layers[0].format, IMAGE_RAW);
	image_chain_close(&opened.chain);
	refused("a/raw", NULL, -EINVAL, "a/raw");
	assert_int_equal(open_chain("a/sub", &raw, &err), -EISDIR);
	assert_int_equal(open_chain("a/absent", &raw, &err), -ENOENT);
	assert_true(strstr(err.text, "a/absent"));
	mkfifo(at("a/fifo"), 0600);
	assert_int_equal(open_chain("a/fifo", &raw, &err), -EINVAL);
}

static void probe(const char *name, bool known, enum image_format format, uint64_t bytes)
{
	struct opener_request rq = {.path = at(name)};
	struct probe_ask ask = {.write = true, .format_known = known, .format = IMAGE_RAW};
	struct probed_disk p;
	struct err err = ERR_INIT;

	if (opener_probe(opener, &rq, &ask, &p, &err) < 0)
		fail_msg("%s: %s", name, err.text);
	assert_int_equal(p.format, format);
	assert_int_equal(p.bytes, bytes);
}

static void formats_are_seen(void **state)
{
	static const char damaged[] = "QFI\xfb and nothing that makes sense";
	struct stat st;
	int fd;

	(void)state;
	make_raw("a/raw");
	probe("a/raw", false, IMAGE_RAW, DISK_BYTES);
	make_over("a/one", "/nowhere/at/all", IMAGE_RAW);
	probe("a/one", false, IMAGE_QCOW2, DISK_BYTES);
	assert_int_equal(stat(at("a/one"), &st), 0);
	probe("a/one", true, IMAGE_RAW, (uint64_t)st.st_size / 512 * 512);
	fd = open(at("a/damaged"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(file_write_all(fd, damaged, sizeof(damaged)), 0);
	close(fd);
	probe("a/damaged", false, IMAGE_QCOW2, 0);
	fd = open(at("a/empty"), O_RDWR | O_CREAT, 0600);
	close(fd);
	probe("a/empty", false, IMAGE_RAW, 0);
}

static void files_are_opened(void **state)
{
	struct opener_request rq = {.path = at("a/raw")};
	struct err err = ERR_INIT;
	char long_path[6000];
	int fd;

	(void)state;
	make_raw("a/raw");
	fd = opener_file(opener, &rq, O_RDONLY, false, &err);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	rq.path = "/dev/null";
	assert_int_equal(opener_file(opener, &rq, O_RDONLY, true, &err), -EINVAL);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = '\0';
	rq.path = long_path;
	assert_int_equal(opener_file(opener, &rq, O_RDONLY, true, &err), -ENAMETOOLONG);
}

/* --- locks, rights, ends --------------------------------------------------------------------- */

static void one_writer_only(void **state)
{
	struct opener_disk w = {.format = IMAGE_QCOW2, .lock = true};
	struct opener_disk r = {.format = IMAGE_QCOW2, .lock = true, .readonly = true};
	struct opened_disk first;
	struct err err;

	(void)state;
	make_raw("a/base.raw");
	make_over("a/one", "base.raw", IMAGE_RAW);
	make_over("a/two", "base.raw", IMAGE_RAW);
	assert_int_equal(open_chain("a/one", &w, &err), 0);
	first = opened;
	assert_int_equal(open_chain("a/one", &w, &err), -EBUSY);
	assert_int_equal(opened.chain.n, 0);
	assert_int_equal(opened.n_ids, 2); /* whose they are can be told */
	assert_int_equal(opened.ids[0].ino, first.ids[0].ino);
	assert_int_equal(open_chain("a/one", &r, &err), -EBUSY);
	assert_int_equal(open_chain("a/two", &w, &err), 0); /* what is below is shared */
	image_chain_close(&opened.chain);
	w.format = IMAGE_RAW;
	assert_int_equal(open_chain("a/base.raw", &w, &err), -EBUSY);
	w.format = IMAGE_QCOW2;
	image_chain_close(&first.chain);
	assert_int_equal(open_chain("a/one", &r, &err), 0);
	first = opened;
	assert_int_equal(opened.n_written, 0);
	assert_int_equal(open_chain("a/one", &r, &err), 0);
	image_chain_close(&opened.chain);
	assert_int_equal(open_chain("a/one", &w, &err), -EBUSY);
	image_chain_close(&first.chain);
	w.share = true;
	assert_int_equal(open_chain("a/one", &w, &err), 0);
	first = opened;
	assert_int_equal(open_chain("a/one", &w, &err), 0);
	image_chain_close(&opened.chain);
	w.share = false;
	assert_int_equal(open_chain("a/one", &w, &err), -EBUSY);
	image_chain_close(&first.chain);
}

static void with_his_rights(void **state)
{
	struct opener_disk r = {.format = IMAGE_QCOW2, .readonly = true};
	struct err err;

	(void)state;
	if (geteuid() != 0)
		skip();
	make_raw("a/base.raw");
	make_over("a/one", "base.raw", IMAGE_RAW);
	others_uid = 65534;
	assert_int_equal(open_chain("a/one", &r, &err), 0);
	image_chain_close(&opened.chain);
	r.readonly = false;
	assert_int_equal(open_chain("a/one", &r, &err), -EACCES);
	r.readonly = true;
	assert_int_equal(chmod(at("a/base.raw"), 0600), 0);
	assert_int_equal(open_chain("a/one", &r, &err), -EACCES);
	assert_true(strstr(err.text, "base.raw"));
	others_uid = 0;
	assert_int_equal(open_chain("a/one", &r, &err), 0);
	image_chain_close(&opened.chain);
}

static void many_at_once(void **state)
{
	struct opener_disk r = {.format = IMAGE_QCOW2, .readonly = true, .lock = true};
	struct opened_disk *all = calloc(600, sizeof(*all));
	struct err err;

	(void)state;
	make_raw("a/base.raw");
	make_over("a/one", "base.raw", IMAGE_RAW);
	for (int i = 0; i < 600; i++) { /* more than may hang */
		assert_int_equal(open_chain("a/one", &r, &err), 0);
		all[i] = opened;
	}
	for (int i = 0; i < 600; i++)
		image_chain_close(&all[i].chain);
	free(all);
}

/* Whoever kills it: another takes its place. */
static void it_is_replaced(void **state)
{
	struct opener_request rq = {.path = at("a/base.raw")};
	_cleanup_free_ char *children = NULL;
	struct err err = ERR_INIT;
	char path[64];

	(void)state;
	make_raw("a/base.raw");
	for (int i = 0; i < 3; i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
		free(take_ptr(children));
		assert_int_equal(file_read(AT_FDCWD, path, 4096, &children, NULL), 0);
		assert_true(atoi(children) > 1);
		kill(atoi(children), SIGKILL);
		fd = opener_file(opener, &rq, O_RDONLY, false,
				 &err); /* killed before, or meanwhile */
		if (fd < 0)
			assert_int_equal(fd, -EIO);
		else
			close(fd);
		for (int tries = 0; fd < 0 && tries < 1000; tries++)
			fd = opener_file(opener, &rq, O_RDONLY, false, &err);
		if (fd < 0)
			fail_msg("%s", err.text);
	}
}

static void a_request_is_given_up(void **state)
{
	struct cancel cancel;
	struct opener_request rq = {.path = at("a/base.raw"), .cancel = &cancel};
	struct err err = ERR_INIT;
	int r;

	(void)state;
	make_raw("a/base.raw");
	cancel_init(&cancel);
	cancel_request(&cancel);
	r = opener_file(opener, &rq, O_RDONLY, false, &err);
	if (r >= 0) /* it was faster */
		close(r);
	else
		assert_int_equal(r, -ECANCELED);
	cancel_destroy(&cancel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(in_its_own_directory),  cmocka_unit_test(by_whatever_path),
	    cmocka_unit_test(not_in_another),	     cmocka_unit_test(no_links),
	    cmocka_unit_test(nothing_but_files),     cmocka_unit_test(chains_end),
	    cmocka_unit_test(a_top_is_what_it_is),   cmocka_unit_test(formats_are_seen),
	    cmocka_unit_test(files_are_opened),	     cmocka_unit_test(one_writer_only),
	    cmocka_unit_test(with_his_rights),	     cmocka_unit_test(many_at_once),
	    cmocka_unit_test(a_request_is_given_up), cmocka_unit_test(it_is_replaced),
	};

	return cmocka_run_group_tests(tests, start_opener, stop_opener);
}
