// SPDX-License-Identifier: ISC
/*
 * Snapshots of machines that stand still: taken, named, renamed, deleted, gone back to; what a
 * daemon that was killed leaves, and what is damaged. Those with memory are made by hand.
 */
#include "snapshot_test.h"

static void assert_parent(struct machine *m, const char *name, const char *wanted)
{
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, name);
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	snapshot_parent_show(s, &sb);
	assert_string_equal(sb.data ? sb.data : "", wanted);
}

static void drop(struct machine *m, const char *name)
{
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, name);
	struct err err = ERR_INIT;

	if (machine_snapshot_remove(m, s, &root_caller, &err) < 0)
		fail_msg("rmdir %s: %s", name, err.text);
	assert_false(snapshot_alive(s));
}

static struct machine *again(struct fixture *f, const char *name)
{
	struct machine *m;

	reopen_model(f);
	m = model_machine_get(f->model, name);
	assert_non_null(m);
	return m;
}

/* --- without disks ---------------------------------------------------------------------------
 */

static void it_has_a_life(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;
	struct snapshot *s;

	assert_int_equal(put(m, "cpus", "3", NULL), 0);
	s = take(m, "base");
	assert_int_equal(put(m, "cpus", "2", NULL), 0);
	assert_int_equal(machine_snapshot_count(m), 1);
	snapshot_state_show(s, &sb);
	assert_string_equal(sb.data, "stopped");
	strbuf_reset(&sb);
	assert_int_equal(snapshot_config_show(s, &sb), 0);
	assert_non_null(strstr(sb.data, "cpus = 3;"));
	assert_int_equal(snapshot_memory_size(s), 0);
	assert_int_equal(snapshot_core_size(s), 0);
	assert_int_equal(snapshot_pause_ns(s), 0);
	assert_int_equal(machine_snapshot_rename(m, s, "first", &err), 0);
	assert_null(machine_snapshot_get(m, "base"));
	snapshot_put(s);
	machine_put(m);

	m = again(f, "m");
	s = need(m, "first");
	strbuf_reset(&sb);
	assert_int_equal(snapshot_config_show(s, &sb), 0);
	assert_non_null(strstr(sb.data, "cpus = 3;"));
	snapshot_put(s);
	drop(m, "first");
	assert_int_equal(machine_snapshot_count(m), 0);
	assert_int_equal(count_entries(f, "state/machines/m/snapshots"), 0);
	machine_put(m);
}

