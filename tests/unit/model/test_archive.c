// SPDX-License-Identifier: ISC
/*
 * Archives: what goes in comes out again; what is cut short, flipped, or made by somebody hostile
 * is refused in words, and the machine that it was written to is as it was, without left-overs.
 */
#include "snapshot_test.h"

#include "archive.h"

#define MEMORY (64u << 20)
#define PAGE   4096u

/* --- archives of a snapshot --------------------------------------------------------------------
 */

static void drop_machine(struct fixture *f, const char *name)
{
	_cleanup_(machine_putp) struct machine *m = model_machine_get(f->model, name);
	struct err err = ERR_INIT;

	if (machine_state(m) == MACHINE_SAVED)
		machine_command_run(m, "discard", &root_caller, &err);
	if (model_machine_undefine(f->model, m, &err) < 0)
		fail_msg("%s: %s", name, err.text);
}

static size_t files_in(struct fixture *f, const char *dir)
{
	char path[200];
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/state/%s", f->root, dir);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	return n;
}

static int import_pieces(struct machine *m, const char *bytes, size_t len, size_t piece,
			 struct err *err)
{
	struct archive_import *im = NULL;
	int r = machine_archive_begin(m, &root_caller, &im, err);

	for (size_t at = 0; r == 0 && at < len; at += piece)
		r = machine_archive_write(im, bytes + at, len - at < piece ? len - at : piece, err);
	if (r == 0)
		return machine_archive_end(im, err);
	machine_archive_abort(im);
	return r;
}

static int import(struct machine *m, const char *bytes, size_t len, struct err *err)
{
	return import_pieces(m, bytes, len, 100000, err);
}

/* Refused in words; nothing is left. */
static int refused(struct fixture *f, struct machine *m, const char *bytes, size_t len)
{
	size_t layers = files_in(f, "layers");
	struct err err = ERR_INIT;
	int r = import(m, bytes, len, &err);

	assert_true(r == -EINVAL || r == -EOPNOTSUPP || r == -ERANGE);
	assert_true(strlen(err.text) > 10);
	assert_int_equal(machine_state(m), MACHINE_DEFINED);
	assert_false(machine_disk_exists(m, "root"));
	assert_int_equal(files_in(f, "images"), 0);
	assert_int_equal(files_in(f, "layers"), layers);
	return r;
}

static char *archive_of(struct fixture *f, struct machine *m, const char *name, size_t *len)
{
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, name);
	struct err err = ERR_INIT;
	char *bytes;
	int fd;

	(void)f;
	if (snapshot_command_run(s, "archive", &root_caller, &err) < 0)
		fail_msg("%s", err.text);
	*len = snapshot_archive_size(s);
	bytes = malloc(*len);
	fd = snapshot_archive_open(s, &err);
	assert_true(fd >= 0);
	assert_int_equal(file_pread_all(fd, bytes, *len, 0), 0);
	close(fd);
	return bytes;
}

/* Disks alone, of a machine with one that is not all zeroes and one that is. */
static char *still_archive(struct fixture *f, size_t *len)
{
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "from");

	make_disk(f, m, "root", 'x');
	make_disk(f, m, "empty", 0);
	snapshot_put(take(m, "base"));
	return archive_of(f, m, "base", len);
}

static void disks_come_out_as_they_went_in(void **state)
{
	struct fixture *f = *state;
	size_t len, pieces[] = {1, 7, 4096, 1 << 20};
	_cleanup_free_ char *bytes = still_archive(f, &len);

	for (size_t i = 0; i < nitems(pieces); i++) {
		struct machine *m = need_machine(f, "to");
		struct err err = ERR_INIT;

		if (import_pieces(m, bytes, len, pieces[i], &err) < 0)
			fail_msg("by %zu: %s", pieces[i], err.text);
		assert_int_equal(machine_state(m), MACHINE_DEFINED);
		assert_disk(m, "root", 'x');
		assert_disk(m, "empty", 0);
		assert_int_equal(files_in(f, "images"), 2);
		assert_int_equal(import(m, bytes, len, &err), -EBUSY); /* it has disks now */
		machine_put(m);
		drop_machine(f, "to");
		assert_int_equal(files_in(f, "images"), 0);
	}
}

