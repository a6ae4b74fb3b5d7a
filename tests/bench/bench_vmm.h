/* SPDX-License-Identifier: ISC */
#ifndef FV_BENCH_VMM_H
#define FV_BENCH_VMM_H
/* A VMM that is measured: started with its console on pipes; its time and processor time so far. */
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

struct vmm_sample {
	uint64_t wall_ns, cpu_ns;
};

static inline uint64_t vmm_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The first line of a file; false if there is none. */
static inline bool vmm_read_line(const char *path, char *line, size_t len)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");

	if (!f || !fgets(line, (int)len, f))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static inline uint64_t vmm_thread_ns(pid_t pid, const char *tid)
{
	char path[300], line[128];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, tid);
	if (!vmm_read_line(path, line, sizeof(line)) || !strncmp(line, "vcpu/", 5) ||
	    !strncmp(line, "CPU ", 4))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, tid);
	return vmm_read_line(path, line, sizeof(line)) ? strtoull(line, NULL, 10) : 0;
}

/* Processor time: of all threads but those that run vcpus, which poll all the time. */
static inline struct vmm_sample vmm_take(pid_t pid)
{
	struct vmm_sample s = {.wall_ns = vmm_now_ns()};
	char path[64];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	_cleanup_closedir_ DIR *dir = opendir(path);
	while (dir && (e = readdir(dir)))
		if (*e->d_name != '.')
			s.cpu_ns += vmm_thread_ns(pid, e->d_name);
	return s;
}

/* The VMM itself may be a child of what was started. */
static inline pid_t vmm_of(pid_t pid)
{
	char path[64], line[128];
	long child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	if (!vmm_read_line(path, line, sizeof(line)))
		return pid;
	child = strtol(line, NULL, 10);
	return child > 0 ? (pid_t)child : pid;
}

/* Its standard output; @in: its standard input. NULL: it cannot be started. */
static inline FILE *vmm_start(char **argv, pid_t *pid, int *in)
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

#endif
