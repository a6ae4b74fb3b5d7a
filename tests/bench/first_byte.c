// SPDX-License-Identifier: ISC
/*
 * Microseconds from asking for a guest to the first byte on its serial port.
 *
 *   first_byte write CTL WORD FILE   writes WORD to CTL, waits for FILE to have bytes
 *   first_byte grow CTL WORD FILE    the same, waits for FILE to have more bytes than before
 *   first_byte run FILE CMD...       runs CMD, waits for FILE to have bytes; CMD must end
 *   first_byte pipe CMD...           runs CMD, waits for a byte on its standard output, kills it
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/slice.h"

extern char **environ;

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

/* Looks every 50 µs: an error of that size is small beside what is measured. */
static int wait_for_bytes(const char *path, off_t beyond)
{
	const struct timespec nap = {.tv_nsec = 50000};

	for (uint64_t end = now_us() + 60000000; now_us() < end; nanosleep(&nap, NULL)) {
		char c;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? 0 : pread(fd, &c, 1, beyond);

		if (fd >= 0)
			close(fd);
		if (n == 1)
			return 0;
	}
	fprintf(stderr, "first_byte: nothing in %s within a minute\n", path);
	return 1;
}

static pid_t run(char **argv, int out)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int err;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err) {
		fprintf(stderr, "first_byte: %s: %s\n", argv[0], strerror(err));
		return -1;
	}
	return pid;
}

static int mode_write(const char *ctl, const char *word, const char *file, bool grow)
{
	int fd = open(ctl, O_WRONLY | O_CLOEXEC);
	struct stat st = {0};

	if (grow && stat(file, &st) < 0) {
		perror(file);
		return 1;
	}

	if (fd < 0 || write(fd, word, strlen(word)) < 0) {
		perror(ctl);
		return 1;
	}
	close(fd);
	return wait_for_bytes(file, st.st_size);
}

static int mode_run(const char *file, char **argv)
{
	pid_t pid = run(argv, STDERR_FILENO);
	int ret, status;

	if (pid < 0)
		return 1;
	ret = wait_for_bytes(file, 0);
	waitpid(pid, &status, 0);
	return ret;
}

static int mode_pipe(char **argv, uint64_t *end)
{
	int fds[2], status;
	ssize_t n;
	pid_t pid;
	char c;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return 1;
	pid = run(argv, fds[1]);
	close(fds[1]);
	if (pid < 0)
		return 1;
	do {
		n = read(fds[0], &c, 1);
	} while (n < 0 && errno == EINTR);
	*end = now_us();
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return n == 1 ? 0 : 1;
}

int main(int argc, char **argv)
{
	uint64_t start = now_us(), end = 0;
	int ret;

	slice_be_short(false); /* a clock should not have to wait for a processor */
	if (argc == 5 && (strcmp(argv[1], "write") == 0 || strcmp(argv[1], "grow") == 0))
		ret = mode_write(argv[2], argv[3], argv[4], argv[1][0] == 'g');
	else if (argc > 3 && strcmp(argv[1], "run") == 0)
		ret = mode_run(argv[2], argv + 3);
	else if (argc > 2 && strcmp(argv[1], "pipe") == 0)
		ret = mode_pipe(argv + 2, &end);
	else
		ret = 2;
	if (ret == 0)
		printf("%llu\n", (unsigned long long)((end ? end : now_us()) - start));
	return ret;
}
