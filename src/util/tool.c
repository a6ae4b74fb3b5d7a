// SPDX-License-Identifier: ISC
/* Running a tool. See tool.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/tool.h"

#define OUTPUT_MAX (8u << 20)
#define WORDS_MAX  4096
#define NS_PER_MS  1000000ull

struct run {
	pid_t pid;
	int out, words;	   /* reading ends; -1 when ended */
	int wake;	   /* readable when it is to be cancelled */
	uint64_t deadline; /* of now_ns() */
	struct strbuf *text;
	struct strbuf said;
};

static int spawn(struct run *run, const char *const argv[], int in)
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
	if (in >= 0)
		posix_spawn_file_actions_adddup2(&actions, in, 0);
	else
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
		uint64_t now = now_ns();
		int n;

		if (now >= run->deadline)
			return -ETIMEDOUT;
		n = poll(p, nitems(p), (int)((run->deadline - now) / NS_PER_MS) + 1);
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

/* A descriptor from which @text is read. */
static int input_fd(const char *text)
{
	_cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC);
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) < 0)
		return -EIO;
	return take_fd(&fd);
}

static int run_to_end(struct run *run, const struct tool *tool, int in)
{
	int r = spawn(run, tool->argv, in), status = 0;

	if (r < 0)
		return r;
	cancel_set_wake(tool->cancel, wake, &run->wake);
	r = follow(run);
	cancel_set_wake(tool->cancel, NULL, NULL);
	if (r < 0)
		kill(-run->pid, SIGKILL);
	while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
		;
	return r == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0) ? -EIO : r;
}

int tool_run(const struct tool *tool, struct err *err)
{
	_cleanup_close_ int in = tool->input ? input_fd(tool->input) : -1;
	_cleanup_close_ int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct run run = {.pid = -1,
			  .out = -1,
			  .words = -1,
			  .wake = wake_fd,
			  .deadline = now_ns() + tool->timeout_ms * NS_PER_MS,
			  .text = tool->out};
	const char *name = tool->argv[0];
	int r = wake_fd < 0 ? -errno : tool->input && in < 0 ? in : run_to_end(&run, tool, in);

	if (r == -EIO)
		err_set(err, r, "%s: %s", name, last_words(&run));
	else if (r == -ENOENT)
		err_set(err, r, "there is no program %s here", name);
	else if (r < 0)
		err_set(err, r, "%s: %s", name, strerror(-r));
	if (run.out >= 0)
		close(run.out);
	if (run.words >= 0)
		close(run.words);
	strbuf_free(&run.said);
	return r;
}