static void names_are_checked(void **state)
{
	static const char *const bad[] = {"", ".", "..", ".new-x", "a/b", "a b", "-a"};
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;
	char longest[SNAPSHOT_NAME_MAX + 2];
	struct snapshot *s;

	for (size_t i = 0; i < nitems(bad); i++)
		assert_int_equal(machine_snapshot_make(m, bad[i], &root_caller, NULL, &err),
				 -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(machine_snapshot_make(m, longest, &root_caller, NULL, &err), -EINVAL);
	longest[SNAPSHOT_NAME_MAX] = '\0';
	snapshot_put(take(m, longest));
	s = take(m, "a");
	assert_int_equal(machine_snapshot_make(m, "a", &root_caller, NULL, &err), -EEXIST);
	assert_error(m, "EEXIST");
	assert_int_equal(machine_snapshot_rename(m, s, longest, &err), -EEXIST);
	assert_int_equal(machine_snapshot_rename(m, s, "x/y", &err), -EINVAL);
	assert_int_equal(machine_snapshot_count(m), 2);
	drop(m, "a");
	assert_int_equal(machine_snapshot_rename(m, s, "b", &err), -ENOENT);
	assert_int_equal(machine_snapshot_remove(m, s, &root_caller, &err), -ENOENT);
	snapshot_put(s);
	machine_put(m);
}

static void a_machine_goes_after_its_snapshots(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;

	snapshot_put(take(m, "one"));
	snapshot_put(take(m, "two"));
	assert_int_equal(model_machine_undefine(f->model, m, &err), -EBUSY);
	assert_non_null(strstr(err.text, "one, two"));
	assert_int_equal(model_machine_rename(f->model, m, "n", &err), 0);
	machine_put(m);
	m = again(f, "n");
	assert_int_equal(machine_snapshot_count(m), 2);
	drop(m, "one");
	assert_int_equal(model_machine_undefine(f->model, m, &err), -EBUSY);
	drop(m, "two");
	assert_int_equal(model_machine_undefine(f->model, m, &err), 0);
	machine_put(m);
	assert_int_equal(count_entries(f, "state/machines"), 0);
}

static void parents_follow(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	_cleanup_(snapshot_putp) struct snapshot *b = NULL;
	struct err err = ERR_INIT;

	snapshot_put(take(m, "a"));
	b = take(m, "b");
	snapshot_put(take(m, "c"));
	assert_parent(m, "a", "");
	assert_parent(m, "b", "a");
	assert_parent(m, "c", "b");
	assert_int_equal(machine_snapshot_rename(m, b, "middle", &err), 0);
	assert_parent(m, "c", "middle");
	drop(m, "middle");
	assert_parent(m, "c", "a");
	machine_put(m);
	snapshot_put(take_ptr(b));
	m = again(f, "m");
	assert_parent(m, "a", "");
	assert_parent(m, "c", "a");
	drop(m, "c");
	snapshot_put(take(m, "d"));
	assert_parent(m, "d", "a");
	machine_put(m);
}

static void they_come_in_order(void **state)
{
	static const char *const names[] = {"z", "m", "a", "q"};
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");

	for (size_t i = 0; i < nitems(names); i++)
		snapshot_put(take(m, names[i]));
	for (int round = 0; round < 2; round++) {
		uint64_t cursor = 0;
		struct snapshot *s;
		size_t n = 0;

		for (; (s = machine_snapshot_next(m, &cursor)); n++) {
			char name[SNAPSHOT_NAME_MAX + 1];

			snapshot_name(s, name);
			assert_string_equal(name, names[n]);
			snapshot_put(s);
		}
		assert_int_equal(n, nitems(names));
		machine_put(m);
		m = again(f, "m");
	}
	machine_put(m);
}

static void it_is_not_deleted_while_it_is_used(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct snapshot *s = take(m, "base");
	struct err err = ERR_INIT;

	assert_int_equal(snapshot_use(s, &err), 0);
	assert_int_equal(machine_snapshot_remove(m, s, &root_caller, &err), -EBUSY);
	snapshot_unuse(s);
	assert_int_equal(snapshot_claim(s, "archive", &err), 0);
	assert_int_equal(machine_snapshot_remove(m, s, &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "archive"));
	snapshot_unclaim(s);
	snapshot_put(s);
	drop(m, "base");
	machine_put(m);
}

/* --- what is on disk -------------------------------------------------------------------------
 */

static void left_overs_are_removed(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");

	snapshot_put(take(m, "base"));
	machine_put(m);
	close_model(f);
	make_dir(f, "state/machines/m/snapshots/.new-1");
	write_file(f, "state/machines/m/snapshots/.new-1/state", "x");
	write_file(f, "state/machines/m/snapshots/.new-1/.meta.new", "x");
	make_dir(f, "state/machines/m/snapshots/.trash-2");
	write_file(f, "state/machines/m/snapshots/.trash-2/meta", "x");
	open_model(f);
	assert_int_equal(count_entries(f, "state/machines/m/snapshots"), 1);
	m = model_machine_get(f->model, "m");
	assert_int_equal(machine_snapshot_count(m), 1);
	machine_put(m);
}

static void a_damaged_one_is_told_of_and_left(void **state)
{
	static const char *const metas[] = {
	    "",
	    "snapshot 1\n",
	    "snapshot 2\nid " SNAP_ID "\ntime 1.000000000\nwas stopped\ncpus 0\n",
	    "snapshot 1\nid ../..\ntime 1.000000000\nwas stopped\ncpus 0\n",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.0\nwas stopped\ncpus 0\n",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.000000000\nwas starting\ncpus 0\n",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.000000000\nwas running\ncpus 0\n",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.000000000\nwas stopped\ncpus 9999999\n",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.000000000\nwas stopped\ncpus 0",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.000000000\nwas stopped\ncpus 0\nother 1\n",
	    "snapshot 1\nid " SNAP_ID "\ntime 1.000000000\nwas running\ncpus 1\n",
	};
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;

	snapshot_put(take(m, "good"));
	snapshot_put(take(m, "bad"));
	machine_put(m);
	for (size_t i = 0; i < nitems(metas); i++) {
		close_model(f);
		write_file(f, "state/machines/m/snapshots/bad/meta", metas[i]);
		open_model(f);
		m = model_machine_get(f->model, "m");
		assert_int_equal(machine_snapshot_count(m), 1);
		assert_error(m, "snapshot bad is damaged: ");
		assert_true(exists(f, "state/machines/m/snapshots/bad/config"));
		assert_int_equal(machine_snapshot_make(m, "bad", &root_caller, NULL, &err),
				 -EEXIST);
		machine_put(m);
	}
	m = model_machine_get(f->model, "m");
	drop(m, "good");
	assert_int_equal(model_machine_undefine(f->model, m, &err), 0);
	machine_put(m);
	assert_int_equal(count_entries(f, "state/machines"), 0);
}

/* --- disks -----------------------------------------------------------------------------------
 */

static void restore(struct machine *m, const char *name)
{
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, name);
	struct err err = ERR_INIT;

	if (snapshot_command_run(s, "restore", &root_caller, &err) < 0)
		fail_msg("restore %s: %s", name, err.text);
}

