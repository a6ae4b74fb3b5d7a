// SPDX-License-Identifier: ISC
/*
 * What is on disk: left-overs of a daemon that was killed, damaged files, a
 * second daemon, and a daemon killed at each of its system calls in turn.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "model_test.h"

static void all_of_it_survives_a_restart(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "web");
	struct machine_access access = {1001, 1002, 0750}, got;
	mode_t mode;

	assert_int_equal(put(m, "cpus", "3", NULL), 0);
	assert_int_equal(put(m, "cmdline", "a \"b\"", NULL), 0);
	assert_int_equal(machine_disk_add(m, "root", &root_caller, NULL), 0);
	assert_int_equal(machine_access_set(m, &access, NULL), 0);
	assert_int_equal(machine_file_mode_set(m, "disks/root/source", 0606, NULL), 0);
	assert_int_equal(machine_file_mode_set(m, "ctl", 0666, NULL), 0);
	machine_put(m);
	machine_put(need_machine(f, "other"));
	reopen_model(f);
	assert_int_equal(model_machine_count(f->model), 2);
	m = model_machine_get(f->model, "web");
	assert_value(m, "cpus", "3");
	assert_value(m, "cmdline", "a \"b\"");
	assert_true(machine_disk_exists(m, "root"));
	machine_access_get(m, &got);
	assert_int_equal(got.uid, 1001);
	assert_int_equal(got.gid, 1002);
	assert_int_equal(got.mode, 0750);
	assert_true(machine_file_mode_get(m, "ctl", &mode) && mode == 0666);
	assert_true(machine_file_mode_get(m, "disks/root/source", &mode) && mode == 0606);
	assert_false(machine_file_mode_get(m, "cpus", &mode));
	assert_int_equal(machine_state(m), MACHINE_DEFINED);
	machine_put(m);
}

static void left_overs_are_removed(void **state)
{
	struct fixture *f = *state;
	char path[200];

	machine_put(need_machine(f, "m"));
	close_model(f);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/machines/%s", f->state,
			 i ? ".new-6b3a41c8-0000-4000-8000-000000000001" : ".trash-1");
		assert_int_equal(mkdir(path, 0700), 0);
	}
	write_file(f, "state/machines/.trash-1/config", "cpus = 1;");
	write_file(f, "state/machines/m/.config.new", "cpus =");
	write_file(f, "state/machines/m/.access.new", "");
	open_model(f);
	assert_int_equal(model_machine_count(f->model), 1);
	assert_int_equal(count_entries(f, "state/machines"), 1);
	assert_int_equal(count_entries(f, "state/machines/m"), 1);
	close_model(f);
}

static void what_is_no_machine_is_left_alone(void **state)
{
	struct fixture *f = *state;

	close_model(f);
	write_file(f, "state/machines/a file", "of somebody");
	open_model(f);
	assert_int_equal(model_machine_count(f->model), 0);
	assert_true(exists(f, "state/machines/a file"));
}

static void a_damaged_definition_is_shown_and_repaired(void **state)
{
	struct fixture *f = *state;
	struct machine *m = need_machine(f, "m");
	struct strbuf sb = STRBUF_INIT;
	struct err err = ERR_INIT;

	machine_put(m);
	close_model(f);
	write_file(f, "state/machines/m/config", "cpus = = 2;\n");
	open_model(f);
	m = model_machine_get(f->model, "m");
	assert_non_null(m);
	assert_error(m, "EINVAL load: the definition is damaged: line 1, column 8");
	machine_config_show(m, &sb);
	assert_string_equal(sb.data, "cpus = = 2;\n");
	strbuf_free(&sb);
	assert_int_equal(machine_command_run(m, "start", &root_caller, &err), -EINVAL);
	assert_int_equal(put(m, "cpus", "3", &err), -EINVAL);
	assert_non_null(strstr(err.text, "damaged"));
	assert_int_equal(machine_config_store(m, "cpus = 2;", 9, &root_caller, &err), 0);
	assert_value(m, "cpus", "2");
	assert_int_equal(put(m, "cpus", "3", &err), 0);
	machine_put(m);
	reopen_model(f);
	m = model_machine_get(f->model, "m");
	assert_value(m, "cpus", "3");
	machine_put(m);
}

static void a_damaged_owner_opens_it_to_nobody(void **state)
{
	static const char *const texts[] = {
	    "",
	    "uid 1000\n",
	    "id x\nuid 1\ngid 1\nmode 0777\n",
	    "id 00000000-0000-4000-8000-000000000000\nuid 1\ngid 1\nmode 99999\n",
	    "id 00000000-0000-4000-8000-000000000000\nuid 4294967295\ngid 1\nmode 0777\n",
	    "id 00000000-0000-4000-8000-000000000000\nuid 1\ngid 1\nmode 0777",
	    "id 00000000-0000-4000-8000-000000000000\nuid 1\ngid 1\nmode 0777\nfile 9 ctl\n",
	    "id ../../../../../../../../../etc/passwd\nuid 1\ngid 1\nmode 0777\n",
	};
	struct fixture *f = *state;

	machine_put(need_machine(f, "m"));
	for (size_t i = 0; i < nitems(texts); i++) {
		struct machine_access access;
		struct machine *m;

		close_model(f);
		write_file(f, "state/machines/m/access", texts[i]);
		open_model(f);
		m = model_machine_get(f->model, "m");
		assert_non_null(m);
		machine_access_get(m, &access);
		assert_int_equal(access.uid, geteuid());
		assert_int_equal(access.mode, 0700);
		assert_error(m, "EINVAL load:");
		machine_put(m);
	}
}

static void a_second_daemon_is_refused(void **state)
{
	struct fixture *f = *state;
	struct model_options same = {
	    .state_dir = f->state, .run_dir = f->run, .vmm_path = "/bin/false"};
	struct model_options other = {
	    .state_dir = f->root, .run_dir = f->run, .vmm_path = "/bin/false"};
	struct model_options one = {
	    .state_dir = f->root, .run_dir = f->root, .vmm_path = "/bin/false"};
	struct err err = ERR_INIT;
	struct model *second;
	char pid[32];

	assert_int_equal(model_open(&second, &same, &err), -EBUSY);
	assert_non_null(strstr(err.text, f->state));
	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	assert_non_null(strstr(err.text, pid));
	assert_int_equal(model_open(&second, &other, &err), -EBUSY);
	assert_non_null(strstr(err.text, f->run));
	assert_int_equal(model_open(&second, &one, &err), -EINVAL);
	reopen_model(f);
}

static void a_directory_that_cannot_be(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct model *model;
	char file[100];
	struct model_options o = {.state_dir = file, .run_dir = f->run, .vmm_path = "/bin/false"};

	close_model(f);
	write_file(f, "file", "");
	snprintf(file, sizeof(file), "%s/file", f->root);
	assert_true(model_open(&model, &o, &err) < 0);
	assert_non_null(strstr(err.text, file));
}

/* --- killed at each system call -----------------------------------------------------------------
 */

