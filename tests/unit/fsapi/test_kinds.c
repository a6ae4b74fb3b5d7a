// SPDX-License-Identifier: ISC
/* What each kind of file promises, through handles, without a mount. */
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
	struct node *a;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	_cleanup_node_ struct node *machines = NULL;

	f->model = fake_model();
	*state = f;
	if (fs_new(&f->fs, f->model) < 0)
		return -1;
	model_machine_define(f->model, "a", 0755, &me, NULL, NULL);
	return dir_lookup(f->fs->root, "machines", &machines) || dir_lookup(machines, "a", &f->a);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	node_put(f->a);
	assert_int_equal(atomic_load(&f->fs->n_handles), 0);
	assert_int_equal(atomic_load(&f->fs->n_nodes), 0);
	fs_free(f->fs);
	model_close(f->model);
	free(f);
	return 0;
}

static struct handle *open_file(struct fixture *f, const char *name, int flags)
{
	_cleanup_node_ struct node *n = NULL;
	struct handle *h;

	assert_int_equal(dir_lookup(f->a, name, &n), 0);
	h = handle_new(n, flags);
	if (n->row->kind->open(h, &me, NULL) < 0) {
		handle_put(h);
		return NULL;
	}
	h->opened = true;
	return h;
}

static int put(struct handle *h, const char *text, uint64_t offset)
{
	struct err err = ERR_INIT;

	return h->node->row->kind->write(h, text, strlen(text), offset, &me, &err);
}

static int flush(struct handle *h)
{
	struct err err = ERR_INIT;

	return h->node->row->kind->flush(h, &me, &err);
}

static void shows(struct fixture *f, const char *name, const char *wanted)
{
	struct handle *h = open_file(f, name, O_RDONLY);
	char buf[4096] = "";
	uint64_t size;

	assert_non_null(h);
	assert_int_equal(h->node->row->kind->read(h, buf, sizeof(buf) - 1, 0), strlen(wanted));
	assert_string_equal(buf, wanted);
	assert_int_equal(h->node->row->kind->size(h->node, &size), 0);
	assert_int_equal(size, strlen(wanted));
	handle_put(h);
}

static void error_says(struct fixture *f, const char *wanted)
{
	struct handle *h = open_file(f, "error", O_RDONLY);

	if (wanted)
		assert_non_null(strstr(h->text, wanted));
	else
		assert_int_equal(h->len, 0);
	handle_put(h);
}

/* --- attributes ----------------------------------------------------------------------- */

static void an_attribute_is_set_at_write(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "cpus", O_WRONLY | O_TRUNC);

	assert_int_equal(put(h, "3\n", 0), 0);
	shows(f, "cpus", "3\n");
	assert_int_equal(put(h, "4", 0), 0); /* no newline needed */
	shows(f, "cpus", "4\n");
	assert_int_equal(put(h, "5\n\n", 0), -EINVAL); /* only one is taken off */
	assert_int_equal(put(h, "x\n", 0), -EINVAL);
	error_says(f, "EINVAL cpus: ");
	shows(f, "cpus", "4\n");
	assert_int_equal(put(h, "7\n", 1000), 0); /* >> comes with the size */
	shows(f, "cpus", "7\n");
	error_says(f, NULL);
	handle_put(h);
	shows(f, "kernel", "\n");
}

static void an_attribute_may_come_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "cpus", O_WRONLY);

	assert_int_equal(put(h, "1", 0), 0);
	assert_int_equal(put(h, "2", 1), 0);
	shows(f, "cpus", "12\n");
	assert_int_equal(put(h, "\n", 2), 0);
	shows(f, "cpus", "12\n");
	assert_int_equal(put(h, "9\n", 3), 0); /* a line of its own: { echo; echo; } > cpus */
	shows(f, "cpus", "9\n");
	assert_int_equal(put(h, "8", 5), 0);
	assert_int_equal(put(h, "8", 6), -ERANGE); /* 88 */
	shows(f, "cpus", "8\n");
	handle_put(h);
}

static void an_attribute_has_no_nul_and_an_end(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "kernel", O_WRONLY);
	struct err err = ERR_INIT;
	char *big = calloc(1, ATTRIBUTE_MAX + 1);

	assert_int_equal(h->node->row->kind->write(h, "a\0b", 3, 0, &me, &err), -EINVAL);
	error_says(f, "EINVAL kernel: ");
	memset(big, 'x', ATTRIBUTE_MAX + 1);
	assert_int_equal(h->node->row->kind->write(h, big, ATTRIBUTE_MAX + 1, 0, &me, &err),
			 -EFBIG);
	error_says(f, "EFBIG kernel: ");
	shows(f, "kernel", "\n");
	free(big);
	handle_put(h);
}

static void a_reader_sees_the_value_as_of_open(void **state)
{
	struct fixture *f = *state;
	struct handle *r = open_file(f, "cpus", O_RDONLY);
	struct handle *w = open_file(f, "cpus", O_WRONLY);
	char buf[16];

	assert_int_equal(put(w, "23\n", 0), 0);
	assert_int_equal(r->node->row->kind->read(r, buf, 1, 0), 1);
	assert_int_equal(buf[0], '1');
	assert_int_equal(r->node->row->kind->read(r, buf, 16, 1), 1); /* of the same version */
	assert_int_equal(r->node->row->kind->read(r, buf, 16, 0),
			 3); /* back to the start: as now */
	assert_memory_equal(buf, "23\n", 3);
	handle_put(w);
	handle_put(r);
}

static void what_is_read_only_is_so_for_root(void **state)
{
	static const char *const names[] = {"state", "error",	   "README",	 "stats",
					    "core",  "memory.img", "console.old"};

	for (size_t i = 0; i < nitems(names); i++)
		assert_null(open_file(*state, names[i], O_WRONLY));
}