static void whatever_is_cut_off_is_refused(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ char *bytes = still_archive(f, &len);
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "to");

	for (size_t n = 0; n < len; n += n < 64 || n + 64 > len ? 1 : 13)
		assert_int_equal(refused(f, m, bytes, n), -EINVAL);
}

static void whatever_is_flipped_is_refused(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ char *bytes = still_archive(f, &len);
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "to");

	for (size_t at = 0; at < len; at++) {
		char bit = (char)(1 << at % 8);

		bytes[at] ^= bit;
		refused(f, m, bytes, len);
		bytes[at] ^= bit;
	}
	bytes[len - 1] ^= 1;
	refused(f, m, bytes, len);
}

/* --- archives by hand ------------------------------------------------------------------------- */

struct hand {
	int fd;
	struct archive_out *out;
	struct archive_meta meta;
};

static void hand_open(struct fixture *f, struct hand *h)
{
	char path[200];
	struct err err = ERR_INIT;

	snprintf(path, sizeof(path), "%s/by-hand", f->root);
	h->fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(h->fd >= 0);
	assert_int_equal(archive_out_open(&h->out, h->fd, &err), 0);
}

static void hand_put(struct hand *h, enum archive_kind kind, const char *name, uint64_t offset,
		     const void *data, size_t len)
{
	struct archive_record record = {.kind = kind, .bytes = (uint32_t)len, .offset = offset};
	struct err err = ERR_INIT;

	strcpy(record.name, name);
	assert_int_equal(archive_out_put(h->out, &record, data, &err), 0);
}

static void hand_texts(struct hand *h, const char *config)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	archive_meta_format(&h->meta, &sb);
	hand_put(h, ARCHIVE_META, "", 0, sb.data, sb.len);
	hand_put(h, ARCHIVE_CONFIG, "", 0, config, strlen(config));
}

static char *hand_end(struct hand *h, size_t *len)
{
	struct err err = ERR_INIT;
	char *bytes;

	assert_int_equal(archive_out_end(h->out, &err), 0);
	archive_out_free(h->out);
	*len = (size_t)lseek(h->fd, 0, SEEK_END);
	bytes = malloc(*len);
	assert_int_equal(file_pread_all(h->fd, bytes, *len, 0), 0);
	close(h->fd);
	return bytes;
}

static const struct archive_meta good = {.machine = "m",
					 .snapshot = "s",
					 .was = "running",
					 .time = "1.000000000",
					 .cpus = 1,
					 .memory = MEMORY,
					 .state = 128};
static const char config[] = "memory = \"64M\";\ncpus = 1;\n";
static const char a_state[128] = VMM_STATE_MAGIC;

/* One that is good, but for what @spoil does instead of memory and state. */
static int by_hand(struct fixture *f, struct machine *m, void (*fill)(struct hand *h))
{
	struct hand h = {.meta = good};
	_cleanup_free_ char *bytes = NULL;
	size_t len;

	hand_open(f, &h);
	fill(&h);
	bytes = hand_end(&h, &len);
	return refused(f, m, bytes, len);
}

static char page[ARCHIVE_PIECE_MAX] = "page";