enum {
	ACK_DEFINED = 1,
	ACK_CPUS = 2,
	ACK_CONFIG = 4,
	ACK_RENAMED = 8,
	ACK_GONE = 16,
	ACK_ALL = 31
};

/* The child's work; what returned well is noted in memory shared with the parent. */
static void work(struct fixture *f, volatile int *acked)
{
	struct machine *m = NULL, *keep = NULL;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	open_model(f);
	keep = model_machine_get(f->model, "keep");
	raise(SIGSTOP); /* from here on the parent counts */
	if (model_machine_define(f->model, "new", 0755, &root_caller, &m, NULL) == 0)
		*acked |= ACK_DEFINED;
	if (put(keep, "cpus", "7", NULL) == 0)
		*acked |= ACK_CPUS;
	if (machine_config_store(keep, "cpus = 8;", 9, &root_caller, NULL) == 0)
		*acked |= ACK_CONFIG;
	if (model_machine_rename(f->model, keep, "kept", NULL) == 0)
		*acked |= ACK_RENAMED;
	if (model_machine_undefine(f->model, m, NULL) == 0)
		*acked |= ACK_GONE;
	_exit(0);
}

/* Lets the child do @n system calls after its stop, then kills it. True where it ended before. */
static bool kill_after(pid_t pid, int n)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (int i = 0; i < n; i++) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) < 0)
			break;
		if (WIFEXITED(status))
			return true;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return false;
}

static bool machine_exists(struct fixture *f, const char *name)
{
	struct machine *m = model_machine_get(f->model, name);

	machine_put(m);
	return m;
}

static void check_acknowledged(struct fixture *f, int acked, int n)
{
	struct strbuf sb = STRBUF_INIT;
	struct machine *m = model_machine_get(f->model, "keep");
	unsigned long cpus;

	if (acked & ACK_RENAMED && m)
		fail_msg("after %d calls: the rename is lost", n);
	if (!m)
		m = model_machine_get(f->model, "kept");
	if (!m)
		fail_msg("after %d calls: the machine is lost", n);
	assert_error(m, "");
	machine_key_show(m, key_of("cpus"), &sb);
	cpus = strtoul(sb.data, NULL, 10);
	strbuf_free(&sb);
	if (cpus < (acked & ACK_CONFIG ? 8 : acked & ACK_CPUS ? 7 : 5))
		fail_msg("after %d calls: cpus is %lu, acknowledged were %#x", n, cpus, acked);
	machine_put(m);
	if (acked & ACK_DEFINED && !(acked & ACK_RENAMED))
		assert_true(machine_exists(f, "new"));
	if (acked & ACK_GONE)
		assert_false(machine_exists(f, "new"));
	/* nothing is left of what was under way */
	assert_int_equal(count_entries(f, "state/machines"), model_machine_count(f->model));
}

static void killed_at_any_system_call(void **state)
{
	struct fixture *f = *state;
	volatile int *acked =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool ended = false;
	int n;

	assert_ptr_not_equal(acked, MAP_FAILED);
	for (n = 0; !ended && n < 5000; n += 1 + n / 100) {
		struct machine *m = need_machine(f, "keep");
		pid_t pid;

		assert_int_equal(put(m, "cpus", "5", NULL), 0);
		machine_put(m);
		close_model(f);
		*acked = 0;
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			work(f, acked);
		ended = kill_after(pid, n);
		open_model(f);
		check_acknowledged(f, *acked, n);
		close_model(f);
		remove_tree(AT_FDCWD, f->state);
		open_model(f);
	}
	assert_true(ended);
	assert_int_equal(*acked, ACK_ALL);
	munmap((void *)acked, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    model_test(all_of_it_survives_a_restart),
	    model_test(left_overs_are_removed),
	    model_test(what_is_no_machine_is_left_alone),
	    model_test(a_damaged_definition_is_shown_and_repaired),
	    model_test(a_damaged_owner_opens_it_to_nobody),
	    model_test(a_second_daemon_is_refused),
	    model_test(a_directory_that_cannot_be),
	    model_test(killed_at_any_system_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