static void disks_go_back(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");

	make_disk(f, m, "root", 'a');
	snapshot_put(take(m, "one"));
	fill_disk(m, "root", 'b');
	snapshot_put(take(m, "two"));
	fill_disk(m, "root", 'c');
	assert_disk(m, "root", 'c');
	assert_snapshot_disk(m, "one", "root", 'a');
	assert_snapshot_disk(m, "two", "root", 'b');
	restore(m, "one");
	assert_disk(m, "root", 'a');
	assert_snapshot_disk(m, "two", "root", 'b');
	fill_disk(m, "root", 'd');
	snapshot_put(take(m, "three"));
	assert_parent(m, "three", "one");
	machine_put(m);

	m = again(f, "m");
	assert_disk(m, "root", 'd');
	restore(m, "two");
	assert_disk(m, "root", 'b');
	assert_snapshot_disk(m, "one", "root", 'a');
	assert_snapshot_disk(m, "three", "root", 'd');
	drop(m, "one");
	assert_disk(m, "root", 'b');
	assert_snapshot_disk(m, "two", "root", 'b');
	assert_snapshot_disk(m, "three", "root", 'd');
	drop(m, "two");
	drop(m, "three");
	assert_disk(m, "root", 'b');
	machine_put(m);
	m = again(f, "m");
	assert_disk(m, "root", 'b');
	machine_put(m);
}

static void assert_no_restore(struct machine *m, const char *name, const char *words)
{
	_cleanup_(snapshot_putp) struct snapshot *s = need(m, name);
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(snapshot_command_run(s, "restore", &root_caller, &err), -EBUSY);
	if (!strstr(err.text, words))
		fail_msg("'%s', not '%s'", err.text, words);
	snapshot_error_show(s, &sb);
	assert_non_null(strstr(sb.data, words));
}

static void another_machine_does_not_go_back(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct err err = ERR_INIT;

	make_disk(f, m, "root", 'a');
	snapshot_put(take(m, "base"));
	assert_int_equal(put(m, "cpus", "2", NULL), 0);
	restore(m, "base"); /* without memory it does not matter */
	make_disk(f, m, "data", 'z');
	assert_no_restore(m, "base", "disk data was not there");
	assert_int_equal(machine_disk_remove(m, "data", &root_caller, &err), 0);
	restore(m, "base");
	assert_int_equal(machine_disk_remove(m, "root", &root_caller, &err), 0);
	assert_no_restore(m, "base", "disk root is missing");
	make_disk(f, m, "root", 'a');
	restore(m, "base");
	assert_disk(m, "root", 'a');
	machine_put(m);
}