static void memory_becomes_a_saved_state(void **state)
{
	struct fixture *f = *state;
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "to");
	struct hand h = {.meta = good};
	_cleanup_free_ char *bytes = NULL;
	struct err err = ERR_INIT;
	size_t len;

	hand_open(f, &h);
	hand_texts(&h, config);
	for (uint64_t at = 0; at < MEMORY; at += 17 * PAGE) /* more runs than a map has extents */
		hand_put(&h, ARCHIVE_MEMORY, "", at, page, PAGE);
	hand_put(&h, ARCHIVE_STATE, "", 0, a_state, sizeof(a_state));
	bytes = hand_end(&h, &len);
	if (import(m, bytes, len, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(machine_state(m), MACHINE_SAVED);
	assert_int_equal(files_in(f, "images"), 0);
	assert_int_equal(files_in(f, "layers"), 1);
	machine_put(m);
	reopen_model(f);
	m = need_machine(f, "to");
	assert_int_equal(machine_state(m), MACHINE_SAVED);
	for (unsigned i = 0; i < m->saved_memory->n_extents; i++)
		assert_int_equal(m->saved_memory->extents[i].gpa,
				 m->saved_memory->extents[i].offset);
	assert_int_equal(m->saved_memory->bytes, MEMORY);
	assert_int_equal(import(m, bytes, len, &err), -EBUSY);
	drop_machine(f, "to");
	assert_int_equal(files_in(f, "layers"), 0);
}

static void fill_nothing(struct hand *h)
{
	(void)h;
}
static void fill_no_state(struct hand *h)
{
	hand_texts(h, config);
}
static void fill_other_state(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_STATE, "", 0, page, sizeof(a_state));
}
static void fill_used_state(struct hand *h)
{
	char used[128];

	memcpy(used, a_state, sizeof(used));
	used[VMM_STATE_USED_AT] = 1;
	hand_texts(h, config);
	hand_put(h, ARCHIVE_STATE, "", 0, used, sizeof(used));
}
static void fill_long_state(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_STATE, "", 0, a_state, sizeof(a_state));
	hand_put(h, ARCHIVE_STATE, "", sizeof(a_state), page, PAGE);
}
static void fill_gap_in_state(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_STATE, "", 8, a_state, sizeof(a_state) - 8);
}
static void fill_memory_beyond(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_MEMORY, "", MEMORY, page, PAGE);
}
static void fill_memory_far_beyond(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_MEMORY, "", (1ull << 62), page, PAGE);
}
static void fill_memory_overflow(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_MEMORY, "", UINT64_MAX - PAGE + 1, page, PAGE);
}
static void fill_memory_unaligned(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_MEMORY, "", 8, page, PAGE);
}
static void fill_memory_backwards(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_MEMORY, "", PAGE, page, PAGE);
	hand_put(h, ARCHIVE_MEMORY, "", PAGE, page, PAGE);
}
static void fill_other_memory(struct hand *h)
{
	h->meta.memory = 2 * MEMORY;
	hand_texts(h, config);
}
static void fill_other_cpus(struct hand *h)
{
	h->meta.cpus = 2;
	hand_texts(h, config);
}
static void fill_undefined_disk(struct hand *h)
{
	strcpy(h->meta.disks[h->meta.n_disks++].name, "root");
	h->meta.disks[0].bytes = 4096;
	hand_texts(h, config);
}
static void fill_unknown_disk(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_DISK, "root", 0, page, PAGE);
}
static void fill_disk_path(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_DISK, "../x", 0, page, PAGE);
}
static void fill_empty_piece(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_MEMORY, "", 0, page, 0);
}
static void fill_two_configs(struct hand *h)
{
	hand_texts(h, config);
	hand_put(h, ARCHIVE_CONFIG, "", 0, config, strlen(config));
}
static void fill_no_config(struct hand *h)
{
	hand_put(h, ARCHIVE_STATE, "", 0, a_state, sizeof(a_state));
}
static void fill_bad_config(struct hand *h)
{
	hand_texts(h, "memory = ;\n@include \"/etc/passwd\"\n");
}
static void fill_bad_meta(struct hand *h)
{
	hand_put(h, ARCHIVE_META, "", 0, "format = 1;\n", 12);
}
static void fill_later_meta(struct hand *h)
{
	hand_put(h, ARCHIVE_META, "", 0, "format = 2;\n", 12);
}

