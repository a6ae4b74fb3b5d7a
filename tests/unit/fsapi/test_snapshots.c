// SPDX-License-Identifier: ISC
/* Snapshots in the tree: names, values, contents, watchers; archives that are written to a machine.
 */
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
	struct machine *machine;
	struct node *m, *snapshots;
};

static struct node *look(struct node *dir, const char *name)
{
	struct node *n = NULL;

	return dir_lookup(dir, name, &n) < 0 ? NULL : n;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct node *machines;

	f->model = fake_model();
	*state = f;
	if (fs_new(&f->fs, f->model) < 0 ||
	    model_machine_define(f->model, "m", 0750, &me, &f->machine, NULL) < 0)
		return -1;
	machines = look(f->fs->root, "machines");
	f->m = look(machines, "m");
	node_put(machines);
	f->snapshots = look(f->m, "snapshots");
	model_set_observer(f->model, &fsapi_observer, f->fs);
	return f->snapshots ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	model_set_observer(f->model, NULL, NULL);
	node_put(f->snapshots);
	node_put(f->m);
	for (size_t i = 0; i < FAKE_SNAPS; i++)
		snapshot_put(f->machine->snapshots[i]);
	machine_put(f->machine);
	assert_int_equal(atomic_load(&f->fs->n_handles), 0);
	fs_free(f->fs);
	model_close(f->model);
	free(f);
	return 0;
}

/* As mkdir(2) does it. */
static int make(struct fixture *f, const char *name)
{
	struct child child = {0};
	struct own_op own;
	int r;

	own_begin(&own, f->snapshots, name);
	r = node_dir(f->snapshots)->ops->make(f->snapshots, name, 0755, &me, &child, NULL);
	own_end(&own);
	child_release(&child);
	return r;
}

static void text_is(struct node *n, const char *wanted)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	assert_non_null(n);
	assert_int_equal(text_show(n, &sb), 0);
	assert_string_equal(sb.data ? sb.data : "", wanted);
}

static void bytes_are(struct node *n, const char *wanted)
{
	struct handle *h = handle_new(n, O_RDONLY);
	char buf[64];
	ssize_t len;
	struct stat st;

	assert_int_equal(node_stat(n, &st), 0);
	assert_int_equal(st.st_size, strlen(wanted));
	assert_int_equal(handle_open(h, &me), 0);
	len = n->row->kind->read(h, buf, sizeof(buf), 0);
	assert_int_equal(len, strlen(wanted));
	assert_memory_equal(buf, wanted, (size_t)len);
	handle_put(h);
}

static void a_snapshot_shows_what_was(void **state)
{
	struct fixture *f = *state;
	static const char *const values[][2] = {
	    {"state", "running\n"},
	    {"time", "2026-09-21T14:13:20.007Z\n"},
	    {"pause_us", "1234\n"},
	    {"parent", ""},
	    {"size", "own 1\nshared 2\n"},
	    {"config", "cpus = 1;\n"},
	    {"error", ""},
	};
	static const char *const contents[][2] = {
	    {"memory", "memory of base"}, {"core", ""}, {"archive", ""}};
	_cleanup_node_ struct node *s = NULL, *disks = NULL, *disk = NULL;

	assert_int_equal(make(f, "base"), 0);
	s = look(f->snapshots, "base");
	for (size_t i = 0; i < nitems(values); i++) {
		_cleanup_node_ struct node *n = look(s, values[i][0]);

		text_is(n, values[i][1]);
	}
	for (size_t i = 0; i < nitems(contents); i++) {
		_cleanup_node_ struct node *n = look(s, contents[i][0]);

		bytes_are(n, contents[i][1]);
	}
	disks = look(s, "disks");
	assert_null(look(disks, "data"));
	disk = look(disks, "root");
	for (size_t i = 0; i < 3; i++) {
		static const char *const names[] = {"source", "size", "image"};
		_cleanup_node_ struct node *n = look(disk, names[i]);

		if (i == 2)
			bytes_are(n, "disk");
		else
			text_is(n, i ? "4\n" : "/srv/root\n");
	}
}

