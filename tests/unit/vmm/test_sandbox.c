// SPDX-License-Identifier: ISC
/* Locked in: what a machine needs goes on, all else ends the process; as root and as a plain user.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "util/cleanup.h"
#include "vmm/sandbox.h"
#include "vmm/sandbox_int.h"

#define UID 65534

/* Runs @what locked in, in a child; the child's wait status. @what returns its exit status. */
static int locked_in(bool as_root, int (*what)(void))
{
	struct err err = ERR_INIT;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!as_root && geteuid() == 0 && (setgid(UID) < 0 || setuid(UID) < 0))
			_exit(90);
		if (sandbox_enter(UID, UID, &err) < 0 || sandbox_seal(&err) < 0)
			_exit(91);
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void both(int (*what)(void), bool dies)
{
	for (int as_root = 0; as_root <= (geteuid() == 0); as_root++) {
		int status = locked_in(as_root, what);

		if (dies) {
			assert_true(WIFSIGNALED(status));
			assert_int_equal(WTERMSIG(status), SIGSYS);
		} else {
			assert_true(WIFEXITED(status));
			assert_int_equal(WEXITSTATUS(status), 0);
		}
	}
}

/* --- what goes on
 * --------------------------------------------------------------------------------- */

static void *thread(void *arg)
{
	void *p = malloc(1 << 20);

	pthread_setname_np(pthread_self(), "vcpu/0");
	memset(p, 1, 1 << 20);
	free(p);
	return arg;
}

static int work(void)
{
	pthread_t id;
	void *result = NULL;
	uint64_t count;
	int event = eventfd(1, EFD_CLOEXEC);
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || event < 0 || read(event, &count, sizeof(count)) != sizeof(count))
		return 1;
	for (int i = 0; i < 3; i++)
		if (pthread_create(&id, NULL, thread, &event) != 0 ||
		    pthread_join(id, &result) != 0 || result != &event)
			return 2;
	munmap(p, 4096);
	close(event);
	return 0;
}

static void a_machine_can_work(void **state)
{
	(void)state;
	both(work, false);
}

static int look_around(void)
{
	/* Refused or not there, and nobody dies of it: the C library tries such things. */
	if (open("/", O_RDONLY | O_DIRECTORY) >= 0 || open("/etc/passwd", O_RDONLY) >= 0 ||
	    open("..", O_PATH) >= 0)
		return 1;
	return 0;
}

static void no_file_can_be_opened(void **state)
{
	(void)state;
	both(look_around, false);
}

/* Before the filter, so that it can be asked. */
static void privileges_are_gone(void **state)
{
	bool was_root = geteuid() == 0;
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct err err = ERR_INIT;
		uid_t r, e, s;
		struct stat st;

		if (sandbox_enter(UID, UID, &err) < 0)
			_exit(1);
		if (getresuid(&r, &e, &s) < 0 || r == 0 || e == 0 || s == 0)
			_exit(2);
		if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
			_exit(3);
		if (setuid(0) == 0 || (was_root && getgroups(0, NULL) > 0))
			_exit(4);
		if (!SANDBOX_INSTRUMENTED && prctl(PR_GET_DUMPABLE) != 0)
			_exit(5);
		if (!SANDBOX_INSTRUMENTED && open("/etc/passwd", O_RDONLY) >= 0)
			_exit(6);
		if (!SANDBOX_INSTRUMENTED && was_root && stat("/etc", &st) == 0)
			_exit(7);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- what ends the process -----------------------------------------------------------------------
 */

static int make_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int run_program(void)
{
	return execl("/bin/true", "true", NULL);
}

/* Not a fork that shares nothing: one that would be the daemon's child. */
static int make_sibling(void)
{
	return syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) < 0;
}

static int make_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) == MAP_FAILED;
}

static int turn_into_code(void)
{
	static char page[8192];
	uintptr_t at = ((uintptr_t)page + 4095) & ~4095ul;

	return mprotect((void *)at, 4096, PROT_READ | PROT_EXEC);
}

static int type_at_terminal(void)
{
	return ioctl(0, TIOCSTI, "x");
}

static int trace(void)
{
	return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int signal_another(void)
{
	return kill(getppid(), 0);
}

static int make_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static int read_another(void)
{
	return (int)syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}

static int old_abi(void)
{
	long ret;

	/* getpid of the x32 ABI */
	__asm__ volatile("syscall" : "=a"(ret) : "0"(0x40000000L + 39) : "rcx", "r11", "memory");
	return (int)ret;
}

static void all_else_ends_it(void **state)
{
	static int (*const deeds[])(void) = {
	    make_socket,      run_program,    make_sibling,   turn_into_code, make_code, trace,
	    type_at_terminal, signal_another, make_namespace, read_another,   old_abi,
	};

	(void)state;
	for (unsigned i = 0; i < nitems(deeds); i++)
		both(deeds[i], true);
}

/* The holder of a snapshot's memory, and a clone: locked in as their parent is. */
static int fork_breaks_out(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(make_socket());
	/* Its end, without waiting for children (which is not allowed either). */
	status = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid < 0 || status < 0)
		return 1;
	return poll(&(struct pollfd){.fd = status, .events = POLLIN}, 1, 60000) == 1 ? 0 : 2;
}

static void a_fork_is_locked_in(void **state)
{
	struct err err = ERR_INIT;
	int out[2], status;
	pid_t pid;

	(void)state;
	both(fork_breaks_out, false);
	/* Seen from outside: what the fork says after it has tried does not come. */
	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (sandbox_enter(UID, UID, &err) < 0 || sandbox_seal(&err) < 0)
			_exit(91);
		if (fork() == 0) {
			if (write(out[1], "a", 1) != 1)
				_exit(1);
			make_socket();
			if (write(out[1], "b", 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	close(out[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	{
		char said[2];

		assert_int_equal(read(out[0], said, 1), 1);
		assert_int_equal(said[0], 'a');
		assert_int_equal(read(out[0], said, 1), 0);
	}
	close(out[0]);
}

/* A ring could do what the filter forbids. */
static int make_ring(void)
{
	uint8_t params[120] = {0};

	return syscall(SYS_io_uring_setup, 8, params) < 0 && errno == EPERM ? 0 : 1;
}

static void no_new_ring(void **state)
{
	(void)state;
	both(make_ring, false);
}

int main(void)
{
	const struct CMUnitTest filtered[] = {
	    cmocka_unit_test(a_machine_can_work),  cmocka_unit_test(no_file_can_be_opened),
	    cmocka_unit_test(privileges_are_gone), cmocka_unit_test(all_else_ends_it),
	    cmocka_unit_test(no_new_ring),	   cmocka_unit_test(a_fork_is_locked_in),
	};
	const struct CMUnitTest instrumented[] = {
	    cmocka_unit_test(a_machine_can_work),
	    cmocka_unit_test(privileges_are_gone),
	};

	/* An instrumented build has no filter: see sandbox_int.h. */
	if (SANDBOX_INSTRUMENTED)
		return cmocka_run_group_tests(instrumented, NULL, NULL);
	return cmocka_run_group_tests(filtered, NULL, NULL);
}
