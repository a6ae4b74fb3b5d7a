// SPDX-License-Identifier: ISC
/*
 * blk_bench COUNT COMMAND…: runs a VMM with guest_blk_bench.c in it, whose console is
 * COMMAND's standard input and output, and measures from its "begin" to its "end": prints
 * nanoseconds for an operation, and nanoseconds of processor time for one: of all
 * threads of the VMM but those that run vcpus, which poll all the time.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"

struct sample {
	uint64_t wall_ns, cpu_ns;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The first line of a file; false if there is none. */
static bool read_line(const char *path, char *line, size_t len)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");

	if (!f || !fgets(line, (int)len, f))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static uint64_t thread_ns(pid_t pid, const char *tid)
{
	char path[300], line[128];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, tid);
	if (!read_line(path, line, sizeof(line)) || !strncmp(line, "vcpu/", 5) ||
	    !strncmp(line, "CPU ", 4))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, tid);
	return read_line(path, line, sizeof(line)) ? strtoull(line, NULL, 10) : 0;
}

static struct sample take(pid_t pid)
{
	struct sample s = {.wall_ns = now_ns()};
	char path[64];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	_cleanup_closedir_ DIR *dir = opendir(path);
	while (dir && (e = readdir(dir)))
		if (*e->d_name != '.')
			s.cpu_ns += thread_ns(pid, e->d_name);
	return s;
}

/* The VMM itself may be a child of what was started. */
static pid_t vmm_of(pid_t pid)
{
	char path[64], line[128];
	long child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	if (!read_line(path, line, sizeof(line)))
		return pid;
	child = strtol(line, NULL, 10);
	return child > 0 ? (pid_t)child : pid;
}

static FILE *start(char **argv, pid_t *pid, int *in)
{
	int p[2], q[2];

	if (pipe2(p, O_CLOEXEC) < 0 || pipe2(q, O_CLOEXEC) < 0 || (*pid = fork()) < 0)
		return NULL;
	*in = q[1];
	if (*pid == 0) {
		dup2(q[0], STDIN_FILENO);
		dup2(p[1], STDOUT_FILENO);
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	close(p[1]);
	close(q[0]);
	return fdopen(p[0], "re");
}

int main(int argc, char **argv)
{
	struct sample begin = {0}, end = {0};
	double count = argc > 2 ? strtod(argv[1], NULL) : 0;
	char line[256];
	pid_t pid;
	FILE *out;
	int in;

	if (count < 1) {
		fprintf(stderr, "usage: blk_bench COUNT COMMAND...\n");
		return 2;
	}
	out = start(argv + 2, &pid, &in);
	if (!out)
		return 1;
	while (!end.wall_ns && fgets(line, sizeof(line), out)) {
		if (strstr(line, "begin")) {
			begin = take(vmm_of(pid));
			if (write(in, "g\n", 2) != 2)
				return 1;
		}
		if (strstr(line, "end"))
			end = take(vmm_of(pid));
	}
	while (fgets(line, sizeof(line), out))
		;
	waitpid(pid, NULL, 0);
	if (!begin.wall_ns || !end.wall_ns)
		return 1;
	printf("%.0f %.0f\n", (double)(end.wall_ns - begin.wall_ns) / count,
	       (double)(end.cpu_ns - begin.cpu_ns) / count);
	return 0;
}
