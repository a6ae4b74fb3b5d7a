// SPDX-License-Identifier: ISC
/*
 * A daemon that is killed at each of its system calls in turn while it takes, renames, goes back to
 * and deletes snapshots, makes a machine saved, and one from an archive: what was acknowledged is
 * there, what was not is there whole or not at all, and nothing is left over.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "command.h"
#include "snapshot_test.h"

enum {
	ACK_TAKEN = 1,
	ACK_RENAMED = 2,
	ACK_RESTORED = 4,
	ACK_SAVED = 8,
	ACK_DISCARDED = 16,
	ACK_REMOVED = 32,
	ACK_DEFINED = 64,
};

/* @config NULL: the machine keeps its own, and has the disks of `kept`. */
static bool make_saved(struct fixture *f, struct machine *m, const struct saved_config *config)
{
	_cleanup_snapshot_ struct snapshot *kept = config ? NULL : need(m, "kept");
	_cleanup_close_ int state = -1;
	struct memory_map map = {.bytes = 64u << 20, .n_files = 1};
	_cleanup_close_ int memory = -1;
	char path[200];
	int r;

	if (layer_make(f->model, LAYER_MEMORY, map.files[0], &memory, NULL) < 0)
		return false;
	map.extents[map.n_extents++] = (struct vmm_extent){.bytes = 4096};
	snprintf(path, sizeof(path), "%s/state-to-be", f->root);
	state = open(path, O_RDONLY);
	r = ftruncate(memory, 64 << 20) < 0
		? -errno
		: saved_make(m, state, &map, kept ? &kept->layers : NULL, config, "test", NULL);
	layer_put(f->model, LAYER_MEMORY, map.files[0]);
	return r == 0;
}

#define CPUS_THEN 3

static int store(void *arg, struct err *err)
{
	static const char text[] = "cpus = 3;\n";

	return machine_config_store(arg, text, sizeof(text) - 1, &root_caller, err);
}

/* As an archive does it. */
static bool make_defined(struct fixture *f)
{
	_cleanup_machine_ struct machine *m = model_machine_get(f->model, "archived");
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
	const struct saved_config config = {&text, store, m};

	strbuf_puts(&text, "cpus = 3;\n");
	return make_saved(f, m, &config);
}

