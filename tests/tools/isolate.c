// SPDX-License-Identifier: ISC
/*
 * isolate [-t SECONDS] COMMAND…: runs a test in namespaces of its own (mounts,
 * processes, network with a loopback), so that tests run side by side, may
 * kill and mount as they like, and leave nothing behind however they end.
 *
 * Theory of operation: this process makes the namespaces and a temporary
 * directory (environment: T), and forks the new namespace's init, which runs
 * the command. When the command ends, init looks who is still there: a process
 * left over makes a passed test fail (status 98), for a machine or a daemon
 * that outlives its test is a leak. At the time limit init prints the stacks
 * of every thread first (status 124). Before it goes it aborts the FUSE
 * connections of the namespace: a file system that waits for itself survives
 * SIGKILL, and would keep the namespace alive with it. Then the kernel kills
 * what is left, and the directory is removed.
 *
 * Who is not root gets a user namespace and is root in there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/file.h"

#define STATUS_LEFTOVERS 98
#define STATUS_TIMEOUT	 124
#define FUSECTL		 "/sys/fs/fuse/connections"

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static void put_file(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put_file(const char *path, const char *fmt, ...)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	va_list ap;

	va_start(ap, fmt);
	if (fd < 0 || vdprintf(fd, fmt, ap) < 0)
		fprintf(stderr, "isolate: %s: %s\n", path, strerror(errno));
	va_end(ap);
}

static void enter_namespaces(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | (uid ? CLONE_NEWUSER : 0)) < 0)
		die("isolate: unshare");
	if (uid) {
		put_file("/proc/self/setgroups", "deny");
		put_file("/proc/self/uid_map", "0 %u 1", uid);
		put_file("/proc/self/gid_map", "0 %u 1", gid);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("isolate: make mounts private");
}

static void loopback_up(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &req) < 0)
		perror("isolate: loopback");
}

/*
 * Ends every FUSE connection that is mounted below @dir: device 0:N is connection N.
 * Others are other people's: their mounts are seen here, too.
 */
static void abort_fuse(const char *dir)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096], mounted[4096], path[64];

	while (f && fgets(line, sizeof(line), f)) {
		unsigned minor_number;

		if (!strstr(line, " - fuse") || strstr(line, " - fusectl") ||
		    sscanf(line, "%*d %*d 0:%u %*s %4095s", &minor_number, mounted) != 2 ||
		    strncmp(mounted, dir, strlen(dir)) != 0)
			continue;
		snprintf(path, sizeof(path), FUSECTL "/%u/abort", minor_number);
		if (access(path, W_OK) == 0)
			put_file(path, "1");
	}
}

/* The command of process @pid in one line, "" where it has ended. */
static void process_words(int pid, char *words, size_t size)
{
	char path[64];
	_cleanup_free_ char *text = NULL;
	size_t len = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	words[0] = '\0';
	if (file_read(AT_FDCWD, path, 65536, &text, &len) < 0 || len == 0)
		return;
	for (size_t i = 0; i + 1 < len; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	snprintf(words, size, "%s", text);
}

/* How many processes there are beside this one; printed on stderr where @say. Zombies don't count.
 */
static unsigned others(bool say)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *d;
	unsigned n = 0;

	while (dir && (d = readdir(dir))) {
		int pid = atoi(d->d_name);
		char words[300];

		if (pid <= 1)
			continue;
		process_words(pid, words, sizeof(words));
		if (!words[0])
			continue;
		n++;
		if (say)
			fprintf(stderr, "isolate: left behind: %d %s\n", pid, words);
	}
	return n;
}

/* Reaps until no other process lives or @seconds are over. */
static unsigned settle(unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 50; i++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (others(false) == 0)
			return 0;
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	return others(true);
}