/* --- with memory -----------------------------------------------------------------------------
 */

/* A snapshot "live" of machine m with 64 MiB, as if its guest had run. */
static void make_live(struct fixture *f)
{
	struct machine *m = need_machine(f, "m");
	struct vmm_vcpu_state registers = {.rip = 0x1234};
	char path[200];
	int fd;

	assert_int_equal(put(m, "memory", "64M", NULL), 0);
	snapshot_put(take(m, "live"));
	machine_put(m);
	close_model(f);
	make_memory(f, 64u << 20);
	write_state(f, "state/machines/m/snapshots/live/state");
	write_file(f, "state/machines/m/snapshots/live/memory",
		   "memory 1 raw 67108864\nfile " MEM_ID "\nextent 0 67108864 0 0\n");
	write_file(f, "state/machines/m/snapshots/live/meta",
		   "snapshot 1\nid " SNAP_ID
		   "\ntime 1700000000.000000005\nwas running\npause_ns 7\ncpus 1\n");
	snprintf(path, sizeof(path), "%s/state/machines/m/snapshots/live/registers", f->root);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(file_write_all(fd, &registers, sizeof(registers)), 0);
	close(fd);
	open_model(f);
}

static void memory_is_there(void **state)
{
	struct fixture *f = *state;
	struct machine *m;
	struct snapshot *s;
	struct content *content;
	struct err err = ERR_INIT;
	char bytes[4], magic[4];

	make_live(f);
	m = model_machine_get(f->model, "m");
	s = need(m, "live");
	assert_int_equal(snapshot_time(s).tv_nsec, 5);
	assert_int_equal(snapshot_pause_ns(s), 7);
	assert_int_equal(snapshot_memory_size(s), 64 << 20);
	assert_int_equal(snapshot_memory_open(s, &content, &err), 0);
	assert_int_equal(content_read(content, bytes, 4, 8192), 4);
	assert_memory_equal(bytes, "here", 4);
	content_close(content);
	assert_true(snapshot_core_size(s) > 64 << 20);
	assert_int_equal(snapshot_core_open(s, &content, &err), 0);
	assert_int_equal(content_size(content), snapshot_core_size(s));
	assert_int_equal(content_read(content, magic, 4, 0), 4);
	assert_memory_equal(magic, "\177ELF", 4);
	assert_int_equal(content_read(content, bytes, 4, content_size(content) - (64 << 20) + 8192),
			 4);
	assert_memory_equal(bytes, "here", 4);
	content_close(content);
	snapshot_put(s);
	drop(m, "live");
	assert_int_equal(count_entries(f, "state/layers"), 0);
	machine_put(m);
}

/* The VMM is /bin/false: it is saved at the snapshot, and stays so. */
static void it_is_saved_at_the_snapshot(void **state)
{
	struct fixture *f = *state;
	struct machine *m;
	struct snapshot *s;
	struct err err = ERR_INIT;

	make_live(f);
	m = model_machine_get(f->model, "m");
	s = need(m, "live");
	assert_int_equal(put(m, "cpus", "2", NULL), 0);
	assert_int_equal(snapshot_command_run(s, "restore", &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "cpus was 1, is 2"));
	assert_int_equal(machine_state(m), MACHINE_DEFINED);
	assert_int_equal(put(m, "cpus", "1", NULL), 0);
	assert_true(snapshot_command_run(s, "restore", &root_caller, &err) < 0);
	assert_non_null(strstr(err.text, "it is saved at the snapshot"));
	assert_int_equal(machine_state(m), MACHINE_SAVED);
	assert_true(exists(f, "state/machines/m/saved"));
	assert_false(exists(f, "state/machines/m/saved-layers"));
	snapshot_put(s);
	drop(m, "live"); /* what it is saved with stays */
	assert_true(exists(f, "state/layers/" MEM_ID ".mem"));
	machine_put(m);

	m = again(f, "m");
	assert_int_equal(machine_state(m), MACHINE_SAVED);
	assert_true(exists(f, "state/layers/" MEM_ID ".mem"));
	assert_int_equal(machine_command_run(m, "snapshot no", &root_caller, &err), -EBUSY);
	assert_non_null(strstr(err.text, "saved"));
	assert_int_equal(machine_command_run(m, "discard", &root_caller, &err), 0);
	assert_int_equal(machine_state(m), MACHINE_STOPPED);
	assert_false(exists(f, "state/layers/" MEM_ID ".mem"));
	assert_false(exists(f, "state/machines/m/saved"));
	assert_false(exists(f, "state/machines/m/saved-memory"));
	machine_put(m);
}