/* --- documents ---------------------------------------------------------------------------------
 */

static void a_document_is_taken_at_flush(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "config", O_WRONLY | O_TRUNC);

	assert_int_equal(flush(h), 0); /* the shell's dup2(), before any data */
	shows(f, "config", "cpus = 1;\n");
	assert_int_equal(put(h, "cpus", 0), 0);
	assert_int_equal(put(h, " = 2;", 4), 0);
	shows(f, "cpus", "1\n");
	assert_int_equal(flush(h), 0);
	shows(f, "cpus", "2\n");
	assert_int_equal(put(h, "\n# more\n", 9), 0); /* the next writer of the same open file */
	assert_int_equal(flush(h), 0);
	assert_int_equal(flush(h), 0);
	handle_put(h);
}

static void a_document_is_refused_whole(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "config", O_WRONLY | O_TRUNC);

	assert_int_equal(put(h, "cpus = = 4;", 0), 0);
	assert_int_equal(flush(h), -EINVAL);
	assert_int_equal(flush(h), 0); /* refused once */
	error_says(f, "EINVAL config: line 1");
	shows(f, "config", "cpus = 1;\n");
	handle_put(h);
}

static void a_document_has_a_limit(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "config", O_WRONLY | O_TRUNC);

	assert_int_equal(put(h, "cpus = 3;\n", 0), 0);
	assert_int_equal(put(h, "x", DOCUMENT_MAX), -EFBIG);
	error_says(f, "EFBIG config: ");
	assert_int_equal(put(h, "cpus = 3;\n", 0), -EFBIG);
	assert_int_equal(flush(h), -EFBIG); /* the part that came before is not taken */
	shows(f, "config", "cpus = 1;\n");
	handle_put(h);
}

static void a_document_may_be_changed_in_place(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "config", O_RDWR);

	assert_int_equal(put(h, "8", 7), 0); /* the digit */
	assert_int_equal(flush(h), 0);
	shows(f, "cpus", "8\n");
	handle_put(h);
	h = open_file(f, "config", O_WRONLY | O_TRUNC);
	assert_int_equal(put(h, "= 6;\n", 5), 0); /* out of order */
	assert_int_equal(put(h, "cpus ", 0), 0);
	assert_int_equal(flush(h), 0);
	shows(f, "cpus", "6\n");
	handle_put(h);
	h = open_file(f, "config", O_WRONLY | O_TRUNC);
	assert_int_equal(put(h, "cpus = 4;", 100), 0); /* a hole that stays */
	assert_int_equal(flush(h), -EINVAL);
	shows(f, "cpus", "6\n");
	handle_put(h);
}

static void truncation_begins_anew(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "config", O_WRONLY);

	assert_int_equal(h->node->row->kind->resize(h, 0), 0);
	assert_int_equal(flush(h), 0); /* no data: nothing is set */
	shows(f, "cpus", "1\n");
	assert_int_equal(put(h, "cpus = 7;", 0), 0);
	assert_int_equal(flush(h), 0);
	shows(f, "cpus", "7\n");
	handle_put(h);
}

/* --- commands, logs ------------------------------------------------------------------- */

static void each_line_is_a_command(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "ctl", O_WRONLY | O_TRUNC);
	struct err err = ERR_INIT;
	char *big = malloc(COMMAND_MAX + 2);

	assert_int_equal(put(h, "\n  \n# kill\n", 0), 0);
	assert_false(h->node->row->kind->write_waits(h, "# start\n\n", 9));
	assert_true(h->node->row->kind->write_waits(h, "#\nstart", 7));
	shows(f, "state", "defined\n");
	assert_int_equal(put(h, "start\nfly\nkill\n", 12345), -EINVAL);
	shows(f, "state", "running\n"); /* the first ran, the third did not */
	error_says(f, "EINVAL fly: ");
	assert_int_equal(h->node->row->kind->write(h, "ki\0ll", 5, 0, &me, &err), -EINVAL);
	memset(big, 'x', COMMAND_MAX + 1);
	big[COMMAND_MAX + 1] = '\0';
	assert_int_equal(put(h, big, 0), -EFBIG);
	assert_int_equal(put(h, "kill", 0), 0);
	shows(f, "state", "defined\n");
	shows(f, "ctl", "# start\n");
	free(big);
	handle_put(h);
}

static void typing_needs_a_guest(void **state)
{
	struct fixture *f = *state;
	struct handle *h = open_file(f, "console", O_WRONLY | O_APPEND);

	assert_int_equal(put(h, "hi\n", 99), -EBUSY);
	error_says(f, "EBUSY console: ");
	machine_command_run(f->a->m, "start", &me, NULL);
	assert_int_equal(put(h, "hi\n", 99), 0);
	assert_string_equal(f->a->m->typed, "hi\n");
	handle_put(h);
	shows(f, "console", "");
}

static void a_listed_row_is_there(void **state)
{
	struct fixture *f = *state;
	struct node *n = NULL;

	assert_int_equal(dir_lookup(f->a, "tty", &n), -ENOENT);
	machine_command_run(f->a->m, "start", &me, NULL);
	assert_int_equal(dir_lookup(f->a, "tty", &n), 0);
	node_put(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(an_attribute_is_set_at_write, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_attribute_may_come_in_pieces, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_attribute_has_no_nul_and_an_end, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_reader_sees_the_value_as_of_open, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_is_read_only_is_so_for_root, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_document_is_taken_at_flush, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_document_is_refused_whole, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_document_has_a_limit, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_document_may_be_changed_in_place, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(truncation_begins_anew, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(each_line_is_a_command, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(typing_needs_a_guest, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_listed_row_is_there, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