/* Runs a shell script that tells what everything is doing, for half a minute at most. */
static void tell_hang(void)
{
	static const char script[] =
	    "exec 1>&2; ps -eo pid,ppid,stat,wchan:24,args; "
	    "for p in $(pgrep 'filevisor'); do "
	    "  echo \"--- process $p\"; "
	    "  for t in /proc/$p/task/*; do echo \"$(cat $t/comm) $(cat $t/wchan 2>/dev/null)\"; "
	    "done; "
	    "  command -v gdb >/dev/null && timeout -s KILL 15 gdb -p $p -batch -nx "
	    "    -ex 'thread apply all bt 24' 2>/dev/null | grep -v '^\\[New'; "
	    "done; for f in \"$T\"/*.log; do [ -f \"$f\" ] && echo \"--- $f\" && tail -n 30 "
	    "\"$f\"; done";
	pid_t pid = fork();

	if (pid == 0) {
		execlp("timeout", "timeout", "-s", "KILL", "60", "sh", "-c", script, NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* Waits for @command until @limit seconds are over (0: for ever), reaping orphans. Exit status. */
static int wait_command(pid_t command, unsigned limit, const sigset_t *set)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += limit;
	for (;;) {
		int status;
		pid_t pid;

		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == command)
				return WIFEXITED(status) ? WEXITSTATUS(status)
							 : 128 + WTERMSIG(status);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (limit && now.tv_sec >= end.tv_sec)
			break;
		if (sigtimedwait(set, NULL, &(struct timespec){.tv_sec = 1}) == SIGTERM)
			return 128 + SIGTERM;
	}
	fprintf(stderr, "isolate: not done after %u s\n", limit);
	tell_hang();
	return STATUS_TIMEOUT;
}

/* @set: SIGCHLD and SIGTERM, blocked. */
static int run_init(char **argv, unsigned limit, const sigset_t *set, const char *dir)
{
	pid_t command;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		die("isolate: mount /proc");
	if (access(FUSECTL, F_OK) == 0)
		mount("fusectl", FUSECTL, "fusectl", 0, NULL);
	loopback_up();
	setsid();
	command = fork();
	if (command < 0)
		die("isolate: fork");
	if (command == 0) {
		sigprocmask(SIG_UNBLOCK, set, NULL);
		execvp(argv[0], argv);
		die(argv[0]);
	}
	status = wait_command(command, limit, set);
	if (status == 0 && settle(10) > 0) {
		fprintf(stderr, "isolate: the test left processes behind\n");
		status = STATUS_LEFTOVERS;
	}
	abort_fuse(dir);
	return status;
}

/* What the test left mounted below @dir (this process shares its mounts), and its /proc. */
static void unmount_all(const char *dir)
{
	char line[4096], path[4096];
	FILE *f;

	umount2("/proc", MNT_DETACH);
	f = fopen("/proc/self/mountinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*s %*s %4095s", path) == 1 &&
		    strncmp(path, dir, strlen(dir)) == 0)
			umount2(path, MNT_DETACH);
	if (f)
		fclose(f);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	if (remove(path) < 0)
		perror(path);
	return 0;
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	char dir[256];
	unsigned limit = 0;
	int opt, status;
	sigset_t set;
	pid_t init;

	while ((opt = getopt(argc, argv, "+t:")) != -1)
		if (opt == 't')
			limit = (unsigned)atoi(optarg);
	if (optind >= argc) {
		fprintf(stderr, "usage: isolate [-t SECONDS] COMMAND...\n");
		return 2;
	}
	snprintf(dir, sizeof(dir), "%s/fv.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
		die("isolate: mkdtemp");
	setenv("T", dir, 1);
	setenv("ISOLATED", "1", 1);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGINT, SIG_IGN);
	enter_namespaces();
	init = fork();
	if (init < 0)
		die("isolate: fork");
	if (init == 0)
		_exit(run_init(argv + optind, limit, &set, dir));
	while (waitpid(init, &status, WNOHANG) == 0)
		if (sigwaitinfo(&set, NULL) == SIGTERM)
			kill(init, SIGTERM);
	unmount_all(dir);
	nftw(dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
