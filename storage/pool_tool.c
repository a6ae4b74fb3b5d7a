// SPDX-License-Identifier: ISC
/* Running a tool: a process of its own group, its output bounded, its end awaited for so long. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storage/pool_lvm.h"
#include "util/cleanup.h"

#define OUTPUT_MAX (8u << 20)
#define WORDS_MAX  4096

struct run {
	pid_t pid;
	int out, words; /* reading ends; -1 when ended */
	int wake;	/* readable when it is to be cancelled */
	uint64_t deadline_ms;
	struct strbuf *text;
	struct strbuf said;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int spawn(struct run *run, const char *const argv[])
{
	static char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
					    "LVM_SUPPRESS_FD_WARNINGS=1", NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int out[2] = {-1, -1}, words[2] = {-1, -1}, r;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(words, O_CLOEXEC) < 0) {
		r = -errno;
		close(out[0]);
		close(out[1]);
		return r;
	}
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_adddup2(&actions, words[1], 2);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
					    POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	/* looked for in the daemon's PATH first: the environment is the child's */
	r = -posix_spawnp(&run->pid, argv[0], &actions, &attr, (char *const *)argv, environment);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	close(words[1]);
	run->out = out[0];
	run->words = words[0];
	return r;
}

/* Takes what is there to read; too much of it is an error, its end closes the pipe. */
static int take(int *fd, struct strbuf *sb, size_t max)
{
	char buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	if (n == 0) {
		close(take_fd(fd));
		return 0;
	}
	if (sb && sb->len + (size_t)n <= max)
		strbuf_add(sb, buf, (size_t)n);
	else if (sb && max == OUTPUT_MAX)
		return -EFBIG;
	return 0;
}

static int follow(struct run *run)
{
	int r = 0;

	while (r == 0 && (run->out >= 0 || run->words >= 0)) {
		struct pollfd p[] = {
		    {run->out, POLLIN, 0}, {run->words, POLLIN, 0}, {run->wake, POLLIN, 0}};
		uint64_t now = now_ms();
		int n;

		if (now >= run->deadline_ms)
			return -ETIMEDOUT;
		n = poll(p, nitems(p), (int)(run->deadline_ms - now));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		if (p[2].revents)
			return -ECANCELED;
		if (p[0].revents)
			r = take(&run->out, run->text, OUTPUT_MAX);
		if (r == 0 && p[1].revents)
			r = take(&run->words, &run->said, WORDS_MAX);
	}
	return r;
}

static void wake(void *arg)
{
	uint64_t one = 1;

	if (write(*(int *)arg, &one, sizeof(one)) < 0)
		return; /* it is readable already */
}

/* The last line of what it said. */
static const char *last_words(struct run *run)
{
	char *text = run->said.data, *newline;

	if (!text)
		return "it says nothing";
	for (size_t n = run->said.len; n && strchr(" \n", text[n - 1]);)
		text[--n] = '\0';
	newline = strrchr(text, '\n');
	text = newline ? newline + 1 : text;
	return text + strspn(text, " ");
}

int tool_run(const char *const argv[], struct cancel *cancel, unsigned timeout_ms,
	     struct strbuf *out, struct err *err)
{
	struct run run = {.pid = -1,
			  .out = -1,
			  .words = -1,
			  .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			  .deadline_ms = now_ms() + timeout_ms,
			  .text = out};
	int r = run.wake < 0 ? -errno : spawn(&run, argv), status = 0;

	if (r == 0) {
		cancel_set_wake(cancel, wake, &run.wake);
		r = follow(&run);
		cancel_set_wake(cancel, NULL, NULL);
		if (r < 0)
			kill(-run.pid, SIGKILL);
		while (waitpid(run.pid, &status, 0) < 0 && errno == EINTR)
			;
		if (r == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
			r = -EIO;
	}
	if (r == -EIO)
		err_set(err, r, "%s: %s", argv[0], last_words(&run));
	else if (r == -ENOENT)
		err_set(err, r, "there is no program %s here", argv[0]);
	else if (r < 0)
		err_set(err, r, "%s: %s", argv[0], strerror(-r));
	for (int i = 0; i < 3; i++) {
		int fd = i == 0 ? run.out : i == 1 ? run.words : run.wake;

		if (fd >= 0)
			close(fd);
	}
	strbuf_free(&run.said);
	return r;
}
