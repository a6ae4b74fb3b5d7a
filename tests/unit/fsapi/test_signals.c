// SPDX-License-Identifier: ISC
/* An interrupt cancels when the client's signal asks for it, not when a child of its ended. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "fsapi/fs.h"

static void hear(int signal)
{
	(void)signal;
}

/* A process in which signals stay pending, as in one that waits for the file system: stopped. */
static pid_t stopped_client(void)
{
	const struct sigaction action = {.sa_handler = hear};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		sigaction(SIGCHLD, &action, NULL);
		sigaction(SIGINT, &action, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

static void end_client(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

struct fixture {
	struct signals *signals;
	struct cancel cancel;
	struct interrupted i;
	pid_t pid;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	f->pid = stopped_client();
	cancel_init(&f->cancel);
	f->i = (struct interrupted){.tid = f->pid, .cancel = &f->cancel};
	return signals_open(&f->signals) || signals_start(f->signals);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	signals_forget(f->signals, &f->i);
	signals_stop(f->signals);
	signals_close(f->signals);
	cancel_destroy(&f->cancel);
	end_client(f->pid);
	free(f);
	return 0;
}

static void sigint_cancels_at_once(void **state)
{
	struct fixture *f = *state;

	kill(f->pid, SIGINT);
	signals_heard(f->signals, &f->i);
	assert_true(cancel_requested(&f->cancel));
}

static void sigchld_does_not_and_what_comes_later_does(void **state)
{
	struct fixture *f = *state;

	kill(f->pid, SIGCHLD);
	signals_heard(f->signals, &f->i);
	usleep(300000);
	assert_false(cancel_requested(&f->cancel));
	kill(f->pid, SIGINT);
	for (int i = 0; i < 6000 && !cancel_requested(&f->cancel); i++)
		usleep(10000);
	assert_true(cancel_requested(&f->cancel));
}

static void what_is_done_is_not_cancelled(void **state)
{
	struct fixture *f = *state;

	kill(f->pid, SIGCHLD);
	signals_heard(f->signals, &f->i);
	signals_forget(f->signals, &f->i);
	kill(f->pid, SIGINT);
	usleep(300000);
	assert_false(cancel_requested(&f->cancel));
}

static void a_client_that_cannot_be_seen_is_believed(void **state)
{
	struct fixture *f = *state;

	f->i.tid = 0;
	signals_heard(f->signals, &f->i);
	assert_true(cancel_requested(&f->cancel));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(sigint_cancels_at_once, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(sigchld_does_not_and_what_comes_later_does, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(what_is_done_is_not_cancelled, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_client_that_cannot_be_seen_is_believed, set_up,
					    tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