static _Noreturn void work(struct fixture *f, int *acked)
{
	struct machine *m;
	struct snapshot *s;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	open_model(f);
	m = model_machine_get(f->model, "m");
	s = machine_snapshot_get(m, "keep");
	raise(SIGSTOP); /* from here on the parent counts */
	if (machine_command_run(m, "snapshot new", &root_caller, NULL) == 0)
		*acked |= ACK_TAKEN;
	if (machine_snapshot_rename(m, s, "kept", NULL) == 0)
		*acked |= ACK_RENAMED;
	if (snapshot_command_run(s, "restore", &root_caller, NULL) == 0)
		*acked |= ACK_RESTORED;
	if (make_saved(f, m, NULL))
		*acked |= ACK_SAVED;
	if (machine_command_run(m, "discard", &root_caller, NULL) == 0)
		*acked |= ACK_DISCARDED;
	s = machine_snapshot_get(m, "new");
	if (s && machine_snapshot_remove(m, s, &root_caller, NULL) == 0)
		*acked |= ACK_REMOVED;
	if (make_defined(f))
		*acked |= ACK_DEFINED;
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

static bool has(struct machine *m, const char *name)
{
	struct snapshot *s = machine_snapshot_get(m, name);

	snapshot_put(s);
	return s;
}

/* The first byte of the disk, of which all are the same. */
static char look_at_disk(struct machine *m, int acked, int n)
{
	struct content *content = NULL;
	struct err err = ERR_INIT;
	char fill = 0;

	if (machine_disk_content_open(m, "root", false, &root_caller, &content, &err) < 0)
		fail_msg("after %d calls: disk: %s, acknowledged were %#x", n, err.text, acked);
	assert_int_equal(content_read(content, &fill, 1, 0), 1);
	assert_filled(content, fill);
	return fill;
}

/* Layers are merged meanwhile. */
static void await_jobs(struct fixture *f)
{
	uint64_t cursor = 0;
	struct job *job;

	while ((job = model_job_next(f->model, NULL, &cursor))) {
		struct err err = ERR_INIT;

		job_wait(job, NULL, &err);
		job_put(job);
	}
}

static void check(struct fixture *f, int acked, int n)
{
	struct machine *m = model_machine_get(f->model, "m");
	enum machine_state state;
	char fill;

	assert_non_null(m);
	await_jobs(f);
	assert_error(m, "");
	state = machine_state(m);
	if (!has(m, "kept") && (acked & ACK_RENAMED || !has(m, "keep")))
		fail_msg("after %d calls: the snapshot is lost, acknowledged were %#x", n, acked);
	if (acked & ACK_TAKEN && !(acked & ACK_DISCARDED) && !has(m, "new"))
		fail_msg("after %d calls: the new snapshot is lost", n);
	if (acked & ACK_REMOVED && has(m, "new"))
		fail_msg("after %d calls: the new snapshot is there again", n);
	if (state == MACHINE_SAVED && (!(acked & ACK_RESTORED) || acked & ACK_DISCARDED))
		fail_msg("after %d calls: saved, acknowledged were %#x", n, acked);
	if (state != MACHINE_SAVED && acked & ACK_SAVED && !(acked & ACK_DISCARDED) &&
	    exists(f, "state/machines/m/saved"))
		fail_msg("after %d calls: not saved", n);
	if (state == MACHINE_SAVED) {
		assert_int_equal(machine_command_run(m, "discard", &root_caller, NULL), 0);
		state = MACHINE_STOPPED;
	}
	fill = look_at_disk(m, acked, n);
	if (fill != 'a' && (acked & ACK_RESTORED || fill != 'b'))
		fail_msg("after %d calls: the disk has '%c', acknowledged were %#x", n, fill,
			 acked);
	if (!(acked & ACK_RENAMED) && fill != 'b')
		fail_msg("after %d calls: the disk went back unasked", n);
	assert_snapshot_disk(m, has(m, "kept") ? "kept" : "keep", "root", 'a');
	if (has(m, "new"))
		assert_snapshot_disk(m, "new", "root", 'b');
	assert_int_equal(count_entries(f, "state/machines/m/snapshots"), machine_snapshot_count(m));
	machine_put(m);
}

/* It is as it was, or saved with its definition. */
static void check_defined(struct fixture *f, int acked, int n)
{
	_cleanup_machine_ struct machine *m = model_machine_get(f->model, "archived");
	_cleanup_definition_ struct definition *def = NULL;
	bool saved;

	assert_non_null(m);
	def = machine_definition(m);
	saved = machine_state(m) == MACHINE_SAVED;
	if (acked & ACK_DEFINED && !saved)
		fail_msg("after %d calls: not saved", n);
	if (def->values.cpus != (saved ? CPUS_THEN : 1))
		fail_msg("after %d calls: it has %llu cpus and is %ssaved", n,
			 (unsigned long long)def->values.cpus, saved ? "" : "not ");
	if (exists(f, "state/machines/archived/saved-config"))
		fail_msg("after %d calls: a definition is left over", n);
}

/* No file that nothing refers to. */
static void check_layers(struct fixture *f, int n)
{
	char path[200];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/layers", f->state);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d))) {
		char id[ID_TEXT];
		bool disk = strstr(e->d_name, ".qcow2");

		if (*e->d_name == '.')
			continue;
		snprintf(id, sizeof(id), "%.36s", e->d_name);
		if (!layer_refs(f->model, disk ? LAYER_DISK : LAYER_MEMORY, id))
			fail_msg("after %d calls: %s is left over", n, e->d_name);
	}
	closedir(d);
}

/* As it is before each round. */
static void prepare(struct fixture *f)
{
	struct machine *m;

	open_model(f);
	machine_put(need_machine(f, "archived"));
	m = need_machine(f, "m");
	make_disk(f, m, "root", 'a');
	snapshot_put(take(m, "keep"));
	fill_disk(m, "root", 'b');
	machine_put(m);
	close_model(f);
	write_state(f, "state-to-be");
}

/* Nothing here depends on what the host's disk does with what is synced: it need not be slow. */
static void to_memory(struct fixture *f)
{
	char root[] = "/dev/shm/test_model.XXXXXX";

	close_model(f);
	if (!mkdtemp(root))
		return;
	remove_tree(AT_FDCWD, f->root);
	strcpy(f->root, root);
	snprintf(f->state, sizeof(f->state), "%s/state", f->root);
	snprintf(f->run, sizeof(f->run), "%s/run", f->root);
}

/* An instrumented build takes ten times as long: of its calls one in seven. */
#ifdef __SANITIZE_ADDRESS__
#define STEP 7
#else
#define STEP 1
#endif

static void killed_at_each_call(void **state)
{
	struct fixture *f = *state;
	int *acked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool ended = false;

	to_memory(f);
	for (int n = 1; !ended; n += STEP) {
		pid_t pid;

		prepare(f);
		*acked = 0;
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			work(f, acked);
		ended = kill_after(pid, n);
		open_model(f);
		check(f, *acked, n);
		check_defined(f, *acked, n);
		check_layers(f, n);
		close_model(f);
		remove_tree(AT_FDCWD, f->state);
		remove_tree(AT_FDCWD, f->run);
	}
	assert_int_equal(*acked, 127);
	munmap(acked, 4096);
	open_model(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {model_test(killed_at_each_call)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