static void nothing_of_it_is_written(void **state)
{
	struct fixture *f = *state;
	_cleanup_node_ struct node *s = NULL;
	struct stat st;

	assert_int_equal(make(f, "base"), 0);
	s = look(f->snapshots, "base");
	assert_int_equal(node_stat(s, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(st.st_uid, 1000);
	for (size_t i = 0; i < node_dir(s)->n_rows; i++) {
		_cleanup_node_ struct node *n = look(s, node_dir(s)->rows[i].name);
		bool secret = n->row->kind == &kind_image;

		assert_int_equal(node_stat(n, &st), 0);
		if (n->row->kind != &kind_command)
			assert_int_equal(st.st_mode & 0222, 0);
		if (secret)
			assert_int_equal(st.st_mode & 0777, 0400);
		st.st_mode |= 0004; /* a mode that outlives it would be the next one's */
		assert_int_equal(node_chattr(n, &st, CHATTR_MODE, NULL), -EPERM);
	}
}

static void a_name_may_come_again(void **state)
{
	struct fixture *f = *state;
	const struct dir_ops *ops = node_dir(f->snapshots)->ops;
	struct node *first, *time, *again;
	struct stat st;

	assert_int_equal(make(f, "base"), 0);
	assert_int_equal(make(f, "base"), -EEXIST);
	assert_int_equal(make(f, "full"), -ENOSPC);
	assert_int_equal(ops->count(f->snapshots), 1);
	first = look(f->snapshots, "base");
	time = look(first, "time");
	assert_int_equal(ops->rename(f->snapshots, "base", "old", NULL), 0);
	again = look(f->snapshots, "old");
	assert_ptr_equal(again, first);
	node_put(again);
	assert_int_equal(make(f, "base"), 0);
	again = look(f->snapshots, "base");
	assert_int_not_equal(again->ino, first->ino);
	assert_int_equal(ops->remove(f->snapshots, "old", &me, NULL), 0);
	assert_int_equal(ops->remove(f->snapshots, "old", &me, NULL), -ENOENT);
	assert_int_equal(node_stat(time, &st), -ENOENT);
	assert_int_equal(node_stat(again, &st), 0);
	node_put(again);
	node_put(time);
	node_put(first);
}

static void words_go_to_the_nearest_error(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct node *s, *image;

	assert_int_equal(make(f, "base"), 0);
	s = look(f->snapshots, "base");
	image = look(s, "memory");
	err_set(&err, -EIO, "gone bad");
	node_complain(image, "memory", &err);
	assert_string_equal(f->machine->snapshots[0]->error, "EIO memory: gone bad\n");
	assert_string_equal(f->machine->error, "");
	node_complain(f->snapshots, "mkdir x", &err);
	assert_string_equal(f->machine->error, "EIO mkdir x: gone bad\n");
	node_put(image);
	node_put(s);
}

static uint64_t queued(struct fixture *f)
{
	struct notifier_stats stats;

	notifier_stats(f->fs->notifier, &stats);
	return stats.queued;
}

static void watchers_hear_what_no_client_did(void **state)
{
	struct fixture *f = *state;
	struct node *s, *archive;
	unsigned generation;
	uint64_t before;

	atomic_fetch_add(&f->snapshots->lookups, 1);
	before = queued(f);
	assert_int_equal(make(f, "base"), 0);
	assert_int_equal(queued(f), before); /* the kernel tells of a client's own */
	assert_int_equal(machine_snapshot_make(f->machine, "job", &me, NULL, NULL), 0);
	assert_int_equal(queued(f), before + 1);
	s = look(f->snapshots, "base");
	archive = look(s, "archive");
	generation = atomic_load(&archive->generation);
	assert_int_equal(snapshot_command_run(s->snapshot, "archive", &me, NULL), 0);
	assert_int_not_equal(atomic_load(&archive->generation), generation);
	bytes_are(archive, "archive");
	node_put(archive);
	node_put(s);
	atomic_fetch_sub(&f->snapshots->lookups, 1);
}

/* The kernel keeps a directory locked while it waits for a mkdir in it. */
static void the_lock_of_a_long_mkdir_is_known(void **state)
{
	struct fixture *f = *state;
	_cleanup_node_ struct node *state_file = look(f->m, "state"), *s = NULL, *time = NULL;
	struct own_op own, quick;

	assert_int_equal(make(f, "base"), 0);
	s = look(f->snapshots, "base");
	time = look(s, "time");
	assert_false(own_takes_long(time));
	own_begin(&own, f->snapshots, "slow");
	own_begin(&quick, f->m->parent, "n");
	assert_true(own_takes_long(f->snapshots));
	assert_true(own_takes_long(time));
	assert_false(own_takes_long(state_file));
	own_end(&quick);
	own_end(&own);
	assert_false(own_takes_long(time));
}

/* --- archives ---------------------------------------------------------------------------- */

static struct handle *open_archive(struct fixture *f, int flags)
{
	struct node *n = look(f->m, "archive");
	struct handle *h = handle_new(n, flags);

	node_put(n);
	assert_int_equal(handle_open(h, &me), 0);
	return h;
}

static int put(struct handle *h, const char *text, uint64_t offset)
{
	struct err err = ERR_INIT;

	return kind_archive.write(h, text, strlen(text), offset, &me, &err);
}

static int flush(struct handle *h)
{
	struct err err = ERR_INIT;

	return kind_archive.flush(h, &me, &err);
}

static void an_archive_in_pieces_is_taken_at_the_flush(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_archive(f, O_WRONLY | O_TRUNC);
	struct stat st;
	char byte;

	assert_int_equal(flush(h), 0); /* the shell's dup2() */
	assert_int_equal(put(h, "all of ", 0), 0);
	assert_int_equal(put(h, "it END", 7), 0);
	assert_string_equal(f->machine->imported, "");
	assert_int_equal(flush(h), 0);
	assert_string_equal(f->machine->imported, "all of it END");
	assert_int_equal(flush(h), 0);
	assert_int_equal(kind_archive.read(h, &byte, 1, 0), 0);
	assert_int_equal(node_stat(h->node, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	handle_put(h);
	h = open_archive(f, O_WRONLY);
	assert_int_equal(put(h, "second END", 0), -EBUSY);
	assert_string_equal(f->machine->error, "EBUSY archive: not a new machine\n");
	assert_int_equal(put(h, "x", 10), -EBUSY);
	assert_int_equal(flush(h), -EBUSY);
	handle_put(h);
}

static void what_is_no_archive_is_refused(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_archive(f, O_WRONLY);

	assert_int_equal(put(h, "cut", 0), 0);
	assert_int_equal(flush(h), -EINVAL);
	assert_string_equal(f->machine->error, "EINVAL archive: it ends at byte 3\n");
	handle_put(h);
	h = open_archive(f, O_WRONLY);
	assert_int_equal(put(h, "with", 0), 0);
	assert_int_equal(put(h, "a hole END", 10), -EINVAL);
	assert_int_equal(put(h, "END", 4), -EINVAL);
	assert_int_equal(flush(h), -EINVAL);
	handle_put(h);
	h = open_archive(f, O_WRONLY);
	assert_int_equal(put(h, "given up", 0), 0);
	handle_put(h); /* its client and the kernel are gone */
	assert_string_equal(f->machine->imported, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_snapshot_shows_what_was, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(nothing_of_it_is_written, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_name_may_come_again, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(words_go_to_the_nearest_error, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(watchers_hear_what_no_client_did, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(the_lock_of_a_long_mkdir_is_known, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_archive_in_pieces_is_taken_at_the_flush, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(what_is_no_archive_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