static void what_does_not_agree_is_refused(void **state)
{
	static void (*const fills[])(struct hand * h) = {
	    fill_nothing,	   fill_no_state,	   fill_other_state,
	    fill_used_state,	   fill_long_state,	   fill_gap_in_state,
	    fill_memory_beyond,	   fill_memory_far_beyond, fill_memory_overflow,
	    fill_memory_unaligned, fill_memory_backwards,  fill_other_memory,
	    fill_other_cpus,	   fill_undefined_disk,	   fill_unknown_disk,
	    fill_disk_path,	   fill_empty_piece,	   fill_two_configs,
	    fill_no_config,	   fill_bad_config,	   fill_bad_meta};
	struct fixture *f = *state;
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "to");

	for (size_t i = 0; i < nitems(fills); i++)
		assert_int_not_equal(by_hand(f, m, fills[i]), -EOPNOTSUPP);
	assert_int_equal(by_hand(f, m, fill_later_meta), -EOPNOTSUPP);
}

static void who_is_not_new_takes_none(void **state)
{
	struct fixture *f = *state;
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "to");
	struct caller other = {.uid = 4711, .gid = 4711, .pid = 1};
	struct archive_import *im = NULL, *second = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(machine_archive_begin(m, &other, &im, &err), -EACCES);
	assert_int_equal(machine_archive_begin(m, &root_caller, &im, &err), 0);
	assert_int_equal(machine_archive_begin(m, &root_caller, &second, &err), -EBUSY);
	assert_int_equal(model_machine_undefine(f->model, m, &err), -EBUSY);
	machine_archive_abort(im);
	snapshot_put(take(m, "base"));
	assert_int_equal(machine_archive_begin(m, &root_caller, &im, &err), -EBUSY);
}

/* A file of that name in the snapshot's directory. */
static bool snapshot_has(struct fixture *f, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/state/machines/from/snapshots/base/%s", f->root, name);
	return access(path, F_OK) == 0;
}

static void one_that_is_ended_leaves_the_one_before(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ char *bytes = still_archive(f, &len);
	_cleanup_(machine_putp) struct machine *m = need_machine(f, "from");
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, "base");
	struct err err = ERR_INIT;
	struct cancel cancel;
	char half[80], path[200];

	assert_non_null(bytes);
	snprintf(half, sizeof(half), ".archive-%s", s->id);
	cancel_init(&cancel);
	cancel_request(&cancel);
	assert_int_equal(snapshot_archive(s, NULL, &cancel, &err), -ECANCELED);
	cancel_destroy(&cancel);
	assert_int_equal(snapshot_archive_size(s), len);
	assert_false(snapshot_has(f, half));
	snprintf(path, sizeof(path), "%s/state/machines/from/snapshots/base/%s", f->root, half);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	snapshot_put(take_ptr(s));
	machine_put(take_ptr(m));
	reopen_model(f); /* as after a kill */
	assert_false(snapshot_has(f, half));
	assert_true(snapshot_has(f, "archive"));
}

/* What a daemon leaves that is killed goes when the next starts; what is a machine's stays. */
static void left_overs_go(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ char *bytes = still_archive(f, &len);
	struct machine *m = need_machine(f, "to");
	struct err err = ERR_INIT;
	char path[200];

	if (import(m, bytes, len, &err) < 0)
		fail_msg("%s", err.text);
	machine_put(m);
	snprintf(path, sizeof(path), "%s/state/images/.new-" SNAP_ID "-root.qcow2", f->root);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	snprintf(path, sizeof(path), "%s/state/images/" SNAP_ID "-root.qcow2", f->root);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(files_in(f, "images"), 4);
	reopen_model(f);
	assert_int_equal(files_in(f, "images"), 2);
	m = need_machine(f, "to");
	assert_disk(m, "root", 'x');
	machine_put(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(disks_come_out_as_they_went_in, setup, teardown),
	    cmocka_unit_test_setup_teardown(whatever_is_cut_off_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(whatever_is_flipped_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(memory_becomes_a_saved_state, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_does_not_agree_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(who_is_not_new_takes_none, setup, teardown),
	    cmocka_unit_test_setup_teardown(one_that_is_ended_leaves_the_one_before, setup,
					    teardown),
	    cmocka_unit_test_setup_teardown(left_overs_go, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