/* A daemon was killed when `saved` had its name and the machine not yet its layers. */
static void layers_follow_a_saved_state(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	_cleanup_(layer_set_free) struct layer_set set = {0};
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;
	struct snapshot *s;

	make_disk(f, m, "root", 'a');
	s = take(m, "base");
	fill_disk(m, "root", 'b');
	layer_set_format(&s->layers, &sb);
	snapshot_put(s);
	machine_put(m);
	close_model(f);
	make_memory(f, 64u << 20);
	write_state(f, "state/machines/m/saved");
	write_file(f, "state/machines/m/saved-memory",
		   "memory 1 raw 67108864\nfile " MEM_ID "\nextent 0 67108864 0 0\n");
	write_file(f, "state/machines/m/saved-layers", sb.data ? sb.data : "");
	open_model(f);
	m = model_machine_get(f->model, "m");
	assert_int_equal(machine_state(m), MACHINE_SAVED);
	assert_false(exists(f, "state/machines/m/saved-layers"));
	assert_int_equal(machine_layers(m, &set), 0);
	assert_int_equal(set.n, 0); /* the source alone */
	machine_put(m);

	m = model_machine_get(f->model, "m");
	assert_int_equal(machine_command_run(m, "discard", &root_caller, NULL), 0);
	machine_put(m);
	close_model(f);
	write_file(f, "state/machines/m/saved-layers", "of no saved state");
	open_model(f);
	assert_false(exists(f, "state/machines/m/saved-layers"));
	m = model_machine_get(f->model, "m");
	assert_disk(m, "root", 'a');
	machine_put(m);
}

/* saved-memory of the program before this one: memory itself. */
static void memory_of_before_becomes_a_layer(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct saved_opened saved;
	struct err err = ERR_INIT;
	char path[200], bytes[4];
	int fd;

	machine_put(m);
	close_model(f);
	write_state(f, "state/machines/m/saved");
	snprintf(path, sizeof(path), "%s/state/machines/m/saved-memory", f->root);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 5ll << 30), 0);
	assert_int_equal(file_pwrite_all(fd, "high", 4, (4ll << 30) + 4096), 0);
	close(fd);
	open_model(f);
	for (int round = 0; round < 2; round++) {
		m = model_machine_get(f->model, "m");
		assert_int_equal(machine_state(m), MACHINE_SAVED);
		assert_int_equal(count_entries(f, "state/layers"), 1);
		if (saved_open(m, &saved, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(saved.memory->n_extents, 2);
		assert_int_equal(file_pread_all(saved.fds[0], bytes, 4, (4ll << 30) + 4096), 0);
		assert_memory_equal(bytes, "high", 4);
		saved_close(&saved);
		machine_put(m);
		reopen_model(f);
	}
	m = model_machine_get(f->model, "m");
	assert_int_equal(machine_command_run(m, "discard", &root_caller, &err), 0);
	assert_int_equal(count_entries(f, "state/layers"), 0);
	machine_put(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(it_has_a_life),
	    model_test(names_are_checked),
	    model_test(a_machine_goes_after_its_snapshots),
	    model_test(parents_follow),
	    model_test(they_come_in_order),
	    model_test(it_is_not_deleted_while_it_is_used),
	    model_test(left_overs_are_removed),
	    model_test(a_damaged_one_is_told_of_and_left),
	    model_test(disks_go_back),
	    model_test(another_machine_does_not_go_back),
	    model_test(memory_is_there),
	    model_test(it_is_saved_at_the_snapshot),
	    model_test(layers_follow_a_saved_state),
	    model_test(memory_of_before_becomes_a_layer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
